"""An engine that answers "may I?" as a test tells it, on a port of this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Gate:
    """``answers`` are served one after the other, the last one again and again: (status, body, headers). ``asked``
    holds (method, path, body, headers) of what came in."""

    def __init__(self, *answers: tuple[int, Any] | tuple[int, Any, dict[str, str]]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.url = ""

    def next(self) -> tuple[int, bytes, dict[str, str]]:
        """The answer that is due."""
        status, body, *headers = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return status, data, headers[0] if headers else {}

    @contextmanager
    def serving(self) -> Iterator[Gate]:
        """Serves inside the block."""
        gate = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                gate.asked.append((self.command, self.path, body, dict(self.headers)))
                status, data, headers = gate.next()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = _serve

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
