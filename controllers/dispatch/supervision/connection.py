"""One client of the supervisor: bytes in, requests out; answers and events back, without ever waiting for it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from controllers.dispatch.supervision import wire
from controllers.dispatch.supervision.loop import READ, WRITE, Loop

MAX_BACKLOG = 16 * 1024 * 1024
_CHUNK = 262_144


class Connection:
    """Reads requests from ``peer`` and writes back what ``dispatch`` answers.

    A client that sends something else than the protocol, or does not read what it is sent, is dropped; ``on_close``
    is told once. Its runs go on.
    """

    def __init__(
        self,
        peer: socket.socket,
        loop: Loop,
        dispatch: Callable[[dict[str, Any]], dict[str, Any]],
        on_close: Callable[[Connection], None],
    ) -> None:
        peer.setblocking(False)
        self._peer = peer
        self._loop = loop
        self._dispatch = dispatch
        self._on_close = on_close
        self._lines = wire.LineBuffer()
        self._out = bytearray()
        self._open = True
        loop.watch(peer.fileno(), READ, self._ready)

    def send(self, data: bytes) -> None:
        """Queue bytes for the client and write what it takes now."""
        if not self._open:
            return
        self._out += data
        if len(self._out) > MAX_BACKLOG:
            self.close()
            return
        self._flush()

    def close(self) -> None:
        """Drop the client. Idempotent."""
        if self._open:
            self._open = False
            self._loop.unwatch(self._peer.fileno())
            self._peer.close()
            self._on_close(self)

    def _ready(self) -> None:
        self._flush()
        if not self._open:
            return
        try:
            data = self._peer.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        try:
            for line in self._lines.feed(data):
                if line and self._open:
                    self.send(wire.encode(self._dispatch(wire.decode(line))))
        except wire.ProtocolError:
            self.close()

    def _flush(self) -> None:
        try:
            while self._out:
                sent = self._peer.send(self._out)
                del self._out[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._loop.watch(self._peer.fileno(), READ | WRITE if self._out else READ, self._ready)
