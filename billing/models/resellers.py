"""What belongs to a reseller and not to the operator."""

from sqlalchemy import Column
from sqlmodel import Field, SQLModel

from billing.models.types import BigId, row_of


class TariffOwner(SQLModel, table=True):
    """Whose tariff it is: a reseller's own prices for its customers. A tariff without a row is the operator's."""

    __tablename__ = "tariff_owner"
    id: int | None = Field(default=None, sa_column=Column(BigId, primary_key=True))
    tariff_id: int = Field(sa_column=row_of("tariff.id", unique=True))
    account_id: int = Field(sa_column=row_of("account.id", index=True))


class ResellerBlock(SQLModel, table=True):
    """Who blocked an account: a reseller, for as long as it is blocked. A block without a row is the operator's."""

    __tablename__ = "reseller_block"
    account_id: int = Field(sa_column=row_of("account.id", primary_key=True))
    by_account_id: int = Field(sa_column=row_of("account.id", index=True))


class BrandHost(SQLModel, table=True):
    """A host name under which people reach the panel, and the account whose brand they see before they log in."""

    __tablename__ = "brand_host"
    host: str = Field(primary_key=True, max_length=253)
    account_id: int = Field(sa_column=row_of("account.id", index=True))
