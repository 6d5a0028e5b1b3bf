"""Real processes under SIGKILL, SIGSTOP and broken lines: `make chaos`."""
