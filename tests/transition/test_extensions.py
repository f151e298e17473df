"""More than a limit, granted by a person: an amount of their choice, for a time of their choice, never more than was
asked unless they say so, once, and the declared limit counts again afterwards."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.mission import MissionState, Spend
from schemas.quantities import format_time
from schemas.resource import Declared, Resource
from schemas.run import RunState
from tests.fakes.world import ALICE, World, agent, executor, mission
from tests.transition.test_budgets import budget, finish, fleet

LIMIT = "usd: 0.30"


def over(world: World, missions: int = 2, **more: object) -> Resource:
    """A daily limit of 0.30 USD, of which m0 has spent 0.25: m1 asks for the 0.20 USD that its run lacks."""
    fleet(world, missions, extra=budget("daily", "{tenant: true}", limits=LIMIT, breach="RequireApproval", **more))
    finish(world, "m0-1", "0.25")
    return asked(world)


def asked(world: World, name: str = "m1") -> Resource:
    return world.get("ApprovalRequest", str(world.status(name).review_request))


def granted(world: World) -> Any:
    return world.get("Budget", "daily").status["granted"]["usd"]


def in_(world: World, **time: float) -> str:
    return format_time(world.now + timedelta(**time))


def outcome(decision: Resource) -> str:
    [condition] = [c for c in decision.status["conditions"] if c["type"] == "Succeeded"]
    return f"{condition['status']}/{condition['reason']}"


def test_a_grant_ends_at_its_time_and_the_declared_limit_counts_again(world: World) -> None:
    request = over(world, 3)
    decision = world.answer("m1", grant={"usd": "0.2", "until": in_(world, hours=2)})
    assert outcome(decision) == "True/Counted"
    assert world.started == ["m0-1", "m1-1"]
    assert granted(world) == "0.2"
    [event] = world.events("BudgetExtended")
    assert event.message.startswith("0.2 USD more for budget/daily, until ")
    finish(world, "m1-1", "0.05")
    world.advance(2 * 3600 - 1)
    assert granted(world) == "0.2"
    for _ in range(2):
        world.advance(2)
        world.restart()
    assert granted(world) == "0"
    [event] = world.events("BudgetExtensionEnded")
    assert event.message == "0.2 USD less for budget/daily: its time is over"
    assert world.get("ApprovalRequest", request.name).status["extension"]["endedAt"]
    world.commit({"late.yaml": mission("late", priority=99)})
    world.sync()
    assert "late-1" not in world.started, "0.30 of 0.30 is spent"


def test_an_engine_that_was_down_at_the_end_starts_nothing_on_a_grant_that_is_over(world: World) -> None:
    over(world)
    world.answer("m1", grant={"usd": "1", "until": in_(world, hours=2), "beyondRequest": True})
    finish(world, "m1-1", "0.01")
    world.clock.tick(3 * 3600)  # nobody was there at the end
    world.commit({"late.yaml": mission("late", priority=99)})
    world.restart()
    world.sync()
    assert granted(world) == "0"
    assert world.started == ["m0-1", "m1-1"]
    assert world.state("late") is MissionState.BLOCKED


def test_less_than_was_asked_lets_nothing_start_that_needs_more_and_is_asked_for_anew(world: World) -> None:
    first = over(world)
    assert outcome(world.answer("m1", grant={"usd": "0.15"})) == "True/Counted"
    assert world.started == ["m0-1"]
    assert granted(world) == "0.15"
    second = asked(world)
    assert second.name != first.name
    assert second.spec["action"]["usdMicros"] == 50_000, "what is lacking still"
    world.answer("m1")
    assert world.started == ["m0-1", "m1-1"]
    assert granted(world) == "0.2"


def test_more_than_was_asked_needs_a_word_of_its_own(world: World) -> None:
    request = over(world)
    refused = world.answer("m1", grant={"usd": "5"})
    assert outcome(refused) == "False/GrantTooLarge"
    other = world.answer("m1", grant={"tokens": 1})
    assert outcome(other) == "False/GrantTooLarge", "tokens were not asked for"
    assert world.get("ApprovalRequest", request.name).state == "Pending"
    assert (world.started, granted(world)) == (["m0-1"], "0")
    assert outcome(world.answer("m1", grant={"usd": "5", "beyondRequest": True})) == "True/Counted"
    assert granted(world) == "5"
    assert world.started == ["m0-1", "m1-1"]


def test_a_grant_fits_one_request_and_has_an_end_in_the_future(world: World) -> None:
    request = over(world)
    assert outcome(world.answer("m1", actionDigest="sha256:" + "0" * 64, grant={"usd": "0.1"})) == "False/StaleDecision"
    assert outcome(world.answer("m1", grant={"until": in_(world, seconds=-1)})) == "False/Expired"
    assert world.get("ApprovalRequest", request.name).state == "Pending"


def test_who_needs_the_same_again_is_asked_again(world: World) -> None:
    retry = "{maxAttempts: 3, backoff: {initial: 1s, jitter: 0}}"
    fleet(world, 1, extra=budget("daily", "{tenant: true}", limits="usd: 0.25", breach="RequireApproval"))
    finish(world, "m0-1", "0.25")
    world.commit({"again.yaml": mission("again", retry=retry)})
    world.sync()
    names = []
    for attempt in (1, 2):
        request = asked(world, "again")
        assert request.state == "Pending"
        assert request.spec["action"]["usdMicros"] == 250_000
        names.append(request.name)
        world.answer("again")
        assert world.started[-1] == f"again-{attempt}"
        spend = Spend(usd=Decimal("0.25"), source="Reported")
        world.finish(f"again-{attempt}", state=RunState.FAILED, spend=spend)
        world.advance(10)
    assert len(set(names)) == 2
    assert granted(world) == "0.5"


def test_only_a_question_about_a_budget_takes_an_amount(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "r.yaml": mission("r", review="Human")})
    world.sync()
    world.finish("r-1")
    assert outcome(world.answer("r", grant={"usd": "1"})) == "False/StaleDecision"
    assert world.state("r") is MissionState.REVIEW


def test_a_grant_for_a_time_ends_with_its_mission(world: World) -> None:
    over(world, 8)
    world.answer("m1", grant={"until": in_(world, hours=9)})
    finish(world, "m1-1", "0.01")
    assert granted(world) == "0.2"
    world.commit(delete=("m1.yaml",))
    world.sync()
    assert world.find("Mission", "m1") is None
    assert granted(world) == "0"
    world.advance(10 * 3600)
    assert granted(world) == "0"


def test_of_several_grants_the_least_and_the_shortest_counts(world: World) -> None:
    quorum = """apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: two}
spec: {approvals: {quorum: 2, separationOfDuties: false}, rules: []}
"""
    world.commit({"two.yaml": quorum})
    over(world)
    soon, late = in_(world, hours=1), in_(world, hours=5)
    answer_as(world, "ada", {"usd": "0.2", "until": late})
    assert world.started == ["m0-1"]
    answer_as(world, "bob", {"usd": "9", "until": soon, "beyondRequest": True})
    assert granted(world) == "0.2"
    world.advance(3601)
    assert granted(world) == "0"


def answer_as(world: World, name: str, grant: dict[str, Any]) -> None:
    request = asked(world)
    spec = ApprovalDecisionSpec.model_validate(
        {
            "requestRef": {"name": request.name, "uid": request.uid},
            "actionDigest": request.spec["actionDigest"],
            "verdict": "Approve",
            "grant": grant,
        }
    )
    with world.store.transaction(ALICE) as tx:
        status = ApprovalDecisionStatus(subject=f"user:{name}", transport="Store").to_wire()
        tx.create(Declared("ApprovalDecision", "default", name, spec.to_wire()), manager=f"cli/{name}", status=status)
    world.settle()
