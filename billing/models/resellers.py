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
