"""Runs an application on a port, as a component of the process: its start, its readiness, and an end within seconds."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import RequestResponseCycle

from api.lane import Lane, LaneProtocol
from schemas.errors import Stalled

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

log = logging.getLogger(__name__)

BACKLOG = 2048
HEAD_S = 10.0
"""A request line and its headers arrive within this time, or the connection is closed."""
LINGER_S = 5.0
"""So long is read on, to no purpose, what a client sends after it was answered: closing at once would often keep the
answer from it."""
KEEP_ALIVE_S = 15
GRACE_S = 2
"""Requests that are being answered when the server stops have this long."""
UNREAD_BYTES = 64 * 1024
"""About so much is sent ahead to a stream's client that does not read."""
DIRECT = "remit.direct"
"""The extension (in the scope of a request) that makes a ``DirectBody``."""
_HEAD_BYTES = 32 * 1024


class Life(Protocol):
    """What a component is told and tells (``controllers.runtime.lifecycle.Lifecycle``)."""

    stopping: asyncio.Event

    def ready(self) -> None:
        """It does its work now."""


class HttpServer:
    """Serves ``app`` on ``host:port`` (port 0: any free one). ``run`` is a component for the manager, and may run again
    after it ended. ``setting`` is the configuration key of the address, for messages. ``on_stop`` is called when the
    server is to stop, so that whoever waits lets go. ``lane`` answers some requests past the application. ``tls`` holds
    the certificate; one that is loaded into it later is what new connections see.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        *,
        setting: str = "listen",
        on_stop: Callable[[], None] = lambda: None,
        lane: Lane | None = None,
        head_s: float = HEAD_S,
        linger_s: float = LINGER_S,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._setting = setting
        self._on_stop = on_stop
        self._tls = tls
        self._http = type("TimedH11", (_TimedH11,), {"head_s": head_s, "linger_s": linger_s, "lane": lane})
        self._socket: socket.socket | None = None

    def bind(self) -> None:
        """Take the port, so that nothing else can and `url` is known; ``run`` does it otherwise. Raises Stalled that
        names the address and what to do."""
        if self._socket is None:
            self._socket = _listen(self._host, self._port, self._setting)

    @property
    def port(self) -> int:
        """The port, once bound; the declared one before."""
        return self._port if self._socket is None else int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        """Where it is reached, without trailing slash. A server that listens everywhere is reached on loopback."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._host, self._host)  # noqa: S104
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://[{host}]:{self.port}" if ":" in host else f"{scheme}://{host}:{self.port}"

    async def run(self, life: Life) -> None:
        """Serve until ``life.stopping``; ends at most three seconds after it, whatever clients do. Raises Stalled when
        the port cannot be taken."""
        self.bind()
        assert self._socket is not None
        listener = self._socket
        tls = self._tls
        config = uvicorn.Config(
            self._app,
            http=self._http,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=GRACE_S,
            h11_max_incomplete_event_size=_HEAD_BYTES,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )
        server = _Embedded(config, life.ready)
        stopper = asyncio.create_task(self._stop_with(life, server))
        try:
            await server.serve(sockets=[listener])
        except SystemExit as error:
            # The server library leaves the process when the application cannot start; this process has other parts.
            raise RuntimeError(f"the application on {self.url} did not start; the log has the reason") from error
        finally:
            self._socket = None
            stopper.cancel()
            self._on_stop()
            listener.close()
            server.drop_connections()

    async def _stop_with(self, life: Life, server: uvicorn.Server) -> None:
        await life.stopping.wait()
        self._on_stop()
        server.should_exit = True


class _Embedded(uvicorn.Server):
    """A server that leaves signals to the process it is a part of."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    def drop_connections(self) -> None:
        """Cut what outlived the grace."""
        for connection in list(self.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()


class DirectBody:
    """Writes pieces of a chunked body past everybody who may look at messages, once the head of the answer is sent: for
    streams, which send many small pieces to many clients. The end of the body is sent as a message again."""

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        held = cycle.transport.get_extra_info("socket")
        if held is not None:
            with contextlib.suppress(OSError):
                # What a client does not read stays in this process, and is little, rather than in the kernel's memory.
                held.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNREAD_BYTES)

    async def send(self, piece: bytes) -> None:
        """Send ``piece`` as soon as the client has read enough of what was sent before."""
        cycle = self._cycle
        if cycle.flow.write_paused and not cycle.disconnected:
            await cycle.flow.drain()
        self.push(piece)

    def push(self, piece: bytes) -> bool:
        """Send ``piece`` now; False when the client has to read first, or has gone."""
        cycle = self._cycle
        if cycle.flow.write_paused or cycle.disconnected:
            return False
        if piece:  # an empty one would end the body
            cycle.transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        return True


class _TimedH11(LaneProtocol):
    """HTTP/1.1 with deadlines where the library has none: for the head of a request, and for what a client goes on
    sending after it was answered."""

    head_s = HEAD_S
    linger_s = LINGER_S
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_within(self.head_s)

    def handle_events(self) -> None:
        super().handle_events()
        cycle = self.cycle
        if cycle is not None and not cycle.response_started and cycle.scope["http_version"] == "1.1":
            # Its task was made just now and has not begun.
            scope: Scope = cast("Scope", cycle.scope)
            scope["extensions"] = {DIRECT: functools.partial(DirectBody, cycle)}

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.is_closing() or self.in_lane:
            self._expect_nothing()
        elif self.cycle is not None and not self.cycle.response_complete:
            self._expect_nothing()  # a request is being answered; its body has a deadline of its own
        elif self._deadline is None:
            self._expect_within(self.head_s)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_nothing()
        if self.cycle is not None and self.cycle.response_complete and self.cycle.more_body:
            self._expect_within(self.linger_s)

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        self._deadline = self.loop.call_later(seconds, self._give_up)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


def _listen(host: str, port: int, setting: str) -> socket.socket:
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if not 0 <= port <= 65535:
        # The resolver would take it modulo 65536.
        raise Stalled(f"cannot listen on {where}: ports go up to 65535. Change {setting}", reason="AddressUnusable")
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        text = f"cannot listen on {where}: {error}. Set {setting} to an address of this machine"
        raise Stalled(text, reason="AddressUnusable") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _refusal(where, port, setting, error) from error
    return listener


def _refusal(where: str, port: int, setting: str, error: Exception) -> Stalled:
    code = getattr(error, "errno", None)
    if code == errno.EADDRINUSE:
        text = (
            f"cannot listen on {where}: another program has that port. Find it with `ss -ltnp 'sport = :{port}'` and"
            f" stop it, or set {setting} to another port"
        )
        return Stalled(text, reason="AddressInUse")
    if code == errno.EACCES:
        text = f"cannot listen on {where}: this user may not take that port. Set {setting} to a port above 1023"
        return Stalled(text, reason="AddressUnusable")
    return Stalled(
        f"cannot listen on {where}: {error}. Set {setting} to an address and port of this machine",
        reason="AddressUnusable",
    )
