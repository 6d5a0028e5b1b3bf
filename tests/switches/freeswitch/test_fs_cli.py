"""FreeSWITCH's own console client against the simulated FreeSWITCH: an operator's habits work on it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from billing.ports import SystemClock
from callctl.simulator.freeswitch import PASSWORD, SimulatedFreeswitch
from callctl.simulator.plans import CallPlan

pytestmark = pytest.mark.freeswitch


@pytest.fixture
def client() -> str:
    """The fs_cli of FREESWITCH_PREFIX or of PATH."""
    named = os.environ.get("FREESWITCH_PREFIX")
    found = str(Path(named) / "bin/fs_cli") if named else shutil.which("fs_cli")
    if not found or not Path(found).exists():
        pytest.skip("no fs_cli here: put one on PATH, or name FreeSWITCH's folder in FREESWITCH_PREFIX")
    return found


@pytest.fixture
async def sim() -> AsyncIterator[SimulatedFreeswitch]:
    async with SimulatedFreeswitch(clock=SystemClock(), rng=Random(1), latency_s=0.02) as switch:
        yield switch


class Console:
    """One run of fs_cli; what it prints is kept."""

    def __init__(self, process: asyncio.subprocess.Process, terminal: int) -> None:
        self.process, self.terminal = process, terminal
        self.printed = ""

    async def type(self, line: str, shows: str) -> None:
        """Type a line and wait until something new is printed that holds this."""
        assert self.process.stdin is not None
        before = len(self.printed)
        self.process.stdin.write(f"{line}\n".encode())
        await self.sees(shows, after=before)

    async def sees(self, text: str, *, after: int = 0) -> None:
        """Wait until this was printed."""
        async with asyncio.timeout(10):
            while text not in self.printed[after:]:
                ended = self.process.returncode is not None
                if not self._read():
                    assert not ended, f"it ended without {text!r}:\n{self.printed[-2000:]}"
                    await asyncio.sleep(0.02)

    def _read(self) -> bool:
        try:
            self.printed += os.read(self.terminal, 1 << 16).decode(errors="replace").replace("\r\n", "\n")
        except OSError:  # nothing there now, or nobody has it open any more
            return False
        return True


async def run(client: str, port: int, *options: str, password: str = PASSWORD) -> Console:
    """Start fs_cli. It prints to a terminal, or it would keep what it has to say until its end."""
    terminal, far_end = os.openpty()
    os.set_blocking(terminal, False)
    command = [client, "-H", "127.0.0.1", "-P", str(port), "-p", password, *options]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=far_end, stderr=far_end
    )
    os.close(far_end)
    return Console(process, terminal)


@pytest.mark.parametrize(
    ("command", "shows"),
    [
        ("status", "session(s) since startup"),
        ("version short", "1.10.12"),
        ("show channels", "\n1 total.\n"),
        ("show calls count as json", '{"row_count": 1}'),
        ("hash_dump db callctl", "D/callctl_offer_"),
        ("uuid_exists nobody", "false"),
        ("no_such_command", "-ERR no_such_command Command not found!"),
    ],
)
async def test_a_command_from_the_shell(client: str, sim: SimulatedFreeswitch, command: str, shows: str) -> None:
    """`fs_cli -x` prints the answer and ends with 0."""
    sim.place(CallPlan("acme", "100", "4912345"))
    console = await run(client, sim.port, "-x", command)
    await console.sees(shows)
    assert await asyncio.wait_for(console.process.wait(), 5) == 0


async def test_a_wrong_password_is_refused(client: str, sim: SimulatedFreeswitch) -> None:
    """It says that it cannot connect, and prints nothing of the switch."""
    console = await run(client, sim.port, "-x", "status", password="wrong")
    await console.sees("Error Connecting")
    assert await asyncio.wait_for(console.process.wait(), 5) != 0
    assert "session(s)" not in console.printed


async def test_a_session_at_the_console(client: str, sim: SimulatedFreeswitch) -> None:
    """Log, events, filters and commands come as an operator asks for them; a call is seen, and hung up by hand."""
    console = await run(client, sim.port)
    await console.sees("+OK log level")
    await console.type("show channels", "0 total.")
    await console.type("/event plain CHANNEL_PARK CHANNEL_HANGUP_COMPLETE", "+OK event listener enabled plain")
    await console.type("/filter Caller-Destination-Number 4912345", "+OK filter added. [Caller-Destination-Number]")
    sim.place(CallPlan("acme", "100", "4999999"))
    call = sim.place(CallPlan("acme", "100", "4912345"))
    await console.sees(f"Unique-ID: {call.call_id}")
    await console.sees(f"New Channel sofia/internal/100@192.0.2.10 [{call.call_id}]")
    await console.type(f"uuid_kill {call.call_id} CALL_REJECTED", "variable_hangup_cause: CALL_REJECTED")
    assert (await call.over()).refused_sip == 603
    await console.type("/noevents", "+OK no longer listening for events")
    await console.type("/nolog", "+OK no longer logging")
    assert console.printed.count("Event-Name: CHANNEL_PARK") == 1
    assert console.process.stdin is not None
    console.process.stdin.write(b"/exit\n")
    assert await asyncio.wait_for(console.process.wait(), 5) == 0
    assert sim.esl.unknown_commands == 0
