"""The contract of every executor: what it is given, what it promises, and how it tells how a run ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from controllers.dispatch.usage import UsageReport
from schemas.executor import Capabilities
from schemas.mission import Artifact
from schemas.redaction import STANDARD
from schemas.run import RunReason, RunState


@dataclass(frozen=True, slots=True)
class Resumed:
    """A session to go on with: its id, the run that had it last, and the one that began it."""

    session: str
    run_uid: str
    first_uid: str


@dataclass(frozen=True, slots=True)
class RunOrder:
    """Everything that starting one run needs.

    ``run_uid`` is the idempotency key. ``executor_spec`` is a canonical Executor spec. ``mission`` is the document
    handed to the agent. ``token`` is a secret: it is given to the agent and stored nowhere. ``deadline_s`` counts
    from the start and tightens the executor's timeout; None leaves that alone. ``executor_namespace`` is where the
    executor is declared, "" for that of the run: a secret must be granted to both. ``redaction`` is the level for
    what the program prints. ``hook_token`` is a secret too: that of the hook which the executor declares, if it does.
    ``resumes`` is the session to go on with; where nothing is left of it the run begins anew.
    """

    run_uid: str
    run_name: str
    namespace: str
    attempt: int
    executor_spec: dict[str, Any]
    mission: dict[str, Any]
    agent: str
    token: str
    agent_url: str
    project_root: Path
    deadline_s: float | None = None
    executor_namespace: str = ""
    redaction: str = STANDARD
    hook_token: str = ""
    resumes: Resumed | None = None

    def __repr__(self) -> str:
        return f"RunOrder({self.namespace}/{self.run_name}, uid {self.run_uid}, attempt {self.attempt})"


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run ended.

    ``state`` is one of Succeeded, Failed, Canceled, TimedOut and Lost. ``result`` is JSON and holds what there is of
    ``deliverable``, ``truncated``, ``sessionId``, ``denied`` (tools refused to the agent), ``deferred`` (a tool call
    that waits for an approval) and ``cause`` (the program's own word for its failure). ``usage`` None means that this
    executor learned nothing about it. ``artifacts`` holds the deliverable when the run succeeded with one.
    ``retryable`` False means that another attempt cannot help, or is not safe.
    """

    state: RunState
    reason: RunReason
    message: str = ""
    exit_code: int | None = None
    result: Mapping[str, Any] | None = None
    usage: UsageReport | None = None
    artifacts: tuple[Artifact, ...] = ()
    retryable: bool = True
    started_at: datetime | None = None
    ended_at: datetime | None = None
    log_bytes: int = 0
    log_truncated: bool = False


@dataclass(frozen=True, slots=True)
class EndedRun:
    """An outcome and the run it belongs to."""

    run_uid: str
    run_name: str
    namespace: str
    attempt: int
    outcome: RunOutcome


@runtime_checkable
class Forehanded(Protocol):
    """An executor that can do a part of a start ahead of it."""

    def make_ready(self, order: RunOrder) -> None:
        """Do what the start of this very order will need and does not wait for anybody. Nothing is started, and the
        start is right without it. Blocks for files. Raises what stands in the way."""
        ...


class Executor(Protocol):
    """Starts runs and tells how they end. One instance belongs to one event loop.

    The engine may be killed at any line. What was started is not started again, and an outcome comes again in every
    life of the engine until it was acknowledged.
    """

    def capabilities(self, executor_spec: Mapping[str, Any]) -> Capabilities:
        """What an Executor with this spec can do."""
        ...

    async def open(self) -> None:
        """Take up the runs of an earlier life. Call once, before anything else."""
        ...

    async def start(self, order: RunOrder) -> None:
        """Start a run; returns when the start is durable. Idempotent by ``run_uid``, for ever.

        What makes the start impossible (no such program, a secret that is missing) is a Failed outcome. Raises Retry
        for a passing fault that left the run not started.
        """
        ...

    async def cancel(self, run_uid: str, grace_s: float) -> None:
        """Ask a run to stop, force it after ``grace_s``. Idempotent. Returns before the run ended; the outcome
        follows. A run that was not started yet never will be, and its outcome is Canceled. Raises Retry."""
        ...

    def outcomes(self) -> AsyncIterator[EndedRun]:
        """Every run that ends, and every one that ended before and is not acknowledged; each once per life of the
        engine, in no particular order. Never finishes by itself; one consumer."""
        ...

    async def acknowledge(self, run_uid: str) -> None:
        """The outcome is recorded durably: it is not reported again. Idempotent; unknown runs are fine."""
        ...

    async def close(self) -> None:
        """Let go; runs go on. Idempotent."""
        ...
