"""Where a message may be posted to: an address that a spec names does not lead the engine into its own network."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from decisions import addresses
from decisions.addresses import Place

Resolve = Callable[[str, int], Sequence[str]]


class AddressRefused(Exception):
    """The host is where it may not be. The message names the host."""


def system_resolve(host: str, port: int) -> Sequence[str]:
    """The addresses of a host, as this machine finds them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked(host: str, port: int, *, private: bool, resolve: Resolve = system_resolve) -> str:
    """One address of the host to connect to; every one of them must be allowed, so that no second look at the name can
    lead elsewhere. Raises AddressRefused, OSError."""
    name = host.strip("[]")
    literal = addresses.read(name)
    found: Sequence[str] = [str(literal)] if literal is not None else resolve(name, port)
    if not found:
        raise OSError("the host has no address")
    for text in found:
        address = addresses.read(text)
        place = addresses.place(address) if address is not None else Place.NOWHERE
        if place is Place.NOWHERE:
            raise AddressRefused(f"{name[:200]} has an address that nothing is reached at")
        if place is not Place.PUBLIC and not private:
            raise AddressRefused(f"{name[:200]} has an address that is not public")
    return found[0]
