"""One judge of addresses, and that everybody who connects to what a spec names asks it."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.mcp import addresses as mcp
from controllers.notify import addresses as notify
from controllers.web import addresses as web
from decisions.addresses import Place, place, read
from schemas.tool_server import Network

METADATA = ipaddress.IPv4Address("169.254.169.254")


def mapped(inner: ipaddress.IPv4Address) -> str:
    return f"::ffff:{inner}"


def six_to_four(inner: ipaddress.IPv4Address) -> str:
    return str(ipaddress.IPv6Address((0x2002 << 112) | (int(inner) << 80) | 1))


def teredo(inner: ipaddress.IPv4Address) -> str:
    server = int(ipaddress.IPv4Address("65.54.227.120"))
    return str(ipaddress.IPv6Address((0x20010000 << 96) | (server << 64) | (~int(inner) & 0xFFFFFFFF)))


def nat64(inner: ipaddress.IPv4Address) -> str:
    return str(ipaddress.IPv6Address((0x0064FF9B << 96) | int(inner)))


WRAPPED: tuple[Callable[[ipaddress.IPv4Address], str], ...] = (str, mapped, six_to_four, teredo, nat64)


@pytest.mark.parametrize(
    ("text", "leads"),
    [
        ("93.184.216.34", Place.PUBLIC),
        ("2606:2800:220:1::1", Place.PUBLIC),
        ("10.0.0.1", Place.PRIVATE),
        ("100.64.0.1", Place.PRIVATE),
        ("fd12::1", Place.PRIVATE),
        ("127.0.0.1", Place.LOOPBACK),
        ("[::1]", Place.LOOPBACK),
        ("fe80::1%eth0", Place.NOWHERE),
        ("169.254.169.254", Place.NOWHERE),
        ("0.0.0.0", Place.NOWHERE),
        ("0.1.2.3", Place.NOWHERE),
        ("224.0.0.1", Place.NOWHERE),
        ("240.0.0.1", Place.NOWHERE),
        ("255.255.255.255", Place.NOWHERE),
        ("::", Place.NOWHERE),
        ("::169.254.169.254", Place.NOWHERE),
        ("fec0::1", Place.NOWHERE),
        ("64:ff9b:1::a9fe:a9fe", Place.NOWHERE),
        ("fd00:ec2::254", Place.NOWHERE),
        ("100.100.100.200", Place.NOWHERE),
    ],
)
def test_an_address_leads_to_one_place(text: str, leads: Place) -> None:
    address = read(text)
    assert address is not None
    assert place(address) is leads


@given(st.ip_addresses(v=4))
def test_what_carries_an_address_leads_where_it_leads(inner: ipaddress.IPv4Address) -> None:
    for wrap in WRAPPED:
        address = read(wrap(inner))
        assert address is not None
        assert place(address) is place(inner), wrap


def test_a_name_is_no_address() -> None:
    assert read("db.internal") is None


@pytest.mark.parametrize("wrap", WRAPPED)
def test_the_address_of_a_clouds_credentials_is_reached_in_no_form(
    wrap: Callable[[ipaddress.IPv4Address], str],
) -> None:
    text = wrap(METADATA)
    with pytest.raises(notify.AddressRefused):
        notify.checked("metadata.example", 80, private=True, resolve=lambda host, port: [text])
    with pytest.raises(web.AddressRefused):
        web.check("metadata.example", text, allow_private=True)

    async def found(host: str, port: int) -> list[str]:
        return [text]

    for network in Network:
        with pytest.raises(mcp.AddressRefused):
            asyncio.run(mcp.checked("metadata.example", 80, network, found))


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_private_address_is_reached_in_any_form_where_it_is_allowed_and_only_there(
    wrap: Callable[[ipaddress.IPv4Address], str],
) -> None:
    text = wrap(ipaddress.IPv4Address("10.1.2.3"))
    assert notify.checked("inside.example", 80, private=True, resolve=lambda host, port: [text]) == text
    web.check("inside.example", text, allow_private=True)
    with pytest.raises(notify.AddressRefused):
        notify.checked("inside.example", 80, private=False, resolve=lambda host, port: [text])
    with pytest.raises(web.AddressRefused):
        web.check("inside.example", text, allow_private=False)
    address = read(text)
    assert address is not None
    assert [network for network in Network if mcp.allowed(address, network)] == [Network.PRIVATE]
