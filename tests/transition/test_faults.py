"""Faults of authority and delivery that need a whole engine: what was given is taken away between one call and the
next, an answer comes again, work takes its worker with it, signs of life go missing."""

from __future__ import annotations

from controllers.runs import reports
from schemas.mission import MissionState
from schemas.resource import SYSTEM
from schemas.run import RunReason, RunState
from tests.fakes.gates import Desk
from tests.fakes.world import World, agent, executor, mission
from tests.transition.test_gate import DENY_TAGS, policy

TOOLS = "[{name: '*'}]"
REPORTS = executor().replace("outputFormat: Text", "outputFormat: Remit")


def begin(world: World, fleet: str = "", **spec: object) -> Desk:
    fleet = fleet or executor()
    declared = agent(autonomyLevel="Specialist", tools=TOOLS, maxConcurrentMissions=5)
    world.commit({"fleet.yaml": fleet + "---\n" + declared, "ship.yaml": mission("ship", **spec)})
    world.sync()
    return Desk(world)


def limit(usd: str) -> str:
    return (
        "apiVersion: remit.dev/v1alpha1\nkind: Budget\nmetadata: {name: daily}\n"
        f"spec: {{scope: {{tenant: true}}, window: Day, limits: {{usd: '{usd}'}}, onBreach: Throttle}}\n"
    )


def test_a_budget_that_is_lowered_below_what_is_spent_stops_the_next_call_and_the_next_run(world: World) -> None:
    world.commit({"limit.yaml": limit("5")})
    desk = begin(world)
    assert desk.ask("ship-1", "read_file", {"path": "a"}, usd="0.6").decision == "allow"
    world.commit({"limit.yaml": limit("0.3")})
    world.sync()
    refused = desk.ask("ship-1", "read_file", {"path": "b"}, usd="0.01")
    assert (refused.decision, refused.code) == ("deny", "OverBudget")
    assert "budget/daily" in refused.rule
    world.commit({"next.yaml": mission("next")})
    world.sync()
    assert world.started == ["ship-1"]
    assert world.status("next").blocked_on[0].ref == "budget/daily"
    world.restart()
    assert world.started == ["ship-1"]


def test_a_policy_that_changes_within_a_batch_of_calls_counts_from_the_next_one(world: World) -> None:
    desk = begin(world)
    calls = [(f"key-{number}", {"query": f"q{number}"}) for number in range(6)]
    before = [desk.ask("ship-1", "web_search", args, key=key, settle=False) for key, args in calls[:3]]
    world.commit({"policy.yaml": policy(rules=[{**DENY_TAGS, "match": {"tools": ["web_search"]}}])})
    world.sync()
    after = [desk.ask("ship-1", "web_search", args, key=key) for key, args in calls[3:]]
    assert [d.decision for d in before] == ["allow"] * 3
    assert [(d.decision, d.code) for d in after] == [("deny", "Rule")] * 3
    world.commit(delete=("policy.yaml",))
    world.act("Confirmation", "yes", {"planDigest": world.sync().units[0].pending[0].digest})
    again = [desk.ask("ship-1", "web_search", args, key=key).decision for key, args in calls[3:]]
    assert again == ["deny"] * 3, "the same call has the same answer, whatever is declared by now"


def test_an_approval_that_is_replayed_allows_nothing_more(world: World) -> None:
    desk = begin(world)
    first = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="one")
    assert first.approval_request is not None
    answer = desk.decide(first.approval_request)
    assert desk.collect("ship-1", first).decision == "allow"
    again = desk.decide(first.approval_request)
    assert world.reason("ApprovalDecision", again.name, "Succeeded") == "False/AlreadyDecided"
    second = desk.ask("ship-1", "push_tag", {"tag": "v1"}, key="two")
    assert second.decision == "ask"
    assert second.approval_request is not None
    assert second.approval_request != first.approval_request
    # The old answer, word for word, for the new question.
    replayed = desk.decide(
        second.approval_request, requestRef=answer.spec["requestRef"], actionDigest=answer.spec["actionDigest"]
    )
    assert world.reason("ApprovalDecision", replayed.name, "Succeeded") == "False/AlreadyDecided"
    forged = {"name": second.approval_request, "uid": answer.spec["requestRef"]["uid"]}
    replayed = desk.decide(second.approval_request, requestRef=forged)
    assert world.reason("ApprovalDecision", replayed.name, "Succeeded") == "False/StaleDecision"
    assert desk.collect("ship-1", second).decision == "ask"
    assert desk.request(first).status["uses"] == 1


def test_work_that_always_takes_its_worker_with_it_is_given_up_and_holds_nobody_else(world: World) -> None:
    retry = "{maxAttempts: 3, idempotent: true, backoff: {initial: 1s, max: 1s, jitter: 0}}"
    begin(world, retry=retry)
    world.commit({"good.yaml": mission("good")})
    world.sync()
    for attempt in (1, 2, 3):
        world.finish(f"ship-{attempt}", state=RunState.LOST, reason=RunReason.WORKER_LOST)
        world.restart()
        world.advance(10)
    assert world.state("ship") is MissionState.FAILED, "bounded attempts, then it is put aside"
    assert world.reason("Mission", "ship", "Succeeded") == "False/RetriesExhausted"
    world.advance(3600)
    assert [name for name in world.started if name.startswith("ship")] == ["ship-1", "ship-2", "ship-3"]
    world.finish("good-1")
    assert world.state("good") is MissionState.DONE
    assert world.get("Agent", "worker").status["errorStreak"] == 0, "another mission's success ended the streak"


def test_signs_of_life_that_are_lost_are_told_and_end_no_run_that_is_alive(world: World) -> None:
    begin(world, fleet=REPORTS)
    run = world.get("Run", "ship-1")

    def beat() -> None:
        with world.store.transaction(SYSTEM) as tx:
            reports.heartbeat(tx, run.uid)
        world.settle()

    beat()
    assert world.reason("Agent", "worker", "Reachable") == "True/HeartbeatReceived"
    world.advance(20 * 60)
    assert world.reason("Agent", "worker", "Reachable") == "False/HeartbeatStale"
    assert world.get("Run", "ship-1").state == RunState.RUNNING, "its program is alive: the supervisor would say if not"
    assert world.started == ["ship-1"]
    assert world.canceled == []
    beat()
    assert world.reason("Agent", "worker", "Reachable") == "True/HeartbeatReceived"
