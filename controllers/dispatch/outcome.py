"""From what a program left behind (exit record, output) to the outcome of its run."""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from controllers.dispatch.executor import RunOutcome
from controllers.dispatch.output.parsed import Failed, Parsed, Parser
from controllers.dispatch.supervision.records import ExitRecord, gap_line
from controllers.runtime.beneath import open_plain
from schemas.mission import Artifact
from schemas.quantities import parse_time
from schemas.run import RunReason, RunState

MAX_READ = 64 * 1024 * 1024
_REASONS = {reason.value: reason for reason in RunReason}
_RETRYABLE_STARTS = {"ResourceExhausted"}


def read_log(path: Path, limit: int = MAX_READ) -> bytes:
    """A log; of one beyond ``limit`` the first and the last half of that. Empty when there is none."""
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return file.read()
            head = file.read(limit // 2)
            file.seek(size - limit // 2)
            return head + gap_line(size - 2 * (limit // 2)) + file.read()
    except OSError:
        return b""


def conclude(record: ExitRecord, parse: Parser, stdout: bytes, stderr: bytes, run_name: str) -> RunOutcome:
    """The outcome of a run. Pure; never raises on any output.

    What the output says about cost and session is kept however the run ended; a deliverable only of a run that
    succeeded.
    """
    try:
        parsed = parse(stdout, stderr, record.exit_code)
    except Exception as fault:  # noqa: BLE001 - agents write what is read here: a fault in it must not end dispatching
        text = f"a fault while reading the output: {type(fault).__name__}"
        parsed = Parsed(failed=Failed(RunReason.OUTPUT_INVALID, text))
    base = RunOutcome(
        state=RunState.FAILED,
        reason=RunReason.START_FAILED,
        exit_code=record.exit_code,
        result=_result(parsed) or None,
        usage=parsed.usage,
        started_at=time_of(record.started_at),
        ended_at=time_of(record.ended_at),
        log_bytes=record.stdout_bytes + record.stderr_bytes - record.stdout_dropped - record.stderr_dropped,
        log_truncated=record.truncated,
    )
    outcome = _judge(record, parsed, base, run_name)
    if record.may_be_running:
        text = f"{outcome.message}; a process that it started could not be ended and may still be running"
        outcome = replace(outcome, message=text.removeprefix("; "), retryable=False)
    if record.log_error:
        text = f"{outcome.message}; its output could not be written: {record.log_error}"
        outcome = replace(outcome, message=text.removeprefix("; "))
    return outcome


def _judge(record: ExitRecord, parsed: Parsed, base: RunOutcome, run_name: str) -> RunOutcome:
    if record.canceled:
        text = "canceled before it was started" if record.error is not None else "stopped on request"
        return replace(base, state=RunState.CANCELED, reason=RunReason.CANCELED, message=text, retryable=False)
    if record.error is not None:
        reason = _REASONS.get(record.error.reason, RunReason.START_FAILED)
        retryable = record.error.reason in _RETRYABLE_STARTS
        return replace(base, reason=reason, message=record.error.message, retryable=retryable)
    if record.lost:
        reason = RunReason.MAY_STILL_BE_RUNNING if record.may_be_running else RunReason.WORKER_LOST
        text = "the supervisor that held the program is gone; the program was ended, what it did is not known"
        return replace(base, state=RunState.LOST, reason=reason, message=text)
    if record.stopped:
        text = "the supervisor was told to stop and ended the program"
        return replace(base, state=RunState.LOST, reason=RunReason.WORKER_LOST, message=text)
    if record.timed_out:
        text = f"stopped at its deadline after {record.duration_ms / 1000:.1f} s"
        return replace(base, state=RunState.TIMED_OUT, reason=RunReason.DEADLINE_EXCEEDED, message=text)
    if record.signal is not None:
        return replace(base, reason=RunReason.KILLED, message=f"ended by {_signal_name(record.signal)}")
    if parsed.failed is not None:
        failed = parsed.failed
        return replace(base, reason=failed.reason, message=failed.message, retryable=failed.retryable)
    return _succeed(parsed, base, run_name)


def _succeed(parsed: Parsed, base: RunOutcome, run_name: str) -> RunOutcome:
    done = replace(base, state=RunState.SUCCEEDED, reason=RunReason.COMPLETED)
    if parsed.deliverable is None:
        return done
    data = parsed.deliverable.encode()
    artifact = Artifact(
        name="deliverable",
        size=len(data),
        digest="sha256:" + hashlib.sha256(data).hexdigest(),
        text=parsed.deliverable,
        run=run_name,
    )
    result = {**(base.result or {}), "deliverable": parsed.deliverable}
    if parsed.truncated:
        result["truncated"] = True
    return replace(done, result=result, artifacts=(artifact,))


def _result(parsed: Parsed) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if parsed.session_id is not None:
        result["sessionId"] = parsed.session_id
    if parsed.denied:
        result["denied"] = list(parsed.denied)
    if parsed.deferred is not None:
        call = parsed.deferred
        result["deferred"] = {"id": call.id, "name": call.name, "input": dict(call.input)}
    if parsed.failed is not None and parsed.failed.cause:
        result["cause"] = parsed.failed.cause
    return result


def time_of(text: str) -> datetime | None:
    """A time of an exit record; None when it holds none."""
    try:
        time: datetime = parse_time(text)
    except ValueError:
        return None
    return time


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
