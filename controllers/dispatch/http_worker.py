"""What is said to a worker behind HTTP, and what its answers mean."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pydantic

from controllers.dispatch.dialect import (
    Heard,
    Meaning,
    Request,
    bearer,
    meaning_of,
    not_taken,
    pause_of,
    same_host,
)
from controllers.dispatch.environment import SecretMissing, SecretSource
from controllers.dispatch.executor import RunOrder
from controllers.web.reply import Fate, Reply
from schemas.executor import CancelMethod, Capabilities, HttpResult, HttpWorker
from schemas.resource import canonical_json
from schemas.run import Post
from schemas.secret import ValueFrom
from schemas.worker_answer import WorkerAnswer

SIGNATURE_VERSION = "v1"


@dataclass(frozen=True, slots=True)
class WorkerDialect:
    """See ``dialect.Dialect``."""

    service: HttpWorker

    @property
    def idempotent(self) -> bool:
        """As declared."""
        return self.service.idempotent

    @property
    def polled(self) -> bool:
        """As declared."""
        return self.service.result is HttpResult.POLL

    @property
    def capabilities(self) -> Capabilities:
        """A worker that calls back can ask for leave."""
        calls_back = self.service.result is HttpResult.CALLBACK
        return Capabilities(cancel=self.service.cancel is not None, cost_reporting=True, approvals=calls_back)

    @property
    def references(self) -> list[ValueFrom]:
        """See ``Dialect.references``."""
        worker = self.service
        named = [worker.auth, worker.signature, *(header.value_from for header in worker.headers)]
        return [reference for reference in named if reference is not None]

    def headers(
        self, secrets: SecretSource, project_root: Path, *, run: str, key: str, body: bytes, now: datetime
    ) -> dict[str, str]:
        """See ``Dialect.headers``.

        ``Remit-Signature: t=<seconds since 1970>,v1=<hex>`` is the HMAC-SHA256, under the declared secret, of the time,
        a full stop and the body.
        """
        worker = self.service
        made = {"Accept": "application/json", "Remit-Run": run, "Idempotency-Key": key}
        if body:
            made["Content-Type"] = "application/json"
        for header in worker.headers:
            value = header.value
            if header.value_from is not None:
                value = _in_header(secrets.resolve(header.value_from, project_root), f"the header {header.name}")
            made[header.name] = value or ""
        made |= bearer(worker, secrets, project_root, "spec.http.auth")
        if worker.signature is not None:
            made["Remit-Signature"] = sign(secrets.resolve(worker.signature, project_root), body, now)
        return made

    def find(self) -> Request | None:
        """See ``Dialect.find``: where runs are posted is declared."""
        return None

    def read_find(self, reply: Reply) -> str | Heard:
        """See ``Dialect.read_find``."""
        return self.service.url

    def start(self, order: RunOrder, key: str, url: str) -> Request:
        """See ``Dialect.start``: the mission, and where and with which token its run is reported."""
        body = {
            "apiVersion": order.mission["apiVersion"],
            "kind": "RunRequest",
            "key": key,
            "run": order.run_uid,
            "name": order.run_name,
            "namespace": order.namespace,
            "attempt": order.attempt,
            "timeoutSeconds": order.deadline_s,
            "callback": {"url": order.agent_url, "run": order.run_uid, "token": order.token},
            "mission": order.mission,
        }
        return Request("POST", url, canonical_json(body).encode())

    def read_start(self, reply: Reply, url: str) -> Heard:
        """See ``Dialect.read_start``."""
        if reply.status == 409 and self.idempotent:
            text = "it answered 409: it is taking the run"
            return Heard(Meaning.BUSY, text, healthy=None, after_s=pause_of(reply))
        return not_taken(reply) or self._read(reply)

    def poll(self, post: Post) -> Request | None:
        """See ``Dialect.poll``: the address that the worker named."""
        return Request("GET", post.status_url) if post.status_url else None

    def read_poll(self, reply: Reply) -> Heard:
        """See ``Dialect.read_poll``."""
        if reply.fate is not Fate.ANSWERED:
            return Heard(Meaning.BUSY, reply.error, healthy=None)
        status = reply.status or 0
        if status in (404, 410):
            return Heard(Meaning.UNKNOWN, f"it answered {status}: it knows nothing of the run any more", healthy=None)
        if not 200 <= status < 300:
            return Heard(Meaning.BUSY, f"it answered {status}", healthy=None, after_s=pause_of(reply))
        return self._read(reply)

    def cancel(self, run: str, post: Post) -> Request | None:
        """See ``Dialect.cancel``: as declared."""
        cancel = self.service.cancel
        if cancel is None:
            return None
        path = cancel.path.replace("{run}", run).replace("{key}", post.key)
        parts = urlsplit(self.service.url)
        method = "DELETE" if cancel.method is CancelMethod.DELETE else "POST"
        return Request(method, urlunsplit((parts.scheme, parts.netloc, path, "", "")))

    def stopped(self, reply: Reply) -> bool:
        """See ``Dialect.stopped``."""
        return reply.fate is Fate.ANSWERED and reply.status in (200, 204, 404, 410)

    def _read(self, reply: Reply) -> Heard:
        """An answer that says that the worker has the run, or has done it."""
        answer, here = WorkerAnswer(), self.service.url
        if reply.data.strip():
            try:
                answer = WorkerAnswer.model_validate(json.loads(reply.data))
            except (ValueError, RecursionError) as error:
                if reply.status == 202:  # it says enough by its status
                    return Heard(Meaning.RUNNING, answer=answer, status_url=same_host(here, reply.location))
                return Heard(Meaning.UNKNOWN, f"it answered {reply.status}, but not as agreed: {_fault(error)}")
        url = same_host(here, answer.status_url or reply.location)
        if (answer.status_url or reply.location) and not url:
            why = "the status address that it named is on another host and is not asked"
            return Heard(meaning_of(answer), answer.message, answer, warning=why)
        return Heard(meaning_of(answer), answer.message, answer, status_url=url)


def sign(secret: str, body: bytes, now: datetime) -> str:
    """The value of the header Remit-Signature."""
    at = str(int(now.timestamp()))
    digest = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},{SIGNATURE_VERSION}={digest}"


def _in_header(value: str, what: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise SecretMissing(f"{what} has no value that a header can hold: printable ASCII in one line")
    return value


def _fault(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return "it is no JSON"
