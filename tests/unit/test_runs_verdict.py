"""How a run ended: the end of its program together with the agent's word."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from controllers.dispatch.executor import RunOutcome
from controllers.dispatch.usage import ModelUsage, Tokens, UsageReport, UsageSource
from controllers.runs.verdict import Ending, judge
from schemas.executor import OutputFormat
from schemas.mission import Artifact, Spend
from schemas.run import ENDED, Report, RunReason, RunState, RunStatus
from tests.fakes.stores import START

REMIT, TEXT = OutputFormat.REMIT, OutputFormat.TEXT
COMPLETE = Report(outcome="Complete", at=START, self_review="checked")
FAILED = Report(outcome="Fail", at=START, reason="NoAccess", message="the login failed", retryable=False)
WAITS = Report(outcome="Fail", at=START, reason="AwaitingApproval", message="asked to push", retryable=False)
EXIT_0 = Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0)
EXIT_3 = Ending(RunState.FAILED, RunReason.NON_ZERO_EXIT, "the program ended with exit code 3", exit_code=3)
KILLED = Ending(RunState.FAILED, RunReason.KILLED, "ended by SIGKILL")
TIMED_OUT = Ending(RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED, "stopped at its deadline")
STOPPED = Ending(RunState.CANCELED, RunReason.CANCELED, "stopped on request", exit_code=143)
LOST = Ending(RunState.LOST, RunReason.WORKER_LOST, "its worker is gone")
ARTIFACT = Artifact(name="deliverable", text="done", digest="sha256:1")


def running(**fields: Any) -> RunStatus:
    return RunStatus(state=RunState.RUNNING, started_at=START, **fields)


def canceled(seconds: float = 0.0, **fields: Any) -> RunStatus:
    """Told to stop so many seconds after the report."""
    return running(cancel_requested_at=START + timedelta(seconds=seconds), cancel_reason="Canceled", **fields)


@dataclass(frozen=True)
class Case:
    name: str
    status: RunStatus
    ending: Ending
    state: RunState
    reason: RunReason
    format: OutputFormat = REMIT
    retryable: bool = True


def final(name: str, status: RunStatus, ending: Ending, state: RunState, reason: RunReason) -> Case:
    """One after which nothing is tried again."""
    return Case(name, status, ending, state, reason, retryable=False)


CASES = [
    Case("done and exit 0", running(report=COMPLETE), EXIT_0, RunState.SUCCEEDED, RunReason.COMPLETED),
    Case("nothing said and exit 0", running(), EXIT_0, RunState.FAILED, RunReason.NO_REPORT),
    Case("exit 3", running(), EXIT_3, RunState.FAILED, RunReason.NON_ZERO_EXIT),
    Case("killed", running(), KILLED, RunState.FAILED, RunReason.KILLED),
    Case("done, then exit 3", running(report=COMPLETE), EXIT_3, RunState.FAILED, RunReason.NON_ZERO_EXIT),
    Case("done, then killed", running(report=COMPLETE), KILLED, RunState.FAILED, RunReason.KILLED),
    Case("done, then stopped", canceled(5, report=COMPLETE), STOPPED, RunState.SUCCEEDED, RunReason.COMPLETED),
    Case(
        "done, then told to stop, exit 3", canceled(5, report=COMPLETE), EXIT_3, RunState.SUCCEEDED, RunReason.COMPLETED
    ),
    Case("stopped, then done", canceled(-5, report=COMPLETE), STOPPED, RunState.CANCELED, RunReason.CANCELED),
    Case("told to stop, done, exit 0", canceled(-5, report=COMPLETE), EXIT_0, RunState.SUCCEEDED, RunReason.COMPLETED),
    Case("done, but timed out", running(report=COMPLETE), TIMED_OUT, RunState.SUCCEEDED, RunReason.COMPLETED),
    Case("done, then lost", running(report=COMPLETE), LOST, RunState.SUCCEEDED, RunReason.COMPLETED),
    Case(
        "failed, exit 0", running(report=FAILED), EXIT_0, RunState.FAILED, RunReason.REPORTED_FAILURE, retryable=False
    ),
    Case(
        "failed, exit 3", running(report=FAILED), EXIT_3, RunState.FAILED, RunReason.REPORTED_FAILURE, retryable=False
    ),
    Case("can only wait for leave", running(report=WAITS), EXIT_0, RunState.FAILED, RunReason.AWAITING_APPROVAL),
    Case("can only wait, exit 3", running(report=WAITS), EXIT_3, RunState.FAILED, RunReason.AWAITING_APPROVAL),
    final("failed, lost", running(report=FAILED), LOST, RunState.FAILED, RunReason.REPORTED_FAILURE),
    Case("told to stop, says failed", canceled(-5, report=FAILED), EXIT_3, RunState.CANCELED, RunReason.CANCELED),
    Case(
        "says failed, then stopped",
        canceled(5, report=FAILED),
        STOPPED,
        RunState.FAILED,
        RunReason.REPORTED_FAILURE,
        retryable=False,
    ),
    Case("told to stop, exit 0", canceled(), EXIT_0, RunState.CANCELED, RunReason.CANCELED),
    Case("told to stop, exit 3", canceled(), EXIT_3, RunState.CANCELED, RunReason.CANCELED),
    Case("stopped", canceled(), STOPPED, RunState.CANCELED, RunReason.CANCELED),
    Case("timed out", running(), TIMED_OUT, RunState.TIMED_OUT, RunReason.DEADLINE_EXCEEDED),
    Case("lost without a word", running(), LOST, RunState.LOST, RunReason.WORKER_LOST),
    Case("a plan alone is no work", running(work_plan="first a, then b"), LOST, RunState.LOST, RunReason.WORKER_LOST),
    Case(
        "lost after progress", running(progress="half"), LOST, RunState.UNKNOWN, RunReason.WORKER_LOST, retryable=False
    ),
    final("lost after a percent", running(percent=5), LOST, RunState.UNKNOWN, RunReason.WORKER_LOST),
    Case(
        "lost after a tool call", running(tool_calls=1), LOST, RunState.UNKNOWN, RunReason.WORKER_LOST, retryable=False
    ),
    Case(
        "lost after tokens",
        running(spend=Spend(output_tokens=1)),
        LOST,
        RunState.UNKNOWN,
        RunReason.WORKER_LOST,
        retryable=False,
    ),
    Case(
        "lost after an artifact",
        running(artifacts=(ARTIFACT,)),
        LOST,
        RunState.UNKNOWN,
        RunReason.WORKER_LOST,
        retryable=False,
    ),
    Case(
        "lost, may still run",
        running(),
        Ending(RunState.LOST, RunReason.MAY_STILL_BE_RUNNING, "x"),
        RunState.UNKNOWN,
        RunReason.MAY_STILL_BE_RUNNING,
        retryable=False,
    ),
    Case(
        "given up",
        running(report=COMPLETE),
        Ending(RunState.UNKNOWN, RunReason.MAY_STILL_BE_RUNNING, "x"),
        RunState.UNKNOWN,
        RunReason.MAY_STILL_BE_RUNNING,
        retryable=False,
    ),
    Case(
        "no such program",
        RunStatus(),
        Ending(RunState.FAILED, RunReason.PROGRAM_NOT_FOUND, "x", retryable=False),
        RunState.FAILED,
        RunReason.PROGRAM_NOT_FOUND,
        retryable=False,
    ),
    Case(
        "canceled before a start that failed",
        RunStatus(cancel_requested_at=START),
        Ending(RunState.FAILED, RunReason.START_FAILED, "x"),
        RunState.CANCELED,
        RunReason.CANCELED,
    ),
    Case(
        "text, exit 0",
        running(),
        Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0, artifacts=(ARTIFACT,), problem=""),
        RunState.SUCCEEDED,
        RunReason.COMPLETED,
        TEXT,
    ),
    Case(
        "text that was done before the stop reached it",
        canceled(),
        Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0, artifacts=(ARTIFACT,), problem=""),
        RunState.SUCCEEDED,
        RunReason.COMPLETED,
        TEXT,
    ),
    Case("text that is empty", running(), EXIT_0, RunState.FAILED, RunReason.OUTPUT_INVALID, TEXT),
    Case("text, exit 3", running(), EXIT_3, RunState.FAILED, RunReason.NON_ZERO_EXIT, TEXT),
    Case(
        "text that does not fit the schema",
        running(),
        Ending(RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0, artifacts=(ARTIFACT,), problem="it is not JSON"),
        RunState.FAILED,
        RunReason.OUTPUT_INVALID,
        TEXT,
    ),
    Case(
        "a deliverable that does not fit the schema",
        running(report=COMPLETE.model_copy(update={"reason": "OutputInvalid", "message": "not JSON"})),
        EXIT_0,
        RunState.FAILED,
        RunReason.OUTPUT_INVALID,
    ),
    Case("text whose agent reported", running(report=COMPLETE), EXIT_0, RunState.SUCCEEDED, RunReason.COMPLETED, TEXT),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_end_has_its_verdict(case: Case) -> None:
    verdict = judge(case.status, case.ending, case.format)
    assert (verdict.state, verdict.reason, verdict.retryable) == (case.state, case.reason, case.retryable)
    assert verdict.message


def test_whatever_comes_together_ends_in_one_terminal_state() -> None:
    statuses = [running(), RunStatus(), canceled(), canceled(-1, report=COMPLETE), running(report=FAILED, percent=3)]
    endings = [EXIT_0, EXIT_3, KILLED, TIMED_OUT, STOPPED, LOST]
    for status, ending, output_format in itertools.product(statuses, endings, OutputFormat):
        verdict = judge(status, ending, output_format)
        assert verdict.state in ENDED
        assert verdict.handed_in is (verdict.state is RunState.SUCCEEDED and status.report is None)


@pytest.mark.parametrize("output_format", [f for f in OutputFormat if f is not REMIT])
def test_the_silence_of_a_program_that_cannot_report_says_nothing(output_format: OutputFormat) -> None:
    begun = running().model_copy(update={"started_at": START})
    verdict = judge(begun, LOST, output_format)
    assert (verdict.state, verdict.retryable) == (RunState.UNKNOWN, False)
    assert "retry.idempotent" in verdict.message
    assert judge(begun, LOST, output_format, idempotent=True).state is RunState.LOST
    reported = begun.model_copy(update={"progress": "half"})
    assert judge(reported, LOST, output_format, idempotent=True).state is RunState.UNKNOWN
    assert judge(RunStatus(), LOST, output_format).state is RunState.LOST, "it never began"


def test_an_agent_that_reported_a_failure_is_quoted() -> None:
    assert judge(running(report=FAILED), EXIT_0, REMIT).message == "NoAccess: the login failed"


def test_an_ending_is_read_from_what_an_executor_tells() -> None:
    usage = UsageReport(
        Decimal("0.25"),
        Tokens(input=10, output=20, cache_read=30, cache_write=40),
        UsageSource.REPORTED,
        models=(ModelUsage("m2", Tokens()), ModelUsage("m1", Tokens()), ModelUsage("", Tokens())),
    )
    ending = Ending.of(
        RunOutcome(
            RunState.SUCCEEDED,
            RunReason.COMPLETED,
            exit_code=0,
            result={"sessionId": "s-1"},
            usage=usage,
            artifacts=(ARTIFACT,),
            started_at=START,
            ended_at=START,
            log_bytes=7,
            log_truncated=True,
        )
    )
    assert ending.usage == Spend(usd=Decimal("0.25"), input_tokens=80, output_tokens=20, source="Reported")
    assert (ending.session_id, ending.model, ending.log_bytes, ending.log_truncated) == ("s-1", "m1, m2", 7, True)
    assert ending.problem is None
