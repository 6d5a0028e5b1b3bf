"""A real Asterisk on loopback for tests: its own configuration around the files of `dialplan_examples/asterisk/`.

Every account has a loopback address of its own and Asterisk knows it by that address alone, as a provider knows an IP
trunk: nothing a caller writes into SIP chooses who pays.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.switches.asterisk.root import REPOSITORY, AsteriskRoot, NoAsterisk

SHIPPED = REPOSITORY / "dialplan_examples" / "asterisk"
ACCOUNTS = 120
CARRIER_HOST = 254
OBSERVER = "observer"
MODULES = Path(__file__).with_name("modules.conf")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A SIP endpoint that Asterisk knows by its loopback address. `did` is the number the world reaches it at."""

    account_code: str
    host: str
    did: str


@dataclass(slots=True)
class AsteriskLab:
    """An Asterisk that can be started, killed and started again in its folder, on the same ports."""

    root: AsteriskRoot
    folder: Path
    sip_port: int = field(default_factory=lambda: free_port(socket.SOCK_DGRAM))
    ami_port: int = field(default_factory=lambda: free_port(socket.SOCK_STREAM))
    observer_secret: str = field(default_factory=lambda: secrets.token_hex(8))
    verbose: bool = True
    process: subprocess.Popen[bytes] | None = None
    next_account: int = 0

    @property
    def sip(self) -> tuple[str, int]:
        """Where Asterisk listens for SIP over UDP."""
        return ("127.0.0.1", self.sip_port)

    @property
    def carrier_host(self) -> str:
        """Return the carrier's address; it listens on port 5060."""
        return self._host(CARRIER_HOST)

    @property
    def bare_host(self) -> str:
        """Return the address of a caller whose calls go straight to the carrier, past every controller."""
        return self._host(CARRIER_HOST - 1)

    @property
    def ami_secret(self) -> str:
        """Return the secret of the shipped AMI user."""
        shipped = "".join(path.read_text() for path in sorted(SHIPPED.glob("manager*.conf")))
        found = re.search(r"^secret\s*=\s*(\S+)", shipped, re.MULTILINE)
        return found[1] if found else ""

    def endpoint(self, number: int) -> Endpoint:
        """Return one of the configured endpoints, from 0."""
        return Endpoint(f"cust-{number:03d}", self._host(number + 1), f"3110{number:04d}")

    def fresh_endpoint(self) -> Endpoint:
        """Return an endpoint that no test has used, or begin again with the first."""
        self.next_account += 1
        return self.endpoint((self.next_account - 1) % ACCOUNTS)

    def _host(self, number: int) -> str:
        # A range of its own for each lab, so that two labs on one machine may both use port 5060.
        return f"127.{64 + (self.sip_port >> 8) % 64}.{self.sip_port & 255}.{number}"

    def start(self) -> None:
        """Write the configuration and start; returns when every module is loaded."""
        if self.process is not None:
            raise RuntimeError("Asterisk runs already")
        self._configure()
        log = (self.folder / "console.log").open("ab")
        command = [*self.root.command, "-f", "-C", str(self.folder / "etc/asterisk.conf")]
        environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(self.folder), "TERM": "dumb", "LANG": "C.UTF-8"}
        self.process = subprocess.Popen(
            command, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
        )
        log.close()
        self._wait_until_booted()

    def kill(self) -> None:
        """End Asterisk as a power cut would: no goodbye to anyone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End Asterisk; calls are hung up."""
        self._end(signal.SIGTERM)

    def log(self) -> str:
        """Return what Asterisk has written to its log."""
        path = self.folder / "log/full"
        return path.read_text(errors="replace") if path.exists() else ""

    def cli(self, command: str) -> str:
        """Run a console command and return what it prints."""
        conf = str(self.folder / "etc/asterisk.conf")
        done = subprocess.run(
            [*self.root.command, "-C", conf, "-rx", command], capture_output=True, timeout=20, check=False
        )
        return done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def _wait_until_booted(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if self.process is not None and self.process.poll() is not None:
                self.process = None
                raise NoAsterisk(f"Asterisk ended at its start:\n{self._console()[-3000:]}")
            try:
                with socket.create_connection(("127.0.0.1", self.ami_port), timeout=1) as link:
                    login = f"Action: Login\r\nUsername: {OBSERVER}\r\nSecret: {self.observer_secret}\r\n\r\n"
                    link.sendall(login.encode())
                    link.settimeout(10)
                    heard = b""
                    while b"FullyBooted" not in heard and (chunk := link.recv(4096)):
                        heard += chunk
                    if b"FullyBooted" in heard:
                        return
            except OSError:
                pass
            time.sleep(0.05)
        raise NoAsterisk(f"Asterisk did not start within 60 s:\n{self._console()[-3000:]}")

    def _console(self) -> str:
        return (self.folder / "console.log").read_text(errors="replace") + self.log()

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
port = {self.ami_port}
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
[callctl-route-out]
exten => _X.,1,Return(PJSIP/${{EXTEN}}@carrier)
exten => _+X.,1,Return(PJSIP/${{EXTEN}}@carrier)
[callctl-route-in]
{phones}[bare]
exten => _X.,1,Dial(PJSIP/${{EXTEN}}@carrier,60)
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
media_address=127.0.0.1
bind_rtp_to_media_address=yes
timers=no
send_connected_line=no
100rel=no
allow_transfer=yes
"""
        ]
        parts.append(self._endpoint_conf("carrier", self.carrier_host, "context=callctl-in\n"))
        parts.append(self._endpoint_conf("bare", self.bare_host, "context=bare\n"))
        for number in range(ACCOUNTS):
            one = self.endpoint(number)
            parts.append(
                self._endpoint_conf(
                    one.account_code, one.host, f"context=callctl-out\naccountcode={one.account_code}\n"
                )
            )
        return "".join(parts)

    def _endpoint_conf(self, name: str, host: str, options: str) -> str:
        return f"""[{name}](lab)
aors={name}
{options}[{name}]
type=aor
contact=sip:{host}:5060
[{name}]
type=identify
endpoint={name}
match={host}/32
"""


def free_port(kind: socket.SocketKind, host: str = "127.0.0.1") -> int:
    """Return a port that nobody has on this address now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
