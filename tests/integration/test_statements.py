"""Statements: opening balance + lines = closing balance, in the account's own months."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from sqlalchemy.engine import Engine

from billing.cdrs import settle
from billing.errors import NotFound, Refused
from billing.statement_csv import csv_lines
from billing.statements import Line, all_lines, days_of, lines, month_of, statement
from billing.store import reading, work
from billing.topups import top_up
from tests.integration.tree import EURO, NOW, Tree, carls_call, cleos_call, plant

APRIL = datetime(2026, 3, 31, 22, 30, tzinfo=UTC)
"""Half past midnight on 1 April in Berlin, still March in Greenwich."""


def _fill(engine: Engine) -> Tree:
    tree = plant(engine)
    for number, (at, micros) in enumerate(((NOW - timedelta(days=10), 5 * EURO), (NOW, 2 * EURO), (APRIL, EURO))):
        with work(engine) as session:
            top_up(session, tree.carl, micros, operation=f"=t{number}", actor="admin", reason=f"paid {number}", now=at)
    with work(engine) as session:
        settle(session, [carls_call(tree, "c1", 60), carls_call(tree, "c2", 0)], now=NOW)
    return tree


def test_a_months_statement_adds_up(engine: Engine) -> None:
    """5.00 before, 2.00 paid and 0.11 talked in March: 6.89; half past midnight is April there."""
    tree = _fill(engine)
    with reading(engine) as session:
        told = statement(session, tree.carl, month_of("2026-03", "Europe/Berlin"))
        assert (told.opening_micros, told.closing_micros) == (5 * EURO, 6_890_000)
        assert [(one.kind, one.lines, one.amount_micros) for one in told.sums] == [
            ("call", 1, -110_000),
            ("topup", 1, 2 * EURO),
        ]
        listed = list(all_lines(session, tree.carl, told.period))
        assert [(line.kind, line.what, line.amount_micros, line.balance_micros) for line in listed] == [
            ("topup", "paid 1", 2 * EURO, 7 * EURO),
            ("call", "49301234 Berlin", -110_000, 6_890_000),
        ]
        assert [line.reference for line in listed] == ["=t1", "c1"]
        april = statement(session, tree.carl, month_of("2026-04", "Europe/Berlin"))
        assert (april.opening_micros, april.closing_micros) == (told.closing_micros, told.closing_micros + EURO)
        utc = statement(session, tree.carl, month_of("2026-03", "UTC"))
        assert utc.closing_micros == 6_890_000 + EURO


def test_pages_of_lines_go_on_where_they_ended(engine: Engine) -> None:
    """Whatever the size of a page, the lines and their running balance are the same."""
    tree = plant(engine)
    with work(engine) as session:
        top_up(session, tree.ray, 100 * EURO, operation="t", actor="admin", now=NOW)
    for number in range(12):
        with work(engine) as session:
            settle(session, [cleos_call(tree, f"c{number}", 30)], now=NOW + timedelta(minutes=number))
    period = days_of(date(2026, 3, 1), date(2026, 3, 1), "UTC")
    with reading(engine) as session:
        whole = list(all_lines(session, tree.ray, period))
        assert len(whole) == 25
        paged: list[Line] = []
        while page := lines(session, tree.ray, period, after_seq=paged[-1].seq if paged else 0, most=7):
            paged += page
        assert paged == whole
        told = statement(session, tree.ray, period)
        assert told.closing_micros == whole[-1].balance_micros == 100 * EURO
        assert told.opening_micros == 0


def test_the_file_has_every_line_and_no_formula(engine: Engine) -> None:
    """The first line opens, the last one closes; what would be a formula in a spreadsheet is text."""
    tree = _fill(engine)
    with work(engine) as session:
        call = replace(carls_call(tree, "c3", 30), callee="=cmd|' /C calc'!A0", destination="")
        settle(session, [call], now=NOW)
    with reading(engine) as session:
        told = statement(session, tree.carl, month_of("2026-03", "Europe/Berlin"))
        written = "".join(csv_lines(session, told)).splitlines()
    assert written[0] == "seq,time,kind,what,reference,amount,balance"
    assert written[1] == ",2026-02-28T23:00:00.000Z,opening,,,,5.00"
    assert written[2] == "2,2026-03-01T12:00:00.000Z,topup,paid 1,'=t1,2.00,7.00"
    assert written[4].split(",")[3] == "'=cmd|' /C calc'!A0"
    assert written[-1] == ",2026-03-31T22:00:00.000Z,closing,,,,6.81"


def test_an_empty_period_and_what_is_none(engine: Engine) -> None:
    """Nothing booked: opening is closing. A month or an account that is none is told, the operator has no statement."""
    tree = _fill(engine)
    with reading(engine) as session:
        empty = statement(session, tree.carl, month_of("2025-12", "UTC"))
        assert (empty.opening_micros, empty.closing_micros, empty.sums) == (0, 0, ())
        for wrong in ("2026-13", "2026-3", "march", "0000-01", "9999-12"):
            with pytest.raises(Refused):
                month_of(wrong, "UTC")
        with pytest.raises(Refused):
            days_of(date(2026, 3, 2), date(2026, 3, 1), "UTC")
        for account_id in (999, tree.operator):
            with pytest.raises(NotFound):
                statement(session, account_id, empty.period)
