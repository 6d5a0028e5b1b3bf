"""The journal: on disk before anything else happens, group commit, replay, a full disk."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from billing.cdrs import EndedCall, EndedCharge
from callctl.journal import Entry, Journal, JournalBroken

T0 = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def ended(number: int, *, amount_micros: int = 10_000) -> EndedCall:
    return EndedCall(
        call_id=f"a:{number}",
        switch="a",
        account_id=2,
        direction="outbound",
        caller="\u2028<script>'\"",
        callee="49",
        destination="Germany",
        disposition="answered",
        reason="",
        sip_status=None,
        cause=16,
        hung_up_by="caller",
        offered_at=T0,
        answered_at=T0 + timedelta(seconds=1, microseconds=123456),
        ended_at=T0 + timedelta(seconds=9),
        talk_ms=7877,
        billable_ms=7877,
        estimated=False,
        charges=(EndedCharge(2, 3, 4, amount_micros, "EUR", 8, {"billable_s": 8}),),
    )


async def test_what_was_written_is_there_for_the_next_controller(tmp_path: Path) -> None:
    """Entries come back as they were, oldest first; settled ones are gone."""
    journal = Journal(tmp_path / "j.db")
    assert await journal.open() == []
    for number in (1, 2, 3):
        await journal.write(Entry(ended(number), held=number != 2))
    journal.settled(["a:1"])
    await journal.close()
    again = Journal(tmp_path / "j.db")
    assert await again.open() == [Entry(ended(2), held=False), Entry(ended(3), held=True)]
    await again.close()


async def test_an_entry_is_on_disk_when_write_returns(tmp_path: Path) -> None:
    """Another process sees it at once: the controller may die at the next line."""
    journal = Journal(tmp_path / "j.db")
    await journal.open()
    await journal.write(Entry(ended(1), held=True))
    with sqlite3.connect(tmp_path / "j.db") as other:
        assert other.execute("SELECT call_id FROM ended").fetchall() == [("a:1",)]
    await journal.close()


async def test_the_same_call_is_written_once(tmp_path: Path) -> None:
    """The first end stands: told twice, another price changes nothing."""
    journal = Journal(tmp_path / "j.db")
    await journal.open()
    await asyncio.gather(
        journal.write(Entry(ended(1), held=True)), journal.write(Entry(ended(1, amount_micros=99), held=True))
    )
    await journal.close()
    assert await Journal(tmp_path / "j.db").open() == [Entry(ended(1), held=True)]


async def test_many_writers_share_few_commits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 calls that end together cost a handful of commits, not 500."""
    journal = Journal(tmp_path / "j.db")
    await journal.open()
    commits = 0
    commit = journal._commit

    def counted(batch: list[tuple[str, tuple[object, ...]]]) -> None:
        nonlocal commits
        commits += 1
        commit(batch)

    monkeypatch.setattr(journal, "_commit", counted)
    await asyncio.gather(*[journal.write(Entry(ended(number), held=True)) for number in range(500)])
    await journal.close()
    assert commits <= 5
    assert len(await Journal(tmp_path / "j.db").open()) == 500


async def test_a_journal_that_cannot_be_written_says_so_and_heals(tmp_path: Path) -> None:
    """While the disk refuses, writers get an error and `broken` is set; afterwards it works again."""
    journal = Journal(tmp_path / "j.db")
    await journal.open()
    assert journal._db
    journal._db.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalBroken):
        await journal.write(Entry(ended(1), held=True))
    assert journal.broken
    with pytest.raises(JournalBroken):
        await journal.probe()
    journal._db.execute("PRAGMA query_only = OFF")
    await journal.probe()
    assert not journal.broken
    await journal.write(Entry(ended(1), held=True))
    assert not journal.broken
    await journal.close()


async def test_a_parked_entry_is_kept_but_not_replayed(tmp_path: Path) -> None:
    """What could not be booked waits for a person; it does not stop the next start."""
    journal = Journal(tmp_path / "j.db")
    await journal.open()
    await journal.write(Entry(ended(1), held=True))
    await journal.park("a:1", "no such wallet")
    await journal.close()
    assert await Journal(tmp_path / "j.db").open() == []
    with sqlite3.connect(tmp_path / "j.db") as other:
        assert other.execute("SELECT parked FROM ended").fetchall() == [("no such wallet",)]


async def test_a_row_that_cannot_be_read_is_parked(tmp_path: Path) -> None:
    """A broken row, from another version or a bad disk, never keeps a controller from starting."""
    journal = Journal(tmp_path / "j.db")
    await journal.open()
    await journal.write(Entry(ended(2), held=True))
    await journal.close()
    with sqlite3.connect(tmp_path / "j.db") as other:
        other.execute("INSERT INTO ended (call_id, body) VALUES ('a:1', '{')")
    again = Journal(tmp_path / "j.db")
    assert await again.open() == [Entry(ended(2), held=True)]
    await again.close()


async def test_a_journal_where_no_file_can_be_is_an_error_in_words(tmp_path: Path) -> None:
    """The folder is a file: the error names the journal."""
    (tmp_path / "f").write_text("")
    with pytest.raises(JournalBroken, match=r"j\.db"):
        await Journal(tmp_path / "f" / "j.db").open()


async def test_each_controller_of_a_machine_has_a_file_of_its_own(tmp_path: Path) -> None:
    """What waits in the file of a living one is left to it; what a dead one left is taken along, once."""
    first, second = Journal(tmp_path / "j.db"), Journal(tmp_path / "j.db")
    await first.open()
    assert await second.open() == []
    await first.write(Entry(ended(1), held=True))
    await second.write(Entry(ended(2), held=True))
    await first.close()
    third = Journal(tmp_path / "j.db")
    assert await third.open() == [Entry(ended(1), held=True)]
    await third.close()
    await second.close()
    fourth = Journal(tmp_path / "j.db")
    assert await fourth.open() == [Entry(ended(1), held=True), Entry(ended(2), held=True)]
    await fourth.close()
    fifth = Journal(tmp_path / "j.db")
    assert len(await fifth.open()) == 2
    await fifth.close()


async def test_more_controllers_than_one_machine_needs_are_a_mistake(tmp_path: Path) -> None:
    """Somebody starts them in circles: the fifth is told so."""
    several = [Journal(tmp_path / "j.db") for _ in range(4)]
    for journal in several:
        await journal.open()
    with pytest.raises(JournalBroken, match="4 controllers"):
        await Journal(tmp_path / "j.db").open()
    for journal in several:
        await journal.close()
