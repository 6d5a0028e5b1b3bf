"""Reading what switches left on disk: files and folders, line by line, whatever is in them.

A line that cannot be used is named and left out; the rest is read on. No line, file or list grows beyond its limit.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, tzinfo
from enum import StrEnum
from pathlib import Path
from typing import IO, assert_never

from billing.reconcile import asterisk, cel, freeswitch
from billing.reconcile.records import MOST_LINE, Broken, Leg, Unreadable

MOST_DOCUMENT = 1024 * 1024
"""The largest file that is read as one JSON document; a larger one holds one a line."""
MOST_BROKEN = 200
"""How many broken lines are named; all are counted."""
EVERY = 2000
"""Lines between two words on the progress."""
SKEWED_S = 600
JSON_BEGINS = (b"{", b"%7B", b"%7b", b"eyJ")


class Format(StrEnum):
    """What a file holds."""

    ASTERISK_CSV = "asterisk-csv"
    ASTERISK_CEL = "asterisk-cel"
    FREESWITCH_CSV = "freeswitch-csv"
    FREESWITCH_JSON = "freeswitch-json"


@dataclass(slots=True)
class Reading:
    """What reading came to. `skewed`: records whose times are hours from the time in their ids."""

    files: int = 0
    lines: int = 0
    legs: int = 0
    skewed: int = 0
    broken_count: int = 0
    broken: list[Broken] = field(default_factory=list)

    def leave_out(self, file: str, line: int, why: str) -> None:
        """Note a line that cannot be used."""
        self.broken_count += 1
        if len(self.broken) < MOST_BROKEN:
            self.broken.append(Broken(file, line, why))


@dataclass(frozen=True, slots=True)
class Options:
    """How to read. `form` None: each file is recognised by how it begins. `zone`: of times that carry none."""

    form: Format | None = None
    zone: tzinfo = UTC
    on_bytes: Callable[[int], None] = lambda _: None


def files_of(paths: list[Path]) -> list[Path]:
    """Return the files, folders looked into at every depth, in order of their names. Raises `OSError`."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(inner for inner in path.rglob("*") if inner.is_file())
        else:
            path.stat()  # a file that is not there is an error, not nothing
            found.append(path)
    return found


def read_files(files: list[Path], add: Callable[[Leg], None], options: Options) -> Reading:
    """Hand every record to `add`. Raises `OSError` only for a file that cannot be opened."""
    done = Reading()
    for path in files:
        done.files += 1
        with _open(path) as stream:
            try:
                _read_stream(stream, path, add, options, done)
            except (EOFError, gzip.BadGzipFile, OSError) as error:
                done.leave_out(str(path), done.lines, f"cannot be read on: {error}"[:200])
    return done


def _open(path: Path) -> gzip.GzipFile | IO[bytes]:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _read_stream(
    stream: gzip.GzipFile | IO[bytes], path: Path, add: Callable[[Leg], None], options: Options, done: Reading
) -> None:
    head = stream.read(MOST_DOCUMENT + 1)
    stream.seek(0)
    form = options.form or _form_of(head)
    if form is None:
        done.leave_out(str(path), 0, "not a record file that callctl knows" if head.strip() else "empty")
        return
    if form is Format.FREESWITCH_JSON and len(head) <= MOST_DOCUMENT and _one_document(head, path, add, done):
        options.on_bytes(len(head))
        return
    parse = _parser(form, options.zone)
    size = 0
    for number, raw in _lines(stream):
        size += len(raw or b"")
        if number % EVERY == 0:
            options.on_bytes(size)
            size = 0
        done.lines += 1
        if raw is None:
            done.leave_out(str(path), number, f"longer than {MOST_LINE} bytes")
            continue
        if not raw.strip():
            continue
        try:
            for leg in parse(raw, f"{path.name}:{number}"):
                _take(leg, add, done)
        except Unreadable as error:
            done.leave_out(str(path), number, str(error))
    options.on_bytes(size)


def _one_document(head: bytes, path: Path, add: Callable[[Leg], None], done: Reading) -> bool:
    """Read a file that is one JSON document; False where it may be one a line."""
    several = b"\n" in head.strip()
    try:
        leg = freeswitch.read_json(head, path.name)
    except Unreadable as error:
        if several and head.lstrip().startswith(b"{"):
            return False
        done.leave_out(str(path), 0, str(error))
    else:
        _take(leg, add, done)
    done.lines += 1
    return True


def _take(leg: Leg, add: Callable[[Leg], None], done: Reading) -> None:
    done.legs += 1
    if leg.is_call and not leg.key and abs(asterisk.skew_s(leg)) > SKEWED_S:
        done.skewed += 1
    add(leg)


def _form_of(head: bytes) -> Format | None:
    begin = head.lstrip(b" \t\r\n\xef\xbb\xbf")
    first = begin.split(b"\n", 1)[0]
    if begin.startswith(JSON_BEGINS):
        return Format.FREESWITCH_JSON
    if first.lstrip(b'"').startswith(cel.MARK.encode()):
        return Format.ASTERISK_CEL
    if first.lstrip(b'"').startswith(freeswitch.MARK.encode()):
        return Format.FREESWITCH_CSV
    return Format.ASTERISK_CSV if first.count(b",") >= asterisk.COLUMNS - 1 else None


def _parser(form: Format, zone: tzinfo) -> Callable[[bytes, str], Iterator[Leg]]:
    events = cel.CelReader(zone)

    def parse(raw: bytes, source: str) -> Iterator[Leg]:
        if form is Format.FREESWITCH_JSON:
            yield freeswitch.read_json(raw, source)
            return
        line = raw.decode("utf-8", errors="replace").rstrip("\r\n")
        match form:
            case Format.ASTERISK_CSV:
                yield asterisk.read_line(line, source, zone)
            case Format.ASTERISK_CEL:
                yield from events.read_line(line, source)
            case Format.FREESWITCH_CSV:
                yield freeswitch.read_line(line, source)
            case _:
                assert_never(form)

    return parse


def _lines(stream: gzip.GzipFile | IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield lines with their numbers; None for one that is too long, which is skipped without being kept."""
    number = 0
    while raw := stream.readline(MOST_LINE + 1):
        number += 1
        if len(raw) > MOST_LINE and not raw.endswith(b"\n"):
            while more := stream.readline(MOST_LINE):
                if more.endswith(b"\n"):
                    break
            yield number, None
        else:
            yield number, raw
