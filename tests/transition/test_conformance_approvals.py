"""Conformance scenarios 16 and 18: a leave fits one action, and two approvers at once make one effect."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from controllers.gate.asking import Asked
from controllers.runs.run_record import agent_actor
from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.errors import Refused
from schemas.mission import MissionState
from schemas.resource import Actor, ActorKind, Declared, Resource
from tests.fakes.gates import Desk
from tests.fakes.stores import BACKENDS
from tests.fakes.world import EXECUTOR, World, agent, mission

pytestmark = pytest.mark.parametrize("backend", sorted(BACKENDS))


@pytest.fixture
def desk(world: World) -> Desk:
    """A specialist who may use every tool and works on mission/ship in run ship-1."""
    tools = agent(autonomyLevel="Specialist", tools="[{name: '*'}]")
    world.commit({"fleet.yaml": EXECUTOR + "---\n" + tools, "ship.yaml": mission("ship")})
    world.sync()
    return Desk(world)


# 16 Approval for args X, retry with args Y: no effect.


def test_16_a_leave_for_args_x_allows_nothing_with_args_y(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="x", target="origin", usd="0.1")
    world.answer("ship")
    others = [
        desk.ask("ship-1", "push_tag", {"tag": "v2"}, target="origin", usd="0.1"),
        desk.ask("ship-1", "push_tag", {"tag": "v1", "force": True}, target="origin", usd="0.1"),
        desk.ask("ship-1", "push_tag", {"tag": "v1"}, target="fork", usd="0.1"),
        desk.ask("ship-1", "push_tag", {"tag": "v1"}, target="origin", usd="0.2"),
        desk.ask("ship-1", "move_tag", {"tag": "v1"}, target="origin", usd="0.1"),
    ]
    assert [other.decision for other in others] == ["ask"] * len(others)
    assert len({asked.action_digest, *(other.action_digest for other in others)}) == len(others) + 1
    with pytest.raises(Refused, match="another call"):
        desk.ask("ship-1", "push_tag", {"tag": "v2"}, key="x", target="origin", usd="0.1")
    assert desk.request(asked).status.get("consumedAt") is None
    assert desk.collect("ship-1", asked).decision == "allow"
    assert [desk.collect("ship-1", other).decision for other in others] == ["ask"] * len(others)


def test_16_an_answer_with_the_digest_of_another_action_has_no_effect(world: World, desk: Desk) -> None:
    first = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    second = desk.ask("ship-1", "push_tag", {"tag": "v2"})
    assert second.approval_request is not None
    decision = desk.decide(second.approval_request, actionDigest=first.action_digest)
    assert world.reason("ApprovalDecision", decision.name, "Succeeded") == "False/StaleDecision"
    assert desk.collect("ship-1", second).decision == "ask"


# 18 Two approvers at once: no lost update, one effect.


def decision(tx_name: str, request: Resource, verdict: str) -> Declared:
    spec = ApprovalDecisionSpec.model_validate(
        {
            "requestRef": {"name": request.name, "uid": request.uid},
            "actionDigest": request.spec["actionDigest"],
            "verdict": verdict,
        }
    )
    return Declared("ApprovalDecision", "default", tx_name, spec.to_wire())


@pytest.mark.parametrize("verdicts", [("Approve", "Approve"), ("Approve", "Deny"), ("Deny", "Approve")])
def test_18_of_two_answers_at_once_the_first_counts_and_nothing_is_lost(
    world: World, desk: Desk, verdicts: tuple[str, str]
) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    request = desk.request(asked)
    gate = threading.Barrier(2)

    def answer(who: str, verdict: str) -> None:
        gate.wait(60)
        actor = Actor(ActorKind.HUMAN, f"user:{who}", "Store")
        with world.store.transaction(actor) as tx:
            status = ApprovalDecisionStatus(subject=f"user:{who}", transport="Store")
            tx.create(decision(f"by-{who}", request, verdict), manager="cli/x", status=status.to_wire())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(answer, ("alice", "bob"), verdicts))
    world.settle()
    judged = {who: world.reason("ApprovalDecision", f"by-{who}", "Succeeded") for who in ("alice", "bob")}
    counted = {f"by-{who}" for who, reason in judged.items() if reason == "True/Counted"}
    request = desk.request(asked)
    assert set(request.status["decisions"]) == counted, "what counted is kept"
    assert counted, "one of them counts"
    if "Deny" in verdicts:  # a Deny beats an approval that was not used yet, whichever came first
        assert request.state == "Denied"
        assert desk.collect("ship-1", asked).decision == "deny"
    else:
        assert sorted(judged.values()) == ["False/AlreadyDecided", "True/Counted"]
        assert desk.collect("ship-1", asked).decision == "allow"
        assert desk.request(asked).status["uses"] == 1
    assert world.state("ship") is MissionState.IN_PROGRESS


def test_18_one_leave_is_used_by_one_of_many_calls_at_once(world: World, desk: Desk) -> None:
    asked = [desk.ask("ship-1", "push_tag", {"tag": "v1"}, key=f"twin-{number}") for number in range(6)]
    assert len({a.approval_request for a in asked}) == 1, "twins share a question"
    world.answer("ship")
    run = world.get("Run", "ship-1")
    start = threading.Barrier(12)

    def collect(number: int) -> str:
        start.wait(60)
        with world.store.transaction(agent_actor(run)) as tx:
            if number % 2:
                return desk.gate.collect(tx, run.uid, asked[number // 2].decision_id).decision
            call = Asked("push_tag", {"tag": "v1"}, f"twin-{number // 2}")
            return desk.gate.authorize(tx, run.uid, call).decision

    with ThreadPoolExecutor(12) as pool:
        words = list(pool.map(collect, range(12)))
    world.settle()
    allowed = [a for a in asked if desk.collect("ship-1", a).decision == "allow"]
    assert len(allowed) == 1
    assert words.count("allow") in (1, 2), "the same call may hear of its leave twice"
    used = [r for r in desk.requests() if r.status.get("consumedAt")]
    assert len(used) == 1
    assert len(desk.requests()) == 2, "the others wait for one more answer"
