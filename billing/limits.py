"""What an account may do and where it lives: read from text and checked, without I/O. What is none is `Refused`.

Hours are kept as people write them, "mon-fri 08:00-18:00": the account's own clock; over midnight where the end is the
smaller time, and then they belong to the day on which they begin. No hours: at any time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Final

from billing.errors import Refused, TooLarge
from billing.models import BillingMode, IdentityKind
from rating.bands import NO_BAND, calendar_of, instant_ms, zone_of
from rating.currencies import is_currency
from rating.errors import TariffError
from rating.money import MOST_MICROS
from rating.parts import When

MOST_LIMIT: Final = 1_000_000
"""No account may have more calls at once, or per second."""
MOST_PREFIXES: Final = 1_000
MOST_HOURS: Final = 50
MOST_TEXT: Final = 100
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_HOURS = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?([0-2][0-9]):([0-5][0-9])-([0-2][0-9]):([0-5][0-9])")
_PREFIX = re.compile(r"[0-9]{1,32}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,2}")
_NUMBER = re.compile(r"[0-9A-Za-z_]{1,64}")
_ROW = re.compile(r"[1-9][0-9]{0,17}")
_SOCKET = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)):[0-9]{1,5}")


def checked_number(what: str, limit: int | None) -> int | None:
    """Return a limit of calls: a whole number, or none."""
    if limit is not None and not 0 <= limit <= MOST_LIMIT:
        raise Refused(f"the limit of {what} is a number from 0 to {MOST_LIMIT}")
    return limit


def checked_amount(what: str, micros: int | None) -> int | None:
    """Return an amount of 0 or more, or none."""
    if micros is None:
        return None
    if micros < 0:
        raise Refused(f"{what} is 0 or more")
    if micros > MOST_MICROS:
        raise TooLarge(f"{what} must stay below 2**53 micro-units")
    return micros


def checked_prefixes(what: str, prefixes: Sequence[str]) -> list[str]:
    """Return prefixes of numbers, each once, in the order given."""
    for prefix in prefixes:
        if not _PREFIX.fullmatch(prefix):
            raise Refused(f"{what} is digits only, not {prefix[:40]!r}")
    if len(prefixes) > MOST_PREFIXES:
        raise Refused(f"an account has up to {MOST_PREFIXES} prefixes; a tariff can bar more")
    return list(dict.fromkeys(prefixes))


def checked_mode(mode: BillingMode | None, credit_limit_micros: int) -> BillingMode:
    """Return how an account pays (default: what its credit limit says). Postpaid is a credit limit, prepaid is none."""
    if mode is None:
        return BillingMode.POSTPAID if credit_limit_micros else BillingMode.PREPAID
    if mode is BillingMode.PREPAID and credit_limit_micros:
        raise Refused("a prepaid account has no credit limit; postpaid, flat and payg accounts may have one")
    if mode is BillingMode.POSTPAID and not credit_limit_micros:
        raise Refused("a postpaid account needs a credit limit: it is what it may owe")
    return mode


def checked_timezone(name: str) -> str:
    """Return the name of an IANA time zone."""
    try:
        zone_of(name)
    except TariffError as error:
        raise Refused(f"there is no time zone {name[:40]!r}; one is called Europe/Berlin, another UTC") from error
    return name


def checked_language(code: str) -> str:
    """Return a language as BCP 47 writes it: de, pt-BR."""
    if not _LANGUAGE.fullmatch(code):
        raise Refused(f"a language is a code such as en or pt-BR, not {code[:20]!r}")
    return code


def checked_brand(name: str) -> str:
    """Return the name a reseller's customers see, or ""."""
    if len(name) > MOST_TEXT or name != name.strip() or not name.isprintable():
        raise Refused(f"a brand is up to {MOST_TEXT} printable characters, without spaces around it")
    return name


def checked_currency(code: str) -> str:
    """Return the code of a currency. Raises `Refused` for what is none, or for one that nobody has."""
    if not is_currency(code):
        raise Refused(f"a currency is one of ISO 4217, three capital letters such as EUR, not {code[:10]!r}")
    return code


def checked_hours(lines: Sequence[str]) -> list[str]:
    """Return the hours in which calls may begin, as they are kept."""
    if len(lines) > MOST_HOURS:
        raise Refused(f"an account has up to {MOST_HOURS} lines of hours")
    return [" ".join(line.split()) for line in lines if _when(line)]


def checked_thresholds(low_micros: int | None, clear_micros: int | None) -> None:
    """A low balance is over only above where it began, or an alert would come and go with every call."""
    if clear_micros is not None and (low_micros is None or clear_micros < low_micros):
        raise Refused("the balance that clears the alert is not below the one that raises it")


def checked_identity(kind: IdentityKind, value: str) -> str:
    """Return an identity in the one form in which calls are looked up."""
    if not value or len(value) > MOST_TEXT or not value.isprintable():
        raise Refused(f"an identity is 1 to {MOST_TEXT} printable characters")
    match kind:
        case IdentityKind.SOURCE_ADDRESS:
            try:
                return str(ip_network(value, strict=False))
            except ValueError as error:
                raise Refused(
                    f"a source address is one such as 192.0.2.7 or 2001:db8::/48, not {value[:40]!r}"
                ) from error
        case IdentityKind.DID | IdentityKind.CALLER_NUMBER:
            number = value.removeprefix("+")
            if not _NUMBER.fullmatch(number):
                raise Refused(f"a number is digits, with or without a plus, not {value[:40]!r}")
            return number
        case IdentityKind.PIN:
            if not _ROW.fullmatch(value):
                raise Refused("a PIN is named by its number in the account's list, and never by what is typed")
            return value
        case _:
            if ":" in value:
                raise Refused("an account code or a user has no colon: it would be taken for another kind of identity")
            return value


def read_hours(lines: Iterable[str]) -> tuple[When, ...]:
    """Return kept hours in the form in which `hours_allow` asks them."""
    return tuple(_when(line) for line in lines)


def hours_allow(hours: tuple[When, ...], timezone: str, at: datetime) -> bool:
    """Return whether a call may begin at this moment."""
    return not hours or calendar_of(hours, timezone).at(instant_ms(at))[0] != NO_BAND


def day_of(timezone: str, at: datetime) -> int:
    """Return the number of the day that it is in a zone."""
    return at.astimezone(zone_of(timezone)).toordinal()


def day_began(timezone: str, at: datetime) -> datetime:
    """Return the moment at which that day began."""
    local = at.astimezone(zone_of(timezone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).astimezone(UTC)


def networks_of(address: str, lengths: Iterable[tuple[int, int]]) -> list[str]:
    """Return the networks that hold an address, for each (version, length) of its version; [] where it is none.

    A port behind it is passed over: Asterisk tells `192.0.2.7:5060` and `[2001:db8::7]:5060`.
    """
    with_port = _SOCKET.fullmatch(address)
    try:
        found = ip_address(with_port[1] or with_port[2] if with_port else address)
    except ValueError:
        return []
    return [str(ip_network((found, length), strict=False)) for version, length in lengths if version == found.version]


def _when(line: str) -> When:
    """Read a line of hours."""
    match = _HOURS.fullmatch(" ".join(line.lower().split()))
    if match is None:
        raise Refused(f'hours are written "mon-fri 08:00-18:00" or "08:00-18:00", not {line[:40]!r}')
    first, last = match[1] or "mon", match[2] or match[1] or "sun"
    if first not in DAYS or last not in DAYS:
        raise Refused(f"a day is one of {', '.join(DAYS)}, not {line[:40]!r}")
    begin, end = DAYS.index(first), DAYS.index(last)
    days = range(begin, end + 1) if begin <= end else [*range(begin, 7), *range(end + 1)]
    from_s, to_s = (int(match[i]) * 3600 + int(match[i + 1]) * 60 for i in (3, 5))
    if from_s >= 86_400 or to_s > 86_400 or from_s == to_s:  # noqa: PLR2004 - a day
        raise Refused(f"hours are from 00:00 to 24:00 and not empty, not {line[:40]!r}")
    return When(days=tuple(day + 1 for day in days), from_s=from_s, to_s=to_s)
