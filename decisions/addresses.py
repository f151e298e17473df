"""Where an IP address leads: the one judge of every address that a spec, or what a spec names, brings in.

An IPv6 address that carries an IPv4 address (mapped, 6to4, Teredo, NAT64) leads where the inner one leads.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
"""Where the inner address stands in these is for the local translator to know (RFC 8215): none is reached."""
_THIS_NETWORK = ipaddress.IPv4Network("0.0.0.0/8")
_CREDENTIALS = frozenset(
    ipaddress.ip_address(text) for text in ("100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fd20:ce::254")
)
"""Where clouds hand out credentials of the machine, beside the link-local address that most of them use."""


class Place(StrEnum):
    """Where an address leads."""

    PUBLIC = "Public"  # the open Internet
    PRIVATE = "Private"  # a network of somebody's own
    LOOPBACK = "Loopback"  # this machine
    NOWHERE = "Nowhere"  # nothing that anybody may name: link-local, multicast, reserved, a cloud's credentials


def read(text: str) -> Address | None:
    """The address that ``text`` writes, with or without brackets and zone; None for anything else, such as a name."""
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def place(address: Address) -> Place:
    """Where an address leads, whatever form it is written in."""
    led = _led(address)
    if led.is_loopback:
        return Place.LOOPBACK
    if led.is_link_local or led.is_multicast or led.is_unspecified or led.is_reserved or led in _CREDENTIALS:
        return Place.NOWHERE
    if isinstance(led, ipaddress.IPv4Address):
        if led in _THIS_NETWORK:
            return Place.NOWHERE
    elif led in _NAT64_LOCAL or led.is_site_local:
        return Place.NOWHERE
    return Place.PUBLIC if led.is_global else Place.PRIVATE


def _led(address: Address) -> Address:
    """What an address leads to that carries another one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo is not None else None)
    return inner if inner is not None else address
