"""A World whose Http executors post runs: the real effects and their record, and replies that the test scripts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import cast

from controllers.dispatch.environment import LocalSecrets
from controllers.dispatch.http import POSTED
from controllers.effects import posts
from controllers.effects.http_runs import HttpRuns
from controllers.effects.runs import RunContext
from controllers.reconcilers.executors import Probe
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.tokens import RunTokens
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.clock import Clock
from controllers.web.client import HttpClient
from controllers.web.reply import Fate, Limits, Reply
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec
from tests.fakes.outbox_world import OutboxWorld

URL = "https://worker.example.com/runs"


class Killed(Exception):
    """The engine dies before it can write down how a request went."""


@dataclass(frozen=True)
class Sent:
    """A request that left."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None


def reply(status: int, body: str = "", *, location: str = "", retry_after_s: float | None = None) -> Reply:
    """An answer."""
    return Reply(Fate.ANSWERED, 7, status=status, data=body.encode(), location=location, retry_after_s=retry_after_s)


DOWN = Reply(Fate.NOT_SENT, 1, "no connection to worker.example.com:443: ConnectError")
LOST = Reply(Fate.UNCERTAIN, 3, "the connection broke: ReadError")


@dataclass
class ScriptedClient:
    """Answers with ``replies`` in their order, then with ``otherwise``."""

    replies: deque[Reply | type[Killed]] = field(default_factory=deque)
    otherwise: Reply = DOWN
    sent: list[Sent] = field(default_factory=list)

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None, limits: Limits
    ) -> Reply:
        """See ``HttpClient.send``."""
        self.sent.append(Sent(method, url, dict(headers), body))
        found = self.replies.popleft() if self.replies else self.otherwise
        if not isinstance(found, Reply):
            raise Killed
        return found


@dataclass
class HttpWorld(OutboxWorld):
    """``client`` says what the worker answers."""

    records = posts
    client: ScriptedClient = field(default_factory=ScriptedClient)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.runs = HttpRuns(
            self.store,
            RunContext(_Tokens(b"k" * 32), lambda: "http://127.0.0.1:1", self.folder),
            client=cast(HttpClient, self.client),
            secrets=LocalSecrets({"WORKER_TOKEN": "s3cret-of-the-worker", "SIGNING": "sign-with-this"}),
            files=ArtifactFiles(self.folder / "state"),
            blocking=InlineBlocking(),
            clock=cast(Clock, _Now(self.clock)),
            random=Random(1),
        )
        self._handlers |= {
            posts.POST: self.runs.post, posts.POLL: self.runs.poll, posts.STOP: self.runs.stop,
        }  # fmt: skip

    def _probe(self, spec: ExecutorSpec, namespace: str) -> Probe:
        if spec.type in POSTED:
            return Probe(ExecutorReason.RECONCILED, "", Capabilities(cancel=True))
        return super()._probe(spec, namespace)


class _Tokens(RunTokens):
    """Tokens of runs whose uids are no UUIDs."""

    def mint(self, run_uid: str, kind: str = "run") -> str:
        return f"rmt_{kind}_{run_uid}"


@dataclass
class _Now:
    """What effects use of a clock."""

    now: Callable[[], datetime]

    def monotonic(self) -> float:
        return float(self.now().timestamp())


def executor(http: str = "", *, retry: str = "{maxAttempts: 3}", more: str = "") -> str:
    """An Http executor, called like the one of the World's agents."""
    return (
        "apiVersion: remit.dev/v1alpha1\nkind: Executor\nmetadata: {name: local}\n"
        f"spec:\n  type: Http\n  http: {{url: '{URL}'{', ' + http if http else ''}}}\n  retry: {retry}\n{more}"
    )
