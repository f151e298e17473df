"""Where a message may be posted to: an address that a spec names does not lead the engine into its own network."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(Exception):
    """The host is where it may not be. The message names the host."""


def system_resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as this machine finds them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: Address) -> bool:
    """Whether it lies in the open Internet, whatever form it is written in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if address in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address in _SHARED)


def is_passable(address: Address) -> bool:
    """Whether it may be used where private addresses are allowed: one that answers for a single machine. The address
    that clouds hand out credentials at is link-local, and never is."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return is_passable(address.ipv4_mapped)
    return not (address.is_link_local or address.is_multicast or address.is_unspecified)


def checked(host: str, port: int, *, private: bool, resolve: Resolve = system_resolve) -> str:
    """One address of the host to connect to; every one of them must be allowed, so that no second look at the name can
    lead elsewhere. Raises AddressRefused, OSError."""
    name = host.strip("[]")
    try:
        found: Sequence[str] = [str(ipaddress.ip_address(name.partition("%")[0]))]
    except ValueError:
        found = resolve(name, port)
    if not found:
        raise OSError("the host has no address")
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        if not (is_passable(address) if private else is_public(address)):
            raise AddressRefused(f"{name[:200]} has an address that is not public")
    return found[0]
