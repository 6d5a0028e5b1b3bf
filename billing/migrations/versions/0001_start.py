"""The tables Core needs: accounts, tariffs, the ledger, call records, the outbox, audit, people.

The database itself keeps what may never break: a transaction's postings sum to zero (PostgreSQL, at commit), and what is
history is only appended to (both databases).
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

APPEND_ONLY = ("posting", "ledger_transaction", "audit")
NEVER_DELETED = ("cdr", "charge")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", Id, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("action", sa.String(60), nullable=False),
        sa.Column("subject", sa.String(200), nullable=False),
        sa.Column("before", sa.JSON(), nullable=True),
        sa.Column("after", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_table(
        "ledger_transaction",
        sa.Column("id", Id, nullable=False),
        sa.Column("operation", sa.String(220), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(500), nullable=False),
        sa.Column("actor", sa.String(100), nullable=False),
        sa.Column("reverses_id", Id, nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["reverses_id"], ["ledger_transaction.id"], name="fk_ledger_transaction_reverses_id_ledger_transaction"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_transaction"),
        sa.UniqueConstraint("operation", name="uq_ledger_transaction_operation"),
        sa.UniqueConstraint("reverses_id", name="uq_ledger_transaction_reverses_id"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.String(40), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_meta"),
    )
    op.create_table(
        "operation",
        sa.Column("id", sa.String(200), nullable=False),
        sa.Column("body_hash", sa.String(64), nullable=False),
        sa.Column("outcome", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_operation"),
    )
    op.create_table(
        "panel_user",
        sa.Column("id", Id, nullable=False),
        sa.Column("login", sa.String(100), nullable=False),
        sa.Column("password_hash", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("must_change", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_panel_user"),
        sa.UniqueConstraint("login", name="uq_panel_user_login"),
    )
    op.create_table(
        "tariff",
        sa.Column("id", Id, nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("rounding_mode", sa.String(), nullable=False),
        sa.Column("rounding_decimals", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tariff"),
        sa.UniqueConstraint("name", name="uq_tariff_name"),
    )
    op.create_table(
        "account",
        sa.Column("id", Id, nullable=False),
        sa.Column("parent_id", Id, nullable=True),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("status", sa.String(20), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("tariff_id", Id, nullable=True),
        sa.Column("credit_limit_micros", sa.BigInteger(), nullable=False),
        sa.Column("max_calls", sa.Integer(), nullable=True),
        sa.Column("max_cps", sa.Integer(), nullable=True),
        sa.Column("barred", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["account.id"], name="fk_account_parent_id_account"),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_account_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("id", name="pk_account"),
        sa.UniqueConstraint("name", name="uq_account_name"),
    )
    one_root = sa.text("kind = 'operator'")
    op.create_index(
        "uq_account_operator", "account", ["kind"], unique=True, sqlite_where=one_root, postgresql_where=one_root
    )
    op.create_index("ix_account_parent_id", "account", ["parent_id"])
    op.create_table(
        "panel_session",
        sa.Column("token_hash", sa.String(64), nullable=False),
        sa.Column("user_id", Id, nullable=False),
        sa.Column("csrf", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["panel_user.id"], name="fk_panel_session_user_id_panel_user"),
        sa.PrimaryKeyConstraint("token_hash", name="pk_panel_session"),
    )
    op.create_index("ix_panel_session_user_id", "panel_session", ["user_id"])
    op.create_table(
        "rate",
        sa.Column("id", Id, nullable=False),
        sa.Column("tariff_id", Id, nullable=False),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["tariff_id"], ["tariff.id"], name="fk_rate_tariff_id_tariff"),
        sa.PrimaryKeyConstraint("id", name="pk_rate"),
        sa.UniqueConstraint("tariff_id", "prefix", name="uq_rate_tariff_id_prefix"),
    )
    op.create_table(
        "cdr",
        sa.Column("call_id", sa.String(200), nullable=False),
        sa.Column("switch", sa.String(64), nullable=False),
        sa.Column("account_id", Id, nullable=True),
        sa.Column("direction", sa.String(10), nullable=False),
        sa.Column("caller", sa.String(200), nullable=False),
        sa.Column("callee", sa.String(200), nullable=False),
        sa.Column("destination", sa.String(100), nullable=False),
        sa.Column("disposition", sa.String(20), nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("sip_status", sa.Integer(), nullable=True),
        sa.Column("cause", sa.Integer(), nullable=True),
        sa.Column("hung_up_by", sa.String(20), nullable=False),
        sa.Column("offered_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("talk_ms", sa.BigInteger(), nullable=False),
        sa.Column("billable_ms", sa.BigInteger(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("cost_micros", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("transaction_id", Id, nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_cdr_account_id_account"),
        sa.ForeignKeyConstraint(
            ["transaction_id"],
            ["ledger_transaction.id"],
            name="fk_cdr_transaction_id_ledger_transaction",
            initially="DEFERRED",
            deferrable=True,
        ),
        sa.PrimaryKeyConstraint("call_id", name="pk_cdr"),
    )
    op.create_index("ix_cdr_account_ended", "cdr", ["account_id", "ended_at", "call_id"])
    op.create_index("ix_cdr_transaction_id", "cdr", ["transaction_id"])
    op.create_index("ix_cdr_ended", "cdr", ["ended_at", "call_id"])
    op.create_table(
        "identity",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("value", sa.String(100), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_identity_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_identity"),
        sa.UniqueConstraint("kind", "value", name="uq_identity_kind_value"),
    )
    op.create_index("ix_identity_account_id", "identity", ["account_id"])
    op.create_table(
        "wallet",
        sa.Column("id", Id, nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("balance_micros", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "balance_micros BETWEEN -9007199254740991 AND 9007199254740991", name="ck_wallet_balance_exact"
        ),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_wallet_account_id_account"),
        sa.PrimaryKeyConstraint("id", name="pk_wallet"),
        sa.UniqueConstraint("account_id", "kind", "currency", name="uq_wallet_account_id_kind_currency"),
    )
    op.create_table(
        "charge",
        sa.Column("id", Id, nullable=False),
        sa.Column("call_id", sa.String(200), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("account_id", Id, nullable=False),
        sa.Column("wallet_id", Id, nullable=False),
        sa.Column("to_wallet_id", Id, nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("billed_s", sa.Integer(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["account.id"], name="fk_charge_account_id_account"),
        sa.ForeignKeyConstraint(["call_id"], ["cdr.call_id"], name="fk_charge_call_id_cdr"),
        sa.ForeignKeyConstraint(["to_wallet_id"], ["wallet.id"], name="fk_charge_to_wallet_id_wallet"),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallet.id"], name="fk_charge_wallet_id_wallet"),
        sa.PrimaryKeyConstraint("id", name="pk_charge"),
        sa.UniqueConstraint("call_id", "level", name="uq_charge_call_id_level"),
    )
    op.create_index("ix_charge_account_id", "charge", ["account_id"])
    op.create_table(
        "outbox",
        sa.Column("id", Id, nullable=False),
        sa.Column("wallet_id", Id, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("call_id", sa.String(200), nullable=True),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallet.id"], name="fk_outbox_wallet_id_wallet"),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
        sa.UniqueConstraint("wallet_id", "seq", name="uq_outbox_wallet_id_seq"),
    )
    op.create_index("ix_outbox_waiting", "outbox", ["applied_at", "id"])
    op.create_table(
        "posting",
        sa.Column("id", Id, nullable=False),
        sa.Column("transaction_id", Id, nullable=False),
        sa.Column("wallet_id", Id, nullable=False),
        sa.Column("amount_micros", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "amount_micros BETWEEN -9007199254740991 AND 9007199254740991", name="ck_posting_amount_exact"
        ),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["ledger_transaction.id"], name="fk_posting_transaction_id_ledger_transaction"
        ),
        sa.ForeignKeyConstraint(["wallet_id"], ["wallet.id"], name="fk_posting_wallet_id_wallet"),
        sa.PrimaryKeyConstraint("id", name="pk_posting"),
        sa.UniqueConstraint("wallet_id", "seq", name="uq_posting_wallet_id_seq"),
    )
    op.create_index("ix_posting_transaction_id", "posting", ["transaction_id"])
    op.execute("INSERT INTO meta (key, value) VALUES ('catalogue', 1)")
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql()
    else:
        _guard_sqlite()


def _guard_sqlite() -> None:
    for table in APPEND_ONLY:
        for event in ("UPDATE", "DELETE"):
            _refuse_sqlite(table, event)
    for table in NEVER_DELETED:
        _refuse_sqlite(table, "DELETE")


def _refuse_sqlite(table: str, event: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, '{event} on {table}: it is history, only appended to'); END"
    )


def _guard_postgresql() -> None:
    op.execute("""
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION '% on %: it is history, only appended to', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'integrity_constraint_violation';
        END $$
    """)
    for table in APPEND_ONLY:
        _refuse_postgresql(table, "UPDATE OR DELETE OR TRUNCATE")
    for table in NEVER_DELETED:
        _refuse_postgresql(table, "DELETE OR TRUNCATE")
    op.execute("""
        CREATE FUNCTION postings_sum_to_zero() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (
                SELECT FROM posting WHERE transaction_id = NEW.transaction_id
                GROUP BY currency HAVING sum(amount_micros) <> 0
            ) THEN
                RAISE EXCEPTION 'the postings of transaction % do not sum to zero', NEW.transaction_id
                    USING ERRCODE = 'integrity_constraint_violation';
            END IF;
            RETURN NULL;
        END $$
    """)
    op.execute("""
        CREATE CONSTRAINT TRIGGER posting_sum_to_zero AFTER INSERT ON posting
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION postings_sum_to_zero()
    """)


def _refuse_postgresql(table: str, events: str) -> None:
    op.execute(
        f"CREATE TRIGGER {table}_is_history BEFORE {events} ON {table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
    )


def downgrade() -> None:
    op.drop_table("posting")
    op.drop_table("outbox")
    op.drop_table("charge")
    op.drop_table("wallet")
    op.drop_table("identity")
    op.drop_table("cdr")
    op.drop_table("rate")
    op.drop_table("panel_session")
    op.drop_table("account")
    op.drop_table("tariff")
    op.drop_table("panel_user")
    op.drop_table("operation")
    op.drop_table("meta")
    op.drop_table("ledger_transaction")
    op.drop_table("audit")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION postings_sum_to_zero()")
        op.execute("DROP FUNCTION refuse_change()")
