"""What one seed is like: drawn, since a fixed workload hides bugs. Times in virtual seconds, money in micro-units."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from random import Random

from rating.tariff import Rate, Rounding, RoundingMode, Step
from tests.simulation.around import NOTHING, Around, Trade, draw_around, draw_trade, with_bands


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances of a single message, and moments of what happens to everybody. All empty: a quiet world."""

    latency_s: float = 0.002
    request_lost: float = 0.0
    reply_lost: float = 0.0
    request_late: float = 0.0
    """A request that its sender has given up reaches the server all the same, seconds later."""
    partitions: tuple[tuple[float, float], ...] = ()
    """(begin, length): no way from anybody to Redis."""
    redis_down: tuple[tuple[float, float], ...] = ()
    """Stopped and started again with all its data."""
    redis_rewound: tuple[tuple[float, float], ...] = ()
    """(moment, how many seconds of its last writes are gone)."""
    redis_emptied: tuple[float, ...] = ()
    failovers: tuple[tuple[float, float, float], ...] = ()
    """(moment, how long nobody answers, how many seconds of the last writes the replica never got)."""
    stalls: tuple[tuple[float, float], ...] = ()
    """What is sent to Redis in this time arrives after it, all at once, whether or not anybody still waits."""
    sql_error: float = 0.0
    sql_unknown: float = 0.0
    """Committed, but whoever asked hears an error."""
    sql_slow_s: float = 0.001
    sql_down: tuple[tuple[float, float], ...] = ()
    sql_full: tuple[tuple[float, float], ...] = ()
    """What is there can be read, and nothing written."""
    journal_broken: tuple[tuple[float, float], ...] = ()
    deaths: tuple[tuple[float, float], ...] = ()
    """(moment, how long nobody is there): the controller, killed between two steps."""
    deaths_after: tuple[tuple[str, int, float, float], ...] = ()
    """(what, the how manieth, how soon after it, how long nobody is there): killed in the middle of something."""
    stops: tuple[tuple[float, float], ...] = ()
    """The same, but told to stop first."""
    freezes: tuple[tuple[float, float], ...] = ()
    """A controller does nothing for a while, and does not know it when it wakes."""
    cut_off: tuple[tuple[float, float], ...] = ()
    """No way from one controller to Redis; the others have theirs."""
    away: tuple[float, ...] = ()
    """Who waits is cut off from Redis, then who leads; the first one is back before the other."""
    relays: tuple[float, ...] = ()
    """Who leads is cut off or frozen, then who took over; the first one is back before the other."""
    doubts: tuple[float, ...] = ()
    """Who waits is cut off from Redis for long, and who leads for less: it is in doubt, but nobody takes over."""
    event_lost: float = 0.0
    event_doubled: float = 0.0
    event_late: float = 0.0
    command_lost: float = 0.0
    refusal_lost: float = 0.0
    """As `command_lost`, but only a refusal."""
    limit_lost: float = 0.0
    """Likewise, but only a new limit."""
    command_unheard: float = 0.0
    """Done by the switch, but the answer is lost."""
    link_cuts: tuple[tuple[float, float], ...] = ()
    switch_restarts: tuple[tuple[float, float], ...] = ()
    record_lost: float = 0.0
    skew_s: float = 0.0
    """How far the switch's clock is ahead."""


@dataclass(frozen=True, slots=True)
class AccountPlan:
    """An account to be made. `parent` is the index of its reseller; `code` is empty for a reseller."""

    name: str
    code: str
    parent: int | None
    opening_micros: int
    credit_limit_micros: int
    max_calls: int | None
    max_cps: int | None
    around: Around = NOTHING


@dataclass(frozen=True, slots=True)
class Options:
    """All that is drawn before a run; what happens inside it is drawn from the same seed as it goes."""

    seed: int
    calls: int
    over_s: float
    """The calls arrive within this time, and the faults fall into it."""
    accounts: tuple[AccountPlan, ...]
    rates: tuple[Rate, ...]
    """For customers, and for resellers."""
    trade: Trade
    """Currencies and carriers."""
    slice_s: int
    renew_before_s: float
    last_try_s: float
    ring_s: int
    warn_before_s: float
    grace_s: float
    resync_s: float
    talk_s: float
    """Mean."""
    limit_late_s: float
    """The switch ends a call at most this much after its limit."""
    top_ups: int
    hangups: int
    blocks: int
    hasty: float = 0.12
    """How many callers give up within two seconds unless somebody answers."""
    controllers: int = 1
    """How many want to control the switch: of two, one leads."""
    faults: Faults = field(default_factory=Faults)


def draw(seed: int) -> Options:
    """Draw the options of a seed."""
    rng, theme = Random(f"options {seed}"), theme_of(seed)
    slice_s = rng.choice([2, 5, 10, 30, 60])
    resync_s = rng.choice([4.0, 10.0, 30.0])
    if "adopted" in theme:
        # Whoever adopts calls must renew them before anybody looks again, and long after the fault is over.
        slice_s, resync_s = 30, 60.0
    elif "hangups" in theme or "forgotten" in theme:
        slice_s, resync_s = 10, 30.0
    elif "two" in theme:
        # Whoever is frozen has calls to renew when it wakes, some in good time and some too late.
        slice_s = 60 if "freezes" in theme else 10
    elif "grace" in theme:
        slice_s = rng.choice([2, 5])
    elif "untold" in theme:
        slice_s, resync_s = 5, 30.0
    elif "late" in theme or "died" in theme:
        slice_s = 5
    over_s = rng.choice([20.0, 45.0, 90.0]) if not {"two", "adopted"} & set(theme) else 90.0
    if {"forgotten", "late", "died", "untold", "chained"} & set(theme):
        over_s = 45.0
    long = bool({"tight", "adopted", "grace", "untold", "hangups", "two"} & set(theme))
    rates = (_rate(rng, theme), _rate(rng, theme))
    plain = bool(PLAIN & set(theme))
    trade = draw_trade(rng, over_s) if not plain else Trade()
    if trade.least_percent is None and rng.random() < 0.25 and not plain:
        rates = (with_bands(rng, rates[0], over_s), rates[1])
    return Options(
        seed=seed,
        calls=_calls(rng, theme),
        over_s=over_s,
        accounts=_accounts(rng, rates, slice_s, theme),
        rates=rates,
        trade=trade,
        slice_s=slice_s,
        renew_before_s=slice_s * _renewed_at(rng, theme),
        last_try_s=min(rng.choice([0.3, 0.6, 1.0]), slice_s / 4),
        ring_s=rng.choice([5, 10, 20]),
        warn_before_s=rng.choice([0.0, slice_s * 0.4]),
        grace_s=rng.choice([0.0, 0.0, 6.0]) if "grace" not in theme else 6.0,
        resync_s=resync_s,
        talk_s=slice_s
        * (0.5 if {"late", "died", "waiting"} & set(theme) else rng.choice([0.5, 1.5, 3.0, 5.0]) if not long else 5.0),
        limit_late_s=rng.choice([0.0, 0.05, 0.4]),
        top_ups=rng.choice([0, 2, 6, 15]) if "top_ups" not in theme else 25,
        hangups=rng.choice([0, 0, 2, 8]) if "hangups" not in theme else 40,
        blocks=rng.choice([0, 0, 0, 2]),
        hasty=0.4 if "late" in theme else 0.12,
        controllers=2 if "two" in theme else 1,
        faults=_faults(rng, over_s, theme),
    )


def _calls(rng: Random, theme: tuple[str, ...]) -> int:
    if "adopted" in theme:
        return 20
    return (
        50 if {"two", "forgotten", "late", "died", "untold", "chained"} & set(theme) else rng.choice([16, 24, 36, 50])
    )


def _renewed_at(rng: Random, theme: tuple[str, ...]) -> float:
    """Return at which part of a slice before its end more is asked for."""
    if "adopted" in theme:
        return 0.2
    return 0.5 if {"two", "untold"} & set(theme) else rng.choice([0.2, 0.35, 0.5])


def _rate(rng: Random, theme: tuple[str, ...]) -> Rate:
    price = Decimal(rng.choice(["0.60", "0.60", "0.0123", "1.00", "7", "0"][: 5 if "tight" in theme else 6]))
    per_s = 60
    if {"untold", "chained"} & set(theme):  # a second more is a second dearer
        return Rate("49", "Germany", Decimal(0), (Step(0, Decimal("0.60"), per_s, 1),), Rounding())
    increment = rng.choice([1, 1, 6, 30, 60])
    steps = [Step(0, price, per_s, increment)]
    if rng.random() < 0.3:
        steps = [Step(0, price, per_s, 30), Step(30, price, per_s, rng.choice([1, 6]))]
    fee = Decimal(rng.choice(["0", "0", "0.05"]))
    mode = rng.choice([RoundingMode.HALF_UP, RoundingMode.UP, RoundingMode.DOWN, RoundingMode.HALF_EVEN])
    return Rate("49", "Germany", fee, tuple(steps), Rounding(mode, rng.choice([2, 4, 6])))


def _accounts(rng: Random, rates: tuple[Rate, Rate], slice_s: int, theme: tuple[str, ...]) -> tuple[AccountPlan, ...]:
    moneys = [0, 0.4, 1, 2.5, 7, 60, 400, 400] if "tight" not in theme else [4, 7, 12]
    if {"two", "hangups", "died"} & set(theme):
        moneys = [7, 60, 400] if "waiting" not in theme else [4, 7]
    elif {"adopted", "forgotten", "late", "untold"} & set(theme):
        moneys = [400]
    most_calls: list[int | None] = [None, None, 1, 3] if "refused" not in theme else [1, 2]
    most_cps: list[int | None] = [None, None, None, 1, 3]
    if "forgotten" in theme:
        most_calls, most_cps = [None], [None]
    elif "late" in theme:
        most_calls, most_cps = [1], [None]
    elif {"refused", "died"} <= set(theme):
        most_calls, most_cps = [2, 3], [None]
    plain = bool(PLAIN & set(theme))
    per_slice = max(
        int(max(step.price for rate in rates for step in rate.steps) * 1_000_000) * max(slice_s, 30) // 60, 1
    )
    made: list[AccountPlan] = []
    chain = rng.choice([0, 0, 1, 2, 3]) if not {"forgotten", "late", "untold"} & set(theme) else 0
    chain = 3 if "chained" in theme else chain
    for depth in range(chain):
        credit = rng.choice([0, 0, per_slice * 3])
        money = int(per_slice * (rng.choice([3, 20, 200]) if "chained" not in theme else 2000))
        calls = rng.choice([None, None, 4])
        made.append(AccountPlan(f"reseller {depth}", "", depth - 1 if depth else None, money, credit, calls, None))
    for number in range(rng.choice([1, 2, 3]) if "tight" not in theme else 1):
        parent = chain - 1 if chain and (rng.random() < 0.7 or "chained" in theme) else None
        money = int(per_slice * rng.choice(moneys)) if parent is None else 0
        credit = int(per_slice * rng.choice([0, 0, 1.5, 10])) if parent is None else per_slice * rng.choice([2, 20])
        plan = AccountPlan(
            f"customer {number}",
            str(100 + number),
            parent,
            money,
            credit,
            rng.choice(most_calls) if not plain else None,
            rng.choice(most_cps) if not plain else None,
            draw_around(rng, per_slice, slice_s) if not plain else NOTHING,
        )
        made.append(plan)
    return tuple(made)


THEMES: tuple[tuple[str, ...], ...] = (
    ("died", "sql_down", "journal_broken"),
    ("lost", "tight"),
    ("two", "freezes"),
    ("forgotten", "deaths", "refusal_lost"),
    ("untold", "switch_restarts", "record_lost", "limit_lost"),
    ("deaths", "grace", "link_cuts"),
    ("late", "request_late"),
    ("link_cuts", "switch_restarts", "record_lost", "command_lost"),
    ("lost", "sql_full", "tight"),
    ("two", "away", "doubts"),
    ("deaths", "lost while dead", "tight"),
    ("messages",),
    ("grace", "chained", "request_late"),
    ("event_lost", "record_lost", "switch_restarts", "skewed"),
    ("top_ups", "sql_error", "sql_unknown", "reply_lost"),
    ("two", "relays"),
    ("deaths", "adopted"),
    ("hangups", "command_lost"),
    ("deaths_after", "refused", "died", "sql_down"),
    ("everything",),
)
"""What surely comes, by seed in turn: a fault hides what another one would show, and every kind has its seeds.

A word is the name of a fault, or one of these. tight: little money; lost: Redis goes back to less than it had; two: two
controllers; adopted: who takes over must renew at once; died: a death while SQL is away; forgotten: a refusal that the
switch did not hear, then a death; late: few channels, short calls, impatient callers; untold: calls end with a switch
that has not heard of their limit; chained: three resellers, whose wallets are asked one after the other; waiting: who
led has calls in its journal that SQL cannot take, waits, and then Redis loses everything.
"""
WAITING = ("two", "waiting", "tight")
"""Takes every second turn of another theme: what seeds meant before goes on to mean it."""
PLAIN = {"tight", "adopted", "untold", "chained"}
"""Themes in which the rate alone says what a call costs, and nothing but money limits it."""
WILD = ("everything", "messages")


def theme_of(seed: int) -> tuple[str, ...]:
    """Return what surely comes in a seed."""
    return WAITING if seed % 40 == 29 else THEMES[seed % len(THEMES)]


def _faults(rng: Random, over_s: float, theme: tuple[str, ...]) -> Faults:
    calm = not set(theme) & set(WILD)

    def chance(kind: str, most: float) -> float:
        drawn, size = rng.random(), rng.choice([most / 5, most])
        if kind in theme:
            return most
        return size if drawn < 0.35 and not calm else 0.0

    def moments(kind: str, often: float, longest_s: float) -> tuple[tuple[float, float], ...]:
        drawn = tuple((rng.uniform(0.5, over_s), rng.uniform(0.1, longest_s)) for _ in range(rng.choice([1, 1, 3])))
        if kind in theme:
            return _windows(rng, over_s, longest_s)
        return drawn if rng.random() < often and "everything" in theme else ()

    deaths = moments("deaths", 0.35, 12.0 if "adopted" not in theme else 3.0)
    sql_down = moments("sql_down", 0.2, 25.0)
    journal_broken = moments("journal_broken", 0.15, 12.0)
    if "forgotten" in theme:
        # Refused since no record could be made safe, and soon after there is a controller that could let it in.
        deaths = tuple((at + rng.uniform(0.0, 3.0), 1.0) for at in (8.0, 19.0, 30.0, 41.0))
        journal_broken = tuple((at - 4.0, 4.5) for at, _ in deaths)
    elif "died" in theme:
        # What ended while nothing could be written is known to nobody else when its controller dies.
        earliest_s = 5.0 if "deaths_after" not in theme else over_s / 2
        latest_s = over_s - (20.0 if "deaths_after" not in theme else 18.0)
        sql_down = ((rng.uniform(earliest_s, latest_s), 14.0),)
        journal_broken = sql_down if "journal_broken" in theme else ()
        deaths = tuple((at + 10.0, 2.0) for at, _ in sql_down)
    emptied = tuple(at for at, _ in moments("redis_emptied", 0.12, 1.0))
    taken_over = (rng.uniform(8.0, 14.0), rng.uniform(50.0, 56.0)) if "waiting" in theme else ()
    if "waiting" in theme:
        emptied = tuple(at + rng.uniform(8.0, 20.0) for at in taken_over)
    if "lost while dead" in theme:
        emptied = tuple(min(at + rng.uniform(0.0, for_s), over_s) for at, for_s in deaths[:1])
    how = rng.choice(["rewound", "rewound", "failover", "emptied"]) if "lost" in theme else ""
    how = "emptied" if "sql_full" in theme else how
    if how == "emptied":
        emptied = tuple(at for at, _ in _windows(rng, over_s, 1.0))
    rewound = _windows(rng, over_s, 4.0) if how == "rewound" else () if emptied else moments("redis_rewound", 0.2, 2.0)
    failing = _windows(rng, over_s, 5.0) if how == "failover" else moments("failovers", 0.15, 5.0)
    failovers = () if emptied or rewound else tuple((*each, rng.uniform(0.0, 4.0)) for each in failing)
    return Faults(
        # After a loss there must be a while in which some holds are back and others are not.
        latency_s=rng.choice([0.0005, 0.005, 0.05]) if not calm else 0.008 if "lost" in theme else 0.002,
        request_lost=chance("request_lost", 0.15),
        reply_lost=chance("reply_lost", 0.25),
        request_late=chance("request_late", 0.2 if "late" not in theme else 0.4),
        partitions=moments("partitions", 0.2, 12.0),
        stalls=moments("stalls", 0.25, 9.0),
        redis_down=moments("redis_down", 0.2, 10.0),
        redis_rewound=rewound,
        redis_emptied=emptied,
        failovers=failovers,
        sql_error=chance("sql_error", 0.2),
        sql_unknown=chance("sql_unknown", 0.15),
        sql_slow_s=rng.choice([0.001, 0.02, 0.3]),
        sql_down=sql_down if "lost" not in theme or "sql_full" in theme else _around(emptied, rewound, failovers, 9.0),
        sql_full=_around(emptied, rewound, failovers, 25.0)
        if "sql_full" in theme
        else tuple((at - 3.0, 28.0) for at in taken_over),
        journal_broken=journal_broken,
        deaths=deaths,
        deaths_after=_deaths_after(rng, theme),
        stops=moments("stops", 0.15, 4.0),
        freezes=moments("freezes", 0.2, 9.0) if not taken_over else tuple((at, 5.0) for at in taken_over),
        cut_off=moments("cut_off", 0.0, 12.0),
        away=tuple(at for at, _ in moments("away", 0.0, 1.0))[:1]
        if "doubts" not in theme
        else (rng.uniform(5.0, 35.0),),
        relays=(rng.uniform(5.0, 12.0), rng.uniform(30.0, 40.0), rng.uniform(60.0, 70.0)) if "relays" in theme else (),
        doubts=(rng.uniform(55.0, 75.0),) if "doubts" in theme else (),
        event_lost=chance("event_lost", 0.08),
        event_doubled=chance("event_doubled", 0.2),
        event_late=chance("event_late", 0.2),
        command_lost=chance("command_lost", _most_lost(theme)),
        refusal_lost=chance("refusal_lost", 0.6),
        limit_lost=chance("limit_lost", 0.6),
        command_unheard=chance("command_unheard", 0.1),
        link_cuts=moments("link_cuts", 0.2, 12.0),
        switch_restarts=moments("switch_restarts", 0.12, 5.0)
        if "untold" not in theme
        else tuple((at + rng.uniform(0.0, 4.0), 4.0) for at in (8.0, 18.0, 28.0, 38.0)),
        record_lost=chance("record_lost", 0.5),
        skew_s=rng.choice([0.0, 0.0, 0.3, -0.3, 100.0, -100.0]) if "skewed" not in theme else 100.0,
    )


def _around(
    emptied: tuple[float, ...],
    rewound: tuple[tuple[float, float], ...],
    failovers: tuple[tuple[float, float, float], ...],
    for_s: float,
) -> tuple[tuple[float, float], ...]:
    """Return times around the moments at which Redis loses data: what it lacks cannot be had at once."""
    return tuple((max(at - for_s / 6, 0.1), for_s) for at in (*emptied, *(at for at, *_ in (*rewound, *failovers))))


def _most_lost(theme: tuple[str, ...]) -> float:
    if "command_lost" not in theme:
        return 0.06
    return 0.5 if "hangups" in theme else 0.25


def _windows(rng: Random, over_s: float, longest_s: float) -> tuple[tuple[float, float], ...]:
    return tuple((rng.uniform(0.5, over_s), rng.uniform(longest_s / 3, longest_s)) for _ in range(2))


def _deaths_after(rng: Random, theme: tuple[str, ...]) -> tuple[tuple[str, int, float, float], ...]:
    if "deaths_after" not in theme and ("everything" not in theme or rng.random() < 0.5):
        return ()
    what = ["offer", "admit", "answered", "limit", "over", "over", "refuse"]
    if "refused" in theme:
        what = ["refuse", "refuse", "over"]
    longest_s = 15.0 if "died" not in theme else 3.0
    return tuple(
        (rng.choice(what), rng.randint(1, 8), rng.choice([0.0, 0.002, 0.02, 0.2, 2.0]), rng.uniform(0.1, longest_s))
        for _ in range(rng.choice([1, 2, 4]))
    )
