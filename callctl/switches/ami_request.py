"""An AMI action, what it brings, and how a frame is read: text only, no connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from callctl.switches.base import SwitchUnavailable

MAX_LINE = 64 * 1024
MAX_ITEMS = 1_000_000
"""Items of one list; a list with more is not whole."""

Lines = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What an action brought: `lines` of the response, and for a list its `items`, each as ordered header lines
    (where a tail was asked for, that tail alone), unless they were told one by one. Items are kept as text.

    Text is latin-1, one character per byte as it came: `decoded` for display, `identity` where it says who somebody is.
    """

    ok: bool
    lines: Lines
    texts: list[str] = field(default_factory=list)

    @property
    def items(self) -> Iterator[Lines]:
        """Return each item's lines, read one by one."""
        return (parse_frame(text)[0] for text in self.texts)

    def get(self, header: str) -> str:
        """Return a header of the response, or ""."""
        return next((value for name, value in self.lines if name.lower() == header), "")


def decoded(text: str) -> str:
    """Return latin-1 wire text as UTF-8 for people; bytes that are none become U+FFFD."""
    return text.encode("latin-1").decode("utf-8", "replace")


def identity(text: str) -> str:
    """Return latin-1 wire text as UTF-8, exactly. Raises `ValueError` for bytes that are none."""
    return text.encode("latin-1").decode("utf-8")


class Request:
    """An action on its way, and what has come back. With `tail`, its list items end with exactly these variables.

    With `each`, the items of a list are told one by one as they come, and not kept.
    """

    __slots__ = (
        "action_id", "count", "each", "future", "items_so_far", "name", "number", "response", "sent_s", "tail", "wire",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        fields: Iterable[tuple[str, str]],
        *,
        action_id: str,
        tail: Sequence[str] = (),
        each: Callable[[Lines], None] | None = None,
    ) -> None:
        """Raises `ValueError` where a value could be read as more than a value."""
        headers = [("Action", name), ("ActionID", action_id), *fields]
        text = "".join([f"{key}: {value}\r\n" for key, value in headers])
        if text.count("\r") != len(headers) or text.count("\n") != len(headers) or "\0" in text:
            raise ValueError(f"AMI {name}: a header holds a line break or NUL")
        self.wire = f"{text}\r\n".encode()
        self.name = name
        self.action_id = action_id
        self.tail = tail
        self.each = each
        self.future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.number = 0
        self.sent_s = 0.0
        self.response: Lines | None = None
        self.count = 0
        self.items_so_far: list[str] = []

    def fail(self, why: SwitchUnavailable) -> None:
        """Tell who waits, if anybody does, that no answer will come."""
        if not self.future.done():
            self.future.set_exception(why)
            self.future.exception()

    def _item(self, text: str) -> tuple[str, Lines] | None:
        """Return an item as text and as lines, None for what is none.

        With `tail` it is one by its last lines, which no caller's text can come after, and only those are returned.
        """
        if not self.tail:
            lines, _ = parse_frame(text)
            return (text, lines) if lines[0][0] == "Event" and ("EventList", "Complete") not in lines else None
        last = "\r\n".join(text.rsplit("\r\n", len(self.tail) + 1)[-len(self.tail) - 1 :])
        end, _ = parse_frame(last)
        names = [value.partition("=")[0] for name, value in end[:-1] if name == "Variable"]
        return (last, end) if names == list(self.tail) and end[-1][0] == "ActionID" else None

    def take(self, text: str) -> Reply | None:
        """Add a frame; return the reply when it is whole."""
        if self.response is None:
            lines, _ = parse_frame(text)
            self.response = lines
            listed = ("EventList", "start") in lines
            ok = lines[0] in (("Response", "Success"), ("Response", "Goodbye"), ("Response", "Follows"))
            return None if ok and listed else Reply(ok, lines)
        item = self._item(text)
        if item is not None:
            self._count(*item)
            return None
        lines, _ = parse_frame(text)
        if ("EventList", "Complete") not in lines:
            return None
        counted = next((value for name, value in lines if name in ("ListItems", "Items")), "")
        whole = counted in ("", str(self.count))
        return Reply(whole, self.response if whole else [("Message", "list not whole")], self.items_so_far)

    def _count(self, text: str, lines: Lines) -> None:
        if self.count >= MAX_ITEMS:
            return
        self.count += 1
        if self.each is None:
            self.items_so_far.append(text)
        else:
            self.each(lines)


def parse_frame(text: str) -> tuple[Lines, bool]:
    """Return a frame's lines in order, and whether each is a header of bearable length."""
    parts = [line.partition(":") for line in text.split("\r\n")]
    lines = [(name, value[1:] if value[:1] == " " else value) for name, _, value in parts]
    clean = "" not in [colon for _, colon, _ in parts]
    if clean and len(text) > MAX_LINE:
        clean = all(len(name) + 1 + len(value) <= MAX_LINE for name, _, value in parts)
    return lines, clean


def action_ids(text: str) -> Iterator[str]:
    """Yield the values of a frame's lines that are an ActionID."""
    at = text.find("ActionID:")
    while at >= 0:
        if at == 0 or text[at - 2 : at] == "\r\n":
            end = text.find("\r\n", at)
            yield text[at + len("ActionID:") : end if end >= 0 else None].removeprefix(" ")
        at = text.find("ActionID:", at + 1)
