"""Which addresses may be reached: names are resolved here, and the connection goes to what was checked.

A name that resolves to something else a moment later gains nothing: nobody asks for it again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, best first. Raises OSError."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(Exception):
    """An address that may not be reached. The message says which, and what to declare."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of ``host`` as the machine knows them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def allowed(host: str, port: int, *, allow_private: bool, resolver: Resolve = resolve) -> list[str]:
    """The addresses of ``host``, each of which may be reached. Raises AddressRefused when one may not, OSError when
    there is none."""
    literal = _address(host)
    found = [host] if literal is not None else await resolver(host, port)
    if not found:
        raise OSError(f"{host} has no address")
    for text in found:
        check(host, text, allow_private=allow_private)
    return list(found)


def check(host: str, text: str, *, allow_private: bool) -> None:
    """Raise AddressRefused unless the address ``text`` of ``host`` may be reached."""
    address = _address(text)
    if address is None:
        raise AddressRefused(f"{host} has an address that is none: {text[:100]!r}")
    inner = _inner(address)
    if inner.is_link_local or inner.is_multicast or inner.is_unspecified or _reserved(inner):
        raise AddressRefused(f"{host} has the address {address}, which nothing is reached at")
    if not inner.is_global and not allow_private:
        raise AddressRefused(f"{host} has the private address {address}: declare allowPrivate: true if it is meant")


def literal_problem(host: str, *, allow_private: bool) -> str:
    """What is wrong with a host that is an address itself, "" for a name or one that may be reached. Asks nobody."""
    if _address(host) is None:
        return ""
    try:
        check(host, host, allow_private=allow_private)
    except AddressRefused as refused:
        return str(refused)
    return ""


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _address(text: str) -> Address | None:
    try:
        return ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None


def _inner(address: Address) -> Address:
    """What an address leads to that carries another one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _reserved(address: Address) -> bool:
    """Loopback is reserved too, in IPv6: that is for ``allowPrivate`` to say."""
    return address.is_reserved and not address.is_loopback and not address.is_private
