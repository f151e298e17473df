"""From an exit record and output to an outcome."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controllers.dispatch.outcome import conclude, read_log
from controllers.dispatch.output import claude_json, remit, text
from controllers.dispatch.output.parsed import Parsed
from controllers.dispatch.supervision.records import GAP, ExitError, ExitRecord
from schemas.run import RunReason, RunState

OK = ExitRecord(
    run="uid-1",
    started_at="2026-11-21T10:00:00.000Z",
    ended_at="2026-11-21T10:00:02.500Z",
    duration_ms=2500,
    exit_code=0,
    stdout_bytes=100,
    stdout_dropped=10,
)
CLAUDE = json.dumps(
    {"type": "result", "subtype": "success", "result": "done", "session_id": "s", "total_cost_usd": 0.5}
).encode()


def test_a_program_that_ends_well_succeeded() -> None:
    outcome = conclude(OK, text.parse, b"the report\n", b"", "audit-1")
    assert (outcome.state, outcome.reason, outcome.exit_code) == (RunState.SUCCEEDED, RunReason.COMPLETED, 0)
    assert outcome.result == {"deliverable": "the report"}
    (artifact,) = outcome.artifacts
    assert (artifact.name, artifact.text, artifact.size, artifact.run) == ("deliverable", "the report", 10, "audit-1")
    assert outcome.started_at == datetime(2026, 11, 21, 10, tzinfo=UTC)
    assert (outcome.log_bytes, outcome.log_truncated) == (90, True)


def test_a_program_that_reports_over_the_protocol_has_no_result_of_its_own() -> None:
    outcome = conclude(OK, remit.parse, b"log\n", b"", "audit-1")
    assert (outcome.state, outcome.result, outcome.artifacts) == (RunState.SUCCEEDED, None, ())


@pytest.mark.parametrize(
    ("changes", "state", "reason", "retryable"),
    [
        ({"exit_code": 3}, RunState.FAILED, RunReason.NON_ZERO_EXIT, True),
        ({"exit_code": None, "signal": 9}, RunState.FAILED, RunReason.KILLED, True),
        ({"exit_code": None, "signal": 15, "canceled": True}, RunState.CANCELED, RunReason.CANCELED, False),
        ({"canceled": True}, RunState.CANCELED, RunReason.CANCELED, False),
        ({"exit_code": None, "signal": 9, "timed_out": True}, RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED, True),
        ({"timed_out": True}, RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED, True),
        ({"exit_code": None, "signal": 15, "stopped": True}, RunState.LOST, RunReason.WORKER_LOST, True),
        ({"exit_code": None, "lost": True}, RunState.LOST, RunReason.WORKER_LOST, True),
        (
            {"exit_code": None, "lost": True, "may_be_running": True},
            RunState.LOST,
            RunReason.MAY_STILL_BE_RUNNING,
            False,
        ),
        ({"may_be_running": True}, RunState.SUCCEEDED, RunReason.COMPLETED, False),
    ],
)
def test_each_way_to_end_has_its_state_and_reason(
    changes: dict[str, object], state: RunState, reason: RunReason, retryable: bool
) -> None:
    outcome = conclude(replace(OK, **changes), text.parse, b"out\n", b"err\n", "audit-1")  # type: ignore[arg-type]
    assert (outcome.state, outcome.reason, outcome.retryable) == (state, reason, retryable)
    assert outcome.message or state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("said", "reason", "retryable"),
    [
        ("ProgramNotFound", RunReason.PROGRAM_NOT_FOUND, False),
        ("ResourceExhausted", RunReason.START_FAILED, True),
        ("WorkingDirNotFound", RunReason.START_FAILED, False),
        ("SecretNotFound", RunReason.SECRET_NOT_FOUND, False),
    ],
)
def test_a_program_that_was_not_started_failed(said: str, reason: RunReason, retryable: bool) -> None:
    outcome = conclude(replace(OK, exit_code=None, error=ExitError(said, "why")), text.parse, b"", b"", "r")
    assert (outcome.state, outcome.reason, outcome.retryable) == (RunState.FAILED, reason, retryable)
    assert outcome.message == "why"


def test_a_run_that_was_canceled_before_its_start_is_canceled() -> None:
    record = replace(OK, exit_code=None, error=ExitError("Canceled", "x"), canceled=True)
    outcome = conclude(record, text.parse, b"", b"", "r")
    assert (outcome.state, outcome.message) == (RunState.CANCELED, "canceled before it was started")


def test_a_signal_is_named() -> None:
    assert conclude(replace(OK, exit_code=None, signal=11), text.parse, b"", b"", "r").message == "ended by SIGSEGV"
    assert conclude(replace(OK, exit_code=None, signal=99), text.parse, b"", b"", "r").message == "ended by signal 99"


@pytest.mark.parametrize("changes", [{"canceled": True}, {"timed_out": True}, {"exit_code": 1}])
def test_what_an_unfinished_run_cost_is_kept_and_its_deliverable_is_not(changes: dict[str, object]) -> None:
    outcome = conclude(replace(OK, **changes), claude_json.parse, CLAUDE, b"", "r")  # type: ignore[arg-type]
    assert outcome.usage is not None
    assert str(outcome.usage.usd) == "0.500000"
    assert outcome.result == {"sessionId": "s"}
    assert outcome.artifacts == ()


def test_a_deferred_tool_is_in_the_result() -> None:
    call = {"id": "1", "name": "Bash", "input": {"command": "x"}}
    value = {**json.loads(CLAUDE), "stop_reason": "tool_deferred", "deferred_tool_use": call}
    outcome = conclude(OK, claude_json.parse, json.dumps(value).encode(), b"", "r")
    assert outcome.state is RunState.FAILED
    assert outcome.result == {
        "sessionId": "s",
        "cause": "ToolDeferred",
        "deferred": {"id": "1", "name": "Bash", "input": {"command": "x"}},
    }


def test_a_log_that_could_not_be_written_is_mentioned() -> None:
    outcome = conclude(replace(OK, log_error="No space left on device"), text.parse, b"", b"", "r")
    assert outcome.message == "its output could not be written: No space left on device"


def test_a_fault_in_a_parser_fails_the_run_and_nothing_else() -> None:
    def broken(stdout: bytes, stderr: bytes, exit_code: int | None) -> Parsed:
        raise ZeroDivisionError

    outcome = conclude(OK, broken, b"", b"", "r")
    assert (outcome.state, outcome.reason) == (RunState.FAILED, RunReason.OUTPUT_INVALID)
    assert outcome.message == "a fault while reading the output: ZeroDivisionError"


def test_of_a_log_beyond_the_limit_head_and_tail_are_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"a" * 50 + b"b" * 100 + b"c" * 50)
    data = read_log(tmp_path / "log", 100)
    assert data == b"a" * 50 + b"\n[remit: 100 bytes of output are missing here]\n" + b"c" * 50
    assert GAP.search(data)
    assert len(read_log(tmp_path / "log", 200)) == 200
    assert read_log(tmp_path / "absent") == b""
