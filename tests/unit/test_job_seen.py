"""What a Job and its pods say of a run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controllers.dispatch.jobs.seen import Seen, outcome, read
from schemas.executor import OutputFormat
from schemas.run import JobPhase, RunReason, RunState

NOW = datetime(2026, 11, 21, 9, 10, tzinfo=UTC)
BEGAN, OVER = "2026-11-21T09:00:00Z", "2026-11-21T09:00:30Z"
GRACE = timedelta(minutes=2)
UNSCHEDULED = {"type": "PodScheduled", "status": "False"}


def job(*conditions: tuple[str, str], suspend: bool = False, **metadata: Any) -> dict[str, Any]:
    found = [{"type": t, "status": "True", "reason": r, "lastTransitionTime": OVER} for t, r in conditions]
    container = {"name": "agent", "resources": {"limits": {"memory": "1Gi"}}}
    return {
        "metadata": {"name": "j", "uid": "u", **metadata},
        "spec": {"suspend": suspend, "template": {"spec": {"containers": [container]}}},
        "status": {"conditions": found, "startTime": BEGAN},
    }


def pod(phase: str = "Pending", state: dict[str, Any] | None = None, **status: Any) -> dict[str, Any]:
    sidecar = {"name": "proxy", "state": {"terminated": {"exitCode": 99}}}
    containers = [sidecar, *([{"name": "agent", "state": state}] if state is not None else [])]
    return {
        "metadata": {"name": "p", "creationTimestamp": BEGAN},
        "spec": {"nodeName": "n"},
        "status": {"phase": phase, "containerStatuses": containers, **status},
    }


def ended(code: int, reason: str = "Error", **more: Any) -> dict[str, Any]:
    terminated = {"exitCode": code, "reason": reason, "startedAt": BEGAN, "finishedAt": OVER, **more}
    return pod("Succeeded" if code == 0 else "Failed", {"terminated": terminated})


def look(job_: dict[str, Any], *pods: dict[str, Any], started: bool = False) -> Seen:
    return read(job_, pods, now=NOW, grace=GRACE, started=started)


def disrupted() -> dict[str, Any]:
    found = ended(137)
    found["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
    return found


FAILED = ("Failed", "BackoffLimitExceeded")
CASES = {
    "done": (job(("Complete", "")), ended(0), RunState.SUCCEEDED, "Completed", ""),
    "exit 3": (job(FAILED), ended(3), RunState.FAILED, "NonZeroExit", "the program ended with exit code 3: the end"),
    "memory": (job(FAILED), ended(137, "OOMKilled"), RunState.FAILED, "Killed", "OOMKilled): its limit is 1Gi"),
    "killed": (job(FAILED), ended(137), RunState.FAILED, "Killed", "ended by SIGKILL"),
    "told": (job(FAILED), ended(1, signal=15), RunState.FAILED, "Killed", "ended by SIGTERM"),
    "no program": (
        job(FAILED), ended(128, "StartError", message="exec: executable file not found in $PATH"), RunState.FAILED,
        "ProgramNotFound", "executable file not found",
    ),
    "no start": (job(FAILED), ended(128, "ContainerCannotRun"), RunState.FAILED, "StartFailed", "ContainerCannotRun"),
    "deadline": (job(("Failed", "DeadlineExceeded")), ended(143), RunState.TIMED_OUT, "DeadlineExceeded", "30.0 s"),
    "evicted": (
        job(FAILED), pod("Failed", reason="Evicted", message="low on memory"), RunState.LOST, "WorkerLost",
        "its pod was taken away: Evicted: low on memory",
    ),
    "disrupted": (
        job(FAILED),
        disrupted(),
        RunState.LOST, "WorkerLost", "taken away",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_end_is_told_for_what_it_is(case: str) -> None:
    job_, pod_, state, reason, words = CASES[case]
    seen = look(job_, pod_)
    assert seen.exit is not None
    told = outcome(seen.exit, OutputFormat.TEXT, b"the beginning\nthe end\n", "r")
    assert (told.state, told.reason) == (state, reason)
    assert words in told.message


def test_a_job_without_a_pod_is_lost_or_was_never_begun() -> None:
    gone = look(job(FAILED)).exit
    assert gone is not None
    assert outcome(gone, OutputFormat.REMIT, b"", "r").state is RunState.LOST
    late = look(job(("Failed", "DeadlineExceeded"))).exit
    assert late is not None
    assert outcome(late, OutputFormat.REMIT, b"", "r").state is RunState.TIMED_OUT, "its pod may have run unseen"
    waits = look(job(("Failed", "DeadlineExceeded")), pod()).exit
    assert waits is not None
    told = outcome(waits, OutputFormat.REMIT, b"", "r")
    assert (told.state, told.reason) == (RunState.FAILED, RunReason.START_FAILED)


@pytest.mark.parametrize(
    ("job_", "pods", "phase", "words"),
    [
        (job(), [], JobPhase.WAITING, "no pod yet"),
        (job(suspend=True), [], JobPhase.QUEUED, "waits in its queue"),
        (job(deletionTimestamp=OVER), [], JobPhase.DELETING, "deleted"),
        (job(), [pod("Running", {"running": {"startedAt": BEGAN}})], JobPhase.RUNNING, ""),
        (job(), [ended(0)], JobPhase.RUNNING, ""),
        (job(), [pod(state={"waiting": {"reason": "ContainerCreating"}})], JobPhase.WAITING, "being started"),
        (
            job(),
            [pod(conditions=[{**UNSCHEDULED, "reason": "Unschedulable", "message": "0/3"}])],
            JobPhase.WAITING, "Unschedulable: 0/3",
        ),
    ],
)  # fmt: skip
def test_what_is_not_over_waits_or_runs(
    job_: dict[str, Any], pods: list[dict[str, Any]], phase: JobPhase, words: str
) -> None:
    seen = look(job_, *pods)
    assert (seen.phase, seen.exit, seen.stuck) == (phase, None, "")
    assert words in seen.why


def test_a_job_that_is_taken_back_while_it_runs_waits() -> None:
    assert look(job(suspend=True), started=True).why == "its queue took it back"


def test_an_image_may_fail_to_be_pulled_for_a_while_and_a_wrong_name_may_not() -> None:
    def waiting(reason: str, since: datetime) -> Seen:
        found = pod(state={"waiting": {"reason": reason, "message": "m"}})
        found["metadata"]["creationTimestamp"] = since.isoformat()
        return look(job(), found)

    assert waiting("ImagePullBackOff", NOW - timedelta(minutes=1)).stuck == ""
    assert waiting("ImagePullBackOff", NOW - timedelta(minutes=3)).stuck == "ImagePullBackOff: m"
    assert waiting("InvalidImageName", NOW).stuck == "InvalidImageName: m"


def test_a_termination_message_is_the_answer_of_a_text() -> None:
    seen = look(job(("Complete", "")), ended(0, message="the answer"))
    assert seen.exit is not None
    for format_, text in ((OutputFormat.TEXT, "the answer"), (OutputFormat.REMIT, None)):
        told = outcome(seen.exit, format_, b"noise", "r")
        assert (told.result or {}).get("deliverable") == text


def test_money_is_read_from_the_log_of_a_pod_as_from_a_program() -> None:
    seen = look(job(("Complete", "")), ended(0))
    assert seen.exit is not None
    log = b'noise\n{"type":"result","subtype":"success","is_error":false,"result":"built","total_cost_usd":0.5,'
    log += b'"session_id":"s-1"}\n'
    told = outcome(seen.exit, OutputFormat.CLAUDE_JSON, log, "r")
    assert (told.result or {})["deliverable"] == "built"
    assert told.usage is not None
    assert str(told.usage.usd) == "0.500000"


_words = st.sampled_from(
    ["metadata", "status", "spec", "conditions", "containerStatuses", "state", "terminated", "waiting", "exitCode",
     "reason", "type", "Failed", "Complete", "name", "agent", "DeadlineExceeded", "creationTimestamp", "containers"]
)  # fmt: skip
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_words, _json, max_size=4), st.dictionaries(_words, _json, max_size=4))
def test_no_answer_is_a_fault(job_: dict[str, Any], pod_: dict[str, Any]) -> None:
    seen = look(job_, pod_)
    if seen.exit is not None:
        outcome(seen.exit, OutputFormat.TEXT, b"", "r")
