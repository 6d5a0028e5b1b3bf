"""Switches that exist only in this process, on real sockets: for tests, the demo and load tests."""
