"""The tables of the SQL store, which is the truth."""

from billing.models.access import (
    ApiAnswer,
    ApiKey,
    RecoveryCode,
    SecondFactor,
)
from billing.models.alerts import (
    Alert,
)
from billing.models.books import BooksRun, WalletCheck
from billing.models.bundles import (
    Bundle,
    ChargeUse,
)
from billing.models.carriers import (
    CallCost,
    Carrier,
    MinMargin,
    Route,
)
from billing.models.commissions import Commission, CommissionMonth, CommissionOf
from billing.models.events import (
    Channel,
    Delivery,
    DeliveryState,
    Event,
    Listener,
    ListenerKind,
)
from billing.models.exchange import (
    ExchangeRate,
)
from billing.models.fraud import (
    AccountCountry,
    FraudAction,
    FraudKind,
    FraudLift,
    FraudRule,
    RiskyRange,
)
from billing.models.pins import (
    PinMiss,
)
from billing.models.plans import (
    AccountDiscount,
    AccountRate,
    TariffMarkup,
)
from billing.models.rates import (
    DeckUpload,
    ImportKind,
    RateRow,
    RateTerms,
    RateWriting,
    TariffVersion,
)
from billing.models.rerating import (
    Beyond,
    Correction,
    RerateChange,
    RerateRun,
    RunStatus,
)
from billing.models.resellers import (
    BrandHost,
    ResellerBlock,
    TariffOwner,
)
from billing.models.tables import (
    LIVE_KINDS,
    SECONDS,
    Account,
    AccountKind,
    AccountStatus,
    AuditRow,
    BillingMode,
    Cdr,
    Charge,
    Identity,
    IdentityKind,
    LedgerTransaction,
    Meta,
    Operation,
    OutboxRow,
    Posting,
    SwitchCdr,
    Tariff,
    User,
    UserSession,
    Wallet,
    WalletKind,
    id_of,
)
from billing.models.totals import (
    CallTotal,
    CdrKey,
    LedgerTotal,
    MoneyTotal,
)
from billing.models.volumes import (
    MonthUsage,
    VolumePlan,
)
from billing.models.vouchers import (
    Voucher,
    VoucherBatch,
    VoucherMiss,
)

__all__ = [
    "LIVE_KINDS",
    "SECONDS",
    "Account",
    "AccountCountry",
    "AccountDiscount",
    "AccountKind",
    "AccountRate",
    "AccountStatus",
    "Alert",
    "ApiAnswer",
    "ApiKey",
    "AuditRow",
    "Beyond",
    "BillingMode",
    "BooksRun",
    "BrandHost",
    "Bundle",
    "CallCost",
    "CallTotal",
    "Carrier",
    "Cdr",
    "CdrKey",
    "Channel",
    "Charge",
    "ChargeUse",
    "Commission",
    "CommissionMonth",
    "CommissionOf",
    "Correction",
    "DeckUpload",
    "Delivery",
    "DeliveryState",
    "Event",
    "ExchangeRate",
    "FraudAction",
    "FraudKind",
    "FraudLift",
    "FraudRule",
    "Identity",
    "IdentityKind",
    "ImportKind",
    "LedgerTotal",
    "LedgerTransaction",
    "Listener",
    "ListenerKind",
    "Meta",
    "MinMargin",
    "MoneyTotal",
    "MonthUsage",
    "Operation",
    "OutboxRow",
    "PinMiss",
    "Posting",
    "RateRow",
    "RateTerms",
    "RateWriting",
    "RecoveryCode",
    "RerateChange",
    "RerateRun",
    "ResellerBlock",
    "RiskyRange",
    "Route",
    "RunStatus",
    "SecondFactor",
    "SwitchCdr",
    "Tariff",
    "TariffMarkup",
    "TariffOwner",
    "TariffVersion",
    "User",
    "UserSession",
    "VolumePlan",
    "Voucher",
    "VoucherBatch",
    "VoucherMiss",
    "Wallet",
    "WalletCheck",
    "WalletKind",
    "id_of",
]
