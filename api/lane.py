"""A lane past HTTP library and framework, for the one request that is asked far more often than all others.

It takes only what nobody could read in two ways: a whole small request, of a fixed first line, with plain headers that
each stand once, whose body is as long as its Content-Length says. Everything else goes the ordinary way, and is refused
there if it is to be: the lane never refuses. Answers are those of the ordinary way, byte for byte but for the date.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Protocol

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from starlette.responses import Response

AUTHORIZE = "/agent/v1/authorize"
"""The path of that request."""
MOST_HEAD = 4 * 1024
MOST_BODY = 16 * 1024
"""Bytes that are read and checked in less time than a thread takes to begin."""
BODY_WITHIN_S = 0.05
"""Many clients send a body in a packet of its own. One that is later than this goes the ordinary way."""
_MOST_LATER = 64 * 1024
_HEADER = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,100}):([ -~]{0,1000})")
_END = b"\r\n\r\n"
_ELSEWHERE = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"content-encoding", b"trailer"))
"""Headers by which a request means more than it says at first."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back. ``headers`` as ASGI has them."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    @classmethod
    def of(cls, response: Response) -> Answer:
        """A response of the framework."""
        return cls(response.status_code, tuple(response.raw_headers), bytes(response.body))


class Lane(Protocol):
    """What answers there. ``line`` is the first line of its requests, without the line break."""

    line: bytes

    def take(
        self, headers: Mapping[bytes, bytes], body: bytes, answer: Callable[[Answer], None]
    ) -> Callable[[], None] | None:
        """Begin to answer, and call ``answer`` once, later, in the event loop; returns what to call when the client is
        gone. None: it is for the ordinary way. ``headers`` by their lower-case names, each of which stands once."""


class Unfinished:
    """What ``read`` gives for a request whose body is not complete."""


UNFINISHED = Unfinished()


def read(data: bytes, line: bytes) -> tuple[dict[bytes, bytes], bytes] | Unfinished | None:
    """Headers and body of a request that the lane may take; None for any other."""
    if not data.startswith(line):
        return None
    end = data.find(_END, 0, MOST_HEAD)
    if end < 0:
        return None
    first, *lines = data[:end].split(b"\r\n")
    if first != line:
        return None
    headers: dict[bytes, bytes] = {}
    for each in lines:
        match = _HEADER.fullmatch(each)
        if match is None:
            return None
        name = match[1].lower()
        if name in headers or name in _ELSEWHERE:
            return None
        headers[name] = match[2].strip(b" ")
    length = headers.get(b"content-length", b"")
    if not length.isdigit() or len(length) > 6 or b"host" not in headers:
        return None
    if headers.get(b"connection", b"keep-alive").lower() != b"keep-alive":
        return None
    body, wanted = data[end + 4 :], int(length)
    if wanted > MOST_BODY or len(body) > wanted:  # what follows a request is read by whoever knows how
        return None
    return (headers, body) if len(body) == wanted else UNFINISHED


@lru_cache(maxsize=64)
def _first_line(status: int) -> bytes:
    return b"HTTP/1.1 %d %s\r\n" % (status, HTTPStatus(status).phrase.encode())


class LaneProtocol(H11Protocol):
    """HTTP/1.1 as the library speaks it, with a lane beside it while a connection is between two requests."""

    lane: Lane | None = None
    _ticket: Callable[[], None] | None = None
    _ending = False
    _held = b""
    _held_until: asyncio.TimerHandle | None = None
    _later = b""

    @property
    def in_lane(self) -> bool:
        """Whether a request of the lane is being answered."""
        return self._ticket is not None

    def data_received(self, data: bytes) -> None:
        if self._ticket is not None:  # answers keep the order of their requests
            self._later += data
            if len(self._later) > _MOST_LATER:
                self.flow.pause_reading()
            return
        if self.lane is not None:
            data = self._let_go() + data
            if self._takes(self.lane, data):
                return
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()
        if self._ticket is not None:
            self._ticket()
            self._ticket = None
        super().connection_lost(exc)

    def shutdown(self) -> None:
        if self._ticket is not None:
            self._ending = True
        else:
            super().shutdown()

    def _takes(self, lane: Lane, data: bytes) -> bool:
        """Whether the lane answers, or waits a moment for the rest; False leaves everything as it was."""
        if not data.startswith(lane.line) or not _between_requests(self.conn):
            return False
        found = read(data, lane.line)
        if found is None:
            return False
        if isinstance(found, Unfinished):
            self._held = data
            self._held_until = self.loop.call_later(BODY_WITHIN_S, self._go_ordinary)
            return True
        self._ticket = lane.take(*found, self._answer)
        if self._ticket is None:
            return False
        self._unset_keepalive_if_required()
        return True

    def _let_go(self) -> bytes:
        """What was held of a request that was not complete."""
        held, self._held = self._held, b""
        if self._held_until is not None:
            self._held_until.cancel()
            self._held_until = None
        return held

    def _go_ordinary(self) -> None:
        held = self._let_go()
        if held and not self.transport.is_closing():
            lane, self.lane = self.lane, None
            try:
                self.data_received(held)
            finally:
                self.lane = lane

    def _answer(self, answer: Answer) -> None:
        if self._ticket is None:
            return
        self._ticket = None
        if self.transport.is_closing():
            return
        headers = (*self.server_state.default_headers, *answer.headers)
        head = b"".join([b"%s: %s\r\n" % header for header in headers])
        self.transport.write(b"%s%s\r\n%s" % (_first_line(answer.status), head, answer.body))
        self.on_response_complete()
        if self._ending:
            super().shutdown()
            return
        later, self._later = self._later, b""
        if later:
            self.data_received(later)


def _between_requests(conn: h11.Connection) -> bool:
    return conn.our_state is h11.IDLE and conn.their_state is h11.IDLE and conn.trailing_data == (b"", False)
