"""What workers of a Pull executor send and get: how a run is fetched, kept, and brought to its end."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.base import Int, JsonObject, Model
from schemas.policy import Redaction
from schemas.protocol import MAX_TOKENS, Base64, Cost, Message, UsageSource
from schemas.quantities import Time
from schemas.run import RunReason, RunState

WorkerName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")]
ExecutorName = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9][a-z0-9-]{0,62}/)?[a-z0-9][a-z0-9.-]{0,252}$", max_length=320)
]
Fence = Annotated[int, Field(ge=1, le=2**53, description="Fencing token of the claim.")]
MAX_LOG_PART = 512 * 1024
"""Bytes of output in one request."""


class ClaimMessage(Message):
    """Ask for one run. The same Idempotency-Key gets the same claim again, for as long as its run is open."""

    executor: ExecutorName = Field(description="Name of the Executor, or namespace/name.")
    worker: WorkerName = Field(description="What the worker calls itself; shown to people.")
    slots: int = Field(1, ge=1, le=1000, description="How many runs it takes at a time.")


class Order(Model):
    """One run to carry out. ``token`` is a secret: it is the run's own, for the endpoints below /agent/v1/runs."""

    run: str = Field(description="Uid of the run: REMIT_RUN.")
    name: str = Field(description="Its name.")
    namespace: str = Field(description="Its namespace.")
    attempt: Int = Field(description="Which attempt of the mission it is.")
    agent: str = Field(description="The agent that works on it.")
    token: str = Field(repr=False, description="Bearer token of the run: REMIT_TOKEN.")
    mission: JsonObject = Field(description="What is to be done, as a program finds it in REMIT_MISSION_FILE.")
    command: JsonObject | None = Field(
        None,
        description="Program to start, as spec.pull.command; its secrets are references for the worker to look up.",
    )
    redaction: Redaction = Field(Redaction.STANDARD, description="What is taken out of the program's output.")
    timeout_s: float = Field(description="Seconds from the start after which it has to be stopped.")
    fence: Int = Field(description="Fencing token: every write about this claim names it.")
    lease_s: float = Field(description="Renew within so many seconds, or the run is lost.")


class ClaimAnswer(Model):
    """The claim, or nothing to do."""

    order: Order | None = Field(None, description="The run; absent when there was none within the wait.")


class RenewMessage(Message):
    """Keep a claim, and say that the program runs."""

    fence: Fence
    started: bool = Field(False, description="Whether its program was started.")


class RenewAnswer(Model):
    """The claim holds."""

    run: str = Field(description="Uid of the run.")
    lease_s: float = Field(description="For so many seconds from the request on.")
    cancel: bool = Field(description="Whether the run is to be stopped; it is to be brought to its end all the same.")
    reason: str = Field("", description="Why it is to be stopped.")


class ReleaseMessage(Message):
    """Give a claim back whose program was never started: another worker may fetch the run."""

    fence: Fence


class LogMessage(Message):
    """A part of what the program wrote."""

    fence: Fence
    stream: Literal["stdout", "stderr"] = Field(description="stdout or stderr.")
    offset: int = Field(ge=0, le=2**40, description="Where the part begins; what is there already is written again.")
    base64: Base64 = Field(description="The bytes, at most 512 KiB.")


class EndShare(Message):
    """What one model has in it."""

    model: str = Field("", max_length=1000, description="Model, as the program names it; empty when it does not.")
    usd: Cost | None = Field(None, description="USD; absent when not known.")
    input_tokens: int = Field(0, ge=0, le=MAX_TOKENS, description="Input tokens, cached ones included.")
    output_tokens: int = Field(0, ge=0, le=MAX_TOKENS, description="Output tokens.")
    cache_read_tokens: int = Field(0, ge=0, le=MAX_TOKENS, description="Those of the input read from a cache.")
    cache_write_tokens: int = Field(0, ge=0, le=MAX_TOKENS, description="Those of the input written to one.")


class EndUsage(Message):
    """What the run used, as its program told at its end."""

    usd: Cost | None = Field(None, description="USD; absent when not known.")
    input_tokens: int = Field(0, ge=0, le=MAX_TOKENS, description="Input tokens.")
    output_tokens: int = Field(0, ge=0, le=MAX_TOKENS, description="Output tokens.")
    source: UsageSource = Field(UsageSource.REPORTED, description="Where the figures come from.")
    model: str = Field("", max_length=1000, description="Model that was used.")
    shares: tuple[EndShare, ...] = Field((), max_length=50, description="The same by model, where that is known.")


class EndMessage(Message):
    """The program has ended: the last write about a claim."""

    fence: Fence
    state: Annotated[RunState, Field(strict=False)] = Field(
        description="Succeeded, Failed, TimedOut, Canceled or Lost: what became of the program."
    )
    reason: Annotated[RunReason, Field(strict=False)] = Field(description="Reason, as of a Run's status.")
    message: str = Field("", max_length=10_000, description="For people.")
    retryable: bool = Field(True, description="Whether another attempt may help.")
    exit_code: int | None = Field(None, ge=-(2**31), le=2**32, description="Exit code of the program.")
    deliverable: str | None = Field(None, description="What was read from its output, when that is the deliverable.")
    session_id: str | None = Field(None, max_length=1000, description="The program's own session.")
    usage: EndUsage | None = Field(None, description="What it used, where its output tells.")
    started_at: Annotated[Time, Field(strict=False)] | None = Field(None, description="When it started.")
    ended_at: Annotated[Time, Field(strict=False)] | None = Field(None, description="When it ended.")
    log_bytes: int = Field(0, ge=0, le=2**40, description="Bytes of output kept.")
    log_truncated: bool = Field(False, description="Whether output was dropped.")
