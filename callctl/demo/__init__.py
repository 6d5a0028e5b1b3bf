"""A whole system for half a minute: simulated traffic, the real controller, real money, a real panel; nothing stays."""
