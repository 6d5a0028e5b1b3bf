"""Where alembic meets the store: always on a connection that `billing.store.migrating` has locked."""

from alembic import context

from billing.models import Meta

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Meta.metadata,
    compare_server_default=False,
    render_as_batch=connection.dialect.name == "sqlite",
    # SQLite can do it as well, once the driver leaves transactions alone.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
