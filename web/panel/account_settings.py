"""An account's settings, limits and identities, a new account, and closing one: forms, each change audited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Query, Request
from fastapi.concurrency import run_in_threadpool
from sqlmodel import Session, col, select
from starlette.exceptions import HTTPException
from starlette.responses import Response

from billing import account_changes, accounts, brands, outbox
from billing.access import Reach
from billing.account_tree import KEEP, move_account, places_for
from billing.accounts import AccountView
from billing.errors import Conflict, NotFound, Refused, TooLarge
from billing.models import AccountKind, IdentityKind, Tariff, TariffOwner
from billing.store import reading, work
from web.context import CREDIT_DOWN, Panel, panel_of
from web.pages import show
from web.panel.account_forms import KINDS, MODES, changes_of, filled, typed
from web.panel.accounts import LATER, MOST_ID, AccountId
from web.security.sessions import Forbidden, Principal, flash, may

router = APIRouter(include_in_schema=False)

Keeper = Annotated[Principal, Depends(may("accounts:write"))]
WRONG = (Refused, Conflict, TooLarge, NotFound)
MOST_TARIFFS = 500
MOST_HOSTS = 6_000


def _account(session: Session, reach: Reach, account_id: int) -> AccountView:
    return accounts.views_of(session, [reach.see(session, account_id)])[0]


def _tariffs(session: Session, reach: Reach, currency: str) -> list[str]:
    """Return the tariffs that somebody may give: a reseller its own and those of resellers below it."""
    asked = select(Tariff.name).where(Tariff.currency == currency).order_by(col(Tariff.name)).limit(MOST_TARIFFS)
    if not reach.whole:
        asked = asked.join(TariffOwner, col(TariffOwner.tariff_id) == col(Tariff.id))
        asked = asked.where(col(TariffOwner.account_id).in_(reach.ids()))
    return list(session.exec(asked))


OWN = frozenset({"timezone", "language", "brand", "low_balance", "clear_balance"})
"""What an account sets for itself; the rest is set by who stands above it."""


def _may_change(session: Session, reach: Reach, account_id: int) -> None:
    """An account is changed by who stands above it; the operator's own by its administrators."""
    if not reach.whole:
        reach.see_below(session, account_id)


def _is_own(principal: Principal, account_id: int) -> bool:
    return not principal.reach.whole and account_id == principal.reach.account_id


async def settings_of(
    request: Request,
    principal: Principal,
    account_id: int,
    *,
    form: Mapping[str, str] | None = None,
    error: str = "",
    identity_error: str = "",
    pin_error: str = "",
    host_error: str = "",
    move_error: str = "",
    move_form: Mapping[str, str] | None = None,
    status: int = 200,
) -> Response:
    """Show what can be changed of an account, with what is wrong beside the form it was typed into."""
    panel = panel_of(request)

    def read() -> tuple[AccountView, list[str], list[str], list[tuple[int, str]]]:
        with reading(panel.engine) as session:
            view = _account(session, principal.reach, account_id)
            tariffs = _tariffs(session, principal.reach, view.currency)
            places = places_for(session, account_id) if principal.reach.whole else []
            return view, tariffs, brands.hosts_of(session, account_id), places

    view, tariffs, hosts, places = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "account_settings.html",
        status=status,
        account=view,
        form=form or filled(view),
        tariffs=tariffs,
        modes=MODES,
        kinds=KINDS,
        own=_is_own(principal, account_id),
        hosts=", ".join(hosts),
        host_error=host_error,
        places=places,
        keep=KEEP,
        move_error=move_error,
        move_form=move_form or {"under": str(view.parent_id), "tariff": KEEP},
        error=error,
        identity_error=identity_error,
        pin_error=pin_error,
        pins_on=bool(panel.settings.pins.secret.get_secret_value()),
        made_at=dict(view.pins),
    )


@router.get("/accounts/new")
async def new_account(
    request: Request, principal: Keeper, parent: Annotated[int, Query(ge=0, le=MOST_ID)] = 0
) -> Response:
    """Show the form of a new account, under the operator or a reseller."""
    return await _new(request, principal, parent, form={"kind": AccountKind.CUSTOMER.value, "code": "", "name": ""})


async def _new(
    request: Request, principal: Principal, parent_id: int, *, form: Mapping[str, str], error: str = ""
) -> Response:
    panel = panel_of(request)

    def read() -> tuple[AccountView, list[str]]:
        with reading(panel.engine) as session:
            above = _account(session, principal.reach, parent_id or principal.reach.account_id)
            return above, _tariffs(session, principal.reach, above.currency)

    above, tariffs = await run_in_threadpool(read)
    return show(
        request,
        principal,
        "account_new.html",
        status=422 if error else 200,
        above=above,
        form=form,
        tariffs=tariffs,
        modes=MODES,
        error=error,
    )


@router.post("/accounts/new")
async def add_account(request: Request, principal: Keeper) -> Response:
    """Make an account from the form."""
    panel = panel_of(request)
    form = typed(await request.form())
    parent = form.get("parent", "0")
    parent_id = int(parent) if parent.isdigit() and len(parent) < 17 else 0  # noqa: PLR2004 - the digits of 2**53

    def make() -> AccountView:
        with work(panel.engine) as session:
            kind = AccountKind(form.get("kind", "")) if form.get("kind") in set(AccountKind) else AccountKind.CUSTOMER
            code = form.get("code", "").strip()
            given: dict[str, Any] = dict(changes_of(form))
            made = accounts.add_account(
                session,
                kind=kind,
                parent=_account(session, principal.reach, parent_id).name if parent_id else None,
                within=principal.reach.within,
                identities=[(IdentityKind.ACCOUNT_CODE, code)] if code else [],
                actor=principal.login,
                now=panel.clock.now(),
                **given,
            )
            session.flush()
            return accounts.find_account(session, str(made.id))

    try:
        view = await run_in_threadpool(make)
    except WRONG as error:
        return await _new(request, principal, parent_id, form=form, error=str(error))
    text = f"{view.name} is there. Give it money, and calls that carry its identities are let in."
    return await _told(request, principal, view, text, to=f"/accounts/{view.id}")


@router.get("/accounts/{account_id}/settings")
async def settings_page(request: Request, principal: Keeper, account_id: AccountId) -> Response:
    """Show what can be changed of an account."""
    return await settings_of(request, principal, account_id)


@router.post("/accounts/{account_id}/settings")
async def save_settings(request: Request, principal: Keeper, account_id: AccountId) -> Response:
    """Change what differs; a wrong field changes nothing, and the form comes back as it was typed."""
    panel = panel_of(request)
    form = typed(await request.form())

    def change() -> tuple[AccountView, bool]:
        with work(panel.engine) as session:
            if _is_own(principal, account_id):
                if not OWN.issuperset(set(form) - {"csrf"}):
                    raise Forbidden("This of an account is set by who stands above it.")
            else:
                _may_change(session, principal.reach, account_id)
            changed = account_changes.change_account(
                session,
                account_id,
                changes_of(form),
                within=principal.reach.within,
                actor=principal.login,
                now=panel.clock.now(),
            )
            return _account(session, principal.reach, account_id), changed

    try:
        view, changed = await run_in_threadpool(change)
    except WRONG as error:
        # Where it is the account that is not there, the page says so.
        return await settings_of(request, principal, account_id, form=form, error=str(error), status=422)
    text = f"{view.name} is changed. Calls that are up keep what they hold." if changed else "Nothing was different."
    return await _told(request, principal, view, text, to=f"/accounts/{account_id}")


@router.post("/accounts/{account_id}/identities")
async def add_identity(
    request: Request,
    principal: Keeper,
    account_id: AccountId,
    kind: Annotated[str, Form()] = "",
    value: Annotated[str, Form()] = "",
) -> Response:
    """Let the account pay for calls with an identity."""
    return await _identity(request, principal, account_id, kind, value, free=False)


@router.post("/accounts/{account_id}/identities/free")
async def free_identity(
    request: Request,
    principal: Keeper,
    account_id: AccountId,
    kind: Annotated[str, Form()] = "",
    value: Annotated[str, Form()] = "",
) -> Response:
    """Take an identity away: from now on no call is paid by it."""
    return await _identity(request, principal, account_id, kind, value, free=True)


async def _identity(
    request: Request, principal: Principal, account_id: int, kind: str, value: str, *, free: bool
) -> Response:
    if kind not in set(IdentityKind) or (kind == IdentityKind.PIN and not free):
        raise HTTPException(400)
    panel = panel_of(request)
    wanted, text = IdentityKind(kind), value.strip()[:200]

    def change() -> AccountView:
        with work(panel.engine) as session:
            _may_change(session, principal.reach, account_id)
            within, now = principal.reach.within, panel.clock.now()
            if free:
                account_changes.free_identity(
                    session, account_id, wanted, text, within=within, actor=principal.login, now=now
                )
            else:
                account_changes.add_identities(
                    session, account_id, [(wanted, text)], within=within, actor=principal.login, now=now
                )
            return _account(session, principal.reach, account_id)

    try:
        view = await run_in_threadpool(change)
    except (Refused, Conflict) as error:
        return await settings_of(request, principal, account_id, identity_error=str(error), status=422)
    said = "free for another account" if free else f"recognised as {view.name}"
    told = f"PIN no. {text} is gone." if wanted is IdentityKind.PIN else f"{text} is {said}."
    return await _told(request, principal, view, told, to=f"/accounts/{account_id}/settings#identities")


@router.post("/accounts/{account_id}/hosts")
async def set_hosts(
    request: Request,
    principal: Annotated[Principal, Depends(may("accounts:write", whole=True))],
    account_id: AccountId,
    hosts: Annotated[str, Form(max_length=MOST_HOSTS)] = "",
) -> Response:
    """Say under which host names a reseller's people reach the panel and see its brand before they log in."""
    panel = panel_of(request)
    wanted = [host for part in hosts.replace("\n", ",").split(",") if (host := part.strip())]

    def change() -> bool:
        with work(panel.engine) as session:
            return brands.set_hosts(session, account_id, wanted, actor=principal.login, now=panel.clock.now())

    try:
        changed = await run_in_threadpool(change)
    except (Refused, Conflict) as error:
        return await settings_of(request, principal, account_id, host_error=str(error), status=422)
    said = "The host names are changed." if changed else "Nothing was different."
    return flash(request, principal, "success", said, to=f"/accounts/{account_id}/settings#hosts")


@router.post("/accounts/{account_id}/move")
async def move(
    request: Request,
    principal: Annotated[Principal, Depends(may("accounts:write", whole=True))],
    account_id: AccountId,
    under: Annotated[int, Form(ge=0, le=MOST_ID)] = 0,
    tariff: Annotated[str, Form(max_length=100)] = KEEP,
) -> Response:
    """Hang an account under another: calls offered from now on are paid there, the past stays with who paid."""
    panel = panel_of(request)

    def change() -> tuple[AccountView, bool]:
        with work(panel.engine) as session:
            now = panel.clock.now()
            moved = move_account(session, account_id, under, tariff=tariff or None, actor=principal.login, now=now)
            return _account(session, principal.reach, account_id), moved

    try:
        view, moved = await run_in_threadpool(change)
    except (Refused, NotFound) as error:
        form = {"under": str(under), "tariff": tariff}
        return await settings_of(request, principal, account_id, move_error=str(error), move_form=form, status=422)
    text = f"{view.name} hangs under {view.parent} now. Calls that are up keep who pays for them."
    said = text if moved else "Nothing was different."
    return await _told(request, principal, view, said, to=f"/accounts/{account_id}")


@router.post("/accounts/{account_id}/close")
async def close(request: Request, principal: Keeper, account_id: AccountId) -> Response:
    """Close an account for good."""
    panel = panel_of(request)

    def change() -> AccountView:
        with work(panel.engine) as session:
            _may_change(session, principal.reach, account_id)
            account_changes.close_account(
                session, account_id, within=principal.reach.within, actor=principal.login, now=panel.clock.now()
            )
            return _account(session, principal.reach, account_id)

    try:
        view = await run_in_threadpool(change)
    except Refused as error:
        return flash(request, principal, "danger", str(error), to=f"/accounts/{account_id}/settings")
    return await _told(
        request, principal, view, f"{view.name} is closed. Its records stay.", to=f"/accounts/{account_id}"
    )


async def _told(request: Request, principal: Principal, view: AccountView, text: str, *, to: str) -> Response:
    """Bring what was changed to the live store at once, and say so."""
    if await tell_live(panel_of(request), view.id):
        return flash(request, principal, "success", text, to=to)
    return flash(request, principal, "warning", f"{text} {LATER}", to=to)


async def tell_live(panel: Panel, account_id: int) -> bool:
    """Tell the live store of an account; False where it does not answer and learns it later."""
    try:
        await outbox.tell_accounts(panel.engine, panel.credit, [account_id], clock=panel.clock)
    except CREDIT_DOWN:
        return False
    return True
