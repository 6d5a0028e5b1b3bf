"""What a call costs. Pure: no I/O, no clock, no database; every other room may import this one."""
