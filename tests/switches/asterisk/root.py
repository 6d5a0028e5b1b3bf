"""Where a real Asterisk is: on PATH, or in a folder with a Debian in it, run with its own loader and no chroot."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.switches.real.lab import REPOSITORY, NoSwitch

SCRIPT = REPOSITORY / ".ci" / "asterisk-root"


@dataclass(frozen=True, slots=True)
class AsteriskRoot:
    """An installed Asterisk: how its programs are started, and where its modules and data are."""

    command: tuple[str, ...]
    modules: Path
    data: Path


def find_asterisk() -> AsteriskRoot:
    """Return the Asterisk of CALLCTL_ASTERISK_ROOT, of PATH, of var/asterisk, or get one. Raises `NoSwitch`."""
    named = os.environ.get("CALLCTL_ASTERISK_ROOT")
    if named:
        return _in_folder(Path(named))
    on_path = shutil.which("asterisk", path=os.environ.get("PATH", "") + ":/usr/sbin")
    if on_path:
        modules = next(iter(sorted(Path("/usr/lib").glob("**/asterisk/modules"))), None)
        if modules is None:
            raise NoSwitch(f"{on_path} has no modules under /usr/lib")
        data = next(path for path in (Path("/usr/share/asterisk"), Path("/var/lib/asterisk")) if path.is_dir())
        return AsteriskRoot((on_path,), modules, data)
    folder = REPOSITORY / "var" / "asterisk"
    if not (folder / "usr/sbin/asterisk").exists():
        _get(folder)
    return _in_folder(folder)


def _in_folder(folder: Path) -> AsteriskRoot:
    loader = next(iter(sorted((folder / "usr").glob("lib/*/ld-linux-*.so.*"))), None)
    program = folder / "usr/sbin/asterisk"
    if loader is None or not program.exists():
        raise NoSwitch(f"{folder} holds no Debian with Asterisk; make one with: .ci/asterisk-root {folder}")
    libraries = loader.parent
    command = (str(loader), "--library-path", str(libraries), str(program))
    return AsteriskRoot(command, libraries / "asterisk/modules", folder / "usr/share/asterisk")


def _get(folder: Path) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise NoSwitch(
            "no Asterisk here: install Debian's `asterisk`, or run as root with debootstrap installed: "
            f".ci/asterisk-root {folder}, or name a ready folder in CALLCTL_ASTERISK_ROOT"
        )
    subprocess.run([str(SCRIPT), str(folder)], check=True, timeout=1200)
