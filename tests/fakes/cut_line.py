"""A line to a database server that a test cuts where it hurts: a proxy on 127.0.0.1 that forwards bytes both ways."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from urllib.parse import urlsplit, urlunsplit


class CutLine:
    """Forwards connections to the server of ``url``. After ``cut_answer(marker)`` the next bytes from a client that
    hold the marker still reach the server, and its answer is swallowed: the line breaks once it came. ``cut_all``
    breaks what is connected now; ``refuse`` turns new connections away."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (str(parts.hostname), int(parts.port or 5432))
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{parts.username}@127.0.0.1:{port}"))
        self.refuse = False
        self.cuts = 0
        self._marker = b""
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        self._start(self._accept)

    def cut_answer(self, marker: bytes) -> None:
        """Swallow the answer to the next message with this marker."""
        self._marker = marker

    def cut_all(self) -> None:
        """Break every connection."""
        for end in list(self._open):
            _shut(end)

    def __enter__(self) -> CutLine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closed = True
        _shut(self._listener)
        self.cut_all()
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

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
            if self.refuse:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._open |= {client, server}
            self._start(self._forward, client, server)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        """Both directions of one connection."""
        swallow = threading.Event()

        def back() -> None:
            with contextlib.suppress(OSError):
                while data := server.recv(65536):
                    if swallow.is_set():
                        self.cuts += 1
                        break
                    client.sendall(data)
            _shut(client)
            _shut(server)

        answers = threading.Thread(target=back, daemon=True)
        answers.start()
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self._marker and self._marker in data:
                    self._marker = b""
                    swallow.set()
                server.sendall(data)
        _shut(server)
        answers.join()
        for end in (client, server):
            self._open.discard(end)
            end.close()


def _shut(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
