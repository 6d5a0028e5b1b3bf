"""Where events may be posted to: public addresses, and networks that the operator has named.

A URL is text of a customer's. What counts is the address that is connected to, looked at anew for each post: a name
that led outside yesterday may lead to the store's own machine today. So the name is resolved here, every address it has
is checked, and the connection goes to the very address that was checked.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from ipaddress import IPv4Network as Network4
from urllib.parse import SplitResult, urlsplit, urlunsplit

from billing.errors import Refused

MOST_URL = 500
HTTP, HTTPS = 80, 443
RESOLVE_S = 5.0
Address = IPv4Address | IPv6Address
Networks = tuple[Network4 | IPv6Network, ...]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
_INSIDE6 = (ip_network("64:ff9b::/96"), ip_network("64:ff9b:1::/48"), ip_network("2002::/16"), ip_network("2001::/32"))
"""Addresses of IPv6 that stand for one of IPv4: what they lead to cannot be seen from them."""


class Forbidden(Exception):
    """This address is not posted to."""


@dataclass(frozen=True, slots=True)
class Target:
    """What to connect to: `url` holds the checked address, `host` the name for TLS and for the Host header."""

    url: str
    host: str
    netloc: str


def networks_of(text: str) -> Networks:
    """Read networks split by commas. Raises `ValueError`."""
    return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL that could be posted to. Raises `Refused`."""
    if len(url) > MOST_URL or not url.isprintable() or not url.isascii() or " " in url:
        raise Refused(f"a URL is up to {MOST_URL} printable ASCII characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Refused(f"that is no URL: {error}") from error
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Refused("a webhook's URL begins with https:// and names a host")
    if parts.username is not None or parts.password is not None:
        raise Refused("a webhook's URL holds no user and no password: the signature says who posts")
    if parts.fragment or port == 0:
        raise Refused("a webhook's URL has no # part, and no port 0")
    return parts


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system for the addresses of a name. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


async def find_target(url: str, *, allowed: Networks, ask: Resolve = resolve) -> Target:
    """Return where to connect for this URL. Raises `Forbidden`, `Refused`, `OSError` where the name has no address."""
    parts = check_url(url)
    host = parts.hostname or ""
    port = parts.port or (HTTPS if parts.scheme == "https" else HTTP)
    async with asyncio.timeout(RESOLVE_S):
        found = [ip_address(text.partition("%")[0]) for text in await ask(host, port)]
    if not found:
        raise OSError(f"{host} has no address")
    for address in found:
        # All of them, or a name with two addresses would pass with one and be connected to by the other.
        named = _within(address, allowed)
        if not named and not is_public(address):
            raise Forbidden("the name leads to a private address")
        if parts.scheme == "http" and not named:
            raise Forbidden("http:// is for networks that the settings allow; use https://")
    chosen = found[0]
    literal = f"[{chosen}]" if chosen.version == 6 else str(chosen)  # noqa: PLR2004 - IPv6
    pinned = urlunsplit((parts.scheme, f"{literal}:{port}", parts.path or "/", parts.query, ""))
    return Target(pinned, host, parts.netloc)


def is_public(address: Address) -> bool:
    """Return whether this is an address of the open internet and nothing else."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        if any(address in network for network in _INSIDE6):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def _within(address: Address, networks: Networks) -> bool:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in networks)
