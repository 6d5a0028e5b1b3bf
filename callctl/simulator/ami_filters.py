"""Which events an AMI client wants: the filters of manager.conf and of the `Filter` action."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = re.compile(r"name\(([^)]*)\)", re.IGNORECASE)
_HEADER = re.compile(r"header\(([^)]*)\)", re.IGNORECASE)
_ACTION = re.compile(r"action\(([^)]*)\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """One filter: by the event's name, what a header contains, or (the old form) a pattern over the text."""

    include: bool
    name: str = ""
    header: str = ""
    pattern: re.Pattern[str] | None = None

    @classmethod
    def parse(cls, criteria: str, text: str = "") -> EventFilter:
        """Read the new form (`criteria`, `text` to look for) or, without criteria, the old. Raises `re.error`."""
        if not criteria:
            include = not text.startswith("!")
            return cls(include=include, pattern=re.compile(text.removeprefix("!")))
        action, name, header = _ACTION.search(criteria), _NAME.search(criteria), _HEADER.search(criteria)
        return cls(
            include=action is None or action[1].lower() == "include",
            name=name[1] if name else "",
            header=header[1] if header else "",
            pattern=re.compile(re.escape(text)) if text else None,
        )

    def matches(self, event: str, text: str) -> bool:
        """Whether this event is meant."""
        if self.name and self.name != event:
            return False
        if self.pattern is None:
            return True
        if not self.header:
            return self.pattern.search(text) is not None
        begin = f"{self.header}: ".lower()
        return any(
            line.lower().startswith(begin) and self.pattern.search(line[len(begin) :]) for line in text.split("\r\n")
        )
