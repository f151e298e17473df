"""Missions that agents propose: people take them or not, a Goal may let them start, and what bounds them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controllers.reconcilers import proposed_missions
from controllers.runs.once import Once
from schemas.errors import OverLimit, Refused
from schemas.mission import MissionState
from schemas.protocol import ProposedMission, ProposeMissionMessage
from schemas.resource import SYSTEM
from tests.fakes.world import World, agent, executor, mission

MAY = "{missions: {types: [Docs, Ops], agents: [writer], maxOpen: 2, maxPerDay: 3}}"
GOAL = """\
apiVersion: remit.dev/v1alpha1
kind: Goal
metadata: {name: docs}
spec: {objective: better docs, autoExecute: {classes: [Docs]}}
"""


def begin(world: World, *, may: str = MAY, **spec: object) -> None:
    """An agent at work that may propose missions."""
    files = {
        "e.yaml": executor(),
        "a.yaml": agent(proposals=may),
        "w.yaml": agent("writer"),
        "m.yaml": mission("first", **spec),
    }
    world.commit({**files, "g.yaml": GOAL})
    world.sync()
    assert world.get("Run", "first-1").state == "Running"


def propose(world: World, name: str = "more", key: str = "", run: str = "first-1", **wish: Any) -> ProposedMission:
    text = json.dumps({"name": name, "title": f"do {name}", "reason": "it is missing", **wish})
    message = ProposeMissionMessage.model_validate_json(text)
    uid, once = world.get("Run", run).uid, Once.of(key or name, text.encode())
    with world.store.transaction(SYSTEM) as tx:
        made = proposed_missions.propose(tx, uid, message, once=once)
    world.settle()
    return made


def test_a_proposed_mission_waits_in_the_inbox_until_a_person_takes_it(world: World) -> None:
    begin(world)
    made = propose(world, agent="writer")
    assert (made.state, made.accepted) == ("Inbox", False)
    waiting = world.get("Mission", made.name)
    [blocked] = waiting.status["blockedOn"]
    assert blocked["type"] == "Approval"
    request = world.get("ApprovalRequest", waiting.status["reviewRequest"])
    assert (request.spec["type"], request.spec["requester"]) == ("Mission", "agent:default/worker")
    assert request.spec["action"]["usd"] == "3"
    world.advance(3600)
    assert not world.started[1:], "nothing of it runs"
    world.answer(made.name, "Approve", "good idea")
    taken = world.get("Mission", made.name)
    assert taken.status["proposed"]["acceptedBy"] == "user:alice"
    assert taken.status["proposed"]["mission"] == "first"
    assert (taken.state, taken.status["currentRun"]) == (MissionState.IN_PROGRESS, f"{made.name}-1")
    assert taken.status["transitions"][0]["actor"] == "user:alice"
    assert world.get("ApprovalRequest", request.name).status["uses"] == 1


def test_one_that_nobody_wants_ends_and_never_runs(world: World) -> None:
    begin(world)
    made = propose(world, agent="writer")
    world.answer(made.name, "Deny", "not now")
    ended = world.get("Mission", made.name)
    assert (ended.state, ended.status["transitions"][-1]["message"]) == (MissionState.CANCELED, "not now")
    assert world.started == ["first-1"]


def test_no_answer_in_time_is_a_no(world: World) -> None:
    begin(world)
    made = propose(world)
    world.advance(112 * 3600)
    ended = world.get("Mission", made.name)
    assert (ended.state, ended.status["transitions"][-1]["reason"]) == (MissionState.CANCELED, "ApprovalExpired")


def test_without_an_agent_it_is_taken_and_then_waits_for_one(world: World) -> None:
    begin(world)
    made = propose(world)
    world.answer(made.name)
    taken = world.get("Mission", made.name)
    assert (taken.state, taken.status["proposed"]["accepted"]) == (MissionState.INBOX, True)
    assert [b["type"] for b in taken.status["blockedOn"]] == ["Person"]


def test_a_type_that_the_goal_lists_starts_by_itself_and_another_does_not(world: World) -> None:
    begin(world, goalRef="{name: docs}")
    alone = propose(world, "page", type="Docs", forGoal=True, agent="writer", budget={"usd": "1"})
    asked = propose(world, "chore", type="Ops", forGoal=True, agent="writer")
    assert (alone.accepted, asked.accepted) == (True, False)
    started = world.get("Mission", alone.name)
    assert (started.state, started.spec["goalRef"]["name"]) == (MissionState.IN_PROGRESS, "docs")
    assert started.status["proposed"]["acceptedBy"] == "goal/docs"
    assert world.get("Mission", asked.name).state == MissionState.INBOX
    events = world.events("MissionProposed")
    assert [event.reason for event in events] == ["AllowListed", "Asked"]


def test_a_mission_without_a_goal_cannot_borrow_one(world: World) -> None:
    begin(world)
    with pytest.raises(Refused, match="serves no Goal"):
        propose(world, type="Docs", forGoal=True)


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"type": "Engineering"}, "these types: Docs, Ops"),
        ({"agent": "boss"}, "not for boss"),
        ({"budget": {"usd": "4"}}, "no room"),
    ],
)
def test_what_goes_beyond_the_declared_limits_is_refused(world: World, wish: dict[str, Any], why: str) -> None:
    begin(world)
    with pytest.raises(Refused, match=why):
        propose(world, **wish)


def test_an_agent_without_leave_proposes_nothing(world: World) -> None:
    begin(world, may="{}")
    with pytest.raises(Refused, match="may propose no missions") as refused:
        propose(world)
    assert refused.value.reason == "NotAllowedToPropose"


def test_too_many_that_wait_and_too_many_a_day_are_refused_for_a_while(world: World) -> None:
    begin(world)
    made = [propose(world, name, budget={"usd": "0.5"}) for name in ("one", "two")]
    with pytest.raises(OverLimit, match="wait for an answer"):
        propose(world, "three", budget={"usd": "0.5"})
    world.answer(made[0].name, "Deny", "no")
    propose(world, "three", budget={"usd": "0.5"})
    world.answer(made[1].name, "Deny", "no")
    with pytest.raises(OverLimit, match="24 hours") as over:
        propose(world, "four", budget={"usd": "0.5"})
    assert 86_000 < (over.value.after or 0) <= 86_400
    world.advance(86_400)
    propose(world, "four", budget={"usd": "0.5"})


def test_together_they_stay_within_what_the_parent_has_left(world: World) -> None:
    begin(world, budget="{usd: 1}")
    propose(world, "one", budget={"usd": "0.5"})
    with pytest.raises(Refused, match="no room"):
        propose(world, "two", budget={"usd": "0.6"})
    left = world.get("Mission", propose(world, "three").name)
    assert float(left.spec["budget"]["usd"]) <= 0.5


def test_the_same_request_again_makes_no_second_mission(world: World) -> None:
    begin(world)
    first = propose(world, key="k")
    assert propose(world, key="k").name == first.name
    with pytest.raises(Refused, match="before"):
        propose(world, key="another")


def test_a_question_survives_a_restart_and_is_asked_once(world: World) -> None:
    begin(world)
    made = propose(world)
    world.restart()
    world.advance(700)
    asked = [r for r in world.everything() if r.kind == "ApprovalRequest"]
    assert len(asked) == 1
    world.answer(made.name)
    assert world.get("Mission", made.name).status["proposed"]["accepted"]
