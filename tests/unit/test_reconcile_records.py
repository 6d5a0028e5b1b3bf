"""What switches write, read: every format, and every way a line can be wrong."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pytest

from billing.reconcile.freeswitch import decoded, read_json
from billing.reconcile.read import Format, Options, Reading, files_of, read_files
from billing.reconcile.records import MOST_LINE, Leg, SwitchCall, Unreadable
from billing.reconcile.scratch import Scratch

RECORDED = Path(__file__).parents[1] / "data" / "reconcile" / "asterisk-22"
EVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
A, B = "0b5e8a52-6d1c-4a7e-9d3b-0f6a3c1d2e4f", "7c1d9e30-2f4b-4c8d-8e5a-1a2b3c4d5e6f"
START = 1_795_420_744_000_000
LINE = (
    '"cust-1","100","4930","callctl-out","""x"" <100>","PJSIP/a-1","PJSIP/c-2","Dial","PJSIP/4930@c,4",'
    '"2026-11-23 07:59:04","2026-11-23 07:59:05","2026-11-23 07:59:35",31,30,"ANSWERED","DOCUMENTATION",'
    '"1795420744.0","","","1795420744.0",0'
)


@pytest.fixture
def scratch(tmp_path: Path) -> Iterator[Scratch]:
    """A scratch place of the test's own."""
    made = Scratch(tmp_path / "scratch.db")
    yield made
    made.close()


def calls(scratch: Scratch) -> dict[str, SwitchCall]:
    """Merge, and return every call by its key."""
    scratch.merge()
    return {call.key: call for page in scratch.calls(*EVER) for call in page}


def read(scratch: Scratch, path: Path, **options: Any) -> tuple[Reading, dict[str, SwitchCall]]:
    """Read a file or folder and merge."""
    done = read_files(files_of([path]), scratch.add, Options(**options))
    return done, calls(scratch)


def json_cdr(uuid: str = B, **variables: str) -> dict[str, Any]:
    """A document of mod_json_cdr as it leaves the switch: values are percent-encoded."""
    told = {
        "uuid": uuid,
        "direction": "outbound",
        "originating_leg_uuid": A,
        "accountcode": "ignored",
        "callctl_leg": A,
        "callctl_of": "outbound|cust-1|100|+4930",
        "start_uepoch": f"{START}",
        "answer_uepoch": f"{START + 1_000_000}",
        "end_uepoch": f"{START + 31_540_000}",
        "hangup_cause_q850": "16",
        **variables,
    }
    return {"core-uuid": "x", "variables": {name: quote(value, safe="") for name, value in told.items()}}


def as_base64(text: str) -> str:
    """Encode as the switch does."""
    coded = base64.b64encode(text.encode() + b"\0").decode()
    return "\n".join(coded[at : at + 72] for at in range(0, len(coded), 72))


@pytest.mark.parametrize("name", ["Master.csv", "cel.csv"])
def test_real_asterisk_records_are_the_billed_calls(scratch: Scratch, name: str) -> None:
    """What Asterisk 22 wrote of every kind of call names and measures the calls as callctl billed them."""
    done, found = read(scratch, RECORDED / name)
    billed = {row["call_id"].removeprefix("ast:"): row for row in json.loads((RECORDED / "billed.json").read_text())}
    assert (done.broken, done.skewed) == ([], 0)
    controlled = {key: call for key, call in found.items() if call.controlled}
    refused = {key for key, row in billed.items() if row["disposition"] == "refused"}
    assert controlled.keys() == billed.keys() - refused
    assert len(found) - len(controlled) == 1, "the call that went past callctl"
    for key, call in controlled.items():
        row = billed[key]
        assert (call.answered_at is not None) == (row["disposition"] == "answered"), key
        assert call.direction == row["direction"], key
        # whole seconds in one file, and in the other the few ms between the switch's events and the dialplan's clock
        assert abs(call.talk_ms - row["talk_ms"]) < (1000 if name == "Master.csv" else 20), key
        if name == "cel.csv" or "~" not in key:
            assert call.callee == row["callee"], key


def test_the_number_of_a_second_call_of_a_channel_is_not_guessed(scratch: Scratch) -> None:
    """Asterisk repeats the first number after a transfer by the callee: no number is better than the wrong one."""
    _, found = read(scratch, RECORDED / "Master.csv")
    second = next(call for key, call in found.items() if key.endswith("~2"))
    assert (second.callee, second.direction) == ("", "outbound")


def test_two_files_about_the_same_calls_are_the_same_calls(scratch: Scratch) -> None:
    """Master.csv, its copy and the channel events together name each call once, with the exact length."""
    done = read_files([RECORDED / "Master.csv"] * 2 + [RECORDED / "cel.csv"], scratch.add, Options())
    found = calls(scratch)
    assert (done.files, scratch.repeated) == (3, 20)
    assert len(found) == 15
    assert [call.key for call in found.values() if call.twice] == []
    assert any(call.talk_ms % 1000 for call in found.values())


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (LINE.replace('"1795420744.0","","","1795420744.0",0', '"nonsense"'), "loguniqueid"),
        (",".join(LINE.split(",")[:16]), "loguniqueid"),
        (LINE.replace("07:59:35", "25:61:00"), "no calendar"),
        (LINE.replace("07:59:35", "07:59"), "not written as"),
        (LINE.replace('"2026-11-23 07:59:35"', '""'), "without a start or an end"),
        (LINE.replace("07:59:35", "07:59:01"), "before it begins"),
        (LINE.replace(",31,30,", ",31,x,"), "billsec is no number"),
        (LINE.replace('"cust-1"', '"cust-1"x'), "not CSV"),
        (LINE[:60], "not CSV"),
        ("\x00" * 50, "loguniqueid"),
    ],
)
def test_a_broken_line_is_named_and_the_rest_is_read(scratch: Scratch, tmp_path: Path, line: str, why: str) -> None:
    """File, line and reason are told; the lines around it count."""
    path = tmp_path / "Master.csv"
    path.write_text(f"{LINE}\n{line}\n{LINE.replace('1795420744.0', '1795420744.9')}\n")
    done, found = read(scratch, path)
    assert [(broken.file, broken.line) for broken in done.broken] == [(str(path), 2)]
    assert why in done.broken[0].why
    assert sorted(found) == ["1795420744.0", "1795420744.9"]


def test_a_line_without_end_does_not_fill_the_memory(scratch: Scratch, tmp_path: Path) -> None:
    """A line beyond the limit is skipped to its end, whatever its length."""
    path = tmp_path / "Master.csv"
    path.write_bytes(LINE.encode() + b"\n" + b"," * (MOST_LINE * 3) + b"\n" + LINE.replace("744.0", "745.0").encode())
    done, found = read(scratch, path)
    assert [(one.line, one.why) for one in done.broken] == [(2, f"longer than {MOST_LINE} bytes")]
    assert len(found) == 2


def test_only_so_many_broken_lines_are_named(scratch: Scratch, tmp_path: Path) -> None:
    """All are counted, two hundred are named."""
    path = tmp_path / "Master.csv"
    path.write_text(LINE + "\n" + "a,b\n" * 1000)
    done, _ = read(scratch, path)
    assert (done.broken_count, len(done.broken)) == (1000, 200)


def test_times_of_another_zone_are_read_and_a_wrong_zone_is_noticed(scratch: Scratch, tmp_path: Path) -> None:
    """Without usegmtime Asterisk writes local time; the second in the uniqueid gives a wrong zone away."""
    path = tmp_path / "Master.csv"
    path.write_text(LINE.replace("2026-11-23 07", "2026-11-23 08"))
    seen: list[Leg] = []
    assert read_files([path], seen.append, Options()).skewed == 1
    done, found = read(scratch, path, zone=ZoneInfo("Europe/Berlin"))
    assert done.skewed == 0
    assert found["1795420744.0"].answered_at == datetime(2026, 11, 23, 7, 59, 5, tzinfo=UTC)


def test_hostile_text_is_cut_and_cleaned(scratch: Scratch, tmp_path: Path) -> None:
    """What a caller wrote cannot grow, nor move a terminal's cursor."""
    path = tmp_path / "Master.csv"
    path.write_text(LINE.replace('"100"', '"\x1b[2J\u2028' + "9" * 5000 + '"'))
    _, found = read(scratch, path)
    caller = found["1795420744.0"].caller
    assert len(caller) == 200
    assert caller.isprintable()


def test_a_channel_with_two_talks_at_once_is_doubled(scratch: Scratch, tmp_path: Path) -> None:
    """Two answered records of one offer with different lengths are marked, and make one call."""
    path = tmp_path / "Master.csv"
    path.write_text(f"{LINE}\n{LINE.replace('07:59:35', '07:59:50').replace(',31,30,', ',46,45,')}\n")
    _, found = read(scratch, path)
    assert [(call.key, call.twice) for call in found.values()] == [("1795420744.0", True)]


@pytest.mark.parametrize("encode", [lambda text: text, lambda text: quote(text, safe=""), as_base64])
def test_json_of_freeswitch_in_every_encoding(encode: Any) -> None:
    """Plain, percent-encoded and base64 (broken into lines, with a NUL at the end) are the same record."""
    leg = read_json(encode(json.dumps(json_cdr())).encode(), "x")
    assert (leg.id, leg.key, leg.controlled, leg.direction) == (B, A, True, "outbound")
    assert (leg.account_code, leg.caller, leg.callee) == ("cust-1", "100", "+4930")
    assert (leg.talk_ms, leg.cause) == (30_540, 16)
    assert leg.answered_at == datetime(2026, 11, 23, 7, 59, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"variables": []}',
        b'{"variables": {"uuid": 7}}',
        b"[" * 100_000,
        b'{"variables":' * 50_000,
        b"%7B%22",
        b"eyJ*",
        b"\xff\xfe\x00",
        json.dumps(json_cdr(uuid="a b")).encode(),
        json.dumps(json_cdr(callctl_leg="x|y\r\nz")).encode(),
        json.dumps(json_cdr(end_uepoch="9" * 18)).encode(),
        json.dumps(json_cdr(end_uepoch="-5")).encode(),
        json.dumps(json_cdr(end_uepoch="")).encode(),
        json.dumps(json_cdr(start_uepoch="²")).encode(),
        json.dumps(json_cdr(answer_uepoch=f"{START + 99_000_000}")).encode(),
    ],
)
def test_what_is_no_record_is_unreadable_and_nothing_worse(raw: bytes) -> None:
    """Whatever is thrown at it, the reader says that it cannot be used."""
    with pytest.raises(Unreadable):
        read_json(raw, "x")


def test_base64_is_not_guessed_from_plain_text() -> None:
    """Text that is neither JSON nor base64 is refused before anybody parses it."""
    with pytest.raises(Unreadable, match="neither"):
        decoded(b"hello world!")


def test_folder_of_freeswitch_json(scratch: Scratch, tmp_path: Path) -> None:
    """Both legs of a call are one call, measured by the billed one; a broken file, an empty one and a strange one are
    named.
    """
    folder = tmp_path / "json_cdr"
    (folder / "2026-11-23").mkdir(parents=True)
    caller = json_cdr(A, callctl_leg="", callctl_of="", originating_leg_uuid="", end_uepoch=f"{START + 20_000_000}")
    caller["variables"] |= {"callctl_key": A, "callctl_over": A, "callctl_offer": quote("outbound|cust-1|100|+4930")}
    (folder / f"a_{A}.cdr.json").write_text(json.dumps(caller))
    (folder / "2026-11-23" / f"{B}.cdr.json").write_text(json.dumps(json_cdr()) + "\n")
    (folder / "broken.json").write_text('{"variables": {"uuid"')
    (folder / "empty.json").write_text("")
    (folder / "notes.txt").write_text("hello\n")
    done, found = read(scratch, folder)
    assert [(call.key, call.talk_ms, call.controlled) for call in found.values()] == [(A, 30_540, True)]
    assert sorted(Path(one.file).name for one in done.broken) == ["broken.json", "empty.json", "notes.txt"]


def test_a_second_call_that_nobody_answered_has_not_talked(scratch: Scratch, tmp_path: Path) -> None:
    """A caller who was transferred has an answer time from his first call; his second, unanswered, gets none of it."""
    path = tmp_path / "x.json"
    told = json_cdr(A, callctl_leg="", originating_leg_uuid="", callctl_key=f"{A}~2", callctl_over=A)
    told["variables"]["callctl_offer"] = quote("outbound|cust-1|100|4940")
    path.write_text(json.dumps(told))
    _, found = read(scratch, path)
    assert [(call.key, call.answered_at, call.talk_ms) for call in found.values()] == [(f"{A}~2", None, 0)]


def test_csv_of_freeswitch_by_the_documented_template(scratch: Scratch, tmp_path: Path) -> None:
    """The template's lines are recognised by their first word; one with a forged line end is two broken lines."""
    times = f'"{START}","{START + 1_000_000}","{START + 9_000_000}"'
    told = f'"{A}","outbound|cust-1|100|4930","","","","{A}","x",{times},"16"'
    path = tmp_path / "Master.csv"
    path.write_text(f'callctl-fs,"{B}",{told}\ncallctl-fs,"{B}\ncallctl-fs","x"\n')
    done, found = read(scratch, path)
    assert [(call.key, call.talk_ms, call.account_code) for call in found.values()] == [(A, 8000, "cust-1")]
    assert [one.line for one in done.broken] == [2, 3]


def test_json_lines_and_gzip(scratch: Scratch, tmp_path: Path) -> None:
    """A rotated, packed file with a document on each line is read too."""
    path = tmp_path / "old.json.gz"
    lines = [json.dumps(json_cdr(f"{B[:-1]}{n}", callctl_leg=f"{A[:-1]}{n}")) for n in range(3)]
    with gzip.open(path, "wt") as file:
        file.write("\n".join(lines))
    done, found = read(scratch, path, form=Format.FREESWITCH_JSON)
    assert (done.lines, len(found)) == (3, 3)


def test_a_cut_gzip_is_named(scratch: Scratch, tmp_path: Path) -> None:
    """A file that ends in the middle is read as far as it goes."""
    path = tmp_path / "Master.csv.gz"
    path.write_bytes(gzip.compress((LINE + "\n").encode() * 50)[:-20])
    done, _ = read(scratch, path)
    assert "cannot be read on" in done.broken[0].why


def test_channel_events_without_their_beginning(scratch: Scratch, tmp_path: Path) -> None:
    """A file that begins in the middle of calls yields the calls it has whole, and nothing of the others."""
    lines = (RECORDED / "cel.csv").read_text().splitlines()
    path = tmp_path / "cel.csv"
    path.write_text("\n".join(lines[5:]) + "\n")
    done, found = read(scratch, path)
    assert done.broken == []
    assert len(found) == 14
    path.write_text("\n".join(lines).replace("2026-11-23T07:59:04.232073", "yesterday"))
    assert read_files([path], lambda _: None, Options()).broken[0].why.startswith("the time is neither")


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """A wrong path is not an empty file."""
    with pytest.raises(FileNotFoundError):
        files_of([tmp_path / "nothing"])


def test_calls_of_a_period_only(scratch: Scratch, tmp_path: Path) -> None:
    """A call belongs to the period it ended in; the end of a period is outside it."""
    path = tmp_path / "Master.csv"
    path.write_text(LINE)
    read_files([path], scratch.add, Options())
    scratch.merge()
    ended = datetime(2026, 11, 23, 7, 59, 35, tzinfo=UTC)
    assert list(scratch.calls(ended - timedelta(hours=1), ended)) == []
    assert len(list(scratch.calls(ended, ended + timedelta(seconds=1)))) == 1
    assert scratch.known(["1795420744.0", "other"]) == {"1795420744.0"}


REAL = RECORDED.with_name("freeswitch-1.10")
REAL_CALL = "233e5229-8996-4a4d-a6c2-e1ef217eed11"


def test_real_freeswitch_records_of_both_modules_agree(scratch: Scratch) -> None:
    """What FreeSWITCH 1.10 wrote of a call, as JSON of each leg and by the template, is one call of one length."""
    done, found = read(scratch, REAL)
    assert done.broken == []
    call = found[REAL_CALL]
    assert (call.controlled, call.direction, call.account_code, call.callee) == (True, "outbound", "cust-1", "49301")
    assert abs(call.talk_ms - 2500) < 50
    assert (call.cause, call.twice) == (16, False)
    assert [other.controlled for key, other in found.items() if key != REAL_CALL] == [False]


def test_what_came_percent_encoded_is_marked_as_forgeable() -> None:
    """FreeSWITCH leaves a %22 in a form as it is: a name can end its string there and say what it likes after it."""
    name = "%22,%22callctl_leg%22:%22" + B + "%22,%22x%22:%22"
    honest = json.dumps({"variables": {**json_cdr()["variables"], "callctl_leg": "", "caller_id": "NAME"}})
    as_posted = quote(honest, safe="").replace("NAME", name)
    forged = read_json(as_posted.encode(), "posted")
    assert forged.key == B, "the forgery works, which is why it is marked"
    assert forged.source == "posted (form)"
    assert read_json(honest.encode(), "posted").source == "posted"
