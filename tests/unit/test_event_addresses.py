"""Where webhooks may be posted to: the open internet over TLS, and what the operator has named."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

import pytest

from billing.errors import Refused
from billing.events.addresses import Forbidden, Resolve, check_url, find_target, is_public, networks_of


def _answers(*addresses: str) -> Resolve:
    async def ask(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return ask


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "https://",
        "https:///path",
        "//example.com/",
        "javascript:alert(1)",
        "https://user:secret@example.com/",
        "https://example.com/#part",
        "https://example.com:0/",
        "https://example.com:99999/",
        "https://exa mple.com/",
        "https://example.com/\r\nX-Evil: 1",
        "https://exämple.com/",
        "https://example.com/" + "a" * 500,
        "https://[::1/",
    ],
)
def test_what_is_no_webhook_url_is_refused(url: str) -> None:
    """A URL names a host by http or https, in printable ASCII, without user, password or fragment."""
    with pytest.raises(Refused):
        check_url(url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - an address like any other here
        "224.0.0.1",
        "255.255.255.255",
        "240.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
async def test_private_addresses_are_forbidden(address: str) -> None:
    """Loopback, private, link-local, carrier, multicast and reserved addresses, in IPv4's and IPv6's clothes."""
    assert not is_public(ip_address(address))
    with pytest.raises(Forbidden):
        await find_target("https://hooks.example.com/in", allowed=(), ask=_answers(address))


async def test_one_private_address_among_public_ones_forbids_the_name() -> None:
    """Or a name with two addresses would be checked by one and connected to by the other."""
    with pytest.raises(Forbidden):
        await find_target("https://hooks.example.com/", allowed=(), ask=_answers("93.184.215.14", "10.0.0.8"))


async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    """The URL to post to holds the address; the name goes into TLS and the Host header."""
    target = await find_target("https://hooks.example.com/in?a=1", allowed=(), ask=_answers("93.184.215.14"))
    assert target.url == "https://93.184.215.14:443/in?a=1"
    assert (target.host, target.netloc) == ("hooks.example.com", "hooks.example.com")
    six = await find_target("https://h.example.com:8443", allowed=(), ask=_answers("2606:4700::1111"))
    assert six.url == "https://[2606:4700::1111]:8443/"


async def test_plain_http_is_for_named_networks_only() -> None:
    """In the open, what is posted could be read and changed on the way."""
    with pytest.raises(Forbidden, match="https"):
        await find_target("http://hooks.example.com/", allowed=(), ask=_answers("93.184.215.14"))
    allowed = networks_of("10.1.0.0/16, 127.0.0.1/32")
    target = await find_target("http://crm.lan:9000/x", allowed=allowed, ask=_answers("10.1.2.3"))
    assert target.url == "http://10.1.2.3:9000/x"
    with pytest.raises(Forbidden):
        await find_target("http://crm.lan/", allowed=allowed, ask=_answers("10.2.2.3"))


async def test_a_name_without_an_address_is_an_error() -> None:
    """It is tried again later, like any other fault of the network."""
    with pytest.raises(OSError, match="no address"):
        await find_target("https://nowhere.example.com/", allowed=(), ask=_answers())
