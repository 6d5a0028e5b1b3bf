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
from billing.alerts import dismiss_alert, list_alerts
from billing.errors import BillingError, NotFound, Refused
from billing.fraud import rules
from billing.fraud.words import when
from billing.models import Account, Alert, FraudAction, FraudKind, FraudRule
from billing.store import reading, work
from billing.subtree import find_within
from rating.errors import AmountError
from rating.money import parse_amount
from web.context import CREDIT_DOWN, panel_of
from web.pages import show
from web.panel.plan_forms import Wrong
from web.security.sessions import Forbidden, Principal, flash, may

router = APIRouter(include_in_schema=False)

Reader = Annotated[Principal, Depends(may("alerts:read"))]
Keeper = Annotated[Principal, Depends(may("alerts:write"))]

Operator = Annotated[Principal, Depends(may("alerts:write", whole=True))]
"""The list of ranges is one for all; a rule, and what it did, is for its maker or who stands above to end and lift."""

HOME, FRAUD = "/alerts", "/fraud"
NOT_YOURS = "What a rule of who stands above you did is lifted by them."
PAGE = 50
MOST_ID = 2**53
MOST_FORM = 300
MOST_RANGES = 50_000
Number = Annotated[int, Path(ge=1, le=MOST_ID)]
Text = Annotated[str, Form()]


@dataclass(frozen=True, slots=True)
class RuleView:
    """A rule in words. `maker`: the reseller below whose rule it is; `yours`: whether it is this person's to end."""

    rule: FraudRule
    account: str
    when: str
    maker: str
    yours: bool


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

    def read() -> tuple[list[Alert], Mapping[int, str], set[int]]:
        with reading(panel.engine) as session:
            reach = principal.reach
            ours = None if reach.whole else list(session.execute(reach.ids()).scalars())
            found = list_alerts(session, standing=not over, account_ids=ours, before=last, most=PAGE + 1)
            names = _names(session, {alert.account_id for alert in found if alert.account_id})
            return found, names, {alert.id or 0 for alert in found if _lifts(session, principal, alert)}

    found, names, lifted = await run_in_threadpool(read)
    shown = found[:PAGE]
    following = f"{shown[-1].raised_at.isoformat()},{shown[-1].id}" if len(found) > PAGE else ""
    return show(
        request, principal, "alerts.html", alerts=shown, names=names, over=over, lifts=lifted, following=following
    )


@router.post(HOME + "/{number}/clear")
async def clear(request: Request, principal: Keeper, number: Number) -> Response:
    """A person has looked: the alert is over. It lifts nothing."""
    panel = panel_of(request)

    def do() -> bool:
        with work(panel.engine) as session:
            _see_alert(session, principal, number)
            return dismiss_alert(session, number, actor=principal.login, now=panel.clock.now())

    cleared = await run_in_threadpool(do)
    text = "Cleared." if cleared else "It had been cleared before."
    return flash(request, principal, "success" if cleared else "warning", text, to=HOME)


@router.post(FRAUD + "/lift/{number}")
async def lift(request: Request, principal: Keeper, number: Number) -> Response:
    """Undo what the guard did to an account by rules of one's own: those alerts are over, it may call again."""
    panel, by = panel_of(request), principal.reach.within
    _sells(principal)

    def do() -> tuple[int, str]:
        with work(panel.engine) as session:
            name = principal.reach.see(session, number).name
            cleared = rules.lift(session, number, by=by, actor=principal.login, now=panel.clock.now())
            if not cleared and by is not None and rules.standing_of(session, number):
                raise Forbidden(NOT_YOURS)
            return cleared, name

    cleared, name = await run_in_threadpool(do)
    said = f"{name}: {cleared} alert{'' if cleared == 1 else 's'} cleared. What was before counts no more."
    try:
        await outbox.tell_accounts(panel.engine, panel.credit, [number], clock=panel.clock)
    except CREDIT_DOWN:
        text = f"{said} The live store does not answer; the controller brings it along."
        return flash(request, principal, "warning", text, to=HOME)
    return flash(request, principal, "success", said, to=HOME)


@router.get(FRAUD)
async def fraud_page(request: Request, principal: Reader) -> Response:
    """Show the guard's rules for the accounts in sight, and the form to add one."""
    _sells(principal)
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
            reach = principal.reach
            ours = None if reach.whole else list(session.execute(reach.ids()).scalars())
            found = rules.list_rules(session, account_ids=ours)
            names = _names(session, {one for rule in found for one in (rule.account_id, rule.by_account_id) if one})
            return [_view(session, principal, rule, names) for rule in found], rules.count_ranges(session)

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


def _view(session: Session, principal: Principal, rule: FraudRule, names: Mapping[int, str]) -> RuleView:
    maker, reach = rule.by_account_id, principal.reach
    yours = rules.is_of(session, maker, reach.within)
    below = yours and maker is not None and maker != reach.account_id
    return RuleView(rule, names[rule.account_id], when(rule), names[maker] if below and maker else "", yours)


@router.post(FRAUD)
async def add_rule(request: Request, principal: Keeper) -> Response:
    """Add a rule; the form comes back with what is wrong."""
    panel, by = panel_of(request), principal.reach.within
    _sells(principal)
    sent = await request.form()
    form = {name: str(value)[:MOST_FORM].strip() for name, value in sent.items() if name != "csrf"}

    def add() -> None:
        with work(panel.engine) as session:
            account_id = _account_id(session, principal.reach, form.get("account", ""))
            rules.add_rule(session, account_id, _wanted(form), by=by, actor=principal.login, now=panel.clock.now())

    try:
        await run_in_threadpool(add)
    except Wrong as wrong:
        return await _fraud(request, principal, status=422, wrong=wrong, form=form | _asked(form))
    except BillingError as why:
        return await _fraud(request, principal, status=422, wrong=_placed(why), form=form | _asked(form))
    return flash(request, principal, "success", "The rule holds from now on.", to=FRAUD)


@router.post(FRAUD + "/{number}/end")
async def end_rule(request: Request, principal: Keeper, number: Number) -> Response:
    """Judge by a rule no more."""
    panel = panel_of(request)
    _sells(principal)

    def do() -> bool:
        with work(panel.engine) as session:
            rule = rules.find_rule(session, number)
            if not principal.reach.holds(session, rule.account_id):
                raise NotFound(f"there is no rule {number}")
            if not rules.is_of(session, rule.by_account_id, principal.reach.within):
                raise Forbidden("This rule belongs to who stands above you.")
            return rules.end_rule(session, number, actor=principal.login, now=panel.clock.now())

    ended = await run_in_threadpool(do)
    text = "The rule holds no more." if ended else "It had ended before."
    return flash(request, principal, "success" if ended else "warning", text, to=FRAUD)


def _see_alert(session: Session, principal: Principal, number: int) -> None:
    """Raise `NotFound` for an alert that is not about an account in reach, `Forbidden` for one that others lift."""
    if principal.reach.whole:
        return
    found = session.get(Alert, number)
    if found is None or found.account_id is None or not principal.reach.holds(session, found.account_id):
        raise NotFound(f"there is no alert {number}")
    if found.kind.startswith(rules.ALERTS) and not _lifts(session, principal, found):
        raise Forbidden(NOT_YOURS)


def _lifts(session: Session, principal: Principal, alert: Alert) -> bool:
    """Return whether an alert of the guard comes from a rule that is this person's to lift."""
    if not alert.kind.startswith(rules.ALERTS):
        return False
    return rules.is_of(session, rules.maker_of(session, alert), principal.reach.within)


def _sells(principal: Principal) -> None:
    """Rules are made by who sells: customers see their alerts."""
    if not principal.sells:
        raise Forbidden("Your role does not include this.")


@router.post(FRAUD + "/ranges")
async def replace_ranges(
    request: Request, principal: Operator, ranges: Annotated[str, Form(max_length=MOST_RANGES)] = ""
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


def _account_id(session: Session, reach: Reach, account: str) -> int:
    return find_within(session, reach.within, account).id if account else reach.account_id


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
