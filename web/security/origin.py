"""Where a request may come from, and where a redirect may go: here."""

from __future__ import annotations

import re
from hmac import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import FormData
from starlette.requests import Request

CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
MOST_TARGET = 500
UNSAFE_IN_TARGET = re.compile(r"[\x00-\x20\x7f\\]")


def same_origin(request: Request) -> bool:
    """Return whether the browser says that this request was made by one of our own pages (or by no page at all).

    Covers the login form too, which has no session to carry a token. Programs without these headers pass: they carry no
    cookie unless somebody gave it to them.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    if origin is None:
        return True
    return origin != "null" and urlsplit(origin).netloc == request.headers.get("host")


def csrf_matches(request: Request, form: FormData, expected: str) -> bool:
    """Return whether the form field or the header carries the session's token; compared in constant time."""
    given = request.headers.get(CSRF_HEADER) or form.get(CSRF_FIELD)
    return isinstance(given, str) and bool(expected) and compare_digest(given.encode(), expected.encode())


def local_path(target: str, *, default: str = "/") -> str:
    r"""Return `target` where it is a path on this host, else `default`.

    Browsers read "//host" and "/\host" as other hosts, and drop tabs and line ends before they look.
    """
    if not target.startswith("/") or target.startswith(("//", "/\\")) or len(target) > MOST_TARGET:
        return default
    if UNSAFE_IN_TARGET.search(target):
        return default
    return target
