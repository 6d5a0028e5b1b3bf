"""Alerts: what a person should look at, and what was; and the rules of the fraud guard, which raises some of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Form, Path, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, select
from starlette.responses import Response

from billing import outbox
from billing.access import Reach
from billing.accounts import find_account
from billing.alerts import dismiss_alert, list_alerts
from billing.chart import operator_id
from billing.errors import BillingError, NotFound, Refused
from billing.fraud import rules
from billing.fraud.words import when
from billing.models import Account, Alert, FraudAction, FraudKind, FraudRule
from billing.store import reading, work
from rating.errors import AmountError
from rating.money import parse_amount
from web.context import CREDIT_DOWN, panel_of
from web.pages import show
from web.panel.plan_forms import Wrong
from web.security.sessions import Forbidden, Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("alerts:read"))]
Keeper = Annotated[Principal, Depends(may("alerts:write"))]

Seer = Annotated[Principal, Depends(may("alerts:read", whole=True))]
Guard = Annotated[Principal, Depends(may("alerts:write", whole=True))]
"""The rules and what they did are the operator's: nobody below lifts what the operator's guard has blocked."""

HOME, FRAUD = "/alerts", "/fraud"
PAGE = 50
MOST_ID = 2**53
MOST_FORM = 300
MOST_RANGES = 50_000
Number = Annotated[int, Path(ge=1, le=MOST_ID)]
Text = Annotated[str, Form()]


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule in words."""

    rule: FraudRule
    account: str
    when: str


@router.get(HOME)
async def alerts_page(
    request: Request,
    principal: Reader,
    *,
    over: bool = False,
    before: Annotated[str, Query(max_length=60)] = "",
) -> Response:
    """Show what stands, or what is over, of the accounts in sight, newest first."""
    panel = panel_of(request)
    last = _place(before)

    def read() -> tuple[list[Alert], Mapping[int, str]]:
        with reading(panel.engine) as session:
            reach = principal.reach
            ours = None if reach.whole else list(session.execute(reach.ids()).scalars())
            found = list_alerts(session, standing=not over, account_ids=ours, before=last, most=PAGE + 1)
            return found, _names(session, {alert.account_id for alert in found if alert.account_id})

    found, names = await run_in_threadpool(read)
    shown = found[:PAGE]
    following = f"{shown[-1].raised_at.isoformat()},{shown[-1].id}" if len(found) > PAGE else ""
    return show(request, principal, "alerts.html", alerts=shown, names=names, over=over, following=following)


@router.post(HOME + "/{number}/clear")
async def clear(request: Request, principal: Keeper, number: Number) -> Response:
    """A person has looked: the alert is over. It lifts nothing."""
    panel = panel_of(request)

    def do() -> bool:
        with work(panel.engine) as session:
            _see_alert(session, principal.reach, number)
            return dismiss_alert(session, number, actor=principal.login, now=panel.clock.now())

    cleared = await run_in_threadpool(do)
    text = "Cleared." if cleared else "It had been cleared before."
    return flash(request, principal, "success" if cleared else "warning", text, to=HOME)


@router.post(FRAUD + "/lift/{number}")
async def lift(request: Request, principal: Guard, number: Number) -> Response:
    """Undo what the guard did to an account: its alerts are over, it may call again."""
    panel = panel_of(request)

    def do() -> tuple[int, str]:
        with work(panel.engine) as session:
            cleared = rules.lift(session, number, actor=principal.login, now=panel.clock.now())
            return cleared, find_account(session, str(number)).name

    cleared, name = await run_in_threadpool(do)
    said = f"{name}: {cleared} alert{'' if cleared == 1 else 's'} cleared. What was before counts no more."
    try:
        await outbox.tell_accounts(panel.engine, panel.credit, [number], clock=panel.clock)
    except CREDIT_DOWN:
        text = f"{said} The live store does not answer; the controller brings it along."
        return flash(request, principal, "warning", text, to=HOME)
    return flash(request, principal, "success", said, to=HOME)


@router.get(FRAUD)
async def fraud_page(request: Request, principal: Seer) -> Response:
    """Show the guard's rules, and the form to add one."""
    return await _fraud(request, principal)


async def _fraud(
    request: Request,
    principal: Principal,
    *,
    status: int = 200,
    wrong: Wrong | None = None,
    form: Mapping[str, str] | None = None,
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[list[RuleView], int]:
        with reading(panel.engine) as session:
            found = rules.list_rules(session)
            names = _names(session, {rule.account_id for rule in found})
            views = [RuleView(rule, names[rule.account_id], when(rule)) for rule in found]
            return views, rules.count_ranges(session)

    found, ranges = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "fraud.html",
        status=status,
        rules=found,
        ranges=ranges,
        kinds=list(FraudKind),
        actions=list(FraudAction),
        wrong=wrong.field if wrong else "",
        error=wrong.text if wrong else "",
        form=form or {"kind": "", "action": ""},
    )


@router.post(FRAUD)
async def add_rule(request: Request, principal: Guard) -> Response:
    """Add a rule; the form comes back with what is wrong."""
    panel = panel_of(request)
    sent = await request.form()
    form = {name: str(value)[:MOST_FORM].strip() for name, value in sent.items() if name != "csrf"}

    def add() -> None:
        with work(panel.engine) as session:
            account_id = _account_id(session, form.get("account", ""))
            rules.add_rule(session, account_id, _wanted(form), actor=principal.login, now=panel.clock.now())

    try:
        await run_in_threadpool(add)
    except Wrong as wrong:
        return await _fraud(request, principal, status=422, wrong=wrong, form=form | _asked(form))
    except BillingError as why:
        return await _fraud(request, principal, status=422, wrong=_placed(why), form=form | _asked(form))
    return flash(request, principal, "success", "The rule holds from now on.", to=FRAUD)


@router.post(FRAUD + "/{number}/end")
async def end_rule(request: Request, principal: Guard, number: Number) -> Response:
    """Judge by a rule no more."""
    panel = panel_of(request)

    def do() -> bool:
        with work(panel.engine) as session:
            return rules.end_rule(session, number, actor=principal.login, now=panel.clock.now())

    ended = await run_in_threadpool(do)
    text = "The rule holds no more." if ended else "It had ended before."
    return flash(request, principal, "success" if ended else "warning", text, to=FRAUD)


def _see_alert(session: Session, reach: Reach, number: int) -> None:
    """Raise `NotFound` for an alert that is not about an account in reach."""
    if reach.whole:
        return
    found = session.get(Alert, number)
    if found is None or found.account_id is None or not reach.holds(session, found.account_id):
        raise NotFound(f"there is no alert {number}")
    if found.kind.startswith(rules.ALERTS):
        raise Forbidden("What the operator's fraud guard did is lifted by the operator.")


@router.post(FRAUD + "/ranges")
async def replace_ranges(
    request: Request, principal: Guard, ranges: Annotated[str, Form(max_length=MOST_RANGES)] = ""
) -> Response:
    """Set the list of risky ranges anew: all of it, or nothing where a line is wrong."""
    panel = panel_of(request)
    lines = [line.partition(",") for line in ranges.splitlines() if line.strip()]

    def change() -> int:
        if not lines:
            raise Refused("write at least one range")
        with work(panel.engine) as session:
            wanted = [(prefix, label) for prefix, _, label in lines]
            return rules.replace_ranges(session, wanted, actor=principal.login, now=panel.clock.now())

    try:
        number = await run_in_threadpool(change)
    except Refused as why:
        form = {"kind": "", "action": "", "ranges": ranges}
        return await _fraud(request, principal, status=422, wrong=Wrong("ranges", f"{why}."), form=form)
    return flash(request, principal, "success", f"{number} range{'' if number == 1 else 's'} listed.", to=FRAUD)


def _placed(why: BillingError) -> Wrong:
    """Say beside which field of a rule a refusal belongs; those about the rule as a whole stand above."""
    text = str(why)
    places = {
        "there is no account": "account",
        "a destination": "prefixes",
        "say which destinations": "prefixes",
        "the limit": "limit",
        "calls is": "calls",
        "the span": "within_s",
        "what is short": "shorter_s",
        "a rule learns": "learn_days",
        "can refuse single calls": "action",
        "hours": "hours",
    }
    return Wrong(next((field for said, field in places.items() if said in text), ""), f"{text}.")


def _wanted(form: Mapping[str, str]) -> rules.Wanted:
    """Read a form. Raises `Wrong`."""

    def number(name: str) -> int | None:
        text = form.get(name, "")
        if text and not (text.isascii() and text.isdigit()):
            raise Wrong(name, f"Expected a whole number, not {text[:40]!r}.")
        return int(text) if text else None

    def limit() -> int | None:
        try:
            return parse_amount(form["limit"]) if form.get("limit") else None
        except AmountError as why:
            raise Wrong("limit", f"{why}.") from why

    def lines(name: str) -> tuple[str, ...]:
        parts = form.get(name, "").replace("\r", "\n").replace(",", "\n").split("\n")
        return tuple(part.strip() for part in parts if part.strip())

    try:
        kind, action = FraudKind(form.get("kind", "")), FraudAction(form.get("action", ""))
    except ValueError:
        raise Wrong("", "Say what is looked at, and what is done then.") from None
    return rules.Wanted(
        kind=kind,
        action=action,
        prefixes=lines("prefixes"),
        risky=form.get("risky") == "yes",
        limit_micros=limit(),
        calls=number("calls"),
        within_s=number("within_s"),
        shorter_s=number("shorter_s"),
        hours=lines("hours"),
        learn_days=number("learn_days"),
    )


def _asked(form: Mapping[str, str]) -> dict[str, str]:
    return {"kind": form.get("kind", ""), "action": form.get("action", "")}


def _account_id(session: Session, account: str) -> int:
    return find_account(session, account).id if account else operator_id(session)


def _names(session: Session, account_ids: set[int]) -> Mapping[int, str]:
    if not account_ids:
        return {}
    found = session.exec(select(Account.id, Account.name).where(col(Account.id).in_(account_ids)))
    return {account_id or 0: name for account_id, name in found}


def _place(text: str) -> tuple[datetime, int] | None:
    at, _, number = text.partition(",")
    if not text:
        return None
    try:
        moment, alert_id = datetime.fromisoformat(at), int(number)
    except ValueError as why:
        raise NotFound("There is no such page.") from why
    if moment.tzinfo is None or not 0 <= alert_id <= MOST_ID:
        raise NotFound("There is no such page.")
    return moment, alert_id
