"""The gate in a whole engine: asked, answered once, used once; the mission shows it."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal

import pytest

from controllers.runs import reports
from controllers.runs.once import Once
from controllers.runs.verdict import Share
from schemas.errors import Refused
from schemas.hold import HoldSpec
from schemas.mission import MissionState, Spend
from schemas.resource import SYSTEM, Declared
from schemas.run import RunState
from schemas.tool_call import ToolCallSpec
from tests.fakes.gates import Desk
from tests.fakes.world import ALICE, EXECUTOR, World, agent, mission

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


@pytest.mark.parametrize("usd", [None, "0.10"])
def test_a_call_is_recorded_as_its_model_writes_it(world: World, desk: Desk, usd: str | None) -> None:
    decision = desk.ask("ship-1", "read_file", {"path": "a", "lines": [1, None]}, usd=usd)
    spec = world.get("ToolCall", decision.tool_call).spec
    assert ToolCallSpec.model_validate(spec).to_wire() == spec


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


@pytest.mark.parametrize("told", [False, True])
def test_what_a_call_cost_does_not_tell_what_the_model_cost(world: World, told: bool) -> None:
    worker = agent(autonomyLevel="Specialist", tools=TOOLS, model="{primary: some-model}")
    world.commit({"executor.yaml": EXECUTOR, "agent.yaml": worker, "mission.yaml": mission("ship")})
    world.sync()
    desk = Desk(world)
    account = f"mission/{world.get('Mission', 'ship').uid}/total"
    reserved = desk.balance(account).reserved.usd_micros
    assert reserved > 30_000
    desk.report("ship-1", desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.01"), usd=10_000)
    if told:
        with world.store.transaction(SYSTEM) as tx:
            used = Share("some-model", Spend(usd=Decimal("0.02"), source="Reported"))
            reports.use(tx, world.get("Run", "ship-1").uid, used, once=Once("own", "own"))
    world.finish("ship-1")
    held = desk.balance(account)
    assert (held.reserved.usd_micros, held.spent.usd_micros) == (0, 30_000 if told else reserved)
    assert world.status("ship").spend.source == ("Reported" if told else "Unknown")


# What holds when the leave is used counts, not what held when it was asked for.


def hold(world: World, mode: str = "Stop") -> None:
    world.act("Hold", "all", {"scope": "Tenant", "mode": mode, "reason": "look first"}, {"placedBy": "user:alice"})


def policy(**spec: object) -> str:
    """A Policy for everybody, as JSON."""
    wire = json.dumps({"selector": {"matchLabels": {}}, **spec})
    return f"apiVersion: remit.dev/v1alpha1\nkind: Policy\nmetadata: {{name: rules}}\nspec: {wire}\n"


DENY_TAGS = {"name": "no-tags", "match": {"tools": ["push_tag"]}, "verdict": "Deny", "reason": "frozen"}


def test_a_hold_that_came_meanwhile_denies_and_leaves_the_leave_unused(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    world.answer("ship")
    with world.store.transaction(ALICE) as tx:
        spec = HoldSpec.model_validate({"scope": "Tenant", "mode": "Stop", "reason": "look first"}).to_wire()
        tx.create(Declared("Hold", "default", "all", spec), manager="cli/alice")
    run = world.get("Run", "ship-1")  # nobody has told the run to stop yet: the gate sees the Hold itself
    with world.store.transaction(ALICE) as tx:
        refused = desk.gate.collect(tx, run.uid, asked.decision_id)
    assert (refused.decision, refused.code) == ("deny", "Held")
    assert desk.request(asked).state == "Approved"
    assert desk.request(asked).status.get("consumedAt") is None
    world.settle()
    assert world.canceled == ["ship-1"]
    late = desk.ask("ship-1", "read_file", {"path": "a"})
    assert (late.decision, late.code) == ("deny", "Canceled")


def test_a_drain_lets_a_run_finish_its_calls(world: World, desk: Desk) -> None:
    hold(world, "Drain")
    assert desk.ask("ship-1", "read_file", {"path": "a"}).decision == "allow"


def test_a_policy_that_came_meanwhile_denies(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    world.answer("ship")
    world.commit({"policy.yaml": policy(rules=[DENY_TAGS])})
    world.sync()
    refused = desk.collect("ship-1", asked)
    assert (refused.decision, refused.code) == ("deny", "Rule")
    assert "policy.yaml:1 spec.rules[0]" in refused.rule
    assert "frozen" in refused.reason
    assert (desk.request(asked).state, desk.request(asked).status.get("uses")) == ("Approved", 0)


def test_a_leave_for_one_rule_is_none_for_another(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    world.answer("ship")
    rule = {"name": "ask-for-tags", "match": {"tools": ["push_tag"]}, "verdict": "RequireApproval"}
    world.commit({"policy.yaml": policy(rules=[rule])})
    world.sync()
    again = desk.collect("ship-1", asked)
    assert again.decision == "ask"
    assert again.decision_id == asked.decision_id
    assert again.approval_request != asked.approval_request
    world.answer("ship")
    assert desk.collect("ship-1", again).decision == "allow"


def test_what_a_policy_allows_meanwhile_needs_no_leave_any_more(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="k1")
    world.commit({"policy.yaml": policy(risk={"push_tag": "Green"})})
    world.sync()
    allowed = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="k1")
    assert (allowed.decision, allowed.decision_id) == ("allow", asked.decision_id)
    assert world.state("ship") is MissionState.IN_PROGRESS
    assert desk.request(asked).state == "Withdrawn"


def test_a_rule_may_ask_what_was_spent(world: World, desk: Desk) -> None:
    rule = {"name": "dear", "match": {"when": "spend.estimate > 0.05 || spend.today > 1.0"}, "verdict": "Deny"}
    world.commit({"policy.yaml": policy(rules=[rule])})
    world.sync()
    assert desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.01").decision == "allow"
    refused = desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.1")
    assert (refused.decision, refused.code) == ("deny", "Rule")
    assert "cannot be evaluated" not in refused.reason


def test_a_moved_policy_file_asks_nothing_anew(world: World, desk: Desk) -> None:
    rule = {"name": "ask-for-tags", "match": {"tools": ["push_tag"]}, "verdict": "RequireApproval"}
    world.commit({"policy.yaml": policy(rules=[rule])})
    world.sync()
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    world.answer("ship")
    world.commit({"rules/policy.yaml": "# moved\n" + policy(rules=[rule])}, delete=("policy.yaml",))
    world.sync()
    assert desk.collect("ship-1", asked).decision == "allow"


def test_a_leave_that_was_revoked_or_expired_is_refused(world: World, desk: Desk) -> None:
    revoked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    expired = desk.ask("ship-1", "push_tag", {"tag": "v2"})
    for decision in (revoked, expired):
        assert decision.approval_request is not None
        desk.decide(decision.approval_request)
    assert revoked.approval_request is not None
    desk.decide(revoked.approval_request, "Revoke")
    refused = desk.collect("ship-1", revoked)
    assert (refused.decision, refused.code) == ("deny", "ApprovalDenied")
    world.clock.tick(112 * 3600)
    refused = desk.collect("ship-1", expired)
    assert (refused.decision, refused.code) == ("deny", "ApprovalExpired")


def test_a_waiver_stands_in_for_the_person(world: World, desk: Desk) -> None:
    waiver = {
        "match": {"tools": ["push_tag"]}, "verdict": "Allow", "owner": "docs team", "reason": "nobody is up",
        "expires": (world.now + timedelta(days=1)).isoformat(),
    }  # fmt: skip
    text = f"apiVersion: remit.dev/v1alpha1\nkind: Waiver\nmetadata: {{name: night}}\nspec: {json.dumps(waiver)}\n"
    world.commit({"waiver.yaml": text})
    world.sync()
    assert desk.ask("ship-1", "push_tag", {"tag": "v1"}).decision == "allow"
    world.advance(2 * 86_400)
    assert desk.ask("ship-1", "push_tag", {"tag": "v1"}).decision == "ask"


def test_a_tool_that_the_agent_was_not_given_is_refused_whoever_would_allow_it(world: World, desk: Desk) -> None:
    world.commit({"agent.yaml": agent(autonomyLevel="Lead", tools="[{name: read_file}]")})
    world.sync()
    refused = desk.ask("ship-1", "web_search", {"query": "x"})
    assert (refused.decision, refused.code) == ("deny", "NotGranted")


# Several calls, several runs.


def test_a_mission_waits_until_every_question_is_answered(world: World, desk: Desk) -> None:
    first = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    second = desk.ask("ship-1", "push_tag", {"tag": "v2"})
    assert first.approval_request is not None
    assert second.approval_request is not None
    desk.decide(first.approval_request)
    assert world.state("ship") is MissionState.NEEDS_APPROVAL
    assert second.approval_request in world.status("ship").action_requests
    world.clock.tick(1)
    desk.decide(second.approval_request, "Deny", "one is enough")
    assert world.state("ship") is MissionState.IN_PROGRESS
    assert desk.collect("ship-1", first).decision == "allow"
    assert desk.collect("ship-1", second).decision == "deny"
    moves = [(t.from_state, t.to_state, t.actor) for t in world.status("ship").transitions][-2:]
    assert moves[1] == ("NeedsApproval", "InProgress", "user:alice"), "who refused takes it back"


def again(world: World, name: str = "again") -> None:
    """A mission with two attempts, at work."""
    world.commit({f"{name}.yaml": mission(name, retry="{maxAttempts: 2, backoff: {initial: 1s}}")})
    world.sync()
    world.finish("ship-1")
    assert world.started[-1] == f"{name}-1"


def test_a_leave_outlives_the_run_that_asked_for_it(world: World, desk: Desk) -> None:
    again(world)
    asked = desk.ask("again-1", "push_tag", {"tag": "v1"})
    pending = desk.ask("again-1", "push_tag", {"tag": "v2"})
    assert asked.approval_request is not None
    desk.decide(asked.approval_request)
    world.finish("again-1", state=RunState.FAILED)
    assert world.state("again") is MissionState.NEEDS_APPROVAL, "it waits on without a run"
    world.advance(60)
    assert world.started[-1] == "again-1"
    assert pending.approval_request is not None
    desk.decide(pending.approval_request)
    world.advance(5)
    assert world.started[-1] == "again-2"
    taken = desk.ask("again-2", "push_tag", {"tag": "v1"})
    assert (taken.decision, taken.approval_request) == ("allow", asked.approval_request)
    joined = desk.ask("again-2", "push_tag", {"tag": "v2"})
    assert (joined.decision, joined.approval_request) == ("allow", pending.approval_request)


def test_an_edit_of_the_mission_asks_anew(world: World, desk: Desk) -> None:
    again(world)
    desk.ask("again-1", "push_tag", {"tag": "v1"})
    world.answer("again")
    world.commit({"again.yaml": mission("again", retry="{maxAttempts: 2, backoff: {initial: 1s}}", priority=80)})
    world.sync()
    world.finish("again-1", state=RunState.FAILED)
    world.advance(5)
    assert desk.ask("again-2", "push_tag", {"tag": "v1"}).decision == "ask"


def test_a_refusal_holds_for_the_run_and_another_may_ask_again(world: World, desk: Desk) -> None:
    again(world)
    desk.ask("again-1", "push_tag", {"tag": "v1"})
    world.answer("again", "Deny", "no")
    world.finish("again-1", state=RunState.FAILED)
    world.advance(5)
    assert desk.ask("again-2", "push_tag", {"tag": "v1"}).decision == "ask"


def test_a_question_ends_with_the_last_run(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    world.finish("ship-1", state=RunState.FAILED, retryable=False)
    assert world.state("ship") is MissionState.FAILED
    assert desk.request(asked).state == "Withdrawn"
    assert desk.status(asked).state == "Denied"


def test_a_mission_that_waits_can_be_canceled(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    world.commit({"mission.yaml": mission("ship", desiredState="Canceled")})
    world.sync()
    assert desk.collect("ship-1", asked).decision in ("ask", "deny")
    world.finish("ship-1", state=RunState.CANCELED)
    assert world.state("ship") is MissionState.CANCELED
    assert desk.request(asked).state == "Withdrawn"


def test_a_restart_of_the_engine_changes_nothing(world: World, desk: Desk) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="k1")
    world.restart()
    later = Desk(world)
    assert later.ask("ship-1", "push_tag", {"tag": "v1"}, key="k1") == asked
    assert world.state("ship") is MissionState.NEEDS_APPROVAL
    world.answer("ship")
    world.restart()
    assert Desk(world).collect("ship-1", asked).decision == "allow"


def test_calls_go_away_with_their_mission(world: World, desk: Desk) -> None:
    desk.ask("ship-1", "read_file", {"path": "a"})
    world.finish("ship-1")
    world.commit({"other.yaml": mission("other")}, delete=("mission.yaml",))
    world.sync()
    assert world.find("Mission", "ship") is None
    assert [r for r in world.everything() if r.kind == "ToolCall"] == []


@pytest.mark.parametrize(("scope", "later"), [("Session", "allow"), ("Until", "ask")])
def test_a_wider_leave_reaches_as_far_as_was_said(world: World, desk: Desk, scope: str, later: str) -> None:
    asked = desk.ask("ship-1", "push_tag", {"tag": "v1"})
    assert asked.approval_request is not None
    until = {"until": (world.now + timedelta(hours=1)).isoformat()} if scope == "Until" else {}
    desk.decide(asked.approval_request, scope=scope, **until)
    assert desk.collect("ship-1", asked).decision == "allow"
    assert desk.ask("ship-1", "push_tag", {"tag": "v1"}).decision == "allow"
    assert desk.ask("ship-1", "push_tag", {"tag": "v2"}).decision == "ask"
    world.clock.tick(2 * 3600)
    assert desk.ask("ship-1", "push_tag", {"tag": "v1"}).decision == later


# Money.


def budget(on_breach: str, **limits: object) -> str:
    spec = {"scope": {"agentRef": {"name": "worker"}}, "window": "Day", "limits": limits, "onBreach": on_breach}
    return f"apiVersion: remit.dev/v1alpha1\nkind: Budget\nmetadata: {{name: small}}\nspec: {json.dumps(spec)}\n"


def test_a_budget_that_is_used_up_refuses_and_says_when_to_ask_again(world: World, desk: Desk) -> None:
    world.commit({"budget.yaml": budget("BlockMission", usd="0.15")})
    world.sync()
    assert desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.10").decision == "allow"
    refused = desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.10")
    assert (refused.decision, refused.code) == ("deny", "OverBudget")
    assert "budget/small" in refused.rule
    assert refused.retry_after_ms is not None
    assert 0 < refused.retry_after_ms <= 86_400_000
    assert desk.ask("ship-1", "read_file", {"path": "a"}).decision == "allow", "what costs nothing is not held back"
    world.commit({"budget.yaml": budget("BlockMission", usd="1")})
    world.sync()
    assert desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.10").decision == "allow"


def test_a_person_may_let_one_call_go_beyond_a_budget(world: World, desk: Desk) -> None:
    world.commit({"budget.yaml": budget("RequireApproval", usd="0.05")})
    world.sync()
    asked = desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.10")
    assert (asked.decision, asked.code) == ("ask", "AwaitingApproval")
    agent_uid = world.get("Agent", "worker").uid
    assert desk.balance(f"agent/{agent_uid}/total").reserved.usd_micros == 0, "nothing is reserved while it waits"
    world.answer("ship")
    assert desk.collect("ship-1", asked).decision == "allow"
    assert desk.balance(f"agent/{agent_uid}/total").reserved.usd_micros == 100_000
    assert desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.10").decision == "ask"


def test_tool_calls_are_counted_one_by_one_where_a_budget_limits_them(world: World, desk: Desk) -> None:
    world.commit({"budget.yaml": budget("Throttle", toolCalls=2)})
    world.sync()
    calls = [desk.ask("ship-1", "read_file", {"path": "a"}) for _ in range(3)]
    assert [c.decision for c in calls] == ["allow", "allow", "deny"]
    for call in calls[:2]:
        desk.report("ship-1", call)
    world.finish("ship-1")
    uid = world.get("Mission", "ship").uid
    assert desk.balance(f"mission/{uid}/total").spent.tool_calls == 2, "counted once, by the call or by the run"


def test_what_a_run_reserved_covers_its_calls(world: World, desk: Desk) -> None:
    run_budget = {"scope": {"tenant": True}, "window": "Run", "limits": {"toolCalls": 2}}
    text = f"apiVersion: remit.dev/v1alpha1\nkind: Budget\nmetadata: {{name: run}}\nspec: {json.dumps(run_budget)}\n"
    world.commit({"budget.yaml": text, "second.yaml": mission("second")})
    world.sync()
    world.finish("ship-1")
    assert world.started[-1] == "second-1"
    calls = [desk.ask("second-1", "read_file", {"path": "a"}) for _ in range(3)]
    assert [c.decision for c in calls] == ["allow", "allow", "deny"]
    assert "the reservation of its run" in calls[2].reason
