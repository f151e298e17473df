"""Runs a proxy: on standard input and output for one run, or on a port for many."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from mcp.server.stdio import stdio_server

from api.mcp import web
from api.mcp.engine import Engine
from api.mcp.openers import Openers
from api.mcp.proxy import Options, Proxy
from api.mcp.upstream import ServerFault, ServerSays
from api.server import HttpServer
from controllers.runtime.clock import Clock
from decisions import tools
from schemas.base import DEFAULT_NAMESPACE
from schemas.tool_server import ToolServerSpec

LIST_S = 30.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy listens. ``hosts`` are names that it answers to beside loopback ones."""

    host: str
    port: int
    hosts: tuple[str, ...] = ()
    proxy_token: str = ""


def quiet() -> None:
    """The SDK logs messages as they came, with arguments and results: it is not to."""
    for name in ("mcp", "mcp_types", "httpx2", "httpcore2"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


async def on_stdio(
    options: Options, engine: Engine, openers: Openers, clock: Clock, *, token: str, namespace: str,
    new_key: Callable[[], str], secret: bytes,
) -> None:  # fmt: skip
    """Serve the run of ``token`` until its agent closes the input."""
    quiet()
    caller = web.caller_of(token)
    proxy = Proxy(
        options, engine, lambda spec: openers.upstream(options.server, namespace, spec), clock,
        who=lambda _: caller, new_key=new_key, secret=secret,
    )  # fmt: skip
    server = proxy.server()
    try:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        await proxy.aclose()


@dataclass(slots=True)
class _Life:
    stopping: asyncio.Event
    announce: Callable[[], None]

    def ready(self) -> None:
        self.announce()


async def on_port(
    options: Options, engine: Engine, openers: Openers, clock: Clock, place: Place, stop: asyncio.Event, *,
    namespace: str, new_key: Callable[[], str], secret: bytes, ready: Callable[[str], None],
) -> None:  # fmt: skip
    """Serve every run that comes with its token until ``stop``. ``ready`` is told the address. Raises Stalled when the
    port cannot be taken."""
    quiet()
    proxy = Proxy(
        options, engine, lambda spec: openers.upstream(options.server, namespace, spec), clock,
        who=web.who, new_key=new_key, secret=secret,
    )  # fmt: skip
    app = web.application(proxy, hosts=place.hosts, proxy_token=place.proxy_token)
    server = HttpServer(app, place.host, place.port, setting="--http")
    server.bind()
    try:
        await server.run(_Life(stop, lambda: ready(f"{server.url}{web.PATH}")))
    finally:
        await proxy.aclose()


async def offered(
    name: str, spec: ToolServerSpec, openers: Openers, namespace: str = DEFAULT_NAMESPACE
) -> list[tools.Offered]:
    """What a server offers now, for an operator who looks at it directly. Raises ServerFault."""
    quiet()
    upstream = openers.upstream(name, namespace, spec)
    try:
        return tools.offered([*await upstream.definitions(LIST_S), *await upstream.others(LIST_S)])
    except ServerSays as error:
        raise ServerFault(f"{name} answers with error {error.code}") from None
    finally:
        await upstream.aclose()
