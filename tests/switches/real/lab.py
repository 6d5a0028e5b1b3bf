"""A real switch on loopback, whichever it is: what a scenario may ask of it and of what is heard from it.

Every account has a loopback address of its own and the switch knows it by that address alone, as a provider knows an
IP trunk: nothing a caller writes into SIP chooses who pays.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

REPOSITORY = Path(__file__).resolve().parents[3]
ACCOUNTS = 120
OVER_THE_TRUNK = "4999"
"""Numbers that begin so are the other switch's; it gets them without this."""
DETOUR = "4998"
"""Numbers that begin so go to the carrier through a channel of the switch to itself; it gets them without this."""
SHORT_CUT = "4997"
"""The same by a channel that may step out of its call, where the switch lets a dial string say so."""
CARRIER_HOST = 254
CARD = "31109900"
"""The access number of calling cards, for calls from the world; the telephone `by_card` comes there by any number."""
PIN_SECRET = "the-secret-of-the-labs-calling-cards"
"""In the dialplan of the switch and in the settings of the controller."""


class NoSwitch(Exception):
    """There is no such switch here, or it does not start; the text says why, and how to get one."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A SIP endpoint that the switch knows by its loopback address. `did` is the number the world reaches it at."""

    account_code: str
    host: str
    did: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Another switch on a SIP trunk; `account_code` pays what it sends, "": it is trusted, and passes uncontrolled."""

    sip: tuple[str, int]
    account_code: str


@dataclass(frozen=True, slots=True)
class Login:
    """Who the controller is to the switch; an Event Socket asks for no name."""

    username: str
    secret: str


class Observer(Protocol):
    """The test's own link to the switch."""

    def offers(self) -> int:
        """Return how many offers to a controller were heard."""
        ...

    def ends(self, key: str) -> int:
        """Return how many channels of a call were heard to end; `key` is its id without the switch's name."""
        ...

    async def limits(self, account_code: str) -> dict[str, float]:
        """Return the seconds until the switch itself ends each answered leg an account pays, by the number dialled;
        0: it does not.
        """
        ...

    async def legs(self, key: str) -> list[str]:
        """Return the switch's own ids of a call's channels, but for the one it was offered on."""
        ...

    async def until_silent(self, timeout_s: float = 10) -> None:
        """Wait until the switch has no channel."""
        ...

    async def hang_up_all(self) -> None:
        """End every channel."""
        ...


@dataclass(slots=True)
class Lab(ABC):
    """A switch that can be started, killed and started again in its folder, on the same ports."""

    folder: Path
    sip_port: int = field(default_factory=lambda: free_port(socket.SOCK_DGRAM))
    control_port: int = field(default_factory=lambda: free_port(socket.SOCK_STREAM))
    verbose: bool = True
    peer: Peer | None = None
    process: subprocess.Popen[bytes] | None = None
    next_account: int = 0

    # -- what differs --------------------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def name(self) -> str:
        """The switch's name in the controller's settings."""

    @property
    @abstractmethod
    def trunk(self) -> tuple[str, int]:
        """Where the carrier's calls arrive, over UDP."""

    @property
    @abstractmethod
    def login(self) -> Login:
        """The login of the shipped files."""

    @property
    @abstractmethod
    def late_s(self) -> float:
        """How long after its time the switch may end a call without a controller."""

    @property
    @abstractmethod
    def causes(self) -> dict[int, int]:
        """The Q.850 cause that the switch gives a call refused with a SIP status, its own refusal or the carrier's."""

    @abstractmethod
    def settings(self, port: int, login: Login) -> str:
        """Return the controller's settings for this switch, as TOML."""

    @abstractmethod
    def observing(self) -> AbstractAsyncContextManager[Observer]:
        """Listen to the switch."""

    @abstractmethod
    def log(self) -> str:
        """Return what the switch has written to its log."""

    @abstractmethod
    def _launch(self) -> subprocess.Popen[bytes]:
        """Write the configuration and start."""

    @abstractmethod
    def _booted(self) -> bool:
        """Return whether everything is loaded. Raises `OSError` where nobody listens yet."""

    # -- what is the same ----------------------------------------------------------------------------------------------

    @property
    def sip(self) -> tuple[str, int]:
        """Where telephones reach the switch, over UDP."""
        return ("127.0.0.1", self.sip_port)

    @property
    def carrier_host(self) -> str:
        """Return the carrier's address; it listens on port 5060."""
        return self._host(CARRIER_HOST)

    @property
    def media_host(self) -> str:
        """Return where the switch takes media: an address of its own, so that no two labs want the same ports."""
        return self._host(CARRIER_HOST - 2)

    @property
    def bare_host(self) -> str:
        """Return the address of a caller whose calls go straight to the carrier, past every controller."""
        return self._host(CARRIER_HOST - 1)

    @property
    def floor_host(self) -> str:
        """Return the address of a caller whose calls wait to be sent on and are not controlled (`benchmarks.floor`)."""
        return self._host(CARRIER_HOST - 2)

    def endpoint(self, number: int) -> Endpoint:
        """Return one of the configured endpoints, from 0."""
        return Endpoint(f"cust-{number:03d}", self._host(number + 1), f"3110{number:04d}")

    @property
    def by_user(self) -> Endpoint:
        """Return an endpoint that has no account code: its calls are recognised by its name."""
        return self.endpoint(ACCOUNTS)

    @property
    def by_address(self) -> Endpoint:
        """Return an endpoint that has no account code: its calls are recognised by its address."""
        return self.endpoint(ACCOUNTS + 1)

    @property
    def by_card(self) -> Endpoint:
        """Return an endpoint that has no account code: whatever it dials, it is asked for a PIN."""
        return self.endpoint(ACCOUNTS + 2)

    def fresh_endpoint(self) -> Endpoint:
        """Return an endpoint that no test has used, or begin again with the first."""
        self.next_account += 1
        return self.endpoint((self.next_account - 1) % ACCOUNTS)

    def _host(self, number: int) -> str:
        # A range of its own for each lab, so that two labs on one machine may both use port 5060.
        return f"127.{64 + (self.sip_port >> 8) % 64}.{self.sip_port & 255}.{number}"

    def start(self) -> None:
        """Start, and return when everything is loaded. Raises `NoSwitch`."""
        if self.process is not None:
            raise RuntimeError(f"{self.name} runs already")
        self.process = self._launch()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if self.process.poll() is not None:
                self.process = None
                raise NoSwitch(f"{self.name} ended at its start:\n{self._console()[-3000:]}")
            try:
                if self._booted():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise NoSwitch(f"{self.name} did not start within 60 s:\n{self._console()[-3000:]}")

    def kill(self) -> None:
        """End the switch as a power cut would: no goodbye to anyone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End the switch; calls are hung up."""
        self._end(signal.SIGTERM)

    def _run(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with (self.folder / "console.log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )

    def _console(self) -> str:
        return (self.folder / "console.log").read_text(errors="replace") + self.log()

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


def free_port(kind: socket.SocketKind, host: str = "127.0.0.1") -> int:
    """Return a port that nobody has on this address now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
