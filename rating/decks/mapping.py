"""Which column of a file means what: guessed from its header, shown to a person, changed, confirmed.

Every format has fields; a mapping gives each column of the file one of them, or none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping as Dictionary
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rating.decks import own
from rating.errors import TariffError

OWN = "callctl"
_SHOWN = 40

_WORDS = re.compile(r"[^a-z0-9]+")
_BRACKETS = re.compile(r"\([^)]*\)")

_OWN_ALIASES = {
    "prefix": "code codes dial_code dial_codes dialcode dialprefix dial_prefix area_code area_codes prefixes digits "
    "destination_code breakout destination_prefix dst_prefix",
    "country_code": "country_codes cc",
    "destination": "name description destination_name zone_name network route area comment country_name",
    "price": "rate price_per_minute rate_per_minute price_min rate_min cost per_minute cost_per_minute sell_rate "
    "sell_price new_rate price_per_min rate_per_min cost_min per_minute_cost minute_price",
    "connect_fee": "connection_fee setup_fee connect_charge connection_charge connection_cost connect_cost call_setup "
    "setup_charge connectcharge",
    "first_increment_s": "first_increment initial_increment initial_interval first_interval interval_1 min_duration "
    "minimum_duration minimal_duration initial_block",
    "increment_s": "increment next_interval interval_n interval billing_increment billing_increments increments "
    "rate_increment step_s additional_increment next_increment billing_block",
    "barred": "blocked reject_calls block",
    "effective_at": "effective_date effective_from effective valid_from start_date date_from active_from "
    "activation_date",
    "expires_at": "expiry_date expires expiration_date valid_until valid_to valid_till end_date date_to",
    "timezone": "time_zone tz",
    "min_charge": "minimum_charge minimal_cost",
    "max_charge": "maximum_charge",
    "currency": "currency_code currency_name",
}

_A2BILLING = (
    "dialprefix destination rateinitial initblock billingblock connectcharge disconnectcharge disconnectcharge_after "
    "stepchargea chargea timechargea billingblocka stepchargeb chargeb timechargeb billingblockb stepchargec chargec "
    "timechargec billingblockc additional_grace additional_block_charge additional_block_charge_time minimal_cost "
    "rounding_calltime rounding_threshold starttime endtime startdate stopdate"
)
_MAGNUS = "dialprefix destination rateinitial initblock billingblock minimal_time_charge connectcharge additional_grace"
_ASTPP = "pattern comment connectcost includedseconds cost init_inc inc status effective_date"
_YETI = (
    "prefix destination enabled initial_interval next_interval initial_rate next_rate connect_fee attempt_fee "
    "reject_calls valid_from valid_till"
)
_CGRATES = (
    "Prefix Destination Rate RateUnit RateIncrement ConnectFee RoundingMethod RoundingDecimals MaxCost MaxCostStrategy"
)
_A2BILLING_MONEY = (
    "rateinitial connectcharge disconnectcharge stepchargea chargea stepchargeb chargeb stepchargec chargec "
    "additional_block_charge minimal_cost"
)

FIELDS: Dictionary[str, tuple[str, ...]] = {
    OWN: (*own.COLUMNS, "country_code", "currency"),
    "a2billing": tuple(_A2BILLING.split()),
    "magnusbilling7": tuple(_MAGNUS.split()),
    "astpp": tuple(_ASTPP.split()),
    "yeti": tuple(_YETI.split()),
    "cgrates": tuple(_CGRATES.split()),
}
"""The fields of each format."""

TITLES = {
    OWN: "callctl",
    "a2billing": "A2Billing",
    "magnusbilling7": "MagnusBilling",
    "astpp": "ASTPP",
    "yeti": "Yeti",
    "cgrates": "CGRateS",
}

PREFIX = {"a2billing": "dialprefix", "magnusbilling7": "dialprefix", "astpp": "pattern", "cgrates": "Prefix"}
DESTINATION = {"astpp": "comment", "cgrates": "Destination"}
PRICE = {
    "a2billing": "rateinitial",
    "magnusbilling7": "rateinitial",
    "astpp": "cost",
    "yeti": "next_rate",
    "cgrates": "Rate",
}
EFFECTIVE = {"a2billing": "startdate", "astpp": "effective_date", "yeti": "valid_from"}
EXPIRES = {"a2billing": "stopdate", "yeti": "valid_till"}
MONEY: Dictionary[str, tuple[str, ...]] = {
    OWN: own.MONEY,
    "a2billing": tuple(_A2BILLING_MONEY.split()),
    "magnusbilling7": ("rateinitial", "connectcharge"),
    "astpp": ("connectcost", "cost"),
    "yeti": ("initial_rate", "next_rate", "connect_fee", "attempt_fee"),
    "cgrates": ("Rate", "ConnectFee", "MaxCost"),
}

_ALIASES: Dictionary[str, Dictionary[str, str]] = {
    "a2billing": {"dest_name": "destination", "prefix": "dialprefix"},
    "magnusbilling7": {
        "prefix": "dialprefix",
        "sell_price": "rateinitial",
        "initial_block": "initblock",
        "billing_block": "billingblock",
        "minimum_time_to_charge": "minimal_time_charge",
        "connection_charge": "connectcharge",
        "additional_time": "additional_grace",
        "prefixo": "dialprefix",
        "destino": "destination",
    },
    "astpp": {
        "code": "pattern",
        "destination": "comment",
        "connection_cost": "connectcost",
        "connect_cost": "connectcost",
        "grace_time": "includedseconds",
        "included_seconds": "includedseconds",
        "cost_min": "cost",
        "per_minute_cost": "cost",
        "initial_increment": "init_inc",
        "increment": "inc",
    },
    "yeti": {"network_name": "destination", "network": "destination"},
    "cgrates": {"destinationid": "Destination"},
}
# What another system's file has and ours could not: two of these, or the price alone, say whose file it is.
_TELLING = {
    "a2billing": {"rateinitial", "startingdate", "billingblocka", "chargea", "minimal_cost", "dest_name"},
    "magnusbilling7": {"minimal_time_charge", "sell_price", "id_plan", "package_offer", "include_in_offer"},
    "astpp": {"cost_min", "init_inc", "includedseconds", "included_seconds", "grace_time", "connectcost"},
    "yeti": {"next_rate", "initial_rate", "reject_calls", "rate_policy_name"},
    "cgrates": {"rateunit", "rateincrement", "ratestag", "groupintervalstart"},
}
SAYS_MORE: Dictionary[str, Dictionary[str, tuple[str, ...]]] = {
    "yeti": {"attempt_fee": ("", "0", "0.0")},
}
"""Fields that may hold only these texts: anything else would change the price, and a rate cannot say it."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """What each column of a file means: the field of its format, or "".

    `decimal`: "." or ",", "" to find it out column by column. `zone`: the time zone of times that name none.
    `international`: what stands before a country code, such as 00. `is_exact`: the header is callctl's own to the
    letter, so that nothing was guessed.
    """

    format: str
    fields: tuple[str, ...]
    decimal: str = ""
    zone: str = ""
    international: str = ""
    is_exact: bool = False

    def column_of(self, field: str) -> int | None:
        """Return the number of the column with this field."""
        return self.fields.index(field) if field in self.fields else None

    @property
    def prefix(self) -> str:
        """The field that holds the prefix."""
        return PREFIX.get(self.format, "prefix")

    @property
    def destination(self) -> str:
        """The field that holds the name."""
        return DESTINATION.get(self.format, "destination")


def simplified(name: str) -> str:
    """Return a column's name in small letters and underscores: "Cost / Min(USD)" is cost_min."""
    return _WORDS.sub("_", _BRACKETS.sub("", name.lower())).strip("_")


def _own_names() -> dict[str, str]:
    names = {name: name for name in FIELDS[OWN]}
    for field, aliases in _OWN_ALIASES.items():
        names |= dict.fromkeys(aliases.split(), field)
    return names


_NAMES: Dictionary[str, Dictionary[str, str]] = {
    OWN: _own_names(),
    **{name: {**{simplified(field): field for field in FIELDS[name]}, **aliases} for name, aliases in _ALIASES.items()},
}


def score(cells: Sequence[str]) -> int:
    """Return how many cells of a row look like the name of a column."""
    return max(sum(simplified(cell) in names for cell in cells) for names in _NAMES.values())


def guess_mapping(columns: Sequence[str], *, format_name: str = "") -> Mapping:
    """Guess what the columns mean. A field goes to the first column that looks like it, to its own name before others.

    Raises `TariffError` for a format that is not known.
    """
    if format_name and format_name not in FIELDS:
        raise TariffError(f"there is no format {format_name[:_SHOWN]!r}; expected one of {', '.join(FIELDS)}")
    names = [simplified(column) for column in columns]
    found = format_name or _guess_format(set(names))
    known = _NAMES[found]
    fields = [""] * len(names)
    for is_own_name in (True, False):
        for number, name in enumerate(names):
            field = known.get(name, "")
            if field and field not in fields and not fields[number] and (simplified(field) == name) == is_own_name:
                fields[number] = field
    lowered = [column.strip().lower() for column in columns]
    is_exact = found == OWN and fields == lowered and "prefix" in fields
    return Mapping(found, tuple(fields), is_exact=is_exact)


def _guess_format(names: set[str]) -> str:
    telling = {name: len(names & marks) for name, marks in _TELLING.items()}
    best = max(telling, key=lambda name: telling[name])
    if telling[best] == 0:
        return OWN
    own_score = sum(name in own.COLUMNS for name in names)
    return best if sum(name in _NAMES[best] for name in names) >= own_score or telling[best] > 1 else OWN


def mapped(mapping: Mapping, columns: Sequence[str], changes: Sequence[str]) -> Mapping:
    """Change a mapping as `column=field` says; a column by its name or its number, no field to leave it out.

    Raises `TariffError` for what names no column or no field.
    """
    fields = list(mapping.fields)
    for change in changes:
        column, equals, field = change.rpartition("=")
        if not equals:
            raise TariffError(f"expected column=field, found {change[:_SHOWN]!r}")
        if field and field not in FIELDS[mapping.format]:
            near = difflib.get_close_matches(field, FIELDS[mapping.format], n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(FIELDS[mapping.format])}"
            raise TariffError(f"there is no field {field[:_SHOWN]!r}; {hint}")
        number = _number_of(column, columns)
        if field in fields and field:
            fields[fields.index(field)] = ""
        fields[number] = field
    return replace(mapping, fields=tuple(fields), is_exact=False)


def _number_of(column: str, columns: Sequence[str]) -> int:
    names = [name.strip().lower() for name in columns]
    if column.strip().lower() in names:
        return names.index(column.strip().lower())
    if column.strip().isdecimal() and 1 <= int(column) <= len(columns):
        return int(column) - 1
    raise TariffError(f"there is no column {column[:_SHOWN]!r} in the file; it has {', '.join(columns)[:200]}")
