"""The call controller: switches, the life of a call, journal, recovery, command line. Never imports web."""
