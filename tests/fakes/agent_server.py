"""A small, strict server of the agent protocol for tests of the client and of the starter agents.

It listens on a real port of 127.0.0.1, checks every request against the contract (token, idempotency key, messages of
schemas.protocol), carries each key out once, and can be told to misbehave: see ``Fault``. ``crash`` closes the port and
every connection, ``start`` opens the same port again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import ValidationError

from schemas.authorize import AuthorizeMessage
from schemas.base import Model
from schemas.protocol import (
    CompleteMessage,
    ContentMessage,
    FailMessage,
    HeartbeatMessage,
    ProgressMessage,
    ToolResultMessage,
    UsageMessage,
)
from tests.fakes.ports import free_port

TOKEN = "run-token-of-the-test"
RUN = "check-links-1"

_MESSAGES: dict[str, type[Model]] = {
    "heartbeat": HeartbeatMessage,
    "progress": ProgressMessage,
    "usage": UsageMessage,
    "artifacts": ContentMessage,
    "complete": CompleteMessage,
    "fail": FailMessage,
    "authorize": AuthorizeMessage,
    "tool-results": ToolResultMessage,
}


@dataclass(frozen=True)
class Fault:
    """What to do instead of an ordinary answer. ``execute``: carry the request out all the same, and lose the answer.

    ``status`` with ``body`` and ``headers`` answers with them; ``raw`` sends these bytes instead of HTTP; neither of
    them drops the connection. ``delay_s`` waits first, or ``after`` until so many requests of that verb came in.
    """

    status: int | None = None
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None
    delay_s: float = 0.0
    execute: bool = False
    after: tuple[str, int] | None = None


@dataclass(frozen=True)
class Received:
    """One request as it came in."""

    verb: str
    key: str | None
    body: Any
    headers: dict[str, str]


class AgentServer:
    """See the module. Use as a context manager, or with ``start`` and ``close``."""

    def __init__(self, run: str = RUN, token: str = TOKEN) -> None:
        self.run = run
        self.token = token
        self.received: list[Received] = []
        self.carried_out: list[Received] = []
        self.ended: str | None = None
        self.token_dead = False
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.inbox: list[dict[str, Any]] = []
        self.down = threading.Event()
        self.hears_acks = True
        self.cancels_by_heartbeat = False
        self.verdict: dict[str, Any] = {"decision": "allow", "code": "Allowed", "reason": "as told by the test"}
        self._answers: dict[str, tuple[int, dict[str, Any]]] = {}
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)
        self._port = free_port()  # so that nobody takes it while it is down
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    # For tests

    @property
    def url(self) -> str:
        """Where it listens, also while it is down."""
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> AgentServer:
        """Open the port (the same one after a crash)."""
        self.down.clear()
        self._server = _Server(("127.0.0.1", self._port), self)
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def crash(self) -> None:
        """Close the port and cut every connection; what was carried out stays carried out."""
        server, thread = self._server, self._thread
        self._server = self._thread = None
        if server is None or thread is None:
            return
        self.down.set()
        server.shutdown()
        thread.join()
        server.cut()
        server.server_close()
        with self._news:
            self._news.notify_all()
        server.join_all()

    close = crash

    def __enter__(self) -> AgentServer:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def fault(self, verb: str, *faults: Fault) -> None:
        """Misbehave on the next requests of ``verb``, one fault each, in order."""
        with self._lock:
            self.faults[verb].extend(faults)

    def notify(self, type_: str, id_: str | None = None, **more: Any) -> None:
        """Put an item into the inbox. Items stay there and are delivered again and again until they are
        acknowledged (with ``hears_acks`` off, even then)."""
        with self._news:
            self.inbox.append({"id": id_ or f"n{len(self.inbox) + 1}", "type": type_, **more})
            self._news.notify_all()

    def wait_for(self, verb: str, count: int = 1, timeout_s: float = 120.0) -> None:
        """Block until ``count`` requests of ``verb`` came in. Raises AssertionError when they do not."""
        with self._news:
            good = self._news.wait_for(lambda: len(self.of(verb)) >= count, timeout_s)
        assert good, f"{count} x {verb} expected, got {[r.verb for r in self.received]}"

    def of(self, verb: str) -> list[Received]:
        """Requests of ``verb`` as they came in, repetitions included."""
        return [r for r in self.received if r.verb == verb]

    def done(self, verb: str) -> list[Any]:
        """Bodies of the requests of ``verb`` that were carried out, each logical one once."""
        return [r.body for r in self.carried_out if r.verb == verb]

    @property
    def deliverable(self) -> dict[str, Any]:
        """The deliverable that was handed in. Fails when there is none."""
        (body,) = self.done("complete")
        return body["deliverable"]

    def artifact(self, name: str) -> str:
        """Text of the artifact of that name."""
        (body,) = [a for a in self.done("artifacts") if a["name"] == name]
        return body["text"] if "text" in body else base64.b64decode(body["base64"]).decode()

    def environ(self, **more: str) -> dict[str, str]:
        """What a run's program gets, without the mission."""
        return {"REMIT_URL": self.url, "REMIT_RUN": self.run, "REMIT_TOKEN": self.token, **more}

    # For the handler

    def take_fault(self, verb: str) -> Fault | None:
        """The next misbehaviour planned for ``verb``."""
        with self._lock:
            return self.faults[verb].popleft() if self.faults[verb] else None

    def note(self, received: Received) -> None:
        """Remember a request."""
        with self._news:
            self.received.append(received)
            self._news.notify_all()

    def answer(self, method: str, path: str, received: Received) -> tuple[int, dict[str, Any]]:
        """Carry a request out; the same key gets the same answer."""
        with self._news:
            authorized = received.headers.get("authorization") == f"Bearer {self.token}"
            key = received.key
            if authorized and key is not None and key in self._answers:
                return self._answers[key]
            if self.token_dead or not authorized:
                return _problem(401, "TokenDead", "the token is not valid any more")
            parts = [unquote(part) for part in urlsplit(path).path.split("/")]
            if parts[:4] == ["", "agent", "v1", "decisions"] and method == "GET":
                return self._serve_decision(path)
            if parts == ["", "agent", "v1", "authorize"] and method == "POST":
                return self._decide(received)
            if len(parts) != 6 or parts[:5] != ["", "agent", "v1", "runs", self.run]:
                return _problem(404, "NotFound", "no such run")
            if (method, received.verb) == ("GET", "inbox"):
                return self._serve_inbox(path)
            if method != "POST" or received.verb not in _MESSAGES:
                return _problem(404, "NotFound", "no such verb")
            if self.ended:
                return _problem(409, "RunEnded", f"the run has ended: {self.ended}")
            complaint = _check(received)
            if complaint:
                return _problem(422, "Invalid", complaint)
            if received.verb == "complete":
                known = {a["name"] for a in self.done("artifacts")}
                missing = [name for name in received.body["evidence"] if name not in known]
                if missing:
                    return _problem(409, "EvidenceMissing", f"no artifact {missing[0]!r}")
            answer: tuple[int, dict[str, Any]] = (200, {"accepted": True, "run": self.run})
            if received.verb == "heartbeat":
                answer[1]["cancel"] = self.cancels_by_heartbeat
            assert key is not None
            self._answers[key] = answer
            self.carried_out.append(received)
            if received.verb in ("complete", "fail"):
                self.ended = received.verb
            self._news.notify_all()
            return answer

    def decide(self, decision: str, **more: Any) -> None:
        """Answer calls, also those that wait, like this from now on."""
        with self._news:
            self.verdict = {"decision": decision, "code": "Approved", "reason": "as told by the test", **more}
            self._news.notify_all()

    def _decide(self, received: Received) -> tuple[int, dict[str, Any]]:
        complaint = _check(received)
        if complaint:
            return _problem(422, "Invalid", complaint)
        if received not in self.carried_out and received.key not in {r.key for r in self.carried_out}:
            self.carried_out.append(received)
        return 200, {"decisionId": "decision-1", "toolCall": "call-1", **self.verdict}

    def _serve_decision(self, path: str) -> tuple[int, dict[str, Any]]:
        wait_s = int(parse_qs(urlsplit(path).query)["wait"][0])
        if not 0 <= wait_s <= 50:
            return _problem(422, "Invalid", "wait is 0..50")
        if self.verdict["decision"] == "ask" and not self.verdict.get("authorizeAgain"):
            asked = self.verdict
            self._news.wait_for(lambda: self.verdict is not asked or self._server is None or self.token_dead, wait_s)
        if self.token_dead:
            return _problem(401, "TokenDead", "the token is not valid any more")
        return 200, {"decisionId": "decision-1", "toolCall": "call-1", **self.verdict}

    def _serve_inbox(self, path: str) -> tuple[int, dict[str, Any]]:
        query = parse_qs(urlsplit(path).query)
        wait_s = int(query["wait"][0])
        if not 0 <= wait_s <= 50:
            return _problem(422, "Invalid", "wait is 0..50")
        known = set(query.get("ack", [])) if self.hears_acks else set()
        seen = len(self.inbox)

        def news() -> list[dict[str, Any]]:
            return [item for item in self.inbox if item["id"] not in known]

        # What is there is delivered at once; else news end the wait.
        if not news():
            self._news.wait_for(lambda: len(self.inbox) > seen or self._server is None or self.token_dead, wait_s)
        if self.token_dead:
            return _problem(401, "TokenDead", "the token is not valid any more")
        return 200, {"items": news()}


def _check(received: Received) -> str:
    if not received.key or len(received.key) > 200:
        return "a write carries an Idempotency-Key"
    if received.headers.get("content-type") != "application/json":
        return "a write is application/json"
    try:
        _MESSAGES[received.verb].model_validate_json(json.dumps(received.body))
    except ValidationError as error:
        return str(error)
    return ""


def _problem(status: int, code: str, detail: str) -> tuple[int, dict[str, Any]]:
    return status, {"type": "about:blank", "title": code, "status": status, "detail": detail, "code": code}


class _Server(ThreadingHTTPServer):
    """Knows its connections, so that it can cut them."""

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], owner: AgentServer) -> None:
        self.owner = owner
        self._sockets: set[socket.socket] = set()
        self._workers: list[threading.Thread] = []
        self._guard = threading.Lock()
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread of its own."""
        with self._guard:
            self._sockets.add(request)
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        self._workers.append(thread)
        thread.start()

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection and close it."""
        with self._guard:
            self._sockets.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Peers that go away are part of the tests."""

    def cut(self) -> None:
        """End every connection as a killed process would."""
        with self._guard:
            for connection in self._sockets:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def join_all(self) -> None:
        """Wait for the threads, so that no test leaves one behind."""
        for thread in self._workers:
            thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""

    def _serve(self) -> None:
        owner = self.server.owner
        length = int(self.headers.get("content-length") or 0)
        data = self.rfile.read(length)
        verb = urlsplit(self.path).path.rpartition("/")[2]
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(data) if data else None
        received = Received(verb, headers.get("idempotency-key"), body, headers)
        owner.note(received)
        fault = owner.take_fault(verb)
        if fault is None:
            status, answer = owner.answer(self.command, self.path, received)
            kind = "application/json" if status < 400 else "application/problem+json"
            self._reply(status, json.dumps(answer).encode(), {"Content-Type": kind})
            return
        if fault.execute:
            owner.answer(self.command, self.path, received)
        if fault.after is not None:
            owner.wait_for(*fault.after)
        if fault.delay_s:
            owner.down.wait(fault.delay_s)
        if fault.status is not None:
            self._reply(fault.status, fault.body, fault.headers)
            return
        self.close_connection = True
        if fault.raw is not None:
            self.wfile.write(fault.raw)

    def _reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextlib.contextmanager
def restarting(server: AgentServer, down_s: float) -> Iterator[None]:
    """The engine is down at the start of the block and comes back after ``down_s`` seconds."""
    server.crash()
    timer = threading.Timer(down_s, server.start)
    timer.start()
    try:
        yield
    finally:
        timer.join()
