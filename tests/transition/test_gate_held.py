"""What the gate answers while something is held: in its transaction, to a repeated request, and at the last moment."""

from __future__ import annotations

import pytest

from controllers.gate.authorize import Gate
from controllers.gate.held import before_it_goes_out
from controllers.holds import estop
from controllers.holds.stop_file import StopFile
from controllers.holds.stops import Stops
from schemas.authorize import DecisionWord
from schemas.mission import MissionState
from schemas.run import RunState
from tests.fakes.gates import Desk
from tests.fakes.world import ALICE, World, agent, executor, mission


@pytest.fixture
def file(world: World) -> StopFile:
    made = StopFile(world.folder / "state" / "ESTOP", "here")
    world.stops = Stops(made)
    world.restart()
    return made


@pytest.fixture
def desk(world: World, file: StopFile) -> Desk:
    tools = "[{name: read_db}, {name: git_commit}]"
    world.commit({"fleet.yaml": executor() + "---\n" + agent(tools=tools), "m.yaml": mission("m")})
    world.sync()
    assert world.started == ["m-1"]
    return Desk(world, Gate(stops=world.stops))


def stop(world: World) -> None:
    with world.store.transaction(ALICE) as tx:
        estop.place(tx, "incident")


@pytest.mark.parametrize(
    ("spec", "allowed"),
    [
        ({"scope": "Global", "mode": "Stop"}, False),
        ({"scope": "Tenant", "mode": "Stop"}, False),
        ({"selector": {"names": ["worker"]}, "mode": "Stop"}, False),
        ({"selector": {"kinds": ["Executor"], "names": ["local"]}, "mode": "Stop"}, False),
        ({"selector": {"names": ["worker"]}, "mode": "Drain"}, True),
        ({"scope": "Global", "mode": "Hold"}, True),
        ({"scope": "Global", "mode": "Stop", "released": {"agents": [{"name": "worker"}]}}, True),
    ],
)
def test_a_stop_refuses_calls_and_what_lets_work_end_does_not(
    world: World, desk: Desk, spec: dict[str, object], allowed: bool
) -> None:
    world.act("Hold", "h", {"reason": "incident", **spec})
    decision = desk.ask("m-1", "read_db")
    assert (decision.decision is DecisionWord.ALLOW) is allowed


def test_the_stop_that_no_pass_has_seen_yet_refuses_already(world: World, desk: Desk) -> None:
    stop(world)
    decision = desk.ask("m-1", "read_db", settle=False)
    assert (decision.decision, decision.code) == (DecisionWord.DENY, "Held")
    assert decision.rule == "hold/estop"
    assert "remit estop release" in decision.remedy


def test_a_file_refuses_and_becomes_a_hold_in_the_same_transaction(world: World, desk: Desk, file: StopFile) -> None:
    file.write("now", by="user:alice", at=world.now)
    decision = desk.ask("m-1", "read_db", settle=False)
    assert (decision.decision, decision.code) == (DecisionWord.DENY, "Held")
    assert [r.status["file"] for r in world.everything() if r.kind == "Hold"] == [file.place()]


def test_a_yes_of_before_the_stop_is_none_when_it_is_asked_for_again(world: World, desk: Desk) -> None:
    first = desk.ask("m-1", "read_db", key="one", settle=False)
    assert first.decision is DecisionWord.ALLOW
    stop(world)
    again = desk.ask("m-1", "read_db", key="one", settle=False)
    assert (again.decision, again.code, again.decision_id) == (DecisionWord.DENY, "Held", first.decision_id)
    assert "it was allowed, and stopped since by user:alice: incident" in again.reason
    run = world.get("Run", "m-1")
    with world.store.snapshot() as snapshot:
        assert desk.gate.look(snapshot, run, first.decision_id, world.now).decision is DecisionWord.DENY
    assert desk.call(first).state == "Allowed", "the record says what was answered first"


def test_leave_that_a_person_gives_during_the_stop_is_not_used(world: World, desk: Desk) -> None:
    asked = desk.ask("m-1", "git_commit", {"message": "x"})
    assert asked.decision is DecisionWord.ASK
    stop(world)
    desk.decide(desk.request(asked).name)
    answer = desk.collect("m-1", asked)
    assert answer.decision is DecisionWord.DENY
    assert desk.request(asked).status.get("consumedBy") in (None, "", [])


def test_a_file_that_comes_after_the_commit_takes_the_yes_back(world: World, desk: Desk, file: StopFile) -> None:
    decision = desk.ask("m-1", "read_db", settle=False)
    run = world.get("Run", "m-1")
    assert before_it_goes_out(decision, run, world.stops) is decision
    file.write("theirs", by="user:alice", at=world.now, tenant="acme")
    assert before_it_goes_out(decision, run, world.stops) is decision
    file.write("ours", by="user:alice", at=world.now, tenant="default")
    assert before_it_goes_out(decision, run, world.stops).decision is DecisionWord.DENY


def test_a_mission_that_waits_for_leave_is_blocked_by_the_stop_and_begins_again_after_it(
    world: World, desk: Desk
) -> None:
    desk.ask("m-1", "git_commit", {"message": "x"})
    assert world.state("m") is MissionState.NEEDS_APPROVAL
    stop(world)
    world.settle()
    assert world.canceled == ["m-1"]
    world.finish("m-1", state=RunState.CANCELED)
    assert world.state("m") is MissionState.BLOCKED
    assert world.status("m").blocked_on[0].ref == "Hold/default/estop"
    world.remove("Hold", "estop")
    assert world.started == ["m-1", "m-2"]
