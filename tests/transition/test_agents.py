"""Agents: readiness, update policies, streaks of failures."""

from __future__ import annotations

import pytest

from schemas.run import RunState
from tests.fakes.world import World, agent, executor, mission


def test_an_agent_without_executor_is_not_ready_and_names_it(world: World) -> None:
    world.commit({"a.yaml": agent(), "m.yaml": mission("a")})
    world.sync()
    assert world.reason("Agent", "worker", "Ready") == "False/ExecutorNotFound"
    assert world.reason("Mission", "a", "Admitted") == "False/AgentNotReady"
    world.commit({"e.yaml": executor()})
    world.sync()
    assert world.reason("Agent", "worker", "Ready") == "True/Reconciled"
    assert world.started == ["a-1"]


def test_an_executor_whose_program_is_missing_is_looked_at_again(world: World) -> None:
    world.ready = False
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    assert world.reason("Executor", "local", "Ready") == "False/ProgramNotFound"
    assert world.started == []
    world.ready = True
    world.advance(61)
    assert world.started == ["a-1"]


def test_a_suspended_agent_starts_nothing(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(suspend="true"), "m.yaml": mission("a")})
    world.sync()
    assert world.started == []
    world.commit({"fleet.yaml": executor() + "---\n" + agent()})
    world.sync()
    assert world.started == ["a-1"]


def test_failures_in_a_row_show_on_the_agent_and_a_success_ends_them(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", retry="{maxAttempts: 9}")})
    world.sync()
    for number in range(1, 6):
        world.finish(f"a-{number}", state=RunState.FAILED, message="abcdef"[:number])
        world.advance(600)
    assert world.get("Agent", "worker").status["errorStreak"] == 5
    assert world.reason("Agent", "worker", "Ready") == "True/ErrorStreak"
    world.finish("a-6")
    assert world.get("Agent", "worker").status["errorStreak"] == 0


def two_missions(policy: str, world: World) -> None:
    """One mission at work, another one waiting, and an edit of the agent that must not kill the first."""
    world.commit(
        {"e.yaml": executor(), "a.yaml": agent(updatePolicy=policy, maxConcurrentMissions=2), "m.yaml": mission("a")}
    )
    world.sync()
    world.commit(
        {
            "a.yaml": agent(updatePolicy=policy, maxConcurrentMissions=2, identityMode="OperatorProxy"),
            "n.yaml": mission("b"),
        }
    )
    world.sync()


@pytest.mark.parametrize("policy", ["OnIdle", "Drain", "Manual"])
def test_an_edit_never_kills_a_working_agent_by_surprise(world: World, policy: str) -> None:
    two_missions(policy, world)
    assert world.canceled == []
    assert world.get("Agent", "worker").status["effectiveGeneration"] == 1


def test_on_idle_new_runs_go_on_under_the_old_spec_until_it_is_idle(world: World) -> None:
    two_missions("OnIdle", world)
    assert world.started == ["a-1", "b-1"]
    assert world.get("Run", "b-1").spec["agentGeneration"] == 1
    world.finish("a-1")
    world.finish("b-1")
    assert world.get("Agent", "worker").status["effectiveGeneration"] == 2


def test_drain_starts_nothing_until_the_old_runs_ended(world: World) -> None:
    two_missions("Drain", world)
    assert world.started == ["a-1"]
    assert world.reason("Agent", "worker", "Ready") == "True/Draining"
    world.finish("a-1")
    assert world.started == ["a-1", "b-1"]
    assert world.get("Run", "b-1").spec["agentGeneration"] == 2


def test_immediate_stops_and_begins_again(world: World) -> None:
    two_missions("Immediate", world)
    assert world.canceled == ["a-1"]
    assert world.get("Run", "b-1").spec["agentGeneration"] == 2
    world.finish("a-1", state=RunState.CANCELED)
    assert world.started[-1] == "a-2"
    assert world.get("Run", "a-2").spec["agentGeneration"] == 2


def test_manual_waits_for_a_request(world: World) -> None:
    two_missions("Manual", world)
    world.finish("a-1")
    world.finish("b-1")
    assert world.get("Agent", "worker").status["effectiveGeneration"] == 1
    text = agent(updatePolicy="Manual", maxConcurrentMissions=2, identityMode="OperatorProxy")
    asked = text.replace("{name: worker}", "{name: worker, annotations: {remit.dev/reconcile-requested-at: now}}", 1)
    world.commit({"a.yaml": asked})
    world.sync()
    assert world.get("Agent", "worker").status["effectiveGeneration"] == 2


def test_a_live_field_holds_at_once(world: World) -> None:
    files = {f"{n}.yaml": mission(n) for n in "bcd"}
    world.commit({"e.yaml": executor(), "ag.yaml": agent(), "a.yaml": mission("a"), **files})
    world.sync()
    assert len(world.started) == 1
    world.commit({"ag.yaml": agent(maxConcurrentMissions=3)})
    world.sync()
    assert len(world.started) == 3


def test_an_executor_in_use_waits_with_its_deletion(world: World) -> None:
    world.commit({"e.yaml": executor(), "ag.yaml": agent(), "m.yaml": mission("a", agent=None)})
    world.sync()
    world.commit(delete=("e.yaml",))
    world.sync()
    assert world.reason("Executor", "local", "Ready").endswith("/InUse")
    world.commit(delete=("ag.yaml",))
    world.sync()
    assert world.find("Executor", "local") is None
