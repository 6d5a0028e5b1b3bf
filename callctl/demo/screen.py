"""The demo in a terminal of any width: a header that explains, the live calls, the feed, the counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from billing.credit.live import LiveCallView
from billing.credit.store import WalletView
from callctl.demo.feed import STYLES, Feed
from callctl.demo.world import ASTERISK, FREESWITCH, OWNER, SWITCHES
from rating.money import MICROS, format_amount

WIDE = 112
BAR_FULL_S = 8.0
BAR_CELLS = 8
LEAST_FEED = 5
SHORT = {ASTERISK: "Ast", FREESWITCH: "FS"}
"""How the switches are called where there is little room."""

EXPLAINED = (
    "A simulated Asterisk and a simulated FreeSWITCH make calls. callctl holds money before a phone rings, grants time "
    "slice by slice, and ends a call when its money ends; money paid in meanwhile makes it longer."
)


@dataclass(slots=True)
class Scene:
    """All that is to be seen now. `wallets` by account number."""

    url: str
    password: str
    elapsed_s: float
    now_ms: int
    calls: Sequence[LiveCallView]
    wallets: Mapping[int, WalletView]
    feed: Feed
    closing: bool = False

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Fill the terminal, whatever its size."""
        width, height = options.max_width, options.height or console.height
        header = self.header(width)
        used = len(console.render_lines(header, options.update(height=None)))
        room = max(height - used - 2, 8)  # the counters, and a line to spare
        feed_rows = max(LEAST_FEED, room * 2 // 5)
        call_rows = max(room - feed_rows - 3, 1)
        yield Group(header, self.board(width, call_rows), *self.lines(width, feed_rows), self.count(width))

    def header(self, width: int) -> Panel:
        """Say what this is, where the panel is, and how to log in."""
        text = Text(EXPLAINED, style="dim")
        login = Text.assemble(
            "\nPanel ",
            (self.url, "bold cyan"),
            "  login ",
            (OWNER, "bold"),
            "  one-time password ",
            (self.password, "bold"),
        )
        text.append_text(login)
        state = "ending: hanging up, settling, checking the books" if self.closing else "Ctrl-C ends it"
        return Panel(
            text,
            title=f"[bold]callctl[/] demo · {clock(self.elapsed_s)} · {state}",
            title_align="left",
            box=box.ROUNDED,
            border_style="cyan",
            width=width,
        )

    def board(self, width: int, rows: int) -> Table:
        """Return the table of live calls: those that end soonest first, since something will happen there."""
        wide = width >= WIDE
        made = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, header_style="bold", padding=(0, 1, 0, 0))
        made.add_column("account", no_wrap=True, overflow="ellipsis", ratio=3)
        if wide:
            made.add_column("from", no_wrap=True, overflow="ellipsis", ratio=3)
        made.add_column("to", no_wrap=True, overflow="ellipsis", ratio=3)
        if wide:
            made.add_column("destination", no_wrap=True, overflow="ellipsis", ratio=3)
        made.add_column("on", no_wrap=True, min_width=10 if wide else 3)
        made.add_column("state", no_wrap=True, min_width=7)
        made.add_column("talk", justify="right", no_wrap=True, min_width=4)
        made.add_column("paid time left", no_wrap=True, min_width=BAR_CELLS + 6)
        made.add_column("held", justify="right", no_wrap=True, min_width=6)
        made.add_column("balance", justify="right", no_wrap=True, min_width=7)
        ordered = sorted(self.calls, key=lambda call: (call.call_id not in self.feed.short, call.offered_ms))
        hidden = max(len(ordered) - rows, 0)
        if hidden:
            ordered = ordered[: rows - 1]
        for call in ordered:
            made.add_row(*self.cells(call, wide=wide))
        if hidden:
            made.add_row(Text(f"… and {hidden + 1} more", style="dim"))
        for _ in range(rows - len(ordered) - (1 if hidden else 0)):
            made.add_row("")
        return made

    def cells(self, call: LiveCallView, *, wide: bool) -> list[Text]:
        """Return one line of the table."""
        talking = call.answered_ms is not None
        talk = clock((self.now_ms - call.answered_ms) / 1000) if call.answered_ms is not None else ""
        wallet = self.wallets.get(call.account_id)
        balance = short_money(wallet.balance_micros) if wallet else ""
        last = call.call_id in self.feed.short
        cells = [Text(call.account, style="bold yellow" if last else "")]
        if wide:
            cells.append(Text(call.caller))
        cells.append(Text(call.callee))
        if wide:
            cells.append(Text(call.destination))
        cells += [
            Text((SWITCHES if wide else SHORT).get(call.switch, call.switch)),
            Text(call.state, style="green" if talking else "cyan"),
            Text(talk),
            self.bar(call, last=last),
            Text(short_money(call.held_micros)),
            Text(balance),
        ]
        return cells

    def bar(self, call: LiveCallView, *, last: bool) -> Text:
        """Draw how long the money held will last; a call with more money gets its next slice before the end."""
        if call.limit_ms is None:
            return Text("")
        left_s = max((call.limit_ms - self.now_ms) / 1000, 0.0)
        full = min(round(left_s / BAR_FULL_S * BAR_CELLS), BAR_CELLS)
        style = "red" if last else "green"
        return Text.assemble(
            ("━" * full, style),
            ("─" * (BAR_CELLS - full), "bright_black"),
            f" {left_s:4.1f}s",
        )

    def lines(self, width: int, rows: int) -> list[Text]:
        """Return the newest lines of the feed, newest last."""
        items = self.feed.newest(rows)
        shown = []
        for item in items:
            line = Text(f"{clock(item.at_s):>5}  ", style="dim", no_wrap=True, overflow="ellipsis")
            line.append(f"{item.who}: ", style="bold")
            line.append(item.text, style=STYLES[item.kind])
            line.truncate(width, overflow="ellipsis")
            shown.append(line)
        return shown + [Text("")] * (rows - len(shown))

    def count(self, width: int) -> Text:
        """Return the counters in a line."""
        seen = self.feed.counters
        line = Text.assemble(
            (f"calls {seen.offered}", "bold"),
            f" · live {len(self.calls)} · ",
            (f"refused {seen.refused}", "red"),
            " · ",
            (f"cut at zero {seen.cut_at_zero}", "red"),
            " · ",
            (f"extended {len(seen.extended)}", "green"),
            f" · {short_money(seen.charged_micros)} EUR charged",
        )
        line.truncate(width, overflow="ellipsis")
        return line


def clock(seconds: float) -> str:
    """Write seconds as m:ss."""
    minutes, rest = divmod(max(int(seconds), 0), 60)
    return f"{minutes}:{rest:02d}"


def short_money(micros: int) -> str:
    """Write an amount to the cent, for a narrow column: exact where it has no more, else cut towards zero."""
    cent = MICROS // 100
    whole = micros - micros % cent if micros >= 0 else micros + (-micros) % cent
    return format_amount(whole)
