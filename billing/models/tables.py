"""The tables. Amounts are BIGINT micro-units; times are aware UTC; what is history is only ever appended to."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, Column, Index, UniqueConstraint, text
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, UtcDateTime, row_of, word_of

# Names that do not depend on the database, so that a later migration can drop what it must.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class AccountKind(StrEnum):
    """Where an account stands in the tree."""

    OPERATOR = "operator"
    RESELLER = "reseller"
    CUSTOMER = "customer"


class AccountStatus(StrEnum):
    """Only an active account makes new calls; a parked one broke an invariant and waits for a person."""

    ACTIVE = "active"
    BLOCKED = "blocked"
    PARKED = "parked"
    CLOSED = "closed"


class BillingMode(StrEnum):
    """When an account pays. What it may spend is its balance and credit limit in every mode.

    PREPAID: before it calls, no credit. POSTPAID: after a period, up to its credit limit. FLAT: a fee for a period, for
    which its tariff prices the calls it covers at nothing. PAYG: as it goes, with or without a little credit.
    """

    PREPAID = "prepaid"
    POSTPAID = "postpaid"
    FLAT = "flat"
    PAYG = "payg"


class IdentityKind(StrEnum):
    """By what a switch tells us who pays."""

    ACCOUNT_CODE = "account_code"
    SIP_USER = "sip_user"
    SOURCE_ADDRESS = "source_address"
    """A network; of several that hold an address the smallest one counts."""
    CALLER_NUMBER = "caller_number"
    DID = "did"
    PIN = "pin"
    """What a caller types. The store has its keyed digest only (`billing.pins`); people see the number of its row."""


class WalletKind(StrEnum):
    """A live wallet (`MONEY`) has a balance and a sequence; the others are ledger accounts, summed when asked.

    What each is for, and on which side of the books it usually stands: `billing.chart`.
    """

    MONEY = "money"
    BUNDLE = "bundle"
    """Live as well: seconds (in micro-units of `SECONDS`) of one bundle; an account may have several."""
    INCOME = "income"
    CASH = "cash"
    ADJUSTMENT = "adjustment"
    CARRIER_COST = "carrier_cost"
    CARRIER_PAYABLE = "carrier_payable"
    TAX = "tax"
    BREAKAGE = "breakage"
    EXCHANGE = "exchange"
    COMMISSION = "commission"
    MINUTES = "minutes"


SECONDS = "SEC"
"""The currency of bundles."""
LIVE_KINDS = (WalletKind.MONEY, WalletKind.BUNDLE)
BUT_BUNDLES = text("kind <> 'bundle'")
ONE_ROOT = text("kind = 'operator'")
IN_USE = text("freed_at IS NULL")


class Account(SQLModel, table=True):
    """Who pays: the operator at the root, resellers, customers."""

    __tablename__ = "account"
    __table_args__ = (
        # One root, however many start to make it.
        Index("uq_account_operator", "kind", unique=True, sqlite_where=ONE_ROOT, postgresql_where=ONE_ROOT),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    parent_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True, index=True))
    kind: AccountKind = Field(sa_column=Column(word_of(AccountKind), nullable=False))
    name: str = Field(max_length=100, unique=True)
    status: AccountStatus = Field(
        default=AccountStatus.ACTIVE, sa_column=Column(word_of(AccountStatus), nullable=False)
    )
    currency: str = Field(max_length=3)
    tariff_id: int | None = Field(default=None, sa_column=row_of("tariff.id", nullable=True))
    credit_limit_micros: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    billing_mode: BillingMode = Field(
        default=BillingMode.PREPAID, sa_column=Column(word_of(BillingMode), nullable=False)
    )
    timezone: str = Field(default="UTC", max_length=64)
    language: str = Field(default="en", max_length=20)
    brand: str = Field(default="", max_length=100)
    max_calls: int | None = None
    max_cps: int | None = None
    max_day_micros: int | None = Field(default=None, sa_column=Column(BigInteger))
    max_call_micros: int | None = Field(default=None, sa_column=Column(BigInteger))
    barred: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    allowed: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    hours: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    low_balance_micros: int | None = Field(default=None, sa_column=Column(BigInteger))
    clear_balance_micros: int | None = Field(default=None, sa_column=Column(BigInteger))
    created_at: datetime = Field(sa_type=UtcDateTime)


class Identity(SQLModel, table=True):
    """What a call carries that names its payer; unique while in use, or two accounts would pay for one call.

    One that is freed keeps its row: whose calls it named until then stays known.
    """

    __tablename__ = "identity"
    __table_args__ = (
        Index("uq_identity_in_use", "kind", "value", unique=True, sqlite_where=IN_USE, postgresql_where=IN_USE),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id", index=True))
    kind: IdentityKind = Field(sa_column=Column(word_of(IdentityKind), nullable=False))
    value: str = Field(max_length=100)
    made_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    freed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Tariff(SQLModel, table=True):
    """A named set of rates; importing a deck makes the next version."""

    __tablename__ = "tariff"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    name: str = Field(max_length=100, unique=True)
    currency: str = Field(max_length=3)
    version: int = 1
    rounding_mode: str = "half_up"
    rounding_decimals: int = 4


class Wallet(SQLModel, table=True):
    """A balance of an account in one currency. `balance_micros` and `seq` are kept for live wallets only."""

    __tablename__ = "wallet"
    __table_args__ = (
        Index(
            "uq_wallet_but_bundles",
            "account_id",
            "kind",
            "currency",
            unique=True,
            sqlite_where=BUT_BUNDLES,
            postgresql_where=BUT_BUNDLES,
        ),
        CheckConstraint("balance_micros BETWEEN -9007199254740991 AND 9007199254740991", name="balance_exact"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    account_id: int = Field(sa_column=row_of("account.id"))
    kind: WalletKind = Field(sa_column=Column(word_of(WalletKind), nullable=False))
    currency: str = Field(max_length=3)
    balance_micros: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    seq: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class LedgerTransaction(SQLModel, table=True):
    """Two or more postings that sum to zero. `operation` is the caller's id: the same one never posts twice."""

    __tablename__ = "ledger_transaction"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    operation: str = Field(max_length=220, unique=True)
    kind: str = Field(max_length=20)
    reason: str = Field(default="", max_length=500)
    actor: str = Field(max_length=100)
    reverses_id: int | None = Field(default=None, sa_column=row_of("ledger_transaction.id", nullable=True, unique=True))
    created_at: datetime = Field(sa_type=UtcDateTime)


class Posting(SQLModel, table=True):
    """One line of the ledger, never edited. `seq` numbers the postings of a MONEY wallet without gaps.

    `posted_at` is its transaction's `created_at`; PostgreSQL keeps postings by months of it.
    """

    __tablename__ = "posting"
    __table_args__ = (
        # PostgreSQL keeps postings by month and this key for each month; over all months the outbox has the same key.
        UniqueConstraint("wallet_id", "seq"),
        CheckConstraint("amount_micros BETWEEN -9007199254740991 AND 9007199254740991", name="amount_exact"),
        Index("ix_posting_posted", "posted_at", postgresql_using="brin"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    transaction_id: int = Field(sa_column=row_of("ledger_transaction.id", index=True))
    wallet_id: int = Field(sa_column=row_of("wallet.id"))
    amount_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)
    seq: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    posted_at: datetime = Field(sa_type=UtcDateTime)


class Operation(SQLModel, table=True):
    """The outcome of a caller-made operation id, refusals included: the same id and body get the same answer."""

    __tablename__ = "operation"
    id: str = Field(primary_key=True, max_length=200)
    body_hash: str = Field(max_length=64)
    outcome: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    created_at: datetime = Field(sa_type=UtcDateTime)


class Cdr(SQLModel, table=True):
    """The record of one call, exactly one for each. PostgreSQL keeps records by months of `ended_at`."""

    __tablename__ = "cdr"
    __table_args__ = (
        Index("ix_cdr_account_ended", "account_id", "ended_at", "call_id"),
        Index("ix_cdr_ended", "ended_at", "call_id"),
        Index("ix_cdr_caller", "caller", "ended_at", postgresql_ops={"caller": "varchar_pattern_ops"}),
        Index("ix_cdr_callee", "callee", "ended_at", postgresql_ops={"callee": "varchar_pattern_ops"}),
        Index("ix_cdr_destination_ended", "destination", "ended_at"),
        Index("ix_cdr_switch_ended", "switch", "ended_at"),
        Index("ix_cdr_disposition_ended", "disposition", "ended_at"),
    )
    call_id: str = Field(primary_key=True, max_length=200)
    switch: str = Field(max_length=64)
    account_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True))
    direction: str = Field(max_length=10)
    caller: str = Field(default="", max_length=200)
    callee: str = Field(default="", max_length=200)
    destination: str = Field(default="", max_length=100)
    disposition: str = Field(max_length=20)
    reason: str = Field(default="", max_length=40)
    sip_status: int | None = None
    cause: int | None = None
    hung_up_by: str = Field(default="", max_length=20)
    offered_at: datetime = Field(sa_type=UtcDateTime)
    answered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime = Field(sa_type=UtcDateTime)
    talk_ms: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    billable_ms: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    estimated: bool = False
    cost_micros: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(default="", max_length=3)
    # Deferred: the record is written first, since it alone decides whether the call is new, then its postings. Without
    # the index SQLite would look through all records whenever a transaction is written.
    transaction_id: int | None = Field(
        default=None,
        sa_column=row_of("ledger_transaction.id", nullable=True, index=True, deferred=True),
    )


class Charge(SQLModel, table=True):
    """What one account in the chain pays for a call, with the facts to price it again. `level` 0 is the payer.

    `ended_at` is the call's, so that the calls of a reseller are found by time.
    """

    __tablename__ = "charge"
    __table_args__ = (
        UniqueConstraint("call_id", "level"),
        Index("ix_charge_account_ended", "account_id", "ended_at", "call_id"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    call_id: str = Field(foreign_key="cdr.call_id", max_length=200)
    level: int
    account_id: int = Field(sa_column=row_of("account.id"))
    wallet_id: int = Field(sa_column=row_of("wallet.id"))
    to_wallet_id: int = Field(sa_column=row_of("wallet.id"))
    amount_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    currency: str = Field(max_length=3)
    billed_s: int
    facts: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    ended_at: datetime = Field(sa_type=UtcDateTime)


class OutboxRow(SQLModel, table=True):
    """A posting the live credit store has still to apply; `call_id` names the hold it replaces, if any."""

    __tablename__ = "outbox"
    __table_args__ = (UniqueConstraint("wallet_id", "seq"), Index("ix_outbox_waiting", "applied_at", "id"))
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    wallet_id: int = Field(sa_column=row_of("wallet.id"))
    seq: int = Field(sa_column=Column(BigInteger, nullable=False))
    amount_micros: int = Field(sa_column=Column(BigInteger, nullable=False))
    call_id: str | None = Field(default=None, max_length=200)
    applied_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class SwitchCdr(SQLModel, table=True):
    """What a switch posted of one leg as it ended: kept to be compared with what was billed, once each."""

    __tablename__ = "switch_cdr"
    __table_args__ = (
        UniqueConstraint("switch", "uuid"),
        Index("ix_switch_cdr_ended", "switch", "ended_at", "id"),
        Index("ix_switch_cdr_received", "received_at"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    switch: str = Field(max_length=64)
    uuid: str = Field(max_length=100)
    call_key: str = Field(max_length=100)
    controlled: bool
    rank: int
    direction: str = Field(max_length=10)
    account_code: str = Field(max_length=100)
    caller: str = Field(max_length=200)
    callee: str = Field(max_length=200)
    started_at: datetime = Field(sa_type=UtcDateTime)
    answered_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    ended_at: datetime = Field(sa_type=UtcDateTime)
    talk_ms: int = Field(sa_column=Column(BigInteger, nullable=False))
    cause: int
    forgeable: bool
    received_at: datetime = Field(sa_type=UtcDateTime)


class AuditRow(SQLModel, table=True):
    """Who changed what, before and after; append-only."""

    __tablename__ = "audit"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    at: datetime = Field(sa_type=UtcDateTime)
    actor: str = Field(max_length=100)
    action: str = Field(max_length=60)
    subject: str = Field(max_length=200)
    before: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))
    after: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))


class User(SQLModel, table=True):
    """A person who logs in; `must_change` marks a one-time password.

    `account_id` is the reseller or customer whose subtree is all that the person sees; None for administrators.
    """

    __tablename__ = "panel_user"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    login: str = Field(max_length=100, unique=True)
    password_hash: str = Field(max_length=200)
    role: str = Field(max_length=20)
    must_change: bool = False
    created_at: datetime = Field(sa_type=UtcDateTime)
    account_id: int | None = Field(default=None, sa_column=row_of("account.id", nullable=True, index=True))
    disabled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class UserSession(SQLModel, table=True):
    """A login that can be revoked: only the hash of its token is kept. `handle` names it where people see it.

    `proven` is false while the second factor is still to be shown.
    """

    __tablename__ = "panel_session"
    token_hash: str = Field(primary_key=True, max_length=64)
    handle: str = Field(default="", max_length=60)
    user_id: int = Field(sa_column=row_of("panel_user.id", index=True))
    csrf: str = Field(max_length=64)
    created_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    address: str = Field(default="", max_length=45)
    agent: str = Field(default="", max_length=200)
    proven: bool = True


class Meta(SQLModel, table=True):
    """Small facts about the store, such as the version of the catalogue."""

    __tablename__ = "meta"
    key: str = Field(primary_key=True, max_length=40)
    value: int = Field(sa_column=Column(BigInteger, nullable=False))


def id_of(row: Account | Wallet | Tariff | LedgerTransaction) -> int:
    """Return the id of a row that has been written."""
    if row.id is None:
        raise LookupError(f"this {type(row).__name__} has not been written yet")
    return row.id
