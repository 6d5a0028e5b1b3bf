"""The command line: one file per group of commands. It composes the other rooms; it decides nothing about money."""
