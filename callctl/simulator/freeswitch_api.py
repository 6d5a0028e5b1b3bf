"""The `api` commands of the simulated FreeSWITCH, in the words of mod_commands and mod_hash."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Protocol

from billing.ports import Clock
from callctl.simulator.esl_events import Event, number
from callctl.simulator.freeswitch_channels import CAUSES, EPOCH, LIMIT, Channel, moment

GONE = "-ERR No such channel!\n"
VERSION = "FreeSWITCH Version 1.10.12-release+simulated (git simulated 64bit)"
MODULES = frozenset({
    "mod_commands", "mod_dialplan_xml", "mod_dptools", "mod_event_socket", "mod_hash", "mod_sofia", "mod_tone_stream",
})  # fmt: skip
MAX_VARIABLES = 64
TRANSFER_WORDS = (2, 5)


class Switch(Protocol):
    """What the commands work on."""

    clock: Clock
    channels: dict[str, Channel]
    db: dict[str, str]
    globals: dict[str, str]
    contexts: tuple[str, ...]
    calls_placed: int
    started: int

    def schedule(self, group: str, after_s: int, command: str) -> int:
        """Run an api command when so many seconds of the clock have begun; return the task's number."""

    def unschedule(self, group: str) -> int:
        """Delete the tasks of a group, or the one of a number; return how many there were."""

    def dump(self, channel: Channel) -> Event:
        """Return everything there is to say about a channel."""

    def api(self, name: str, argument: str) -> str | None:
        """Carry out another command."""


def separate(text: str, most: int = 0) -> list[str]:
    """Cut at spaces, as FreeSWITCH does: 'single quotes' hold words together. `most`: the last one takes the rest."""
    words: list[str] = []
    word, quoted, begun = "", False, False
    for at, char in enumerate(text):
        if char == "'":
            quoted, begun = not quoted, True
        elif char == " " and not quoted:
            if begun:
                words.append(word)
            word, begun = "", False
            if most and len(words) == most - 1:
                rest = text[at + 1 :].lstrip(" ")
                return [*words, rest] if rest else words
        else:
            word, begun = word + char, True
    return [*words, word] if begun else words


def uuid_kill(switch: Switch, argument: str) -> str:
    """Hang a channel up with a cause."""
    uuid, _, cause = argument.partition(" ")
    if not uuid:
        return "-USAGE: <uuid> [cause]\n"
    channel = switch.channels.get(uuid)
    if channel is None:
        return GONE
    if channel.driver is not None:
        channel.driver.killed(channel, cause if cause in CAUSES else "NORMAL_CLEARING")
    return "+OK\n"


def uuid_exists(switch: Switch, argument: str) -> str:
    """Say whether a channel lives."""
    return "true" if argument in switch.channels else "false"


def uuid_transfer(switch: Switch, argument: str) -> str:
    """Send a channel, or the one bridged to it, elsewhere in the dialplan."""
    words = separate(argument)
    least, most = TRANSFER_WORDS
    if not least <= len(words) <= most:
        return "-USAGE: <uuid> [-bleg|-both] <dest-exten> [<dialplan>] [<context>]\n"
    channel = switch.channels.get(words[0])
    if channel is None:
        return GONE
    if words[1].startswith("-"):
        if words.pop(1).lower() == "-bleg":
            channel = switch.channels.get(channel.other, channel)
        if len(words) < least:
            return "-ERR\n"
    destination, dialplan, context = (*words[1:], "", "")[:3]
    if channel.driver is None:
        return "-ERR\n"
    word, _, rest = destination.partition(":")
    if dialplan == "inline" and word == "respond":
        channel.driver.responded(channel, number(rest))
    elif dialplan == "inline" and word == "hangup":
        channel.driver.killed(channel, rest if rest in CAUSES else "NORMAL_CLEARING")
    else:
        channel.driver.transferred(channel, destination, context or "default")
    return "+OK\n"


def uuid_setvar_multi(switch: Switch, argument: str) -> str:
    """Set several variables: a=b;c=d."""
    usage = "-USAGE: <uuid> <var>=<value>;<var>=<value>...\n"
    uuid, space, text = argument.partition(" ")
    if not space:
        return "-ERR no reply\n"
    channel = switch.channels.get(uuid)
    if channel is None:
        return GONE + usage
    for each in text.split(";")[:MAX_VARIABLES]:
        name, _, value = each.partition("=")
        _set(channel, name, value)
    return "+OK\n"


def uuid_setvar(switch: Switch, argument: str) -> str:
    """Set a variable, or take it away."""
    words = separate(argument, 3)
    if len(words) < 2:  # noqa: PLR2004 - uuid and name
        return "-USAGE: <uuid> <var> [value]\n"
    channel = switch.channels.get(words[0])
    if channel is None:
        return GONE
    _set(channel, words[1], words[2] if len(words) > 2 else "")  # noqa: PLR2004
    return "+OK\n"


def _set(channel: Channel, name: str, value: str) -> None:
    if value:
        channel.variables[name] = value
    else:
        channel.variables.pop(name, None)


def uuid_getvar(switch: Switch, argument: str) -> str:
    """Tell a variable."""
    words = separate(argument)
    if len(words) < 2:  # noqa: PLR2004 - uuid and name
        return "-USAGE: <uuid> <var>\n"
    channel = switch.channels.get(words[0])
    if channel is None:
        return GONE
    value = channel.read(words[1])
    return "_undef_" if value is None else value


def uuid_dump(switch: Switch, argument: str) -> str:
    """Tell everything about a channel."""
    words = separate(argument)
    if not words:
        return "-USAGE: <uuid> [format]\n"
    channel = switch.channels.get(words[0])
    if channel is None:
        return GONE
    form = words[1].lower() if len(words) > 1 else "txt"
    event = switch.dump(channel)
    if form in {"json", "xml", "plain"}:
        return event.written(form).decode("utf-8", "surrogateescape")
    return "".join(f"{name}: {value}\n" for name, value in event.headers.items())


def uuid_broadcast(switch: Switch, argument: str) -> str:
    """Let the people on a channel hear something."""
    words = separate(argument)
    if len(words) < 2:  # noqa: PLR2004 - uuid and what
        return "-USAGE: <uuid> <path> [aleg|bleg|holdb|both]\n"
    channel = switch.channels.get(words[0])
    if channel is None:
        return "-ERR invalid uuid\n"
    if channel.driver is not None:
        channel.driver.play()
    return "+OK Message sent\n"


def sched_hangup(switch: Switch, argument: str) -> str:
    """Hang a channel up when so many seconds of the clock have begun."""
    words = separate(argument)
    if len(words) < 2:  # noqa: PLR2004 - when and whom
        return "-USAGE: [+]<time> <uuid> [<cause>]\n"
    if words[1] not in switch.channels:
        return GONE
    cause = words[2] if len(words) > 2 and words[2] in CAUSES else LIMIT  # noqa: PLR2004
    seconds = _after_s(switch, words[0])
    if seconds <= 0:
        return uuid_kill(switch, f"{words[1]} {cause}")
    switch.schedule(words[1], seconds, f"uuid_kill {words[1]} {cause}")
    return "+OK\n"


def sched_api(switch: Switch, argument: str) -> str:
    """Run a command when so many seconds of the clock have begun."""
    words = separate(argument, 3)
    if len(words) < 3:  # noqa: PLR2004 - when, group, command
        return "-ERR Invalid syntax. USAGE: [+@]<time> <group_name> <command_string>[&]\n"
    return f"+OK Added: {switch.schedule(words[1], _after_s(switch, words[0]), words[2].rstrip('&'))}\n"


def _after_s(switch: Switch, text: str) -> int:
    if text.startswith(("+", "@")):
        return number(text[1:])
    return number(text) - int((switch.clock.now() - EPOCH).total_seconds())


def sched_del(switch: Switch, argument: str) -> str:
    """Delete the tasks of a group."""
    return f"+OK Deleted: {switch.unschedule(argument)}\n" if argument else "-ERR Invalid syntax\n"


def hash_(switch: Switch, argument: str) -> str:
    """Keep, tell and delete values by realm and key."""
    usage = "-ERR Usage: hash [insert|insert_ifempty|delete|delete_ifmatch]/<realm>/<key>/<val>\n"
    what, *parts = argument.split("/", 3)
    if len(parts) < 2:  # noqa: PLR2004 - realm and key
        return usage
    key, value = f"{parts[0]}_{parts[1]}", parts[2] if len(parts) > 2 else None  # noqa: PLR2004
    held = switch.db.get(key)
    said = "+OK\n"
    match what.lower():
        case "select":
            said = held or ""
        case "insert_ifempty" if value is not None and held is not None:
            said = "-ERR key already exists\n"
        case "insert" | "insert_ifempty" if value is not None:
            switch.db[key] = value
        case "delete" | "delete_ifmatch" if held is None:
            said = "-ERR Not found\n"
        case "delete_ifmatch" if value != held:
            said = "-ERR Doesn't match\n"
        case "delete" | "delete_ifmatch":
            del switch.db[key]
        case _:
            said = usage
    return said


def hash_dump(switch: Switch, argument: str) -> str:
    """List what is kept."""
    what, _, realm = argument.partition(" ")
    if what not in {"all", "limit", "db"}:
        return "Usage: all|limit|db [<realm>]\n"
    if what == "limit":
        return ""
    wanted = f"{realm}_" if realm else ""
    return "".join(f"D/{key}/{value}\n" for key, value in switch.db.items() if wanted in key)


def show(switch: Switch, argument: str) -> str:
    """List channels or calls, or count them."""
    words = argument.split()
    form = words[words.index("as") + 1].lower() if "as" in words[:-1] else ""
    channels = list(switch.channels.values())
    match words[:1]:
        case ["channels"]:
            rows = [channel.row() for channel in channels]
        case ["calls"]:
            rows = [channel.row() for channel in channels if channel.direction == "inbound"]
        case _:
            return "-USAGE: channels|calls [count] [as json]\n"
    if words[1:2] == ["count"]:
        return json.dumps({"row_count": len(rows)}) if form == "json" else f"\n{len(rows)} total.\n"
    if form == "json":
        if not rows:
            return '{"row_count": 0}\n'
        return json.dumps({"row_count": len(rows), "rows": rows}, ensure_ascii=False, separators=(",", ":"))
    if form:
        return f"-ERR Cannot find format {form}\n"
    names = ",".join(rows[0]) + "\n" if rows else ""
    return names + "".join(",".join(row.values()) + "\n" for row in rows) + f"\n{len(rows)} total.\n"


def status(switch: Switch, _argument: str) -> str:
    """Say how the switch is."""
    up_s = max(0, int((switch.clock.now() - moment(switch.started)).total_seconds()))
    minutes, seconds = divmod(up_s, 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"UP 0 years, {hours // 24} days, {hours % 24} hours, {minutes} minutes, {seconds} seconds, 0 milliseconds, "
        f"0 microseconds\n{VERSION.replace(' Version ', ' (Version ', 1)}) is ready\n"
        f"{switch.calls_placed} session(s) since startup\n"
        f"{len(switch.channels)} session(s) - peak {len(switch.channels)}, last 5min {len(switch.channels)} \n"
        "0 session(s) per Sec out of max 30, peak 0, last 5min 0 \n1000 session(s) max\nmin idle cpu 0.00/99.00\n"
        "Current Stack Size/Max 240K/8192K\n"
    )


def strmicroepoch(switch: Switch, _argument: str) -> str:
    """Tell the time in microseconds."""
    now = switch.clock.now()
    return str(int((now - EPOCH).total_seconds()) * 1_000_000 + now.microsecond)


def strepoch(switch: Switch, _argument: str) -> str:
    """Tell the time in seconds."""
    return str(int((switch.clock.now() - EPOCH).total_seconds()))


def version(_switch: Switch, argument: str) -> str:
    """Tell the version."""
    return "1.10.12" if argument == "short" else f"{VERSION}\n"


def hostname(_switch: Switch, _argument: str) -> str:
    """Tell the machine's name."""
    return "simulated"


def echo(_switch: Switch, argument: str) -> str:
    """Repeat."""
    return argument


def global_getvar(switch: Switch, argument: str) -> str:
    """Tell a global variable, or all of them."""
    if argument:
        return switch.globals.get(argument, "")
    return "".join(f"{name}={value}\n" for name, value in switch.globals.items())


def global_setvar(switch: Switch, argument: str) -> str:
    """Set a global variable; with a second value, only if it has that."""
    name, value, only = (*argument.split("=", 2), "", "")[:3]
    if not name:
        return "-USAGE: <var>=<value> [=<value2>]\n"
    if not only or switch.globals.get(name, "") == only:
        switch.globals[name] = value
    return "+OK"


def module_exists(_switch: Switch, argument: str) -> str:
    """Say whether a module is loaded."""
    return "true" if argument in MODULES else "false"


def xml_locate(switch: Switch, argument: str) -> str:
    """Tell a context of the dialplan; its extensions are not shown."""
    words = argument.split()
    if words[:3] == ["dialplan", "context", "name"] and words[3:4] and words[3] in switch.contexts:
        return f'<context name="{words[3]}">\n  <extension name="{words[3]}"/>\n</context>\n'
    return "-ERR not found\n"


COMMANDS: dict[str, Callable[[Switch, str], str]] = {
    "uuid_kill": uuid_kill,
    "uuid_exists": uuid_exists,
    "uuid_transfer": uuid_transfer,
    "uuid_setvar": uuid_setvar,
    "uuid_setvar_multi": uuid_setvar_multi,
    "uuid_getvar": uuid_getvar,
    "uuid_dump": uuid_dump,
    "uuid_broadcast": uuid_broadcast,
    "sched_hangup": sched_hangup,
    "sched_api": sched_api,
    "sched_del": sched_del,
    "hash": hash_,
    "hash_dump": hash_dump,
    "show": show,
    "status": status,
    "strmicroepoch": strmicroepoch,
    "strepoch": strepoch,
    "version": version,
    "hostname": hostname,
    "switchname": hostname,
    "echo": echo,
    "global_getvar": global_getvar,
    "global_setvar": global_setvar,
    "module_exists": module_exists,
    "xml_locate": xml_locate,
}
