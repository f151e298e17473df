"""What every kind of service behind HTTP has in common that runs are handed to: questions, answers, what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol
from urllib.parse import urljoin, urlsplit, urlunsplit

from controllers.dispatch.environment import SecretMissing, SecretSource
from controllers.dispatch.executor import RunOrder
from controllers.secrets.http import credential
from controllers.web.reply import Fate, Limits, Reply
from schemas.executor import Capabilities, HttpService
from schemas.run import Post
from schemas.secret import ValueFrom
from schemas.worker_answer import AnswerState, WorkerAnswer

LONGEST_PAUSE_S = 3600.0
"""A service may ask to be left alone for so long at most."""


class Meaning(StrEnum):
    """What a reply says of a run."""

    RUNNING = "Running"  # the service has it
    SUCCEEDED = "Succeeded"  # it is done
    FAILED = "Failed"  # it was tried, and failed
    CANCELED = "Canceled"  # the service stopped it
    BUSY = "Busy"  # the service did not take it, and may later
    DOWN = "Down"  # it certainly did not get it, and may later
    TURNED_DOWN = "TurnedDown"  # it did not take it, and never will
    UNKNOWN = "Unknown"  # it may have taken it


@dataclass(frozen=True, slots=True)
class Heard:
    """A reply that was read. ``healthy`` says whether it shows the service at work, None when it says nothing of it.
    ``status_url`` is where the result is asked for, ``task`` what the service calls the run. ``stuck`` says that it
    waits for something that it does not get here: it is told to stop."""

    meaning: Meaning
    why: str = ""
    answer: WorkerAnswer | None = None
    healthy: bool | None = True
    after_s: float | None = None
    status_url: str = ""
    task: str = ""
    warning: str = ""
    stuck: bool = False

    @property
    def problem(self) -> str:
        """What was wrong with the request or its answer, "" when nothing was."""
        told = (Meaning.RUNNING, Meaning.SUCCEEDED, Meaning.FAILED, Meaning.CANCELED)
        return self.warning if self.meaning in told else self.why


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent."""

    method: str
    url: str
    body: bytes = b""


class Dialect(Protocol):
    """How one service is spoken to. Nothing is sent here. ``idempotent`` says whether it does the work once however
    often a run is posted, ``polled`` whether it is asked for results."""

    @property
    def service(self) -> HttpService:
        """As declared."""

    @property
    def idempotent(self) -> bool: ...

    @property
    def polled(self) -> bool: ...

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def references(self) -> list[ValueFrom]:
        """The secrets that it takes."""

    def headers(
        self, secrets: SecretSource, project_root: Path, *, run: str, key: str, body: bytes, now: datetime
    ) -> dict[str, str]:
        """Headers of one request. Blocks. Raises SecretMissing, SecretUnavailable."""

    def find(self) -> Request | None:
        """What is asked before a run is posted, to learn where; None: that is declared."""

    def read_find(self, reply: Reply) -> str | Heard:
        """Where it is posted, or why it cannot be."""

    def start(self, order: RunOrder, key: str, url: str) -> Request:
        """What posts a run to ``url``."""

    def read_start(self, reply: Reply, url: str) -> Heard:
        """What the service says to a run that it was posted at ``url``."""

    def poll(self, post: Post) -> Request | None:
        """What asks for the result of a run; None when nothing can."""

    def read_poll(self, reply: Reply) -> Heard:
        """What the service says then. BUSY stands for no answer that counts: ask again."""

    def cancel(self, run: str, post: Post) -> Request | None:
        """What tells it to stop a run; None when nothing can."""

    def stopped(self, reply: Reply) -> bool:
        """Whether it confirms that the run is not, or no longer, at work."""


def limits_of(service: HttpService) -> Limits:
    """What one request to it may take."""
    return Limits(service.answer_timeout.total_seconds(), service.max_answer, service.allow_private)


def idempotency_key(mission_uid: str, number: int) -> str:
    """Of a run: the same however often it is posted, another one for the next attempt."""
    return f"{mission_uid}-{number}"


def without_secrets(url: str) -> str:
    """The address as records show it: without query, name and password."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def bearer(service: HttpService, secrets: SecretSource, project_root: Path, field: str) -> dict[str, str]:
    """The header that proves who asks. Raises SecretMissing, SecretUnavailable."""
    if service.auth is None:
        return {}
    token = secrets.resolve(service.auth, project_root)
    if not credential(token):
        raise SecretMissing(f"what {field} names is no token: it takes printable ASCII without spaces")
    return {"Authorization": f"Bearer {token}"}


def unanswered(reply: Reply) -> Heard:
    """What it means for a run that its request got no answer."""
    if reply.fate is Fate.REFUSED:
        return Heard(Meaning.TURNED_DOWN, reply.error, healthy=None)
    meaning = Meaning.DOWN if reply.fate is Fate.NOT_SENT else Meaning.UNKNOWN
    return Heard(meaning, reply.error, healthy=False)


def not_taken(reply: Reply) -> Heard | None:
    """What a reply to a run that was posted means by its fate and status alone; None where its body is to say."""
    if reply.fate is not Fate.ANSWERED:
        return unanswered(reply)
    status = reply.status or 0
    if status in (429, 503):
        healthy = None if status == 429 else False
        return Heard(Meaning.BUSY, f"it answered {status}", healthy=healthy, after_s=pause_of(reply))
    if status >= 500 or status in (408, 425):
        return Heard(Meaning.UNKNOWN, f"it answered {status}", healthy=False, after_s=pause_of(reply))
    if not 200 <= status < 300:
        text = "redirects are not followed: declare the address that it leads to" if status < 400 else "see its log"
        return Heard(Meaning.TURNED_DOWN, f"it answered {status}: {text}")
    return None


def pause_of(reply: Reply) -> float | None:
    """So long the service asks to be left alone."""
    return None if reply.retry_after_s is None else min(reply.retry_after_s, LONGEST_PAUSE_S)


def same_host(declared: str, url: str) -> str:
    """The address, as seen from the declared one, when it is on the same scheme, host and port; else ""."""
    if not url:
        return ""
    try:
        whole = urljoin(declared, url)
        here, there = urlsplit(declared), urlsplit(whole)
        same = (here.scheme, here.hostname, here.port) == (there.scheme, there.hostname, there.port)
    except ValueError:
        return ""
    plain = "@" not in there.netloc and whole.isascii() and whole.isprintable() and " " not in whole
    return whole if same and plain else ""


def meaning_of(answer: WorkerAnswer) -> Meaning:
    """The same as a meaning."""
    return Meaning(answer.stands.value)


assert {state.value for state in AnswerState} <= {meaning.value for meaning in Meaning}
