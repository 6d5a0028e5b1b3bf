"""A real FreeSWITCH on loopback for tests: its own configuration around the files of `dialplan_examples/freeswitch`."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.switches.freeswitch.esl import Observer, observing
from tests.switches.real.lab import (
    ACCOUNTS,
    CARD,
    DETOUR,
    OVER_THE_TRUNK,
    PIN_SECRET,
    REPOSITORY,
    Lab,
    Login,
    NoSwitch,
    free_port,
)

SHIPPED = REPOSITORY / "dialplan_examples" / "freeswitch"
CONFIGURATION = Path(__file__).with_name("freeswitch.xml")
SHIPPED_DID = "4930123456"
"""The number that the shipped routes give to the telephone of user 1000."""


@dataclass(frozen=True, slots=True)
class FreeswitchRoot:
    """An installed FreeSWITCH."""

    program: Path
    modules: Path


def find_freeswitch() -> FreeswitchRoot:
    """Return the FreeSWITCH of FREESWITCH_PREFIX or of PATH. Raises `NoSwitch`."""
    named = os.environ.get("FREESWITCH_PREFIX")
    on_path = shutil.which("freeswitch")
    if not (named or on_path):
        raise NoSwitch("no FreeSWITCH here: put one on PATH, or name its folder in FREESWITCH_PREFIX")
    prefix = Path(named) if named else Path(on_path or "").resolve().parents[1]
    program, modules = prefix / "bin/freeswitch", prefix / "lib/freeswitch/mod"
    if not (program.exists() and (modules / "mod_sofia.so").exists()):
        raise NoSwitch(
            f"{prefix} holds no FreeSWITCH: there should be bin/freeswitch and lib/freeswitch/mod/mod_sofia.so"
        )
    return FreeswitchRoot(program, modules)


@dataclass(slots=True, kw_only=True)
class FreeswitchLab(Lab):
    """A real FreeSWITCH. Its trunk has a port of its own: a profile that wants no password."""

    root: FreeswitchRoot = field(default_factory=find_freeswitch)
    trunk_port: int = field(default_factory=lambda: free_port(socket.SOCK_DGRAM))

    @property
    def name(self) -> str:
        """The switch's name in the controller's settings."""
        return "fs"

    @property
    def trunk(self) -> tuple[str, int]:
        """Where the carrier's calls arrive."""
        return ("127.0.0.1", self.trunk_port)

    @property
    def login(self) -> Login:
        """The shipped password."""
        found = re.search(r'name="password" value="([^"]+)"', (SHIPPED / "event_socket.conf.xml").read_text())
        return Login("", found[1] if found else "")

    @property
    def late_s(self) -> float:
        """The scheduler counts whole seconds of the clock."""
        return 2.5

    @property
    def causes(self) -> dict[int, int]:
        """FreeSWITCH takes 402 for a rejection and 503 for a temporary failure."""
        return {402: 21, 403: 21, 404: 1, 486: 17, 503: 41}

    def settings(self, port: int, login: Login) -> str:
        """Return the controller's settings for this FreeSWITCH, as TOML."""
        return f"""[[freeswitch]]
name = "{self.name}"
host = "127.0.0.1"
port = {port}
password = "{login.secret}"
"""

    def observing(self) -> AbstractAsyncContextManager[Observer]:
        """Listen to the Event Socket."""
        return observing(self.control_port, self.login.secret)

    def log(self) -> str:
        """Return what FreeSWITCH has written to its log."""
        path = self.folder / "log/freeswitch.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _launch(self) -> subprocess.Popen[bytes]:
        self._configure()
        folders = {one: self._folder(one) for one in ("log", "run", "db", "storage", "recordings", "temp", "certs")}
        folders |= {one: self._folder("empty") for one in ("htdocs", "scripts", "grammar", "sounds")}
        folders |= {"conf": self._folder("etc"), "mod": self.root.modules}
        named = [word for name, folder in folders.items() for word in (f"-{name}", str(folder))]
        command = [str(self.root.program), "-nf", "-nonat", "-nc", "-np", *named]
        return self._run(
            command, {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "LANG": "C.UTF-8", "TZ": "UTC"}
        )

    def _booted(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.control_port), timeout=1) as link:
            link.settimeout(10)
            link.sendall(f"auth {self.login.secret}\n\napi sofia status\n\nexit\n\n".encode())
            heard = b""
            while chunk := link.recv(4096):
                heard += chunk
        return heard.count(b"RUNNING") == 2

    def _folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def _configure(self) -> None:
        etc = self._folder("etc")
        for name in ("dialplan", "autoload_configs", "directory"):
            (etc / name).mkdir(exist_ok=True)
        for name in ("callctl.xml", "callctl-card.xml"):
            shutil.copyfile(SHIPPED / name, etc / "dialplan" / name)
        (etc / "dialplan/callctl-routes.xml").write_text(self._routes())
        (etc / "directory/lab.xml").write_text(self._users())
        (etc / "autoload_configs/event_socket.conf.xml").write_text(self._event_socket())
        text = CONFIGURATION.read_text()
        for word, value in {
            "SIP_PORT": self.sip_port,
            "TRUNK_PORT": self.trunk_port,
            "CARRIER": f"{self.carrier_host}:5060",
            "PEER": ":".join(map(str, self.peer.sip if self.peer else (self.carrier_host, 5060))),
            "MEDIA": self.media_host,
            "RTP_START": 10000 + self.sip_port % 20000 // 2 * 2,
            "PIN_SECRET": PIN_SECRET,
            "CORE_DB": self._folder("db") / "core.db",
            "LOG_LEVEL": "info" if self.verbose else "warning",
            "LOGGED": "info,notice,warning,err,crit,alert" if self.verbose else "warning,err,crit,alert",
        }.items():
            text = text.replace(f"@{word}@", str(value))
        (etc / "freeswitch.xml").write_text(text)

    def _event_socket(self) -> str:
        """Return the shipped file, but for the port."""
        text = (SHIPPED / "event_socket.conf.xml").read_text()
        return _put(text, 'value="8021"', f'value="{self.control_port}"')

    def _routes(self) -> str:
        """Return the shipped routes with more numbers in them, as an operator adds his."""
        phones = "".join(
            f"""<extension name="{one.account_code}"><condition field="${{callctl_callee}}" expression="^{one.did}$">
<action application="set" data="callctl_pays={one.account_code}"/>
<action application="set" data="callctl_dial=sofia/internal/{one.did}@{one.host}:5060"/>
</condition></extension>
"""
            for one in map(self.endpoint, range(ACCOUNTS))
        )
        trunk = f"""<extension name="trunk">
<condition field="${{callctl_callee}}" expression="^{OVER_THE_TRUNK}([0-9]+)$">
<action application="set" data="callctl_dial=sofia/gateway/trunk/$1"/></condition></extension>
<extension name="detour">
<condition field="${{callctl_callee}}" expression="^{DETOUR}([0-9]+)$">
<action application="set" data="callctl_dial=loopback/$1/bare/XML"/></condition></extension>
"""
        by_address = """<context name="lab-by-address"><extension name="by-address">
<condition field="destination_number" expression="^(\\+?[0-9]{1,24})$">
<action application="set" data="accountcode=source_address:${network_addr}" inline="true"/>
<action application="transfer" data="$1 XML callctl-out"/></condition></extension></context>
"""
        cards = f"""<context name="lab-in"><extension name="card">
<condition field="destination_number" expression="^{CARD}$">
<action application="transfer" data="trunk XML callctl-card"/></condition></extension>
<extension name="else"><condition field="destination_number" expression="^(\\+?[0-9]{{1,24}})$">
<action application="transfer" data="$1 XML callctl-in"/>
<anti-action application="respond" data="404 Not Found"/></condition></extension></context>
<context name="lab-by-card"><extension name="card"><condition>
<action application="transfer" data="phone XML callctl-card"/></condition></extension></context>
"""
        text = (SHIPPED / "callctl-routes.xml").read_text()
        text = _put(text, "</include>", f"{by_address}{cards}</include>")
        for door, more in ("callctl-route-in", phones), ("callctl-route-out", trunk):
            text = _put(text, f'<context name="{door}">', f'<context name="{door}">\n{more}')
        return text

    def _users(self) -> str:
        ours = [(one.account_code, one.host, "callctl-phones") for one in map(self.endpoint, range(ACCOUNTS))]
        users = [
            *((code, code, host, context) for code, host, context in ours),
            ("bare", "bare", self.bare_host, "bare"),
            ("floor", "floor", self.floor_host, "floor"),
        ]
        user, address = self.by_user, self.by_address
        users.append((user.account_code, f"sip_user:{user.account_code}", user.host, "callctl-phones"))
        users.append((address.account_code, "", address.host, "lab-by-address"))
        users.append((self.by_card.account_code, "", self.by_card.host, "lab-by-card"))
        if self.peer is not None:
            code = self.peer.account_code
            users.append(("trunk", code or "trunk", self.peer.sip[0], "callctl-out" if code else "bare"))
        return "".join(
            f"""<user id="{name}" cidr="{host}/32"><variables><variable name="accountcode" value="{code}"/>
<variable name="user_context" value="{context}"/></variables></user>
"""
            for name, code, host, context in users
        )


def _put(text: str, old: str, new: str) -> str:
    if text.count(old) != 1:
        raise AssertionError(f"the shipped file should say {old} once")
    return text.replace(old, new)
