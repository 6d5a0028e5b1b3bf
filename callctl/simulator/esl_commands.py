"""What a client may say to FreeSWITCH's event socket beside `api`, and the answers of mod_event_socket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from callctl.simulator.esl_events import EVENT_NAMES, MINE, make_uuid, number

if TYPE_CHECKING:
    from callctl.simulator.esl import Session

LEVELS = ("console", "alert", "crit", "err", "warning", "notice", "info", "debug")
FORMATS = ("plain", "json", "xml")


def event(session: Session, rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Ask for events, perhaps in another format."""
    words = rest.split()
    if words and words[0].lower() in FORMATS:
        session.form = words.pop(0).lower()
    names, _, subclasses = names_in(words)
    if not names:
        session.reply("-ERR no keywords supplied")
        return
    session.names |= names
    session.subclasses |= subclasses
    session.reply(f"+OK event listener enabled {session.form}")


def nixevent(session: Session, rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Ask for some events no more."""
    names, everything, subclasses = names_in(rest.split())
    if not names:
        session.reply("-ERR no keywords supplied")
        return
    if "ALL" in session.names:
        session.names = set(EVENT_NAMES) - {"ALL"}
    session.names = set() if everything else session.names - (names if not subclasses else names - {"CUSTOM"})
    session.subclasses -= subclasses
    session.reply("+OK events nixed")


def noevents(session: Session, _rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Ask for no events."""
    session.forget_events()
    session.reply("+OK no longer listening for events" if session.names else "-ERR not listening for events")
    session.names.clear()
    session.subclasses.clear()


def filter_(session: Session, rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Add or delete a filter."""
    name, _, value = rest.lstrip(" ").partition(" ")
    if name.lower() == "delete" and value:
        name, _, value = value.partition(" ")
        session.filters = [
            each
            for each in session.filters
            if name.lower() != "all" and (each[0].lower() != name.lower() or (value and each[1] != value))
        ]
        session.reply(f"+OK filter deleted. [{name}][{value}]")
        return
    if name.lower() == "add" and value:
        name, _, value = value.partition(" ")
    if not value:
        session.reply("-ERR invalid syntax")
        return
    session.filters.append((name, value))
    session.reply(f"+OK filter added. [{name}]=[{value}]")


def myevents(session: Session, rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Ask for the events of one channel, and for no others."""
    forms = [word.lower() for word in rest.split() if word.lower() in FORMATS]
    uuids = [word for word in rest.split() if word.lower() not in FORMATS]
    if session.follows:
        session.reply("-ERR aready enabled.")
    elif not uuids or not session.server.exchange.exists(uuids[0]):
        session.reply("-ERR invalid uuid")
    else:
        session.follows = uuids[0]
        session.form = forms[-1] if forms else session.form
        session.names |= MINE
        session.reply("+OK Events Enabled")


def linger(session: Session, rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Stay a while after that channel is gone."""
    if not session.follows:
        session.reply("-ERR not controlling a session")
        return
    seconds = number(rest)
    session.linger_s = float(seconds if seconds > 0 else 600)
    session.reply(f"+OK will linger {seconds} seconds" if seconds > 0 else "+OK will linger")


def nolinger(session: Session, _rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Leave with that channel."""
    session.linger_s = None
    session.reply("+OK will not linger" if session.follows else "-ERR not controlling a session")


def log(session: Session, rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Ask for the log, up to a level."""
    word = rest.strip().lower() or "debug"
    level = int(word) if word.isascii() and word.isdecimal() else LEVELS.index(word) if word in LEVELS else -1
    if not 0 <= level < len(LEVELS):
        session.reply("-ERR invalid log level")
        return
    session.log_level = level
    session.reply(f"+OK log level {rest.strip()} [{level}]")


def nolog(session: Session, _rest: str, _headers: Mapping[str, str], _body: str) -> None:
    """Ask for the log no more."""
    session.reply("+OK no longer logging" if session.log_level >= 0 else "-ERR not loging")
    session.log_level = -1


def sendmsg(session: Session, rest: str, headers: Mapping[str, str], _body: str) -> None:
    """Tell a channel to do something."""
    uuid = rest.strip() or headers.get("session-id", "") or session.follows
    if session.server.exchange.exists(uuid):
        session.reply("+OK")
        session.server.exchange.message(uuid, headers)
    else:
        session.reply(f"-ERR invalid session id [{uuid}]")


def sendevent(session: Session, rest: str, headers: Mapping[str, str], body: str) -> None:
    """Fire an event."""
    name, exchange = rest.strip().upper(), session.server.exchange
    name = name if name in EVENT_NAMES else "CUSTOM"
    uuid = make_uuid(exchange.rng)
    more = {key: value for key, value in headers.items() if key.lower() != "content-length"} | {"Event-UUID": uuid}
    session.reply(f"+OK {uuid}")
    session.server.publish(name, lambda: exchange.event(name, more, body))


def names_in(words: list[str]) -> tuple[set[str], bool, set[str]]:
    """Return known event names, whether all are meant, and what follows CUSTOM."""
    names: set[str] = set()
    for at, word in enumerate(words):
        name = word.upper()
        if name in EVENT_NAMES:
            names.add(name)
        if name == "CUSTOM":
            return names, "ALL" in names, set(words[at + 1 :])
    return names, "ALL" in names, set()


Command = Callable[["Session", str, Mapping[str, str], str], None]
COMMANDS: dict[str, Command] = {
    "event": event,
    "nixevent": nixevent,
    "noevents": noevents,
    "filter": filter_,
    "myevents": myevents,
    "linger": linger,
    "nolinger": nolinger,
    "log": log,
    "nolog": nolog,
    "sendmsg": sendmsg,
    "sendevent": sendevent,
}
