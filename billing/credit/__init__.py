"""Live credit: holds in Redis while people talk. SQL is the truth; this follows, and alone knows holds."""
