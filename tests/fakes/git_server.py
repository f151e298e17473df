"""A git server over HTTP on 127.0.0.1 that serves real repositories and misbehaves on request."""

from __future__ import annotations

import base64
import gzip
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.fakes.repos import ENVIRONMENT


class GitServer:
    """Serves one repository. What goes wrong is set from the test, at any time:

    ``status`` answers every request with that HTTP status; ``hang_on`` (``info``, ``ls-refs`` or ``fetch``) accepts
    such a request and never answers; ``cut_after`` sends that many bytes of a pack and then hangs. `release` lets go
    of everything that hangs. ``password`` asks for one, of any user. ``requests`` lists what was asked for.
    """

    def __init__(self, repository: Path) -> None:
        self.repository = repository
        self.status: int | None = None
        self.redirect: str | None = None
        self.password: str | None = None
        self.hang_on: str | None = None
        self.cut_after: int | None = None
        self.requests: list[str] = []
        self.hanging = threading.Event()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """What to fetch from."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/specs.git"

    def hang(self) -> None:
        """Block the calling request until `release`."""
        self.hanging.set()
        self._released.wait(60)

    def release(self) -> None:
        """Let hanging requests end, by closing their connection."""
        self._released.set()

    def close(self) -> None:
        """Stop serving."""
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving(repository: Path) -> Iterator[GitServer]:
    """A server for the length of a test."""
    server = GitServer(repository)
    try:
        yield server
    finally:
        server.close()


def _handler(server: GitServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._serve("info", b"", ["--advertise-refs"], "application/x-git-upload-pack-advertisement")

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            what = "fetch" if b"command=fetch" in body else "ls-refs"
            self._serve(what, body, [], "application/x-git-upload-pack-result")

        def _serve(self, what: str, body: bytes, options: list[str], kind: str) -> None:
            server.requests.append(what)
            status = server.status
            if server.password is not None and not self._knows(server.password):
                status = 401
            if status is not None:
                self.send_response(status)
                if server.redirect is not None:
                    self.send_header("Location", server.redirect)
                if status == 401:
                    self.send_header("WWW-Authenticate", 'Basic realm="specs"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if server.hang_on == what:
                server.hang()
                self.close_connection = True
                return
            answer = subprocess.run(
                ["git", "upload-pack", "--stateless-rpc", *options, str(server.repository)],
                env={**ENVIRONMENT, "GIT_PROTOCOL": self.headers.get("Git-Protocol", "")},
                input=body,
                capture_output=True,
                check=False,
            ).stdout
            if what == "info":
                answer = b"001e# service=git-upload-pack\n0000" + answer
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if what == "fetch" and server.cut_after is not None:
                self.wfile.write(answer[: server.cut_after])
                self.wfile.flush()
                server.hang()
                self.close_connection = True
                return
            self.wfile.write(answer)

        def _knows(self, password: str) -> bool:
            _, _, given = self.headers.get("Authorization", "").partition(" ")
            return base64.b64decode(given).endswith(f":{password}".encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
