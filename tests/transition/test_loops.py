"""Work that goes around in circles is noticed, contained in one transaction, and goes on when a person says so."""

from __future__ import annotations

from typing import Any

import pytest

from controllers.gate import autonomy
from controllers.runs import loop_facts, reports
from controllers.runs.once import Once
from decisions.policy.facts import Call
from schemas.mission import MissionState
from schemas.policy import Verdict
from schemas.protocol import ToolResultMessage
from schemas.resource import RESET_REQUESTED_AT, RETRY_REQUESTED_AT, SYSTEM, Declared
from schemas.run import RunState
from tests.fakes.world import ALICE, World, agent, executor, mission

REPORTING = executor().replace("Text", "Remit")
A, B = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def tool(world: World, run: str, *, ok: bool = False, error: str = "", settle: bool = True, **digests: str) -> None:
    """The agent reports a tool call."""
    resource = world.get("Run", run)
    message = ToolResultMessage.model_validate({"tool": "shell_exec", "ok": ok, "error": error, **digests})
    with world.store.transaction(SYSTEM) as tx:
        key = f"k{tx.latest_version()}"
        reports.tool_result(tx, resource.uid, message, once=Once.of(key, b""))
    if settle:
        world.settle()


def annotate(world: World, name: str, **notes: str) -> None:
    """A person sets request tokens on a mission."""
    with world.store.transaction(ALICE) as tx:
        current = tx.get(world.get("Mission", name).key)
        assert current is not None
        annotations = {**current.annotations, **notes}
        declared = Declared(current.kind, current.namespace, current.name, current.spec, current.labels, annotations)
        tx.put_spec(current, declared)
    world.settle()


def alerts(world: World) -> list[dict[str, Any]]:
    with world.store.snapshot() as snapshot:
        return [{**a.spec, **a.status} for a in snapshot.objects("Alert")]


def fleet(world: World, *, policy: str = "", **fields: object) -> None:
    more = f"---\n{policy}" if policy else ""
    world.commit({"fleet.yaml": REPORTING + "---\n" + agent() + more, "m.yaml": mission("a", **fields)})
    world.sync()


def loop(world: World, run: str = "a-1", times: int = 4) -> None:
    for number in range(times):
        tool(world, run, error=f"connection to 10.0.0.{number} refused after {number} ms")


def test_a_tool_that_keeps_failing_alike_is_contained(world: World) -> None:
    fleet(world)
    loop(world, times=3)
    assert world.state("a") is MissionState.IN_PROGRESS
    tool(world, "a-1", error="connection to 10.0.0.9 refused after 77 ms")
    status = world.status("a")
    assert status.state is MissionState.BLOCKED
    assert status.transitions[-1].reason == "LoopDetected"
    assert "4, more than 3 (SameError)" in status.transitions[-1].message
    assert world.canceled == ["a-1"]
    run = world.get("Run", "a-1")
    assert run.status["cancelReason"] == "LoopDetected"
    [alert] = alerts(world)
    assert (alert["type"], alert["severity"], alert["state"], alert["count"]) == ("LoopDetected", "High", "Open", 1)
    assert alert["details"]["calls"] == [f"run/a-1 call {n}" for n in (1, 2, 3, 4)]
    summary = next(a for a in run.status["artifacts"] if a["name"] == "loop-summary.md")
    assert "how often: 4; more than 3 is a loop (built-in)" in summary["text"]
    assert "run/a-1 call 4" in summary["text"]
    assert [e.reason for e in world.events("AlertRaised")] == ["LoopDetected"]
    world.check()


def test_the_mission_waits_for_a_person_once_its_run_has_ended(world: World) -> None:
    fleet(world)
    loop(world)
    assert world.status("a").review_request is None
    assert world.status("a").blocked_on[0].type == "Worker"
    world.finish("a-1", state=RunState.CANCELED)
    assert world.status("a").blocked_on[0].type == "Person"
    assert [a.name for a in world.status("a").artifacts] == ["loop-summary.md"]
    request = world.get("ApprovalRequest", str(world.status("a").review_request))
    assert "goes around in circles (SameError)" in request.spec["title"]
    assert request.spec["action"]["loop"]["count"] == 4
    world.answer("a", reason="the network is back")
    assert world.started == ["a-1", "a-2"]
    assert [a["state"] for a in alerts(world)] == ["Resolved"]
    loop(world, "a-2", times=3)
    assert world.state("a") is MissionState.IN_PROGRESS  # counted anew
    tool(world, "a-2", error="connection to 10.0.0.1 refused after 1 ms")
    assert world.state("a") is MissionState.BLOCKED
    assert [(a["state"], a["count"]) for a in alerts(world)] == [("Open", 2)]
    world.check()


def test_nothing_starts_before_the_stopped_run_has_ended(world: World) -> None:
    fleet(world)
    loop(world)
    annotate(world, "a", **{RETRY_REQUESTED_AT: "now"})
    assert world.started == ["a-1"]
    assert world.status("a").last_handled_retry is None
    world.finish("a-1", state=RunState.CANCELED)
    assert world.started == ["a-1", "a-2"]
    assert world.status("a").last_handled_retry == "now"
    world.check()


def test_a_stopped_run_that_is_silent_is_given_up(world: World) -> None:
    fleet(world)
    loop(world)
    world.advance(300)
    assert world.get("Run", "a-1").state == RunState.UNKNOWN
    assert world.state("a") is MissionState.BLOCKED
    world.check()


def test_a_person_resets_the_counts_by_token_and_the_mission_goes_on(world: World) -> None:
    fleet(world)
    loop(world)
    world.finish("a-1", state=RunState.CANCELED)
    annotate(world, "a", **{RESET_REQUESTED_AT: "t1"})
    assert world.started == ["a-1", "a-2"]
    assert world.status("a").last_handled_reset == "t1"
    assert [a["state"] for a in alerts(world)] == ["Resolved"]
    world.check()


def test_counts_go_on_over_the_runs_of_a_mission_and_over_a_restart(world: World) -> None:
    fleet(world, retry="{maxAttempts: 9, backoff: {initial: 1s, jitter: 0}}")
    for number in range(1, 4):
        world.restart()
        tool(world, f"a-{number}", error="no such host")
        world.finish(f"a-{number}", state=RunState.FAILED, message=f"way {number} failed differently: " + "x" * number)
        world.advance(10)
    assert world.state("a") is MissionState.IN_PROGRESS
    tool(world, "a-4", error="no such host")
    assert world.state("a") is MissionState.BLOCKED
    calls = alerts(world)[0]["details"]["calls"]
    assert calls == ["run/a-1 call 1", "run/a-2 call 1", "run/a-3 call 1", "run/a-4 call 1"]


def test_the_same_call_with_the_same_output_is_a_loop_and_another_output_is_none(world: World) -> None:
    fleet(world)
    for number in range(12):
        tool(world, "a-1", ok=True, argsDigest=A, outputDigest="sha256:" + f"{number:064d}")
    assert world.state("a") is MissionState.IN_PROGRESS
    for _ in range(5):
        tool(world, "a-1", ok=True, argsDigest=A, outputDigest=B)
    assert world.state("a") is MissionState.IN_PROGRESS
    tool(world, "a-1", ok=True, argsDigest=A, outputDigest=B)
    assert "SameOutput" in world.status("a").transitions[-1].message


def test_runs_that_change_nothing_are_a_loop(world: World) -> None:
    fleet(world, retry="{maxAttempts: 20, backoff: {initial: 1s, jitter: 0}}")
    for number in range(1, 6):
        assert world.state("a") is MissionState.IN_PROGRESS
        world.finish(f"a-{number}", state=RunState.FAILED, message=f"exit after {number} s")
        world.advance(600)
    assert world.state("a") is MissionState.BLOCKED
    assert "4 runs in a row left the state unchanged" in world.status("a").transitions[-1].message
    assert world.started == [f"a-{n}" for n in range(1, 6)]
    assert [a.name for a in world.status("a").artifacts] == ["loop-summary.md"]
    world.check()


def test_runs_that_fail_in_different_ways_are_none(world: World) -> None:
    fleet(world, retry="{maxAttempts: 8, backoff: {initial: 1s, jitter: 0}}")
    for number in range(1, 9):
        world.finish(f"a-{number}", state=RunState.FAILED, message="x" * number)
        world.advance(600)
    assert world.state("a") is MissionState.FAILED


def test_more_review_cycles_than_allowed_are_a_loop_and_a_reset_asks_again(world: World) -> None:
    fleet(world, review="Human")
    for number in range(1, 5):
        hand_in(world, f"a-{number}", f"version {number}")
        if number < 4:
            assert world.state("a") is MissionState.REVIEW
            world.answer("a", "ChangesRequested", "once more")
    status = world.status("a")
    assert status.state is MissionState.BLOCKED
    assert "ReviewCycles" in status.transitions[-1].message
    assert status.deliverable is not None
    annotate(world, "a", **{RESET_REQUESTED_AT: "t1"})
    assert world.state("a") is MissionState.REVIEW
    assert world.started == ["a-1", "a-2", "a-3", "a-4"]
    world.answer("a")
    assert world.state("a") is MissionState.DONE
    world.check()


def hand_in(world: World, run: str, text: str) -> None:
    """The agent completes its run."""
    from controllers.runs.artifacts import digest_of
    from schemas.mission import Artifact

    resource = world.get("Run", run)
    data = text.encode()
    artifact = Artifact(name="deliverable.md", size=len(data), digest=digest_of(data), text=text, run=run)
    with world.store.transaction(SYSTEM) as tx:
        reports.complete(tx, resource.uid, artifact, "read twice", once=Once.of(f"{run}:complete", b""))
    world.finish(run)


POLICY = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house-rules}
spec:
  loopDetection: {sameErrorRetries: 1}
"""


def test_a_policy_sets_the_limit_and_is_named(world: World) -> None:
    fleet(world, policy=POLICY)
    tool(world, "a-1", error="no")
    tool(world, "a-1", error="no")
    assert world.state("a") is MissionState.BLOCKED
    (alert,) = (a for a in alerts(world) if a["type"] != "AgentStale")
    assert alert["details"]["source"] == "policy/house-rules (fleet.yaml:14)"


def test_a_cancel_of_a_contained_mission_ends_it_and_its_alert(world: World) -> None:
    fleet(world)
    loop(world)
    world.finish("a-1", state=RunState.CANCELED)
    world.commit({"m.yaml": mission("a", desiredState="Canceled")})
    world.sync()
    assert world.state("a") is MissionState.CANCELED
    assert [a["state"] for a in alerts(world)] == ["Resolved"]
    world.check()


def test_an_agent_cannot_keep_the_summary_out_by_taking_its_name(world: World) -> None:
    fleet(world)
    resource = world.get("Run", "a-1")
    from controllers.runs.artifacts import digest_of
    from schemas.mission import Artifact

    with world.store.transaction(SYSTEM) as tx:
        fake = Artifact(name="loop-summary.md", size=2, digest=digest_of(b"ok"), text="ok", run="a-1")
        reports.add_artifact(tx, resource.uid, fake, once=Once.of("x", b""))
    loop(world)
    assert [a["name"] for a in world.get("Run", "a-1").status["artifacts"]] == ["loop-summary.md", "loop-summary-2.md"]


def test_money_that_goes_much_faster_without_anything_new_is_a_loop(world: World) -> None:
    fleet(world)
    resource = world.get("Run", "a-1")

    def spend(usd: str) -> None:
        with world.store.transaction(SYSTEM) as tx:
            loop_facts.spent(tx, resource, int(float(usd) * 1_000_000))
        world.settle()

    for _ in range(45):
        spend("0.001")
        world.advance(60)
    assert world.state("a") is MissionState.IN_PROGRESS
    for _ in range(3):
        spend("0.1")
        world.advance(60)
    assert world.state("a") is MissionState.BLOCKED
    assert "SpendSlope" in world.status("a").transitions[-1].message


@pytest.mark.parametrize("messages", [20, 21])
def test_more_than_twenty_messages_in_half_an_hour_are_a_loop(world: World, messages: int) -> None:
    fleet(world)
    key = world.get("Mission", "a").key
    for number in range(messages):
        with world.store.transaction(SYSTEM) as tx:
            current = tx.get(key)
            assert current is not None
            loop_facts.said(tx, current, None, "agent:default/worker", [f"user:u{number}"], f"message {number}")
        world.settle()
        world.advance(60)
    assert (world.state("a") is MissionState.BLOCKED) == (messages > 20)


def test_twenty_messages_an_hour_are_none(world: World) -> None:
    fleet(world)
    key = world.get("Mission", "a").key
    for number in range(60):
        with world.store.transaction(SYSTEM) as tx:
            current = tx.get(key)
            assert current is not None
            loop_facts.said(tx, current, None, "agent:default/worker", [], f"message {number}")
        world.advance(180)
    assert world.state("a") is MissionState.IN_PROGRESS


def test_a_pair_that_goes_back_and_forth_is_a_loop(world: World) -> None:
    fleet(world)
    key = world.get("Mission", "a").key
    pair = ("agent:default/worker", "agent:default/critic")
    for number in range(18):
        assert world.state("a") is MissionState.IN_PROGRESS
        with world.store.transaction(SYSTEM) as tx:
            current = tx.get(key)
            assert current is not None
            loop_facts.said(tx, current, None, pair[number % 2], [pair[1 - number % 2]], f"message {number}")
        world.settle()
    assert "PingPong" in world.status("a").transitions[-1].message


def test_an_agent_that_keeps_waking_itself_is_a_loop(world: World) -> None:
    fleet(world)
    key = world.get("Mission", "a").key
    for number in range(6):
        with world.store.transaction(SYSTEM) as tx:
            current = tx.get(key)
            assert current is not None
            me = "agent:default/worker"
            loop_facts.said(tx, current, None, me, [me], f"message {number}")
        world.settle()
    assert "SelfWakes" in world.status("a").transitions[-1].message


def test_a_policy_sets_how_often_an_agent_wakes_itself_and_how_fast_it_spends(world: World) -> None:
    fleet(world, policy=POLICY.replace("sameErrorRetries: 1", "selfWakesPer30Min: 1, spendSlopeFactor: 300"))
    resource, worker = world.get("Run", "a-1"), world.get("Agent", "worker")
    for usd in (0.001,) * 45 + (0.1,) * 3:
        with world.store.transaction(SYSTEM) as tx:
            loop_facts.spent(tx, resource, int(usd * 1_000_000))
        world.settle()
        world.advance(60)
    assert world.state("a") is MissionState.IN_PROGRESS, "not three hundred times as fast"
    me = "agent:default/worker"
    for number in range(2):
        with world.store.transaction(SYSTEM) as tx:
            current = tx.get(world.get("Mission", "a").key)
            assert current is not None
            loop_facts.said(tx, current, worker, me, [me], f"message {number}")
        world.settle()
    assert "SelfWakes" in world.status("a").transitions[-1].message
    (alert,) = (a for a in alerts(world) if a["type"] != "AgentStale")
    assert alert["details"]["source"] == "policy/house-rules (fleet.yaml:14)"


def test_what_is_spent_is_no_concern_while_something_new_comes(world: World) -> None:
    fleet(world)
    resource = world.get("Run", "a-1")
    for number in range(50):
        with world.store.transaction(SYSTEM) as tx:
            loop_facts.spent(tx, resource, 1_000 if number < 45 else 100_000)
            current = tx.get(resource.key)
            assert current is not None
            loop_facts.progressed(tx, current)
        world.advance(60)
    assert world.state("a") is MissionState.IN_PROGRESS


def test_asking_for_the_same_call_again_and_again_is_refused_and_then_contained(world: World) -> None:
    fleet(world)
    run = world.get("Run", "a-1")
    answers = []
    for _ in range(42):
        with world.store.transaction(SYSTEM) as tx:
            answers.append(autonomy.limit(tx, run, Call("shell_exec", {"command": "git status"})))
    assert [a is None for a in answers[:21]] == [True] * 20 + [False]
    barrier = answers[20]
    assert barrier is not None
    assert barrier.verdict is Verdict.DENY
    assert "the same call, number 21 in 10 minutes; at most 20" in barrier.message
    assert answers[41] is not None
    assert "is being stopped" in answers[41].message
    world.settle()
    assert world.state("a") is MissionState.BLOCKED
    assert "SameCall" in world.status("a").transitions[-1].message
    world.check()


def test_what_was_found_before_a_kill_is_contained_after_it(world: World) -> None:
    fleet(world)
    loop(world, times=3)
    tool(world, "a-1", error="connection to 10.0.0.9 refused after 77 ms", settle=False)
    assert world.state("a") is MissionState.IN_PROGRESS
    world.restart()
    assert world.state("a") is MissionState.BLOCKED
    assert world.canceled == ["a-1"]
    assert [e.reason for e in world.events("AlertRaised")] == ["LoopDetected"]
    world.check()
