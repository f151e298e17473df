"""How a run ended: what became of its program, taken together with what its agent had said. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol, Self

from schemas.executor import OutputFormat
from schemas.mission import Artifact, Spend
from schemas.run import Report, RunReason, RunState, RunStatus

COMPLETE = "Complete"
FAIL = "Fail"
"""Values of ``Report.outcome``."""

NEVER_STARTED = frozenset(
    {
        RunReason.PROGRAM_NOT_FOUND,
        RunReason.START_FAILED,
        RunReason.SECRET_NOT_FOUND,
        RunReason.EXECUTOR_UNSUPPORTED,
    }
)
"""Reasons of a failure before anything ran."""


class Tokens(Protocol):
    """What is used of an executor's token counts: all of them, each once."""

    @property
    def input(self) -> int: ...
    @property
    def output(self) -> int: ...
    @property
    def cache_read(self) -> int: ...
    @property
    def cache_write(self) -> int: ...


class Figures(Protocol):
    """What is used of an executor's report on cost."""

    @property
    def usd(self) -> Decimal | None: ...
    @property
    def tokens(self) -> Tokens: ...
    @property
    def source(self) -> str: ...
    @property
    def models(self) -> Sequence[Any]: ...


class Outcome(Protocol):
    """What is used of an executor's outcome."""

    @property
    def state(self) -> RunState: ...
    @property
    def reason(self) -> RunReason: ...
    @property
    def message(self) -> str: ...
    @property
    def retryable(self) -> bool: ...
    @property
    def exit_code(self) -> int | None: ...
    @property
    def result(self) -> Mapping[str, Any] | None: ...
    @property
    def usage(self) -> Figures | None: ...
    @property
    def artifacts(self) -> tuple[Artifact, ...]: ...
    @property
    def started_at(self) -> datetime | None: ...
    @property
    def ended_at(self) -> datetime | None: ...
    @property
    def log_bytes(self) -> int: ...
    @property
    def log_truncated(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Share:
    """What one model has in the usage of a run. ``spend`` counts cached tokens as input."""

    model: str
    spend: Spend
    cache_read: int = 0
    cache_write: int = 0


@dataclass(frozen=True, slots=True)
class Ending:
    """The end of a run as its executor saw it, without what the agent had said.

    ``state`` is a terminal one; Succeeded means that the program ended well. ``exit_code`` is None when a signal ended
    it, or nothing is known. ``artifacts`` holds the deliverable that was read from the output of a program that does
    not report. ``started_at`` and ``ended_at`` are None when nobody knows. ``problem`` says why the deliverable
    does not count, "" when it does, None when that was not looked at yet (see ``records.prepare``). ``shares`` add up
    to ``usage`` by model, or are empty.
    """

    state: RunState
    reason: RunReason
    message: str = ""
    retryable: bool = True
    exit_code: int | None = None
    usage: Spend | None = None
    model: str = ""
    artifacts: tuple[Artifact, ...] = ()
    session_id: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    log_bytes: int = 0
    log_truncated: bool = False
    problem: str | None = None
    shares: tuple[Share, ...] = ()

    @classmethod
    def of(cls, outcome: Outcome) -> Self:
        """From what an executor tells."""
        session = (outcome.result or {}).get("sessionId")
        figures = outcome.usage
        return cls(
            state=outcome.state,
            reason=outcome.reason,
            message=outcome.message,
            retryable=outcome.retryable,
            exit_code=outcome.exit_code,
            usage=None if figures is None else _spend(figures),
            model="" if figures is None else ", ".join(sorted({str(m.model) for m in figures.models if m.model})),
            artifacts=outcome.artifacts,
            session_id=session if isinstance(session, str) else None,
            started_at=outcome.started_at,
            ended_at=outcome.ended_at,
            log_bytes=outcome.log_bytes,
            log_truncated=outcome.log_truncated,
            shares=() if figures is None else _shares(figures),
        )


def _spend(figures: Figures) -> Spend:
    return _spent(figures.usd, figures.tokens, figures.source)


def _spent(usd: Decimal | None, tokens: Tokens, source: str) -> Spend:
    return Spend(
        usd=usd,
        input_tokens=tokens.input + tokens.cache_read + tokens.cache_write,
        output_tokens=tokens.output,
        source=str(source),
    )


def _shares(figures: Figures) -> tuple[Share, ...]:
    """What each model has in it. Where money is named for the whole, but not so for its parts, there are none."""
    parts = [m.usd for m in figures.models]
    if figures.usd is not None and (None in parts or sum(parts, Decimal(0)) != figures.usd):
        return ()
    return tuple(
        Share(str(m.model), _spent(m.usd, m.tokens, figures.source), m.tokens.cache_read, m.tokens.cache_write)
        for m in figures.models
    )


@dataclass(frozen=True, slots=True)
class Verdict:
    """The terminal state that follows. ``handed_in`` tells that the program's output is the deliverable."""

    state: RunState
    reason: RunReason
    message: str
    retryable: bool = True
    handed_in: bool = False


def judge(status: RunStatus, ending: Ending, output_format: OutputFormat, *, idempotent: bool = False) -> Verdict:
    """What the run comes to. ``status`` is the record before its end. ``idempotent`` says that repeating the work is
    declared safe (``retry.idempotent`` of the mission), so that silence need not be taken for the worst."""
    lost = ending.state is RunState.LOST
    if ending.state is RunState.UNKNOWN or (lost and ending.reason is RunReason.MAY_STILL_BE_RUNNING):
        return Verdict(RunState.UNKNOWN, ending.reason, ending.message, retryable=False)
    if ending.state is RunState.FAILED and ending.reason in NEVER_STARTED and not touched(status):
        if status.cancel_requested_at is not None:
            return _canceled("canceled before it started")
        return _as_told(ending)
    report = status.report
    if report is not None and report.outcome == COMPLETE:
        return _completed(status, report, ending)
    if report is not None and not _after_stop(status, report):
        text = f"{report.reason}: {report.message}" if report.message else report.reason
        if report.reason in (RunReason.AWAITING_APPROVAL, RunReason.AWAITING_FOLLOW_UP):
            return Verdict(RunState.FAILED, RunReason(report.reason), text)
        if report.reason == RunReason.PROVIDER_OVERLOADED:
            return Verdict(RunState.FAILED, RunReason.PROVIDER_OVERLOADED, report.message)
        return Verdict(RunState.FAILED, RunReason.REPORTED_FAILURE, text, report.retryable)
    if lost:
        return _lost(status, ending, mute=output_format is not OutputFormat.REMIT, idempotent=idempotent)
    if ending.state is RunState.TIMED_OUT:
        return _as_told(ending)
    if ending.state is RunState.CANCELED:
        return _canceled(_stopped(status, ending))
    if ending.state is RunState.SUCCEEDED and output_format is not OutputFormat.REMIT:
        return _output(ending, output_format)
    if status.cancel_requested_at is not None:
        return _canceled(_stopped(status, ending))
    if ending.state is RunState.SUCCEEDED:
        text = "the program ended without reporting an outcome: it has to call complete or fail"
        return Verdict(RunState.FAILED, RunReason.NO_REPORT, text)
    return _as_told(ending)


def touched(status: RunStatus) -> bool:
    """Whether the agent has reported anything that shows it at work: then it may have done more than it reported."""
    spend = status.spend
    return bool(
        status.report
        or status.artifacts
        or status.tool_calls
        or spend.input_tokens
        or spend.output_tokens
        or spend.usd
        or status.progress
        or status.percent
    )


def _as_told(ending: Ending) -> Verdict:
    return Verdict(ending.state, ending.reason, ending.message, ending.retryable)


def _after_stop(status: RunStatus, report: Report) -> bool:
    """Whether the agent gave its last word only after it was told to stop."""
    return status.cancel_requested_at is not None and report.at >= status.cancel_requested_at


def _completed(status: RunStatus, report: Report, ending: Ending) -> Verdict:
    """The agent said that it is done. A bad end of its program speaks against that, unless the end was our doing, or
    nobody saw it: then its word is the last that is known."""
    if ending.state in (RunState.FAILED, RunState.CANCELED) and ending.exit_code != 0:
        if _after_stop(status, report):
            return _canceled(_stopped(status, ending))
        if ending.state is RunState.FAILED and status.cancel_requested_at is None:
            text = f"it reported that it is done, but then: {ending.message or ending.reason}"
            return Verdict(RunState.FAILED, ending.reason, text, ending.retryable)
    if report.reason:
        return Verdict(RunState.FAILED, RunReason.OUTPUT_INVALID, report.message)
    text = "handed in"
    if ending.state is RunState.LOST:
        text = "handed in; the end of its program was not seen"
    elif ending.exit_code != 0 and ending.state is not RunState.SUCCEEDED:
        text = "handed in; its program was stopped afterwards"
    return Verdict(RunState.SUCCEEDED, RunReason.COMPLETED, text)


def _output(ending: Ending, output_format: OutputFormat) -> Verdict:
    if ending.problem:
        return Verdict(RunState.FAILED, RunReason.OUTPUT_INVALID, ending.problem)
    if not ending.artifacts:
        text = f"its output, read as {output_format}, holds no deliverable"
        return Verdict(RunState.FAILED, RunReason.OUTPUT_INVALID, text)
    return Verdict(RunState.SUCCEEDED, RunReason.COMPLETED, "handed in", handed_in=True)


def _lost(status: RunStatus, ending: Ending, *, mute: bool, idempotent: bool) -> Verdict:
    """Gone without a last word. What had begun to work may have done anything; of a program that cannot report, silence
    says nothing. A worker that claimed the run may have started it and died before it could say so."""
    text = ending.message or "its worker is gone"
    if touched(status):
        text = f"{text}; it had begun to work, and nobody can know what it did"
        return Verdict(RunState.UNKNOWN, ending.reason, text, retryable=False)
    may_have_started = status.started_at is not None or ending.started_at is not None or status.claim is not None
    if mute and not idempotent and may_have_started:
        text = f"{text}; it cannot report, and nobody can know what it did (retry.idempotent: true lets it be repeated)"
        return Verdict(RunState.UNKNOWN, ending.reason, text, retryable=False)
    return Verdict(RunState.LOST, ending.reason, f"{text}; it had reported nothing", ending.retryable)


def _canceled(text: str) -> Verdict:
    return Verdict(RunState.CANCELED, RunReason.CANCELED, text)


def _stopped(status: RunStatus, ending: Ending) -> str:
    if status.cancel_reason:
        return f"stopped on request: {status.cancel_reason}"
    return ending.message if ending.state is RunState.CANCELED and ending.message else "stopped on request"
