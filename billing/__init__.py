"""Whose money it is: models, ledger, live credit, top-ups, call records. Knows rating; never callctl or web."""
