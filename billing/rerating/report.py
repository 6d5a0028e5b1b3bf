"""What a run changes, for people: by account, the largest changes, and what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, text
from sqlmodel import Session, col, select

from billing.models import Account, Correction, RerateChange, RerateRun, Tariff, Wallet, WalletKind, id_of
from billing.rerating.selection import Selection


@dataclass(frozen=True, slots=True)
class AccountLine:
    """What changes for one account at one level: charges that cost more and less, and by how much (both 0 or more).

    `lacks_micros`: what its wallet lacks for all of it, after everything that this run gives and takes; 0 where its
    money reaches, or the run is booked.
    """

    account_id: int
    account: str
    level: int
    currency: str
    dearer: int
    cheaper: int
    more_micros: int
    less_micros: int
    lacks_micros: int = 0

    @property
    def net_micros(self) -> int:
        """What the account pays more; below 0 what it gets back."""
        return self.more_micros - self.less_micros


@dataclass(frozen=True, slots=True)
class Largest:
    """One of the largest single changes."""

    call_id: str
    callee: str
    destination: str
    level: int
    account: str
    currency: str
    before_micros: int
    after_micros: int


@dataclass(frozen=True, slots=True)
class Report:
    """A run for people. `waiting`, `booked`, `undone`: charges; `left_out`: charges by reason."""

    run: RerateRun
    accounts: tuple[AccountLine, ...]
    largest: tuple[Largest, ...]
    waiting: int
    booked: int
    undone: int
    left_out: dict[str, int]

    @property
    def totals(self) -> dict[str, tuple[int, int]]:
        """By currency: what the payers of calls (level 0) pay more, and less."""
        sums: dict[str, tuple[int, int]] = {}
        for line in self.accounts:
            if line.level == 0:
                more, less = sums.get(line.currency, (0, 0))
                sums[line.currency] = more + line.more_micros, less + line.less_micros
        return sums


def report(session: Session, run: RerateRun, *, most: int = 10) -> Report:
    """Return what a run would change, or has changed. What was left out or undone is counted only."""
    left_out = (
        select(RerateChange.outcome, func.count())
        .where(RerateChange.run_id == run.id)
        .group_by(col(RerateChange.outcome))
    )
    outcomes = dict(session.exec(left_out).all())
    waiting = outcomes.pop("", 0)
    many = select(func.count()).select_from(Correction).where(Correction.run_id == run.id)
    undone = session.exec(many.where(col(Correction.undoes_id).is_not(None))).one()
    booked = session.exec(many.where(col(Correction.undoes_id).is_(None))).one()
    return Report(
        run=run,
        accounts=_accounts(session, run),
        largest=_largest(session, run, most),
        waiting=waiting,
        booked=booked,
        undone=undone,
        left_out=outcomes,
    )


def list_runs(session: Session, *, before_id: int | None = None, most: int = 50) -> list[RerateRun]:
    """Return runs, newest first."""
    asked = select(RerateRun).order_by(col(RerateRun.id).desc()).limit(most)
    if before_id is not None:
        asked = asked.where(col(RerateRun.id) < before_id)
    return list(session.exec(asked).all())


def in_words(session: Session, run: RerateRun) -> str:
    """Say which charges a run is about."""
    wanted = Selection.from_facts(run.selection)
    said = [f"calls that ended from {wanted.since:%Y-%m-%d %H:%M} to {wanted.until:%Y-%m-%d %H:%M} UTC"]
    if wanted.account_id is not None:
        name = session.exec(select(Account.name).where(Account.id == wanted.account_id)).one_or_none()
        said.append(f"paid by {name or wanted.account_id}{' or an account under it' if wanted.subtree else ''}")
    if wanted.prefix:
        said.append(f"to numbers that begin with {wanted.prefix}")
    if wanted.tariff_id is not None:
        version = f", version {wanted.version}" if wanted.version is not None else ""
        said.append(f"priced by tariff {_tariff(session, wanted.tariff_id)}{version}")
    if wanted.to_tariff_id is not None:
        version = f" as it was in version {wanted.to_version}" if wanted.to_version is not None else ""
        said.append(f"priced again by tariff {_tariff(session, wanted.to_tariff_id)}{version}")
    else:
        said.append("priced again by each charge's own tariff as it is now")
    return ", ".join(said)


def _tariff(session: Session, tariff_id: int) -> str:
    name = session.exec(select(Tariff.name).where(Tariff.id == tariff_id)).one_or_none()
    return name or f"number {tariff_id}"


_CHANGES = """
    SELECT call_id, level, account_id, currency, before_micros, after_micros FROM rerate_change
    WHERE run_id = :run AND outcome = ''
    UNION ALL
    SELECT call_id, level, account_id, currency, before_micros, after_micros FROM correction
    WHERE run_id = :run AND undoes_id IS NULL
      AND id NOT IN (SELECT undoes_id FROM correction WHERE run_id = :run AND undoes_id IS NOT NULL)
"""
"""What waits to be booked, and what is booked and not undone."""

_BY_ACCOUNT = f"""
    SELECT x.account_id, a.name, x.level, x.currency,
           sum(CASE WHEN after_micros > before_micros THEN 1 ELSE 0 END),
           sum(CASE WHEN after_micros < before_micros THEN 1 ELSE 0 END),
           sum(CASE WHEN after_micros > before_micros THEN after_micros - before_micros ELSE 0 END),
           sum(CASE WHEN after_micros < before_micros THEN before_micros - after_micros ELSE 0 END)
    FROM ({_CHANGES}) AS x JOIN account a ON a.id = x.account_id
    GROUP BY x.account_id, a.name, x.level, x.currency ORDER BY x.level, a.name, x.currency
"""  # noqa: S608 - nothing of it comes from outside

_LARGEST = f"""
    SELECT x.call_id, c.callee, c.destination, x.level, a.name, x.currency, x.before_micros, x.after_micros
    FROM ({_CHANGES}) AS x JOIN cdr c ON c.call_id = x.call_id JOIN account a ON a.id = x.account_id
    ORDER BY abs(x.after_micros - x.before_micros) DESC, x.call_id, x.level LIMIT :most
"""  # noqa: S608 - nothing of it comes from outside


def _accounts(session: Session, run: RerateRun) -> tuple[AccountLine, ...]:
    lacks = _lacks(session, run)
    lines = []
    for account_id, name, level, currency, *sums in session.execute(text(_BY_ACCOUNT), {"run": run.id}):
        # PostgreSQL sums to a numeric.
        dearer, cheaper, more, less = (int(number) for number in sums)
        lines.append(
            AccountLine(account_id, name, level, currency, dearer, cheaper, more, less, lacks.get(account_id, 0))
        )
    return tuple(lines)


def _largest(session: Session, run: RerateRun, most: int) -> tuple[Largest, ...]:
    return tuple(Largest(*row) for row in session.execute(text(_LARGEST), {"run": run.id, "most": most}))


def _lacks(session: Session, run: RerateRun) -> dict[int, int]:
    """Return what the wallets of accounts lack for what waits; those that have enough are not in it."""
    flows: dict[int, int] = {}
    for wallet, sign in ((RerateChange.wallet_id, 1), (RerateChange.to_wallet_id, -1)):
        asked = (
            select(wallet, func.sum(RerateChange.after_micros - RerateChange.before_micros))
            .where(RerateChange.run_id == run.id, RerateChange.outcome == "")
            .group_by(col(wallet))
        )
        for wallet_id, more in session.exec(asked):
            flows[wallet_id] = flows.get(wallet_id, 0) + sign * int(more)
    live = (
        select(Wallet, Account)
        .join(Account, col(Account.id) == col(Wallet.account_id))
        .where(col(Wallet.id).in_(list(flows)), Wallet.kind == WalletKind.MONEY)
    )
    return {
        id_of(account): flows[id_of(wallet)] - funds
        for wallet, account in session.exec(live)
        if flows[id_of(wallet)] > (funds := max(wallet.balance_micros + account.credit_limit_micros, 0))
    }
