"""The manager actions that look at channels, move them, end them, or read and write the switch's small database."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

from billing.ports import Clock
from callctl.simulator.ami import Answer, Request, Session
from callctl.simulator.channels import CAUSE_OF_SIP, Channel, split_variables


class Exchange(Protocol):
    """What the actions need of the switch behind them."""

    clock: Clock
    loop: asyncio.AbstractEventLoop
    channels: dict[str, Channel]
    astdb: dict[str, str]
    globals: dict[str, str]

    @property
    def started_at_text(self) -> tuple[str, str]:
        """Day and time of the start."""

    def find(self, name: str) -> Channel | None:
        """Return the channel of this name or unique id."""

    def evaluate(self, expression: str) -> str:
        """Return the value of a global variable or of a function that needs no channel, "" where unset."""

    def originate(self, request: Request) -> None:
        """Begin a call of the switch's own."""

    def command(self, line: str) -> list[str] | None:
        """Return what the console would print, None for no such command."""


CAUSE_MAX = 127  # Q.850
SIP_FIRST_ERROR, SIP_LAST_ERROR = 400, 699
Act = Callable[[Exchange, Session, Request], None]


def answers(exchange: Exchange) -> dict[str, Answer]:
    """Return the table of actions for one switch, with the write classes Asterisk asks for."""
    table: dict[str, tuple[Act, set[str]]] = {
        "Status": (_status, {"system", "call", "reporting"}),
        "CoreShowChannels": (_core_show_channels, {"system", "reporting"}),
        "ListCommands": (_list_commands, set()),
        "GetConfig": (_get_config, {"system", "config"}),
        "CoreStatus": (_core_status, {"system", "reporting"}),
        "CoreSettings": (_core_settings, {"system", "reporting"}),
        "Command": (_command, {"command"}),
        "Setvar": (_setvar, {"call"}),
        "Getvar": (_getvar, {"call", "reporting"}),
        "Redirect": (_redirect, {"call"}),
        "Hangup": (_hangup, {"system", "call"}),
        "PJSIPHangup": (_pjsip_hangup, {"system", "call"}),
        "PlayDTMF": (_play_dtmf, {"call"}),
        "Originate": (_originate, {"originate"}),
        "DBGet": (_db_get, {"system", "reporting"}),
        "DBPut": (_db_put, {"system"}),
        "DBDel": (_db_del, {"system"}),
        "DBDelTree": (_db_del_tree, {"system"}),
        "DBGetTree": (_db_get_tree, {"system", "reporting"}),
    }
    return {name: Answer(partial(act, exchange), frozenset(needs)) for name, (act, needs) in table.items()}


def _status(exchange: Exchange, session: Session, request: Request) -> None:
    name = request.get("Channel")
    channels = list(exchange.channels.values())
    if name:
        one = exchange.find(name)
        if one is None:
            session.error(request, "No such channel")
            return
        channels = [one]
    wanted = split_variables(request.get("Variables"))
    rows = (_status_row(exchange, channel, wanted) for channel in _living(exchange, channels))
    session.rows(request, "Channel status will follow", "Status", rows, items=True)


def _living(exchange: Exchange, channels: list[Channel]) -> Iterator[Channel]:
    """Return the channels that are still there when their turn comes: a long list is told while calls end."""
    return (channel for channel in channels if exchange.channels.get(channel.unique_id) is channel)


def _status_row(exchange: Exchange, channel: Channel, wanted: list[str]) -> str:
    now = exchange.clock.now()
    left_s = channel.left_s(exchange.loop)
    ends_at = 0 if left_s is None else int(now.timestamp() + left_s)
    text = (
        f"Privilege: Call\r\n{channel.snapshot()}"
        f"Type: {channel.name.partition('/')[0]}\r\n"
        f"DNID: {channel.dnid}\r\nEffectiveConnectedLineNum: {channel.callee_num or '<unknown>'}\r\n"
        f"EffectiveConnectedLineName: <unknown>\r\nTimeToHangup: {ends_at}\r\nBridgeID: {channel.bridge}\r\n"
        f"Application: {channel.application}\r\nData: {channel.data}\r\nNativeformats: (ulaw)\r\nReadformat: ulaw\r\n"
        "Readtrans: \r\nWriteformat: ulaw\r\nWritetrans: \r\nCallgroup: 0\r\nPickupgroup: 0\r\n"
        f"Seconds: {int((now - channel.created_at).total_seconds())}\r\n"
    )
    lines = [text]
    for name in wanted:
        value = channel.read(name, exchange.loop, now)
        lines.append(f"Variable: {name}={'(null)' if value is None else value}\r\n")
    return "".join(lines)


def _core_show_channels(exchange: Exchange, session: Session, request: Request) -> None:
    channels = _living(exchange, list(exchange.channels.values()))
    rows = (_core_show_row(exchange, channel) for channel in channels)
    session.rows(request, "Channels will follow", "CoreShowChannels", rows, echo_first=True)


def _core_show_row(exchange: Exchange, channel: Channel) -> str:
    up_s = int((exchange.clock.now() - channel.created_at).total_seconds())
    up = f"{up_s // 3600:02d}:{up_s // 60 % 60:02d}:{up_s % 60:02d}"
    return (
        f"{channel.snapshot()}Application: {channel.application}\r\nApplicationData: {channel.data}\r\n"
        f"Duration: {up}\r\nBridgeId: {channel.bridge}\r\n"
    )


def _core_status(exchange: Exchange, session: Session, request: Request) -> None:
    date, time = exchange.started_at_text
    session.ok(
        request,
        "",
        f"CoreStartupDate: {date}\r\nCoreStartupTime: {time}\r\nCoreReloadDate: {date}\r\nCoreReloadTime: {time}\r\n"
        f"CoreCurrentCalls: {len(exchange.channels)}\r\n",
    )


def _core_settings(_exchange: Exchange, session: Session, request: Request) -> None:
    session.ok(
        request,
        "",
        "AMIversion: 11.0.0\r\nAsteriskVersion: 22.10.1\r\nSystemName: \r\nCoreMaxCalls: 0\r\n"
        "CoreMaxLoadAvg: 0.000000\r\n"
        "CoreRunUser: asterisk\r\nCoreRunGroup: asterisk\r\nCoreMaxFilehandles: 0\r\nCoreRealTimeEnabled: No\r\n"
        "CoreCDRenabled: Yes\r\nCoreHTTPenabled: No\r\nSoundsSearchCustomDir: No\r\n",
    )


def _list_commands(exchange: Exchange, session: Session, request: Request) -> None:
    allowed = session.server.allowed(session.user) if session.user else []
    proper = {name.lower(): name for name in answers(exchange)}
    lines = (f"{proper.get(name, name.capitalize())}: simulated  (Priv: call,all)\r\n" for name in allowed)
    session.ok(request, "", "".join(lines))


def _get_config(_exchange: Exchange, session: Session, request: Request) -> None:
    if request.get("Filename") != "manager.conf":
        session.error(request, "Config file not found")
        return
    category = request.get("Category")
    user = session.server.users.get(category)
    lines = ["enabled=yes", "timestampevents=yes"] if category == "general" else []
    if user is not None:
        lines = [
            f"secret={user.secret}",
            f"read={','.join(sorted(user.read))}",
            f"write={','.join(sorted(user.write))}",
        ]
        lines += [f"eventfilter({criteria})=" for criteria in user.filters]
    if not lines:
        session.error(request, f"No category named '{category}' in file")
        return
    text = "".join(f"Line-000000-{number:06d}: {line}\r\n" for number, line in enumerate(lines))
    session.ok(request, "", f"Category-000000: {category}\r\n{text}")


def _command(exchange: Exchange, session: Session, request: Request) -> None:
    line = request.get("Command")
    if not line:
        session.error(request, "No command provided")
        return
    printed = exchange.command(line)
    echo = f"ActionID: {request.get('ActionID')}\r\n" if request.get("ActionID") else ""
    if printed is None:
        said = f"No such command '{line}' (type 'core show help {line}' for other possible commands)"
        session.write(f"Response: Error\r\n{echo}Message: Command output follows\r\nOutput: {said}\r\n\r\n")
        return
    output = "".join(f"Output: {text}\r\n" for text in printed)
    session.write(f"Response: Success\r\n{echo}Message: Command output follows\r\n{output}\r\n")


def _channel(exchange: Exchange, session: Session, request: Request, *, missing: str) -> Channel | None:
    name = request.get("Channel")
    if not name:
        session.error(request, missing)
        return None
    channel = exchange.find(name)
    if channel is None:
        session.error(request, "No such channel")
    return channel


def _setvar(exchange: Exchange, session: Session, request: Request) -> None:
    variable, value = request.get("Variable"), request.get("Value")
    if not variable:
        session.error(request, "No variable specified")
    elif not request.get("Channel"):
        exchange.globals[variable] = value
        session.ok(request, "Variable Set")
    else:
        channel = _channel(exchange, session, request, missing="No channel specified")
        if channel is not None:
            channel.write(variable, value, exchange.loop)
            session.ok(request, "Variable Set")


def _getvar(exchange: Exchange, session: Session, request: Request) -> None:
    variable = request.get("Variable")
    if not variable:
        session.error(request, "No variable specified")
        return
    value: str | None
    if request.get("Channel"):
        channel = _channel(exchange, session, request, missing="No channel specified")
        if channel is None:
            return
        value = channel.read(variable, exchange.loop, exchange.clock.now())
    else:
        value = exchange.evaluate(variable)
    session.ok(request, "", f"Variable: {variable}\r\nValue: {value or ''}\r\n")


def _redirect(exchange: Exchange, session: Session, request: Request) -> None:
    name = request.get("Channel")
    if not name:
        session.error(request, "Channel not specified")
        return
    channel = exchange.find(name)
    if channel is None:
        session.error(request, f"Channel does not exist: {name}")
    elif channel.driver is None:
        session.error(request, "Redirect failed, channel not up.")
    else:
        session.ok(request, "Redirect successful")
        channel.driver.redirected(channel, request.get("Context"), request.get("Exten"))


def _hangup(exchange: Exchange, session: Session, request: Request) -> None:
    channel = _channel(exchange, session, request, missing="No channel specified")
    if channel is not None:
        cause = request.get("Cause")
        session.ok(request, "Channel Hungup")
        if channel.driver is not None:
            channel.driver.told_to_hang_up(channel, int(cause) if cause.isdecimal() and int(cause) <= CAUSE_MAX else 0)


def _pjsip_hangup(exchange: Exchange, session: Session, request: Request) -> None:
    channel = _channel(exchange, session, request, missing="No channel specified")
    if channel is None:
        return
    status = request.get("Cause")
    if not status.isdecimal() or not SIP_FIRST_ERROR <= int(status) <= SIP_LAST_ERROR:
        session.error(request, "Invalid cause")
        return
    session.ok(request, "Channel Hungup")
    if channel.driver is not None:
        channel.driver.told_to_hang_up(channel, CAUSE_OF_SIP.get(int(status), CAUSE_MAX), int(status))


def _play_dtmf(exchange: Exchange, session: Session, request: Request) -> None:
    channel, digit = exchange.find(request.get("Channel")), request.get("Digit")
    if channel is None:
        session.error(request, "Channel not found")
    elif not digit:
        session.error(request, "No digit specified")
    else:
        if channel.driver is not None:
            channel.driver.play()
        session.ok(request, "DTMF successfully queued")


def _originate(exchange: Exchange, session: Session, request: Request) -> None:
    if not request.get("Channel"):
        session.error(request, "Channel not specified")
    else:
        session.ok(request, "Originate successfully queued")
        exchange.originate(request)


def _db_key(request: Request) -> str:
    return f"/{request.get('Family')}/{request.get('Key')}"


def _db_get(exchange: Exchange, session: Session, request: Request) -> None:
    value = exchange.astdb.get(_db_key(request))
    if not request.get("Family"):
        session.error(request, "No family specified.")
    elif not request.get("Key"):
        session.error(request, "No key specified.")
    elif value is None:
        session.error(request, "Database entry not found")
    else:
        row = f"Family: {request.get('Family')}\r\nKey: {request.get('Key')}\r\nVal: {value}\r\n"
        session.rows(request, "Result will follow", "DBGet", [row])


def _db_put(exchange: Exchange, session: Session, request: Request) -> None:
    exchange.astdb[_db_key(request)] = request.get("Val")
    session.ok(request, "Updated database successfully")


def _db_del(exchange: Exchange, session: Session, request: Request) -> None:
    if exchange.astdb.pop(_db_key(request), None) is None:
        session.error(request, "Database entry not found")
    else:
        session.ok(request, "Key deleted successfully")


def _below(exchange: Exchange, request: Request) -> list[str]:
    top = _db_key(request).rstrip("/")
    return [key for key in exchange.astdb if key == top or key.startswith(f"{top}/")]


def _db_del_tree(exchange: Exchange, session: Session, request: Request) -> None:
    keys = _below(exchange, request)
    for key in keys:
        del exchange.astdb[key]
    if keys:
        session.ok(request, "Key tree deleted successfully")
    else:
        session.error(request, "Database entry not found")


def _db_get_tree(exchange: Exchange, session: Session, request: Request) -> None:
    keys = _below(exchange, request)
    if not keys:
        session.error(request, "Database entry not found")
        return
    rows = [f"Key: {key}\r\nVal: {exchange.astdb[key]}\r\n" for key in keys]
    session.rows(request, "Result will follow", "DBGetTree", rows)
