"""What the budgets say, measured: each module is run as `python -m benchmarks.NAME`."""
