"""Where alembic meets the store: always on a connection that `billing.store.migrating` has locked."""

import re
from typing import Any

from alembic import context

from billing.models import Meta

connection = context.config.attributes["connection"]
MONTHS = re.compile(r"(cdr|posting)_(rest|[0-9]{4}_[0-9]{2})")


def told_apart(thing: Any, name: str | None, kind: str, reflected: bool, other: Any) -> bool:  # noqa: ARG001
    """Leave out what the databases do differently: PostgreSQL keeps months, and a month's key must name its time."""
    if connection.dialect.name != "postgresql":
        return True
    if kind == "table":
        return not MONTHS.fullmatch(name or "")
    if kind == "unique_constraint":
        return name != "uq_posting_wallet_id_seq"
    if kind == "foreign_key_constraint":
        return str(thing.elements[0].target_fullname) not in ("cdr.call_id", "cdr_key.call_id")
    return True


context.configure(
    connection=connection,
    target_metadata=Meta.metadata,
    compare_server_default=False,
    render_as_batch=connection.dialect.name == "sqlite",
    include_object=told_apart,
    # SQLite can do it as well, once the driver leaves transactions alone.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
