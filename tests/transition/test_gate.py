"""The gate in a whole engine: asked, answered once, used once; the mission shows it."""

from __future__ import annotations

import pytest

from schemas.errors import Refused
from schemas.mission import MissionState
from schemas.run import RunState
from tests.fakes.gates import Desk
from tests.fakes.world import EXECUTOR, World, agent, mission

TOOLS = "[{name: '*'}]"


@pytest.fixture
def desk(world: World) -> Desk:
    """A specialist who may use every tool and works on mission/ship in run ship-1."""
    world.commit(
        {
            "executor.yaml": EXECUTOR,
            "agent.yaml": agent(autonomyLevel="Specialist", tools=TOOLS),
            "mission.yaml": mission("ship"),
        }
    )
    world.sync()
    assert world.started == ["ship-1"]
    return Desk(world)


def test_a_green_call_goes_ahead_and_is_recorded(world: World, desk: Desk) -> None:
    decision = desk.ask("ship-1", "read_file", {"path": "README.md"})
    assert (decision.decision, decision.code, decision.risk) == ("allow", "Allowed", "Green")
    assert desk.status(decision).state == "Allowed"
    event = world.events("CallDecided")[-1]
    assert event.actor.subject == "agent:default/worker"
    assert event.data["verdict"] == "Allow"
    assert world.state("ship") is MissionState.IN_PROGRESS


def test_a_red_call_waits_for_a_person_and_goes_ahead_once(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="k1", target="origin")
    assert (asked.decision, asked.code) == ("ask", "AwaitingApproval")
    assert world.state("ship") is MissionState.NEEDS_APPROVAL
    request = desk.request(asked)
    assert request.spec["risk"] == "Red"
    assert request.spec["actionDigest"] == asked.action_digest
    assert desk.collect("ship-1", asked).decision == "ask"
    decision = world.answer("ship", reason="go")
    assert world.reason("ApprovalDecision", decision.name, "Succeeded") == "True/Counted"
    assert world.state("ship") is MissionState.IN_PROGRESS
    assert desk.request(asked).status.get("consumedAt") is None, "nobody used it yet"
    allowed = desk.collect("ship-1", asked)
    assert (allowed.decision, allowed.code) == ("allow", "Approved")
    assert desk.request(asked).status["consumedAt"]
    again = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="k1", target="origin")
    assert again.decision == "allow", "the same call gets the same answer"
    other = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="k2", target="origin")
    assert other.decision == "ask", "a second call needs a leave of its own"
    assert other.approval_request != asked.approval_request


@pytest.mark.parametrize("usd", ["0.1", "0.100000", "1E-2"])
def test_however_an_estimate_is_written_it_is_one_action(world: World, desk: Desk, usd: str) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"}, usd=usd)
    world.answer("ship")
    assert desk.collect("ship-1", asked).decision == "allow"
    assert len(desk.requests()) == 1


def test_an_edited_action_needs_a_new_approval(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="k1")
    world.answer("ship")
    edited = desk.ask("ship-1", "push_tag", {"tag": "v2"}, key="k2")
    assert edited.decision == "ask"
    assert edited.action_digest != asked.action_digest
    with pytest.raises(Refused, match="another call"):
        desk.ask("ship-1", "push_tag", {"tag": "v2"}, key="k1")
    assert desk.collect("ship-1", asked).decision == "allow"
    assert desk.collect("ship-1", edited).decision == "ask"


def test_a_refusal_is_told_and_the_mission_goes_on(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    world.answer("ship", "Deny", "not today")
    assert world.state("ship") is MissionState.IN_PROGRESS
    refused = desk.collect("ship-1", asked)
    assert (refused.decision, refused.code) == ("deny", "ApprovalDenied")
    assert "not today" in refused.reason
    nagging = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    assert (nagging.decision, nagging.code) == ("deny", "ApprovalDenied")
    assert len(desk.requests()) == 1


def test_without_an_answer_the_mission_is_parked_and_its_run_stopped(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    world.advance(111 * 3600)
    assert desk.request(asked).state == "Expired"
    assert world.canceled == ["ship-1"]
    world.finish("ship-1", state=RunState.CANCELED)
    assert world.state("ship") is MissionState.BLOCKED
    assert desk.status(asked).state == "Denied"


def test_an_estimate_is_reserved_booked_and_counted(world: World, desk: Desk) -> None:
    uid = world.get("Mission", "ship").uid
    decision = desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.10")
    assert desk.balance(f"mission/{uid}/total").reserved.usd_micros == 100_000
    desk.report("ship-1", decision, usd=70_000)
    held = desk.balance(f"mission/{uid}/total")
    assert (held.reserved.usd_micros, held.spent.usd_micros) == (0, 70_000)
    open_call = desk.ask("ship-1", "read_file", {"path": "b"}, usd="0.10")
    world.finish("ship-1")
    held = desk.balance(f"mission/{uid}/total")
    assert (held.reserved.usd_micros, held.spent.usd_micros) == (0, 170_000)
    assert desk.status(open_call).state == "Unknown"
    assert str(world.status("ship").spend.usd) == "0.17"
