"""Which addresses may be reached: names are resolved here, and the connection goes to what was checked.

A name that resolves to something else a moment later gains nothing: nobody asks for it again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence

from decisions import addresses
from decisions.addresses import Place

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The addresses of a host, best first. Raises OSError."""


class AddressRefused(Exception):
    """An address that may not be reached. The message says which, and what to declare."""


async def resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of ``host`` as the machine knows them. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def allowed(host: str, port: int, *, allow_private: bool, resolver: Resolve = resolve) -> list[str]:
    """The addresses of ``host``, each of which may be reached. Raises AddressRefused when one may not, OSError when
    there is none."""
    literal = addresses.read(host)
    found = [host] if literal is not None else await resolver(host, port)
    if not found:
        raise OSError(f"{host} has no address")
    for text in found:
        check(host, text, allow_private=allow_private)
    return list(found)


def check(host: str, text: str, *, allow_private: bool) -> None:
    """Raise AddressRefused unless the address ``text`` of ``host`` may be reached."""
    address = addresses.read(text)
    if address is None:
        raise AddressRefused(f"{host} has an address that is none: {text[:100]!r}")
    place = addresses.place(address)
    if place is Place.NOWHERE:
        raise AddressRefused(f"{host} has the address {address}, which nothing is reached at")
    if place is not Place.PUBLIC and not allow_private:
        raise AddressRefused(f"{host} has the private address {address}: declare allowPrivate: true if it is meant")


def literal_problem(host: str, *, allow_private: bool) -> str:
    """What is wrong with a host that is an address itself, "" for a name or one that may be reached. Asks nobody."""
    if addresses.read(host) is None:
        return ""
    try:
        check(host, host, allow_private=allow_private)
    except AddressRefused as refused:
        return str(refused)
    return ""
