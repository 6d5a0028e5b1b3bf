"""Logs: one line an event, for people on a terminal and as JSON elsewhere. Never a secret, never on standard output."""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

import structlog


def log_to(stream: TextIO, *, debug: bool = False) -> None:
    """Send callctl's own log lines and those of libraries to a stream."""
    level = logging.DEBUG if debug else logging.INFO
    on_terminal = stream.isatty()
    render: Any = (
        structlog.dev.ConsoleRenderer(colors=on_terminal) if on_terminal else structlog.processors.JSONRenderer()
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if not on_terminal:
        shared.append(structlog.processors.format_exc_info)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if debug else logging.WARNING)


def log_as_a_command(*, debug: bool) -> None:
    """Say what went wrong beside a command's answer: warnings on standard error, so that `--json` stays JSON.

    Standard error is looked up at each line: a test's or a pager's is the one in use.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if debug else logging.WARNING),
        logger_factory=lambda *_names: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def log_to_stderr(*, debug: bool) -> None:
    """Log to standard error, as a service does."""
    log_to(sys.stderr, debug=debug)
