"""A real Asterisk on loopback for tests: its own configuration around the files of `dialplan_examples/asterisk/`."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import subprocess
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path

from tests.switches.asterisk.ami import Observer, observing
from tests.switches.asterisk.root import AsteriskRoot, find_asterisk
from tests.switches.real.lab import (
    ACCOUNTS,
    CARD,
    DETOUR,
    OVER_THE_TRUNK,
    PIN_SECRET,
    REPOSITORY,
    SHORT_CUT,
    Lab,
    Login,
)

SHIPPED = REPOSITORY / "dialplan_examples" / "asterisk"
OBSERVER = "observer"
MODULES = Path(__file__).with_name("modules.conf")


@dataclass(slots=True, kw_only=True)
class AsteriskLab(Lab):
    """A real Asterisk."""

    root: AsteriskRoot = field(default_factory=find_asterisk)
    observer_secret: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def name(self) -> str:
        """The switch's name in the controller's settings."""
        return "ast"

    @property
    def trunk(self) -> tuple[str, int]:
        """Where the carrier's calls arrive: Asterisk knows it by its address."""
        return self.sip

    @property
    def login(self) -> Login:
        """The shipped AMI user."""
        shipped = "".join(path.read_text() for path in sorted(SHIPPED.glob("manager*.conf")))
        found = re.search(r"^secret\s*=\s*(\S+)", shipped, re.MULTILINE)
        return Login("callctl", found[1] if found else "")

    @property
    def observer(self) -> Login:
        """An AMI user that hears everything."""
        return Login(OBSERVER, self.observer_secret)

    @property
    def late_s(self) -> float:
        """`TIMEOUT(absolute)` ends a call within a moment."""
        return 0.5

    @property
    def causes(self) -> dict[int, int]:
        """Asterisk has no cause that makes 402; the dialplan's refusal carries none."""
        return {402: 0, 403: 21, 404: 1, 486: 17, 503: 34}

    def settings(self, port: int, login: Login) -> str:
        """Return the controller's settings for this Asterisk, as TOML."""
        return f"""[[asterisk]]
name = "{self.name}"
host = "127.0.0.1"
port = {port}
username = "{login.username}"
secret = "{login.secret}"
"""

    def observing(self) -> AbstractAsyncContextManager[Observer]:
        """Listen to AMI."""
        return observing(self.control_port, self.observer)

    def log(self) -> str:
        """Return what Asterisk has written to its log."""
        path = self.folder / "log/full"
        return path.read_text(errors="replace") if path.exists() else ""

    def _launch(self) -> subprocess.Popen[bytes]:
        self._configure()
        command = [*self.root.command, "-f", "-C", str(self.folder / "etc/asterisk.conf")]
        return self._run(
            command, {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "TERM": "dumb", "LANG": "C.UTF-8"}
        )

    def _booted(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.control_port), timeout=1) as link:
            login = f"Action: Login\r\nUsername: {OBSERVER}\r\nSecret: {self.observer_secret}\r\n\r\n"
            link.sendall(login.encode())
            link.settimeout(10)
            heard = b""
            while b"FullyBooted" not in heard and (chunk := link.recv(4096)):
                heard += chunk
            return b"FullyBooted" in heard

    def cli(self, command: str) -> str:
        """Run a console command and return what it prints."""
        conf = str(self.folder / "etc/asterisk.conf")
        done = subprocess.run(
            [*self.root.command, "-C", conf, "-rx", command], capture_output=True, timeout=20, check=False
        )
        return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")

    def _configure(self) -> None:
        etc = self.folder / "etc"
        for name in ("etc", "lib", "db", "keys/keys", "spool", "run", "log", "log/cdr-custom", "agi"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        shipped = etc / "callctl"
        shutil.rmtree(shipped, ignore_errors=True)
        shutil.copytree(SHIPPED, shipped)
        files = {
            "asterisk.conf": self._asterisk_conf(),
            "modules.conf": self._modules_conf(),
            "logger.conf": self._logger_conf(),
            "rtp.conf": f"[general]\nrtpstart={10000 + self.sip_port % 20000 // 2 * 2}\nrtpend={34998}\n",
            "features.conf": "[general]\n",
            "cdr.conf": "[general]\nenable=yes\nunanswered=yes\ncongestion=yes\n",
            "pjsip.conf": self._pjsip_conf(),
            "callctl-pin.conf": f"[pins]\nsecret = {PIN_SECRET}\n",
            **self._around_shipped(),
        }
        for name in ("cel", "ccss", "udptl", "indications", "http", "musiconhold", "codecs", "dsp"):
            files.setdefault(f"{name}.conf", "[general]\n")
        for name, text in files.items():
            (etc / name).write_text(text)

    def _logger_conf(self) -> str:
        kinds = "notice,warning,error" + ",verbose(2)" * self.verbose
        return f"[general]\ndateformat=%F %T.%3q\n[logfiles]\nfull => {kinds}\n"

    def _modules_conf(self) -> str:
        lines = MODULES.read_text().splitlines(keepends=True)
        there = {path.name for path in self.root.modules.glob("*.so")}
        return "".join(line for line in lines if not line.startswith("load") or line.split()[2] in there)

    def _asterisk_conf(self) -> str:
        folder = self.folder
        return f"""[directories]
astetcdir => {folder}/etc
astmoddir => {self.root.modules}
astvarlibdir => {folder}/lib
astdbdir => {folder}/db
astkeydir => {folder}/keys
astdatadir => {self.root.data}
astagidir => {folder}/agi
astspooldir => {folder}/spool
astrundir => {folder}/run
astlogdir => {folder}/log
astcachedir => {folder}/spool
astsbindir => {folder}

[options]
verbose = {2 * self.verbose}
nocolor = yes
"""

    def _around_shipped(self) -> dict[str, str]:
        """Return the files an operator has already, which include ours as the examples' README asks."""
        included = "\n".join(f'#include "callctl/{path.name}"' for path in sorted(SHIPPED.glob("manager*.conf")))
        manager = f"""[general]
enabled = yes
webenabled = no
bindaddr = 127.0.0.1
port = {self.control_port}
timestampevents = yes
{included}
[{OBSERVER}]
secret = {self.observer_secret}
read = all
write = all
writetimeout = 5000
"""
        phones = "".join(
            f"exten => {one.did},1,Return(PJSIP/{one.account_code})\n" for one in map(self.endpoint, range(ACCOUNTS))
        )
        extensions = f"""[general]
static=yes
writeprotect=yes
#include "callctl/callctl.conf"
#include "callctl/callctl-card.conf"
[lab-in]
exten => {CARD},1,Goto(callctl-card,trunk,1)
include => callctl-in
[lab-by-card]
exten => _X.,1,Goto(callctl-card,phone,1)
[callctl-route-out]
exten => _{OVER_THE_TRUNK}X.,1,Return(PJSIP/${{EXTEN:{len(OVER_THE_TRUNK)}}}@trunk)
exten => _{DETOUR}X.,1,Return(Local/${{EXTEN:{len(DETOUR)}}}@bare/n)
exten => _{SHORT_CUT}X.,1,Return(Local/${{EXTEN:{len(SHORT_CUT)}}}@bare)
exten => _X.,1,Return(PJSIP/${{EXTEN}}@carrier)
exten => _+X.,1,Return(PJSIP/${{EXTEN}}@carrier)
[callctl-route-in]
{phones}[lab-by-user]
exten => _X.,1,Set(CHANNEL(accountcode)=sip_user:${{CHANNEL(endpoint)}})
 same => n,Goto(callctl-out,${{EXTEN}},1)
[lab-by-address]
exten => _X.,1,Set(CHANNEL(accountcode)=source_address:${{CHANNEL(pjsip,remote_addr)}})
 same => n,Goto(callctl-out,${{EXTEN}},1)
[bare]
exten => _X.,1,Dial(PJSIP/${{EXTEN}}@carrier,60)
 same => n,Hangup(${{HANGUPCAUSE}})
[floor]
exten => _X.,1,Set(CALLED=${{EXTEN}})
 same => n,AGI(agi:async)
[floor-dial]
exten => go,1,Dial(PJSIP/${{CALLED}}@carrier,60)
 same => n,Hangup(${{HANGUPCAUSE}})
"""
        return {"manager.conf": manager, "extensions.conf": extensions}

    def _pjsip_conf(self) -> str:
        parts = [
            f"""[global]
type=global
user_agent=lab
endpoint_identifier_order=ip
[system]
type=system
threadpool_initial_size=5
threadpool_max_size=50
disable_tcp_switch=yes
[udp]
type=transport
protocol=udp
bind=127.0.0.1:{self.sip_port}
[lab](!)
type=endpoint
transport=udp
disallow=all
allow=ulaw
direct_media=no
rtp_symmetric=no
media_address={self.media_host}
bind_rtp_to_media_address=yes
timers=no
send_connected_line=no
100rel=no
allow_transfer=yes
dtmf_mode=auto
"""
        ]
        parts.append(self._endpoint_conf("carrier", self.carrier_host, "context=lab-in\n"))
        parts.append(self._endpoint_conf("bare", self.bare_host, "context=bare\n"))
        parts.append(self._endpoint_conf("floor", self.floor_host, "context=floor\n"))
        if self.peer is not None:
            code = self.peer.account_code
            options = f"context=callctl-out\naccountcode={code}\n" if code else "context=bare\n"
            parts.append(self._endpoint_conf("trunk", self.peer.sip[0], options, port=self.peer.sip[1]))
        for number in range(ACCOUNTS):
            one = self.endpoint(number)
            parts.append(
                self._endpoint_conf(
                    one.account_code, one.host, f"context=callctl-out\naccountcode={one.account_code}\n"
                )
            )
        for one, context in (
            (self.by_user, "lab-by-user"),
            (self.by_address, "lab-by-address"),
            (self.by_card, "lab-by-card"),
        ):
            parts.append(self._endpoint_conf(one.account_code, one.host, f"context={context}\n"))
        return "".join(parts)

    def _endpoint_conf(self, name: str, host: str, options: str, *, port: int = 5060) -> str:
        return f"""[{name}](lab)
aors={name}
{options}[{name}]
type=aor
contact=sip:{host}:{port}
[{name}]
type=identify
endpoint={name}
match={host}/32
"""
