"""The FastAPI app: panel, health, metrics. Never imports callctl."""
