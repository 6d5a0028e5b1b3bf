"""`callctl webhook …` and `callctl mail …`: who is told of what happens."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import aiosmtplib
import typer

from billing.accounts import find_account
from billing.chart import operator_id
from billing.events.deliveries import list_deliveries, resend
from billing.events.kinds import MEANINGS, EventKind
from billing.events.listeners import (
    ListenerChanges,
    ListenerView,
    add_email,
    add_webhook,
    change_listener,
    end_listener,
    find_listener,
    list_listeners,
    renew_secret,
)
from billing.events.mails import send_test
from billing.models import Channel, DeliveryState
from callctl.cli.output import JsonOption, moment, people, print_json, row, say, table
from callctl.cli.shell import Failed, shell_of

webhooks = typer.Typer(no_args_is_help=True, help="Post events to a URL, signed (Standard Webhooks).")
mail = typer.Typer(no_args_is_help=True, help="Write e-mail of events.")

Events = Annotated[
    str,
    typer.Option(
        "--events", help=f"Which, split by commas, or all: {', '.join(f'{k} ({m})' for k, m in MEANINGS.items())}."
    ),
]
MaybeEvents = Annotated[str | None, typer.Option("--events", help="Which instead, split by commas, or all.")]
OnOff = Annotated[
    bool | None, typer.Option("--on/--off", help="Off: nothing that happens is told until it is on again.")
]
Account = Annotated[str, typer.Option("--account", help="Whose events; without one, everybody's.")]


def add_to(app: typer.Typer) -> None:
    """Hang these groups into the command line."""
    app.add_typer(webhooks, name="webhook")
    app.add_typer(mail, name="mail")


def kinds_of(text: str) -> list[EventKind]:
    """Read kinds of events split by commas."""
    if text.strip() == "all":
        return list(EventKind)
    try:
        return [EventKind(word.strip()) for word in text.split(",") if word.strip()]
    except ValueError:
        raise typer.BadParameter(f"expected {', '.join(EventKind)} or all", param_hint="--events") from None


def facts(listener: ListenerView) -> dict[str, Any]:
    """Return a listener for programs."""
    return {
        "id": listener.id,
        "account": listener.account,
        "channel": listener.channel.value,
        "address": listener.address,
        "events": [kind.value for kind in listener.kinds],
        "subtree": listener.subtree,
        "language": listener.language,
        "created_at": moment(listener.created_at),
        "paused_at": moment(listener.paused_at),
        "ended_at": moment(listener.ended_at),
        "ended_why": listener.ended_why,
    }


@webhooks.command("add")
def add_hook(
    ctx: typer.Context,
    url: Annotated[str, typer.Argument(help="Where to post: https://…")],
    *,
    events: Events = "all",
    account: Account = "",
    as_json: JsonOption = False,
) -> None:
    """Post events to a URL. The secret that signs them is shown once, now."""
    shell, kinds = shell_of(ctx), kinds_of(events)
    with shell.work() as session:
        owner = find_account(session, account).id if account else operator_id(session)
        made, secret = add_webhook(
            session,
            account_id=owner,
            url=url,
            kinds=kinds,
            ids=shell.ids,
            actor=shell.actor,
            now=shell.clock.now(),
        )
    if as_json:
        print_json({"id": made, "secret": secret})
    else:
        say(f"Webhook {made} posts to {url}.")
        say(f"Its secret, shown this once: {secret}")


@webhooks.command("change")
def change_hook(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="The webhook's number.")],
    *,
    url: Annotated[str | None, typer.Option(help="Post there instead; what waits goes there as well.")] = None,
    events: MaybeEvents = None,
    on: OnOff = None,
) -> None:
    """Change where a webhook posts and what, or let it rest for a while. Its secret stays."""
    changes = _changes(url, events, on)
    _change(ctx, number, Channel.WEBHOOK, changes)


@webhooks.command("secret")
def renew(ctx: typer.Context, number: Annotated[int, typer.Argument(help="The webhook's number.")]) -> None:
    """Give a webhook a new secret; the old one ends at once."""
    shell = shell_of(ctx)
    with shell.work() as session:
        secret = renew_secret(session, number, ids=shell.ids, actor=shell.actor, now=shell.clock.now())
    say(f"The new secret of webhook {number}, shown this once: {secret}")


@webhooks.command("list")
def list_hooks(
    ctx: typer.Context,
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that have ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List webhooks."""
    _list(ctx, Channel.WEBHOOK, ended=ended, as_json=as_json)


@webhooks.command("remove")
def remove_hook(ctx: typer.Context, number: Annotated[int, typer.Argument(help="The webhook's number.")]) -> None:
    """Post there no more."""
    _end(ctx, number)


@webhooks.command("deliveries")
def deliveries(
    ctx: typer.Context,
    *,
    number: Annotated[int | None, typer.Option("--webhook", help="Of this webhook or e-mail address only.")] = None,
    state: Annotated[DeliveryState | None, typer.Option(help="Only those that wait, are done, or are dead.")] = None,
    most: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what was told, what waits, and what was given up; webhooks and e-mail."""
    with shell_of(ctx).reading() as session:
        found = list_deliveries(session, listener_id=number, state=state, most=most)
    if as_json:
        print_json(
            [
                {
                    "id": delivery.id,
                    "listener": delivery.listener_id,
                    "event": event.kind,
                    "happened_at": moment(event.happened_at),
                    "state": delivery.state.value,
                    "attempts": delivery.attempts,
                    "next_at": moment(delivery.next_at) if delivery.state is DeliveryState.WAITING else None,
                    "answer": delivery.answer,
                }
                for delivery, event in found
            ]
        )
        return
    if not found:
        say("Nothing has been told yet.")
        return
    made = table("no.", "to", "event", "happened", "state", "tries", "answer", right=("no.", "to", "tries"))
    for delivery, event in found:
        cells = (delivery.id, delivery.listener_id, event.kind, moment(event.happened_at), delivery.state.value)
        row(made, (*cells, delivery.attempts, delivery.answer))
    people().print(made)


@webhooks.command("resend")
def send_again(ctx: typer.Context, number: Annotated[int, typer.Argument(help="The delivery's number.")]) -> None:
    """Tell it again, with the same id, so that a receiver that heard it knows."""
    shell = shell_of(ctx)
    with shell.work() as session:
        resend(session, number, actor=shell.actor, now=shell.clock.now())
    say(f"Delivery {number} is told again.")


@mail.command("add")
def add_address(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(help="The e-mail address.")],
    *,
    events: Events = "balance.low,balance.cleared,topup.created,account.blocked,fraud.alert",
    account: Account = "",
    subtree: Annotated[bool, typer.Option("--subtree", help="Also of the accounts below.")] = False,
    language: Annotated[str, typer.Option(help="en, de, es or fr; without it, the account's.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Write to an address of what happens to an account."""
    shell, kinds = shell_of(ctx), kinds_of(events)
    with shell.work() as session:
        owner = find_account(session, account).id if account else operator_id(session)
        made = add_email(
            session,
            account_id=owner,
            address=address,
            kinds=kinds,
            subtree=subtree or not account,
            language=language,
            actor=shell.actor,
            now=shell.clock.now(),
        )
    if as_json:
        print_json({"id": made})
    else:
        say(f"E-mail {made} goes to {address}.")


@mail.command("change")
def change_address(
    ctx: typer.Context,
    number: Annotated[int, typer.Argument(help="The address's number.")],
    *,
    address: Annotated[str | None, typer.Option(help="Write there instead; what waits goes there as well.")] = None,
    events: MaybeEvents = None,
    subtree: Annotated[
        bool | None, typer.Option("--subtree/--no-subtree", help="Also of the accounts below, or not.")
    ] = None,
    language: Annotated[str | None, typer.Option(help='en, de, es or fr; "" is the account\'s.')] = None,
    on: OnOff = None,
) -> None:
    """Change who is written to and of what, or let it rest for a while."""
    changes = _changes(address, events, on)
    if subtree is not None:
        changes["subtree"] = subtree
    if language is not None:
        changes["language"] = language
    _change(ctx, number, Channel.EMAIL, changes)


@mail.command("list")
def list_addresses(
    ctx: typer.Context,
    *,
    ended: Annotated[bool, typer.Option("--ended", help="Also those that have ended.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List addresses that are written to."""
    _list(ctx, Channel.EMAIL, ended=ended, as_json=as_json)


@mail.command("remove")
def remove_address(ctx: typer.Context, number: Annotated[int, typer.Argument(help="The address's number.")]) -> None:
    """Write there no more."""
    _end(ctx, number)


@mail.command("test")
def test(ctx: typer.Context, to: Annotated[str, typer.Argument(help="Whom to write to.")]) -> None:
    """Send a test message over the configured mail server."""
    settings = shell_of(ctx).settings().mail
    if not settings.host:
        raise Failed("no mail server is configured: set host in the [mail] section")
    try:
        asyncio.run(send_test(settings, to))
    except (aiosmtplib.SMTPException, ValueError) as error:
        raise Failed(f"{settings.host}:{settings.port} did not take it: {error}") from error
    say(f"{settings.host}:{settings.port} took a test message for {to}.")


def _list(ctx: typer.Context, channel: Channel, *, ended: bool, as_json: bool) -> None:
    with shell_of(ctx).reading() as session:
        found = [one for one in list_listeners(session, ended=ended) if one.channel is channel]
    if as_json:
        print_json([facts(one) for one in found])
        return
    if not found:
        say("There is none yet.")
        return
    made = table("no.", "account", "to", "events", "off since", "ended", right=("no.",))
    for one in found:
        kinds = "all" if len(one.kinds) == len(EventKind) else ", ".join(one.kinds)
        row(made, (one.id, one.account, one.address, kinds, moment(one.paused_at), moment(one.ended_at)))
    people().print(made)


def _changes(address: str | None, events: str | None, on: bool | None) -> ListenerChanges:
    changes: ListenerChanges = {}
    if address is not None:
        changes["address"] = address
    if events is not None:
        changes["kinds"] = kinds_of(events)
    if on is not None:
        changes["paused"] = not on
    return changes


def _change(ctx: typer.Context, number: int, channel: Channel, changes: ListenerChanges) -> None:
    if not changes:
        raise typer.BadParameter("say what is to be different")
    shell = shell_of(ctx)
    with shell.work() as session:
        if find_listener(session, number).channel is not channel:
            raise Failed(f"number {number} is no {'webhook' if channel is Channel.WEBHOOK else 'e-mail address'}")
        found = change_listener(session, number, changes, actor=shell.actor, now=shell.clock.now())
    told = "nothing for now" if found.paused_at else ", ".join(found.kinds)
    say(f"Number {number}, {found.address}, is told {told}.")


def _end(ctx: typer.Context, number: int) -> None:
    shell = shell_of(ctx)
    with shell.work() as session:
        ended = end_listener(session, number, actor=shell.actor, now=shell.clock.now())
    say(f"Number {number} is told nothing any more." if ended else f"Number {number} had ended before.")
