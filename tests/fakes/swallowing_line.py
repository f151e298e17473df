"""A line to a server that goes dead without a word, as a broken proxy or a forgotten NAT entry makes it: connections
stay open, and nothing comes through them any more."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class SwallowingLine:
    """Forwards connections to 127.0.0.1:``port``. ``swallow`` makes those that are open now silent, both ways; new ones
    work."""

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: set[socket.socket] = set()
        self._dead: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._start(self._accept)

    def swallow(self) -> int:
        """What is connected now says and hears nothing more; how many ends that are."""
        self._dead |= set(self._open)
        return len(self._dead)

    def __enter__(self) -> SwallowingLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed = True
        for end in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        for end in [self._listener, *self._open]:
            end.close()

    def _start(self, target: object, *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()  # nobody is there
                continue
            self._open |= {client, server}
            self._start(self._forward, client, server)
            self._start(self._forward, server, client)

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                if one not in self._dead:
                    other.sendall(data)
        if one in self._dead and not self._closed:
            return  # whoever hung up is not told on, either
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)
