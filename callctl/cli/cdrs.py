"""`callctl cdr list | show`: the records of calls, and why they cost what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from billing.accounts import find_account
from billing.cdrs import explain, find_cdr, find_cost, list_cdrs
from billing.charges import behind, explain_cost, margin_of
from billing.models import CallCost, Cdr, Charge
from billing.rerating.corrections import Corrected, corrections_of
from callctl.cli.output import JsonOption, add_id_column, is_wide, moment, people, print_json, row, say, span, table
from callctl.cli.shell import shell_of
from rating.money import format_amount

cdrs = typer.Typer(no_args_is_help=True, help="Records of calls.")


def add_to(app: typer.Typer) -> None:
    """Hang this group into the command line."""
    app.add_typer(cdrs, name="cdr")


def facts(cdr: Cdr) -> dict[str, Any]:
    """Return a record for programs."""
    return {
        "call_id": cdr.call_id,
        "switch": cdr.switch,
        "account_id": cdr.account_id,
        "direction": cdr.direction,
        "caller": cdr.caller,
        "callee": cdr.callee,
        "destination": cdr.destination,
        "disposition": cdr.disposition,
        "reason": cdr.reason,
        "sip_status": cdr.sip_status,
        "cause": cdr.cause,
        "hung_up_by": cdr.hung_up_by,
        "offered_at": moment(cdr.offered_at),
        "answered_at": moment(cdr.answered_at),
        "ended_at": moment(cdr.ended_at),
        "talk_ms": cdr.talk_ms,
        "billable_ms": cdr.billable_ms,
        "estimated": cdr.estimated,
        "cost": format_amount(cdr.cost_micros),
        "currency": cdr.currency,
    }


def charge_facts(charge: Charge) -> dict[str, Any]:
    """Return what one account pays, for programs."""
    return {
        "level": charge.level,
        "account_id": charge.account_id,
        "amount": format_amount(charge.amount_micros),
        "currency": charge.currency,
        "billed_seconds": charge.billed_s,
        "why": explain(charge),
        "behind": behind(charge),
    }


def corrected_facts(corrected: Corrected) -> dict[str, Any]:
    """Return what a re-rating made of a charge, for programs."""
    correction = corrected.correction
    return {
        "level": correction.level,
        "account_id": correction.account_id,
        "before": format_amount(correction.before_micros),
        "amount": format_amount(correction.after_micros),
        "currency": correction.currency,
        "billed_seconds": correction.billed_s,
        "at": moment(correction.made_at),
        "run": corrected.run.operation,
        "reason": corrected.run.reason,
        "actor": corrected.actor,
        "undo": correction.undoes_id is not None,
        "why": explain(correction),
    }


def cost_facts(cost: CallCost, charges: Sequence[Charge]) -> dict[str, Any]:
    """Return what the carrier charges and what the call earned, for programs."""
    income = charges[-1] if charges else None
    margin = margin_of(income.amount_micros, income.currency, cost) if income else None
    return {
        "carrier": cost.facts["carrier"],
        "amount": format_amount(cost.amount_micros),
        "currency": cost.currency,
        "billed_seconds": cost.billed_s,
        "margin": margin and format_amount(margin.micros),
        "margin_currency": margin and margin.currency,
        "margin_percent": margin and margin.percent,
        "why": explain_cost(cost, charges),
    }


@cdrs.command("list")
def list_all(
    ctx: typer.Context,
    account: Annotated[str | None, typer.Option(help="Only calls of this account (name or number).")] = None,
    before: Annotated[
        str | None, typer.Option(metavar="CALL_ID", help="Only calls that ended before this one.")
    ] = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List call records, newest first."""
    with shell_of(ctx).reading() as session:
        account_id = find_account(session, account).id if account else None
        last = find_cdr(session, before)[0] if before else None
        found = list_cdrs(
            session, account_id=account_id, before=(last.ended_at, last.call_id) if last else None, most=most
        )
        listed = [facts(cdr) for cdr in found]
    if as_json:
        print_json(listed)
        return
    wide = is_wide()
    columns = ("ended (UTC)", "acc.", "from", "to", "outcome", "talk", "cost")
    shown = [column for column in columns if wide or column not in {"acc.", "from"}]
    made = table(*shown, right=("acc.", "talk", "cost"), fold=False)
    add_id_column(made, "call", (cdr["call_id"] for cdr in listed))
    for cdr in listed:
        cells = {
            "ended (UTC)": cdr["ended_at"][0 if wide else 5 : 19].replace("T", " "),
            "acc.": cdr["account_id"],
            "from": cdr["caller"],
            "to": cdr["callee"],
            "outcome": cdr["reason"] or cdr["disposition"],
            "talk": span(cdr["talk_ms"] / 1000),
            "cost": f"{cdr['cost']} {cdr['currency']}" if cdr["currency"] else "",
        }
        row(made, [*(cells[column] for column in shown), cdr["call_id"]])
    people().print(made)


@cdrs.command("show")
def show(
    ctx: typer.Context,
    call_id: Annotated[str, typer.Argument(help="As `callctl cdr list` prints it.")],
    as_json: JsonOption = False,
) -> None:
    """Show one record with its charges, explained."""
    with shell_of(ctx).reading() as session:
        cdr, charges = find_cdr(session, call_id)
        record = facts(cdr)
        paid = [charge_facts(charge) for charge in charges]
        cost = find_cost(session, call_id)
        carrier = cost_facts(cost, charges) if cost else None
        corrected = [corrected_facts(one) for one in corrections_of(session, call_id)]
    # What it costs by now: `cost` is what the record says for ever.
    by_now = [one["amount"] for one in corrected if one["level"] == 0]
    record["cost_now"] = by_now[-1] if by_now else record["cost"]
    if as_json:
        print_json({**record, "charges": paid, "corrections": corrected, "carrier": carrier})
        return
    made = table("", "", title=f"Call {call_id}")
    made.show_header = False
    for label, value in record.items():
        row(made, (label.replace("_", " "), "–" if value in {None, ""} else value))
    people().print(made)
    for charge in paid:
        say(f"Account {charge['account_id']} pays {charge['amount']} {charge['currency']}:", style="bold")
        for line in charge["why"]:
            say(f"  {line}")
        for line in charge["behind"]:
            say(f"  (for the operator) {line}", style="dim")
    for one in corrected:
        does = "took the correction back" if one["undo"] else f"corrected it ({one['reason']})"
        who = f"Account {one['account_id']} pays {one['amount']} instead of {one['before']} {one['currency']}"
        say(f"{who}: {one['actor']} {does} on {one['at'][:16].replace('T', ' ')} UTC, run {one['run']}:", style="bold")
        for line in one["why"]:
            say(f"  {line}")
    if carrier:
        say("For the operator:", style="bold")
        for line in carrier["why"]:
            say(f"  {line}")
