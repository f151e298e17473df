"""The condition checker: what it lets pass, and each thing it finds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.condition_check import all_problems, problems
from schemas.resource import Resource

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def resource(kind: str, status: dict[str, Any], **changes: Any) -> Resource:
    return Resource(
        **{
            "kind": kind,
            "namespace": "default",
            "name": "a",
            "uid": "u",
            "generation": 3,
            "resource_version": 9,
            "spec": {},
            "status": status,
            "created_at": NOW,
            **changes,
        }
    )


def condition(type_: str = "Ready", status: str = "True", reason: str = "Reconciled", **more: Any) -> dict[str, Any]:
    return {
        "type": type_,
        "status": status,
        "reason": reason,
        "message": "",
        "lastTransitionTime": "2026-11-21T09:00:00.000Z",
        "observedGeneration": 3,
        **more,
    }


def agent(*conditions: dict[str, Any], **status: Any) -> Resource:
    return resource("Agent", {"conditions": list(conditions), "observedGeneration": 3, **status})


WAIT = {"type": "Capacity", "ref": "Agent/default/a", "since": "2026-11-21T09:00:00.000Z", "hint": "waits"}


def mission(state: str, succeeded: str, reason: str = "Running", **status: Any) -> Resource:
    conditions = [condition("Succeeded", succeeded, reason)]
    return resource("Mission", {"state": state, "conditions": conditions, "observedGeneration": 3, **status})


@pytest.mark.parametrize(
    "good",
    [
        resource("Agent", {}),
        agent(condition()),
        agent(condition("Reachable", "Unknown", "Idle"), condition(status="False", reason="ExecutorNotFound")),
        agent(condition(), condition("Stalled", reason="InternalError")),
        resource("Goal", {"conditions": [condition("Ready", "Unknown", "NotReconciledYet")]}),
        resource("UsageRecord", {"conditions": []}),
        mission("Assigned", "Unknown", "Waiting", blockedOn=[WAIT]),
        mission("InProgress", "Unknown", currentRun="a-1"),
        mission("Done", "True", "Completed"),
        mission("Failed", "False", "RetriesExhausted"),
        resource("Run", {"state": "Running", "conditions": [condition("Succeeded", "Unknown", "Started")]}),
        resource("Run", {"state": "Lost", "conditions": [condition("Succeeded", "False", "WorkerLost")]}),
        resource("Run", {"state": "Unknown", "conditions": [condition("Succeeded", "Unknown", "WorkerLost")]}),
    ],
    ids=lambda good: f"{good.kind}-{good.state}",
)
def test_an_object_in_order_has_no_problem(good: Resource) -> None:
    assert problems(good) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (resource("Nothing", {}), "there is no kind"),
        (agent(condition(foo=1)), "status.conditions.0.foo"),
        (agent(condition(), foo=1), "status.foo"),
        (agent(condition(), error_streak=1), "status.error_streak"),
        (
            agent({key: value for key, value in condition().items() if key != "lastTransitionTime"}),
            "lastTransitionTime",
        ),
        (agent(condition(status="Maybe")), "status.conditions.0.status"),
        (agent(), "no condition Ready"),
        (agent(condition("Reachable", reason="Idle")), "no condition Ready"),
        (agent(condition(), condition()), "not sorted by type without repetition"),
        (agent(condition(), condition("Conformant", reason="Conformant")), "not sorted by type without repetition"),
        (agent(condition("Admitted"), condition()), "condition Admitted is none of the kind's"),
        (agent(condition(reason="AllGood")), "reason 'AllGood'"),
        (agent(condition(), condition("Reconciling", "False", "Progressing")), "exists only while it is True"),
        (agent(condition(message="since 2026-11-21T09:00:00Z")), "has a time in its message"),
        (agent(condition(message="at 09:15:00 it")), "has a time in its message"),
        (agent(condition(observedGeneration=4)), "speaks of generation 4"),
        (agent(condition(), observedGeneration=4), "status.observedGeneration is 4"),
        (agent(condition(lastTransitionTime="2026-11-21T08:59:59.000Z")), "changed before the object was made"),
        (mission("Assigned", "Unknown", "Waiting"), "does not say what it waits for"),
        (mission("Blocked", "Unknown", "Stopped"), "does not say what it waits for"),
        (mission("Done", "Unknown", "Running"), "Succeeded is Unknown in state Done, where it is True"),
        (mission("InProgress", "True", "Completed", currentRun="a-1"), "where it is Unknown"),
        (mission("Done", "True", "Completed", blockedOn=[WAIT]), "still waits for something"),
        (mission("Assigned", "Unknown", "Waiting", blockedOn=[{**WAIT, "ref": "", "hint": ""}]), "names neither"),
        (
            mission("Assigned", "Unknown", "Waiting", blockedOn=[{**WAIT, "until": "2026-11-21T08:00:00.000Z"}]),
            "ends before it began",
        ),
        (mission("Sleeping", "Unknown"), "status.state"),
        (resource("Run", {"state": "Failed", "conditions": [condition("Succeeded", "True", "Completed")]}), "is False"),
    ],
)
def test_each_fault_is_found(bad: Resource, words: str) -> None:
    found = problems(bad)
    assert any(words in line for line in found), found
    assert all(line.startswith(str(bad.key)) for line in found)


def test_a_mission_that_is_being_deleted_need_not_wait_for_anything() -> None:
    assert problems(mission("Assigned", "Unknown", "Waiting")) != []
    going = resource("Mission", mission("Assigned", "Unknown", "Waiting").status, deletion_at=NOW)
    assert problems(going) == []


def test_many_objects_are_checked_in_their_order() -> None:
    lines = all_problems([agent(condition(), foo=1), agent(condition()), resource("Agent", {"bar": 1}, name="b")])
    assert [line.split(":")[0] for line in lines] == ["Agent/default/a", "Agent/default/b"]


def test_dates_in_names_are_no_timestamps() -> None:
    assert problems(agent(condition(message="run report-2026-11-21-1 of specs/a.yaml:12:3"))) == []
