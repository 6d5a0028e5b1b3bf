"""The history of the schema: alembic migrations, written out, run by `billing.store.migrate`."""
