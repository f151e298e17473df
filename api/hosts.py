"""Which names a server answers to: a page on a foreign name that resolves to this machine (DNS rebinding) gets
nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache

from starlette.types import ASGIApp, Receive, Scope, Send

from api.problems import Problem


class HostGuard:
    """Middleware that answers 421 unless the Host header is a loopback name or one of ``names``. Ports do not matter:
    a forwarded port has another number."""

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self._app = app
        self._names = names_of(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == b"host"]
            if len(given) != 1 or not is_ours(given[0].decode("latin-1"), self._names):
                text = "this server does not answer to that Host; use the address it was announced with"
                await Problem(421, "UnknownHost", text).response()(scope, receive, send)
                return
        await self._app(scope, receive, send)


def names_of(names: Iterable[str]) -> frozenset[str]:
    """Declared names as ``is_ours`` compares them."""
    return frozenset(name.strip("[]").rstrip(".").lower() for name in names)


def is_ours(host: str, names: frozenset[str]) -> bool:
    """Whether a Host header is a loopback name or one of ``names``."""
    name = host_name(host)
    return name is not None and (name in names or is_loopback(name))


@lru_cache(maxsize=256)
def host_name(host: str) -> str | None:
    """The name or address in a Host header, lower case, without port, brackets and final dot; None when malformed."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        if not bracket or (port and not (port.startswith(":") and _is_port(port[1:]))):
            return None
    else:
        name, colon, port = host.partition(":")
        if colon and not _is_port(port):
            return None
    return name.rstrip(".").lower() or None


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5


@lru_cache(maxsize=256)
def is_loopback(name: str) -> bool:
    """Whether a name always means this machine. Only ``localhost`` itself: resolvers send names below it elsewhere."""
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
