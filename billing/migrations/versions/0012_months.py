"""Keys of call records, totals, and, on PostgreSQL, call records and postings by months.

A month's table can be read, indexed, detached and put away alone. PostgreSQL asks that a unique key of such a table names the
time, so whether a call is new is decided by `cdr_key`; charges and whatever else points to a call's record point
there. The number of a posting is unique within its month, and over all months in `outbox`, which has a row for each.

Expand (new tables and columns), backfill, enforce. On a large store this rewrites all call records and postings once.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

Id = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BY_BEGINNING = "varchar_pattern_ops"
SEARCHED = (
    ("ix_cdr_caller", ["caller", "ended_at"], {"caller": BY_BEGINNING}),
    ("ix_cdr_callee", ["callee", "ended_at"], {"callee": BY_BEGINNING}),
    ("ix_cdr_destination_ended", ["destination", "ended_at"], {}),
    ("ix_cdr_switch_ended", ["switch", "ended_at"], {}),
    ("ix_cdr_disposition_ended", ["disposition", "ended_at"], {}),
)
CDR_INDEXES = (
    ("ix_cdr_account_ended", ["account_id", "ended_at", "call_id"], {}),
    ("ix_cdr_ended", ["ended_at", "call_id"], {}),
    ("ix_cdr_transaction_id", ["transaction_id"], {}),
)
HISTORY = "1970-01-01 00:00:00.000000"
"""SQLite adds a column that is never empty only with a value; each row is given its own at once."""


def upgrade() -> None:
    op.create_table(
        "cdr_key",
        sa.Column("id", Id, nullable=False),
        sa.Column("call_id", sa.String(200), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_cdr_key"),
        sa.UniqueConstraint("call_id", name="uq_cdr_key_call_id"),
    )
    _create_totals()
    op.execute("INSERT INTO cdr_key (call_id, ended_at) SELECT call_id, ended_at FROM cdr ORDER BY ended_at, call_id")
    op.drop_index("ix_charge_account_id", table_name="charge")
    if op.get_bind().dialect.name == "postgresql":
        _postgresql_by_months()
    else:
        _sqlite_times()
    op.create_index("ix_charge_account_ended", "charge", ["account_id", "ended_at", "call_id"])
    op.create_index("ix_posting_posted", "posting", ["posted_at"], postgresql_using="brin")
    for name, columns, ops in SEARCHED:
        op.create_index(name, "cdr", columns, postgresql_ops=ops)


def _create_totals() -> None:
    op.create_table(
        "call_total",
        sa.Column("scope", sa.String(12), nullable=False),
        sa.Column("account_id", Id, nullable=False, autoincrement=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("direction", sa.String(10), nullable=False),
        sa.Column("disposition", sa.String(20), nullable=False),
        sa.Column("destination", sa.String(100), nullable=False),
        sa.Column("switch", sa.String(64), nullable=False),
        sa.Column("reason", sa.String(40), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("talk_ms", sa.BigInteger(), nullable=False),
        sa.Column("billable_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "scope",
            "account_id",
            "day",
            "direction",
            "disposition",
            "destination",
            "switch",
            "reason",
            name="pk_call_total",
        ),
    )
    op.create_table(
        "money_total",
        sa.Column("scope", sa.String(12), nullable=False),
        sa.Column("account_id", Id, nullable=False, autoincrement=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("direction", sa.String(10), nullable=False),
        sa.Column("destination", sa.String(100), nullable=False),
        sa.Column("charges", sa.BigInteger(), nullable=False),
        sa.Column("billed_s", sa.BigInteger(), nullable=False),
        sa.Column("spent_micros", sa.BigInteger(), nullable=False),
        sa.Column("earned_micros", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "scope", "account_id", "day", "currency", "direction", "destination", name="pk_money_total"
        ),
    )
    op.create_table(
        "ledger_total",
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("currency", sa.String(3), nullable=False),
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("debits_micros", sa.BigInteger(), nullable=False),
        sa.Column("credits_micros", sa.BigInteger(), nullable=False),
        sa.Column("postings", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "currency", "day", name="pk_ledger_total"),
    )


def _sqlite_times() -> None:
    op.execute(f"ALTER TABLE charge ADD COLUMN ended_at DATETIME NOT NULL DEFAULT '{HISTORY}'")
    op.execute("UPDATE charge SET ended_at = (SELECT c.ended_at FROM cdr c WHERE c.call_id = charge.call_id)")
    op.execute(f"ALTER TABLE posting ADD COLUMN posted_at DATETIME NOT NULL DEFAULT '{HISTORY}'")
    op.execute("DROP TRIGGER posting_no_update")
    op.execute(
        "UPDATE posting SET posted_at ="
        " (SELECT t.created_at FROM ledger_transaction t WHERE t.id = posting.transaction_id)"
    )
    op.execute(
        "CREATE TRIGGER posting_no_update BEFORE UPDATE ON posting"
        " BEGIN SELECT RAISE(ABORT, 'UPDATE on posting: it is history, only appended to'); END"
    )


def _postgresql_by_months() -> None:
    op.execute("ALTER TABLE charge ADD COLUMN ended_at timestamptz")
    op.execute("UPDATE charge SET ended_at = c.ended_at FROM cdr c WHERE c.call_id = charge.call_id")
    op.execute("ALTER TABLE charge ALTER COLUMN ended_at SET NOT NULL")
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    _point_to("cdr_key", "cdr")
    _create_add_month()
    _split("cdr", "ended_at", "SELECT * FROM cdr_before", "SELECT min(ended_at) FROM cdr_before")
    op.execute("ALTER TABLE cdr ADD CONSTRAINT pk_cdr PRIMARY KEY (call_id, ended_at)")
    op.execute(
        "ALTER TABLE cdr ADD CONSTRAINT fk_cdr_account_id_account FOREIGN KEY (account_id) REFERENCES account (id)"
    )
    op.execute(
        "ALTER TABLE cdr ADD CONSTRAINT fk_cdr_transaction_id_ledger_transaction FOREIGN KEY (transaction_id)"
        " REFERENCES ledger_transaction (id) DEFERRABLE INITIALLY DEFERRED"
    )
    for name, columns, _ in CDR_INDEXES:
        op.create_index(name, "cdr", columns)
    op.execute(
        "CREATE TRIGGER cdr_is_history BEFORE DELETE OR TRUNCATE ON cdr FOR EACH STATEMENT"
        " EXECUTE FUNCTION refuse_change()"
    )
    op.execute("ALTER SEQUENCE posting_id_seq OWNED BY NONE")
    op.execute("ALTER TABLE posting ADD COLUMN posted_at timestamptz")
    _split(
        "posting",
        "posted_at",
        "SELECT p.id, p.transaction_id, p.wallet_id, p.amount_micros, p.currency, p.seq, t.created_at"
        " FROM posting_before p JOIN ledger_transaction t ON t.id = p.transaction_id",
        "SELECT min(created_at) FROM ledger_transaction",
    )
    op.execute("ALTER SEQUENCE posting_id_seq OWNED BY posting.id")
    op.execute("ALTER TABLE posting ALTER COLUMN posted_at SET NOT NULL")
    op.execute("ALTER TABLE posting ADD CONSTRAINT pk_posting PRIMARY KEY (id, posted_at)")
    _constrain_posting()
    op.execute(
        "CREATE TRIGGER posting_is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON posting FOR EACH STATEMENT"
        " EXECUTE FUNCTION refuse_change()"
    )


def _constrain_posting() -> None:
    op.execute(
        "ALTER TABLE posting ADD CONSTRAINT fk_posting_transaction_id_ledger_transaction FOREIGN KEY (transaction_id)"
        " REFERENCES ledger_transaction (id)"
    )
    op.execute(
        "ALTER TABLE posting ADD CONSTRAINT fk_posting_wallet_id_wallet FOREIGN KEY (wallet_id) REFERENCES wallet (id)"
    )
    op.execute(
        "ALTER TABLE posting ADD CONSTRAINT ck_posting_amount_exact"
        " CHECK (amount_micros BETWEEN -9007199254740991 AND 9007199254740991)"
    )
    op.create_index("ix_posting_transaction_id", "posting", ["transaction_id"])
    op.execute("""
        CREATE CONSTRAINT TRIGGER posting_sum_to_zero AFTER INSERT ON posting
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION postings_sum_to_zero()
    """)


def _point_to(key: str, before: str) -> None:
    """Let whatever points to the record of a call point to another table that has its id."""
    pointing = op.get_bind().execute(
        sa.text(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE contype = 'f' AND confrelid = CAST(:before AS regclass) AND conparentid = 0"
        ),
        {"before": before},
    )
    for table, name, definition in pointing.all():
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
        changed = definition.replace(f"REFERENCES {before}(", f"REFERENCES {key}(")
        op.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {changed}")


def _split(table: str, by: str, rows: str, first: str) -> None:
    """Make a table anew by months, with a month for all there is, the next three, and one for what fits in none."""
    op.execute(f"ALTER TABLE {table} RENAME TO {table}_before")
    op.execute(f"CREATE TABLE {table} (LIKE {table}_before INCLUDING DEFAULTS) PARTITION BY RANGE ({by})")
    op.execute(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
    op.execute(f"SELECT guard_month('{table}_rest', '{table}')")
    op.execute(f"""
        SELECT add_month('{table}', month::date) FROM generate_series(
            date_trunc('month', least(coalesce(({first}), now()), now()) AT TIME ZONE 'UTC'),
            now() AT TIME ZONE 'UTC' + interval '3 months', interval '1 month') AS month
    """)
    op.execute(f"INSERT INTO {table} {rows}")
    op.execute(f"DROP TABLE {table}_before")


def _create_add_month() -> None:
    op.execute("""
        CREATE FUNCTION guard_month(month text, parent text) RETURNS void LANGUAGE plpgsql AS $$
        BEGIN
            -- The parent's triggers see what is said to the parent; a month can be spoken to alone.
            IF parent = 'posting' THEN
                EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I FOR EACH STATEMENT'
                    ' EXECUTE FUNCTION refuse_change()', month || '_is_history', month);
                EXECUTE format('CREATE UNIQUE INDEX %I ON %I (wallet_id, seq)', 'uq_' || month, month);
            ELSE
                EXECUTE format('CREATE TRIGGER %I BEFORE DELETE OR TRUNCATE ON %I FOR EACH STATEMENT'
                    ' EXECUTE FUNCTION refuse_change()', month || '_is_history', month);
            END IF;
        END $$
    """)
    op.execute("""
        CREATE FUNCTION add_month(parent text, first date) RETURNS boolean LANGUAGE plpgsql AS $$
        -- Adds the month that begins on this day, UTC. False where it is there already, or where rows of that month
        -- lie in the rest: they stay there, and are found as well.
        DECLARE
            month text := parent || to_char(first, '_YYYY_MM');
            since timestamptz := first::timestamp AT TIME ZONE 'UTC';
            until timestamptz := (first + interval '1 month') AT TIME ZONE 'UTC';
            taken boolean;
        BEGIN
            PERFORM pg_advisory_xact_lock(hashtext('add_month'));
            IF to_regclass(month) IS NOT NULL THEN
                RETURN false;
            END IF;
            EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE %I >= $1 AND %I < $2)', parent || '_rest',
                CASE parent WHEN 'cdr' THEN 'ended_at' ELSE 'posted_at' END,
                CASE parent WHEN 'cdr' THEN 'ended_at' ELSE 'posted_at' END) INTO taken USING since, until;
            IF taken THEN
                RETURN false;
            END IF;
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', month, parent, since, until);
            PERFORM guard_month(month, parent);
            RETURN true;
        END $$
    """)


def downgrade() -> None:
    op.drop_index("ix_posting_posted", table_name="posting")
    op.drop_index("ix_charge_account_ended", table_name="charge")
    for name, _, _ in SEARCHED:
        op.drop_index(name, table_name="cdr")
    if op.get_bind().dialect.name == "postgresql":
        _postgresql_as_one()
    else:
        op.execute("ALTER TABLE posting DROP COLUMN posted_at")
    op.execute("ALTER TABLE charge DROP COLUMN ended_at")
    op.create_index("ix_charge_account_id", "charge", ["account_id"])
    op.execute("DELETE FROM meta WHERE key IN ('totals_cdr', 'totals_posting')")
    for table in ("ledger_total", "money_total", "call_total", "cdr_key"):
        op.drop_table(table)


def _postgresql_as_one() -> None:
    op.execute("SET CONSTRAINTS ALL IMMEDIATE")
    op.execute("ALTER TABLE cdr RENAME TO cdr_before")
    op.execute("CREATE TABLE cdr (LIKE cdr_before INCLUDING DEFAULTS)")
    op.execute("INSERT INTO cdr SELECT * FROM cdr_before")
    op.execute("DROP TABLE cdr_before")
    op.execute("ALTER TABLE cdr ADD CONSTRAINT pk_cdr PRIMARY KEY (call_id)")
    op.execute(
        "ALTER TABLE cdr ADD CONSTRAINT fk_cdr_account_id_account FOREIGN KEY (account_id) REFERENCES account (id)"
    )
    op.execute(
        "ALTER TABLE cdr ADD CONSTRAINT fk_cdr_transaction_id_ledger_transaction FOREIGN KEY (transaction_id)"
        " REFERENCES ledger_transaction (id) DEFERRABLE INITIALLY DEFERRED"
    )
    for name, columns, _ in CDR_INDEXES:
        op.create_index(name, "cdr", columns)
    op.execute(
        "CREATE TRIGGER cdr_is_history BEFORE DELETE OR TRUNCATE ON cdr FOR EACH STATEMENT"
        " EXECUTE FUNCTION refuse_change()"
    )
    _point_to("cdr", "cdr_key")
    op.execute("ALTER SEQUENCE posting_id_seq OWNED BY NONE")
    op.execute("ALTER TABLE posting RENAME TO posting_before")
    op.execute("CREATE TABLE posting (LIKE posting_before INCLUDING DEFAULTS)")
    op.execute("ALTER TABLE posting DROP COLUMN posted_at")
    op.execute(
        "INSERT INTO posting SELECT id, transaction_id, wallet_id, amount_micros, currency, seq FROM posting_before"
    )
    op.execute("DROP TABLE posting_before")
    op.execute("ALTER SEQUENCE posting_id_seq OWNED BY posting.id")
    op.execute("ALTER TABLE posting ADD CONSTRAINT pk_posting PRIMARY KEY (id)")
    op.execute("ALTER TABLE posting ADD CONSTRAINT uq_posting_wallet_id_seq UNIQUE (wallet_id, seq)")
    _constrain_posting()
    op.execute(
        "CREATE TRIGGER posting_is_history BEFORE UPDATE OR DELETE OR TRUNCATE ON posting FOR EACH STATEMENT"
        " EXECUTE FUNCTION refuse_change()"
    )
    op.execute("DROP FUNCTION add_month(text, date)")
    op.execute("DROP FUNCTION guard_month(text, text)")
