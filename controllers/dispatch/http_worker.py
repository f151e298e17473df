"""What is said to a worker behind HTTP, and what its answers mean."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import pydantic

from controllers.dispatch.environment import SecretMissing, SecretSource
from controllers.dispatch.executor import RunOrder
from controllers.secrets.http import credential
from controllers.web.reply import Fate, Limits, Reply
from schemas.executor import CancelMethod, ExecutorSpec, HttpWorker
from schemas.resource import canonical_json
from schemas.worker_answer import AnswerState, WorkerAnswer

SIGNATURE_VERSION = "v1"
LONGEST_PAUSE_S = 3600.0
"""A worker may ask to be left alone for so long at most."""


class Meaning(StrEnum):
    """What a reply says of a run."""

    RUNNING = "Running"  # the worker has it
    SUCCEEDED = "Succeeded"  # it is done
    FAILED = "Failed"  # it was tried, and failed
    CANCELED = "Canceled"  # the worker stopped it
    BUSY = "Busy"  # the worker did not take it, and may later
    DOWN = "Down"  # it certainly did not get it, and may later
    TURNED_DOWN = "TurnedDown"  # it did not take it, and never will
    UNKNOWN = "Unknown"  # it may have taken it


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply that was read. ``healthy`` says whether it shows the worker at work, None when it says nothing of it."""

    meaning: Meaning
    why: str = ""
    answer: WorkerAnswer | None = None
    healthy: bool | None = True
    after_s: float | None = None
    status_url: str = ""
    warning: str = ""

    @property
    def problem(self) -> str:
        """What was wrong with the request or its answer, "" when nothing was."""
        told = (Meaning.RUNNING, Meaning.SUCCEEDED, Meaning.FAILED, Meaning.CANCELED)
        return self.warning if self.meaning in told else self.why


def worker_of(executor_spec: Mapping[str, Any]) -> tuple[ExecutorSpec, HttpWorker]:
    """The spec and its block. Raises ValueError for another type."""
    spec = ExecutorSpec.model_validate(executor_spec)
    if spec.http is None:
        raise ValueError("the executor has no block http")
    return spec, spec.http


def limits_of(worker: HttpWorker) -> Limits:
    """What one request to it may take."""
    return Limits(worker.answer_timeout.total_seconds(), worker.max_answer, worker.allow_private)


def idempotency_key(mission_uid: str, number: int) -> str:
    """Of a run: the same however often it is posted, another one for the next attempt."""
    return f"{mission_uid}-{number}"


def without_secrets(url: str) -> str:
    """The address as records show it: without query, name and password."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def request_body(order: RunOrder, key: str) -> bytes:
    """What a worker is posted: the mission, and where and with which token its run is reported."""
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
    return canonical_json(body).encode()


def headers(
    worker: HttpWorker, secrets: SecretSource, project_root: Path, *, run: str, key: str, body: bytes, now: datetime
) -> dict[str, str]:
    """Headers of one request. Blocks. Raises SecretMissing, SecretUnavailable.

    ``Remit-Signature: t=<seconds since 1970>,v1=<hex>`` is the HMAC-SHA256, under the declared secret, of the time, a
    full stop and the body.
    """
    made = {"Accept": "application/json", "Remit-Run": run, "Idempotency-Key": key}
    if body:
        made["Content-Type"] = "application/json"
    for header in worker.headers:
        value = header.value
        if header.value_from is not None:
            value = _in_header(secrets.resolve(header.value_from, project_root), f"the header {header.name}")
        made[header.name] = value or ""
    if worker.auth is not None:
        token = secrets.resolve(worker.auth, project_root)
        if not credential(token):
            raise SecretMissing("what spec.http.auth names is no token: it takes printable ASCII without spaces")
        made["Authorization"] = f"Bearer {token}"
    if worker.signature is not None:
        made["Remit-Signature"] = sign(secrets.resolve(worker.signature, project_root), body, now)
    return made


def sign(secret: str, body: bytes, now: datetime) -> str:
    """The value of the header Remit-Signature."""
    at = str(int(now.timestamp()))
    digest = hmac.new(secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"t={at},{SIGNATURE_VERSION}={digest}"


def _in_header(value: str, what: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise SecretMissing(f"{what} has no value that a header can hold: printable ASCII in one line")
    return value


def cancel_request(worker: HttpWorker, run: str, key: str) -> tuple[str, str] | None:
    """Method and address that tell the worker to stop a run; None when none is declared."""
    if worker.cancel is None:
        return None
    path = worker.cancel.path.replace("{run}", run).replace("{key}", key)
    parts = urlsplit(worker.url)
    method = "DELETE" if worker.cancel.method is CancelMethod.DELETE else "POST"
    return method, urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def read_start(reply: Reply, worker: HttpWorker) -> Heard:
    """What a worker says to a run that it is posted."""
    if reply.fate is not Fate.ANSWERED:
        return _unanswered(reply)
    status = reply.status or 0
    if status in (429, 503):
        healthy = None if status == 429 else False
        return Heard(Meaning.BUSY, f"it answered {status}", healthy=healthy, after_s=_pause(reply))
    if status == 409 and worker.idempotent:
        return Heard(Meaning.BUSY, "it answered 409: it is taking the run", healthy=None, after_s=_pause(reply))
    if status >= 500 or status in (408, 425):
        return Heard(Meaning.UNKNOWN, f"it answered {status}", healthy=False, after_s=_pause(reply))
    if not 200 <= status < 300:
        text = "redirects are not followed: declare the address that it leads to" if status < 400 else "see its log"
        return Heard(Meaning.TURNED_DOWN, f"it answered {status}: {text}")
    return _read(reply, worker)


def read_poll(reply: Reply, worker: HttpWorker) -> Heard:
    """What a worker says when it is asked for a result. BUSY stands for no answer that counts: ask again."""
    if reply.fate is not Fate.ANSWERED:
        return Heard(Meaning.BUSY, reply.error, healthy=None)
    status = reply.status or 0
    if status in (404, 410):
        return Heard(Meaning.UNKNOWN, f"it answered {status}: it knows nothing of the run any more", healthy=None)
    if not 200 <= status < 300:
        return Heard(Meaning.BUSY, f"it answered {status}", healthy=None, after_s=_pause(reply))
    return _read(reply, worker)


def stopped(reply: Reply) -> bool:
    """Whether a worker confirms that a run is not, or no longer, at work."""
    return reply.fate is Fate.ANSWERED and reply.status in (200, 204, 404, 410)


def _unanswered(reply: Reply) -> Heard:
    if reply.fate is Fate.REFUSED:
        return Heard(Meaning.TURNED_DOWN, reply.error, healthy=None)
    meaning = Meaning.DOWN if reply.fate is Fate.NOT_SENT else Meaning.UNKNOWN
    return Heard(meaning, reply.error, healthy=False)


def _read(reply: Reply, worker: HttpWorker) -> Heard:
    """An answer that says that the worker has the run, or has done it."""
    answer = WorkerAnswer()
    if reply.data.strip():
        try:
            answer = WorkerAnswer.model_validate(json.loads(reply.data))
        except (ValueError, RecursionError) as error:
            if reply.status == 202:  # it says enough by its status
                return Heard(Meaning.RUNNING, answer=WorkerAnswer(), status_url=_same_host(worker, reply.location))
            return Heard(Meaning.UNKNOWN, f"it answered {reply.status}, but not as agreed: {_fault(error)}")
    url = _same_host(worker, answer.status_url or reply.location)
    if (answer.status_url or reply.location) and not url:
        why = "the status address that it named is on another host and is not asked"
        return Heard(Meaning(answer.stands.value), answer.message, answer, warning=why)
    return Heard(Meaning(answer.stands.value), answer.message, answer, status_url=url)


def _same_host(worker: HttpWorker, url: str) -> str:
    """The address, when it is on the worker's own scheme, host and port; else ""."""
    if not url:
        return ""
    try:
        whole = urljoin(worker.url, url)
        here, there = urlsplit(worker.url), urlsplit(whole)
        same = (here.scheme, here.hostname, here.port) == (there.scheme, there.hostname, there.port)
    except ValueError:
        return ""
    plain = "@" not in there.netloc and whole.isascii() and whole.isprintable() and " " not in whole
    return whole if same and plain else ""


def _pause(reply: Reply) -> float | None:
    return None if reply.retry_after_s is None else min(reply.retry_after_s, LONGEST_PAUSE_S)


def _fault(error: Exception) -> str:
    if isinstance(error, pydantic.ValidationError):
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return "it is no JSON"


assert {state.value for state in AnswerState} <= {meaning.value for meaning in Meaning}
