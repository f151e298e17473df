"""Which session an agent's program goes on with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from decisions.sessions import KEPT, Choice, Work, choose, remembered
from schemas.agent import AgentSession, SessionStrategy
from schemas.base import Key, ObjectRef
from schemas.mission import MissionSpec

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
LOCAL = "Executor/default/local"
AUTO, REUSE, NEW = SessionStrategy.AUTO, SessionStrategy.REUSE, SessionStrategy.NEW


def session(name: str, **fields: Any) -> AgentSession:
    values = {"mission": ObjectRef(name=f"of-{name}"), "mission_uid": f"uid-{name}", "executor": LOCAL, **fields}
    return AgentSession(id=name, run=f"of-{name}-1", at=NOW, **values)


def work(**fields: Any) -> Work:
    spec = MissionSpec.model_validate({"title": "t", "review": "None", **fields})
    return Work("uid-mine", Key("Mission", "default", "mine"), spec, "", LOCAL)


def test_new_begins_a_clean_one_every_time() -> None:
    found = choose(NEW, [session("s", mission_uid="uid-mine")], work())
    assert found == Choice(None, "", "session.strategy is New")


def test_reuse_takes_the_latest_and_its_own_before_that() -> None:
    known = [session("late"), session("own", mission_uid="uid-mine"), session("early")]
    assert choose(REUSE, known, work()).id == "own"
    assert choose(REUSE, known[::2], work()).id == "late"
    assert choose(REUSE, known[::2], work(priority="High")).id == "late"


def test_auto_goes_on_with_the_session_of_the_same_mission() -> None:
    found = choose(AUTO, [session("x"), session("own", mission_uid="uid-mine")], work(priority=100))
    assert (found.id, found.run, found.why) == ("own", "of-own-1", "the session of this mission")


@pytest.mark.parametrize(
    ("theirs", "ours", "why"),
    [
        ({"goal": ObjectRef(name="g")}, {"goalRef": {"name": "g"}}, "the same goal"),
        ({"project": ObjectRef(name="p")}, {"projectRef": {"name": "p"}}, "the same project"),
        ({}, {"dependsOn": [{"name": "of-s"}]}, "it depends on of-s"),
    ],
)
def test_auto_goes_on_with_related_work(theirs: dict[str, Any], ours: dict[str, Any], why: str) -> None:
    for priority in (20, 90):
        found = choose(AUTO, [session("other"), session("s", **theirs)], work(priority=priority, **ours))
        assert (found.id, found.why) == ("s", f"related work: {why}")


def test_auto_begins_a_clean_one_for_unrelated_work_the_more_so_when_it_is_urgent() -> None:
    known = [session("s", project=ObjectRef(name="p"))]
    found = choose(AUTO, known, work(projectRef={"name": "q"}, priority="High"))
    assert (found.id, found.why) == (None, "priority 80 and unrelated to what the agent worked on")
    assert choose(AUTO, known, work()).id is None


def test_projects_of_the_same_name_in_two_tenants_are_not_the_same() -> None:
    known = [session("s", project=ObjectRef(name="p", namespace="other"))]
    assert choose(AUTO, known, work(projectRef={"name": "p"})).id is None


@pytest.mark.parametrize("fields", [{"prompt_digest": "sha256:old"}, {"executor": "Executor/default/elsewhere"}])
def test_a_session_of_another_prompt_or_executor_is_left(fields: dict[str, Any]) -> None:
    assert choose(REUSE, [session("s", **fields)], work()).id is None


def test_a_session_that_an_open_run_holds_is_left_to_it() -> None:
    known = [session("s"), session("t")]
    assert choose(REUSE, known, work(), taken=frozenset({"s"})).id == "t"
    assert choose(REUSE, known, work(), taken=frozenset({"s", "t"})).id is None


def test_a_program_that_cannot_resume_gets_none() -> None:
    assert choose(REUSE, [session("s")], work(), can_resume=False).id is None


def test_the_latest_sessions_are_remembered_each_once() -> None:
    known: tuple[AgentSession, ...] = ()
    for n in range(KEPT + 5):
        known = remembered(known, session(f"s{n}"))
    assert [s.id for s in known] == [f"s{n}" for n in range(KEPT + 4, 4, -1)]
    again = remembered(known, session("s7"))
    assert (again[0].id, len(again)) == ("s7", KEPT)
    assert "s9" not in [s.id for s in remembered(again, None, "s9")]
