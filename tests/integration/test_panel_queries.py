"""What the panel counts and searches, on both stores."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

from sqlalchemy.engine import Engine

from billing import accounts
from billing.models import AccountKind
from billing.store import reading, work
from tests.web.world import NOON, World, add_record, refused
from web.queries import CdrFilter, search_cdrs, today


def test_figures_and_filters_are_the_same_on_both_stores(engine: Engine) -> None:
    """Sums are whole numbers, yesterday is not today, a percent sign is no pattern, pages meet without a gap."""
    world = World(engine, cast("Any", None))
    with work(engine) as session:
        accounts.add_operator(session, name="Op", currency="EUR", actor="test", now=NOON)
        accounts.add_account(session, name="Delta", kind=AccountKind.CUSTOMER, actor="test", now=NOON)
        add_record(session, world, 1, "Delta")
        add_record(session, world, 2, "Delta", caller="100%_")
        add_record(session, world, 3, "Delta", ended_at=NOON - timedelta(hours=13))
        refused(session, world, 4, "no_money", "Delta")
    with reading(engine) as session:
        figures = today(session, NOON)
        percent = search_cdrs(session, CdrFilter(number="100%"))
        day = search_cdrs(session, CdrFilter(day=NOON - timedelta(days=1, hours=12)))
    assert figures.revenue == (("EUR", 2_460_000),)
    assert type(figures.revenue[0][1]) is int
    assert (figures.calls, figures.answered, figures.refused, figures.talk_ms) == (3, 2, 1, 122_000)
    assert figures.refusals == (("no_money", 1),)
    assert [cdr.call_id for cdr in percent] == ["pbx:000002"]
    assert [cdr.call_id for cdr in day] == ["pbx:000003"]
    with reading(engine) as session:
        first = search_cdrs(session, CdrFilter(), most=2)
        rest = search_cdrs(session, CdrFilter(), before=(first[-1].ended_at, first[-1].call_id), most=9)
    assert [cdr.call_id[-1] for cdr in (*first, *rest)] == ["1", "2", "4", "3"]
