"""Secrets of tests: none of them is one. Files as they must be, and services that keep them, on 127.0.0.1."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from controllers.runtime.clock import SystemClock
from controllers.secrets.keeper import SecretKeeper, make_keeper
from controllers.secrets.sigv4 import Credentials, signed
from schemas.secret import ValueFrom
from schemas.secrets_config import SecretsConfig

VAULT_TOKEN = "hvs.test-token-of-the-engine-0001"
ACCESS_KEY, SECRET_KEY = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def private(path: Path, text: str) -> Path:
    """A file that only its owner can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def reference(**wire: Any) -> ValueFrom:
    """A reference as a spec writes it: ``reference(vault={"path": ..., "key": ...})``."""
    return ValueFrom.model_validate(wire)


def vault(path: str, key: str) -> ValueFrom:
    return reference(vault={"path": path, "key": key})


def aws(secret_id: str, key: str | None = None) -> ValueFrom:
    return reference(awsSecretsManager={"secretId": secret_id, **({"key": key} if key else {})})


@dataclass
class Hand:
    """A monotonic clock that is moved by hand."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def keeper(
    project: Path,
    config: Mapping[str, Any] | None = None,
    *,
    variables: Mapping[str, str] | None = None,
    monotonic: Any = None,
) -> SecretKeeper:
    """A keeper over a configuration as ``remit.yaml`` writes it."""
    return make_keeper(
        SecretsConfig.model_validate(config or {}),
        project=project,
        closed=(project / ".remit",),
        variables=variables if variables is not None else {},
        now=SystemClock().now,
        monotonic=monotonic or time.monotonic,
    )


@dataclass
class FakeService:
    """A service that keeps secrets. ``answers`` are (status, body) given to the next requests, whatever they ask;
    ``drip_s`` is the pause before each byte of an answer. ``requests`` are the headers of each, in lower case."""

    secrets: dict[str, Any] = field(default_factory=dict)
    answers: list[tuple[int, bytes]] = field(default_factory=list)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    token: str = VAULT_TOKEN
    drip_s: float = 0.0
    location: str = ""
    session: str = ""
    methods: list[str] = field(default_factory=list)
    url: str = ""
    host: str = ""

    def vault(self, path: str, headers: Mapping[str, str]) -> tuple[int, Any]:
        if headers.get("x-vault-token") != self.token:
            return 403, {"errors": ["permission denied"]}
        found = self.secrets.get(path.removeprefix("/v1/"))
        return (404, {"errors": []}) if found is None else (200, {"data": {"data": found, "metadata": {"version": 1}}})

    def aws(self, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        moment = datetime.strptime(headers.get("x-amz-date", ""), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        told = {name: headers[name] for name in ("content-type", "x-amz-target")}
        right = signed(
            "POST", self.host, "/", told, body, credentials=Credentials(ACCESS_KEY, SECRET_KEY, self.session),
            region="eu-central-1", service="secretsmanager", now=moment,
        )  # fmt: skip
        if headers.get("authorization") != right["authorization"]:
            return 400, {"__type": "UnrecognizedClientException", "message": "The security token is invalid."}
        found = self.secrets.get(json.loads(body)["SecretId"])
        if found is None:
            return 400, {"__type": "com.amazonaws.secretsmanager#ResourceNotFoundException", "message": "can't find"}
        return 200, {"SecretString": found} if isinstance(found, str) else found


@contextmanager
def service(**fields: Any) -> Iterator[FakeService]:
    """A running stand-in for Vault (GET) and AWS Secrets Manager (POST)."""
    fake = FakeService(**fields)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(b"")

        def do_PUT(self) -> None:
            self._answer(b"")

        def do_POST(self) -> None:
            self._answer(self.rfile.read(int(self.headers.get("content-length", "0"))))

        def _answer(self, body: bytes) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            fake.requests.append((self.path, headers))
            fake.methods.append(self.command)
            if fake.answers:
                status, data = fake.answers.pop(0)
            else:
                status, value = fake.aws(headers, body) if self.command == "POST" else fake.vault(self.path, headers)
                data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if fake.location:
                self.send_header("Location", fake.location)
            self.end_headers()
            try:
                for at in range(0, len(data), 1 if fake.drip_s else max(1, len(data))):
                    time.sleep(fake.drip_s)  # noqa: TID251  a slow server is slow in real time
                    self.wfile.write(data[at : at + (1 if fake.drip_s else len(data))])
                    self.wfile.flush()
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    fake.host = f"127.0.0.1:{server.server_address[1]}"
    fake.url = f"http://{fake.host}"
    try:
        yield fake
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
