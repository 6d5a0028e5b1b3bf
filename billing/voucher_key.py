"""The key under which voucher codes are hashed: a file beside the settings, its owner's alone, made at its first use.

Without it the store's hashes are worth nothing, to a thief and to us: it belongs into the backup, and not beside the
store's.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from billing.errors import Refused
from billing.ports import Ids

LEAST_BYTES: Final = 32


def read_key(path: Path, ids: Ids) -> bytes:
    """Return the key; two processes that make it at once end up with one. Raises `Refused` for a file that is none."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        fresh = path.with_name(f"{path.name}.{ids.new('new')}")
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(ids.secret())
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link, since it fails where somebody else was faster, and never leaves half a key.
            os.link(fresh, path)
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
    key = path.read_bytes().strip()
    if len(key) < LEAST_BYTES:
        raise Refused(f"{path} is no key for vouchers: it has fewer than {LEAST_BYTES} characters")
    return key
