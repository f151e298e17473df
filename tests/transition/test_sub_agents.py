"""Sub-agents: never more than their parent, and never longer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controllers.gate.authorize import KEY_DEAD
from controllers.reconcilers import spawning
from controllers.reconcilers.spawning import Made
from controllers.runs import reports
from controllers.runs.artifacts import digest_of
from controllers.runs.once import Once
from schemas.agent import AgentSpec, AutonomyLevel
from schemas.errors import OverLimit, Refused
from schemas.mission import Artifact, MissionState
from schemas.protocol import SpawnMessage, SubAgent
from schemas.resource import SYSTEM, Resource
from schemas.run import RunState
from tests.fakes.gates import Desk
from tests.fakes.world import World, agent, executor, mission

LEAD = agent(
    autonomyLevel="Lead",
    tools="[{name: read_file}, {name: 'git_*'}]",
    subAgents="{allowed: true, max: 2, maxDepth: 2, ttl: 1h}",
)


def fleet(world: World, lead: str = LEAD, policy: str = "", **fields: object) -> Resource:
    more = f"---\n{policy}" if policy else ""
    files = {
        "fleet.yaml": executor().replace("Text", "Remit") + "---\n" + lead + more,
        "m.yaml": mission("a", **fields),
    }
    world.commit(files)
    world.sync()
    return world.get("Run", "a-1")


def spawn(world: World, run: Resource, name: str, *, settle: bool = True, **wish: Any) -> Made:
    message = SpawnMessage.model_validate_json(json.dumps({"name": name, "title": f"do {name}", **wish}))
    with world.store.transaction(SYSTEM) as tx:
        made = spawning.spawn(tx, run.uid, message, once=Once.of(f"spawn-{name}", b""))
    if settle:
        world.settle()
    return made


def terminate(world: World, run: Resource, name: str) -> SubAgent:
    with world.store.transaction(SYSTEM) as tx:
        ended = spawning.terminate(tx, run.uid, name, "", once=Once.of(f"end-{name}", b""))
    world.settle()
    return ended


def complete(world: World, run_uid: str, text: str = "done") -> None:
    data = text.encode()
    artifact = Artifact(name="deliverable.md", size=len(data), digest=digest_of(data), text=text)
    with world.store.transaction(SYSTEM) as tx:
        reports.complete(tx, run_uid, artifact, "read twice", once=Once.of("complete", b""))
    world.settle()


def open_carves(world: World) -> list[str]:
    with world.store.snapshot() as snapshot:
        return [e.key for e in snapshot.open_reservations() if e.key.startswith("carve/")]


def alive(world: World) -> list[str]:
    with world.store.snapshot() as snapshot:
        return [a.name for a in snapshot.objects("Agent", labels={spawning.SUB_AGENT: "true"})]


def test_a_sub_agent_does_its_mission_and_is_put_away(world: World) -> None:
    run = fleet(world)
    made = spawn(world, run, "links", budget={"usd": "0.5"})
    name = made.sub_agent.mission
    assert world.started == ["a-1", f"{name}-1"]
    sub = AgentSpec.model_validate(world.get("Agent", name).spec)
    assert (sub.autonomy_level, sub.max_concurrent_missions) == (AutonomyLevel.LEAD, 1)
    assert [t.name for t in sub.tools] == ["read_file", "git_*"]
    parent = world.get("Mission", "a")
    with world.store.snapshot() as snapshot:
        assert snapshot.balance(f"mission/{parent.uid}/total").reserved.usd_micros == 500_000
    complete(world, world.get("Run", f"{name}-1").uid, "no broken links")
    world.finish(f"{name}-1")
    assert world.state(name) is MissionState.DONE
    assert alive(world) == []
    assert open_carves(world) == []
    assert [e.reason for e in world.events("SubAgentSpawned", "SubAgentEnded")] == ["Spawned", "Finished"]
    world.finish("a-1", state=RunState.FAILED)
    world.check()


def test_the_same_request_spawns_once(world: World) -> None:
    run = fleet(world)
    first, second = spawn(world, run, "links"), spawn(world, run, "links")
    assert first.sub_agent.agent == second.sub_agent.agent
    assert len(alive(world)) == 1
    again = SpawnMessage(name="links", title="again")
    with pytest.raises(Refused) as refused, world.store.transaction(SYSTEM) as tx:
        spawning.spawn(tx, run.uid, again, once=Once.of("another", b""))
    assert refused.value.reason == "NameTaken"


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"tools": ["shell_exec"]}, "ToolsBeyondParent"),
        ({"tools": ["*"]}, "ToolsBeyondParent"),
        ({"tools": ["git_push", "g*"]}, "ToolsBeyondParent"),
        ({"ttlSeconds": 3601}, "TtlTooLong"),
        ({"budget": {"usd": 100}}, "BudgetExceeded"),
    ],
)
def test_nothing_is_given_that_the_parent_has_not(world: World, wish: dict[str, Any], reason: str) -> None:
    run = fleet(world)
    with pytest.raises(Refused) as refused:
        spawn(world, run, "more", **wish)
    assert refused.value.reason == reason
    assert alive(world) == []
    assert open_carves(world) == []


def test_a_specialist_does_not_spawn_a_lead_and_an_intern_nobody(world: World) -> None:
    specialist = LEAD.replace("Lead", "Specialist")
    run = fleet(world, specialist)
    with pytest.raises(Refused) as refused:
        spawn(world, run, "lead", autonomyLevel="Lead")
    assert refused.value.reason == "LevelAboveParent"
    intern = spawn(world, run, "intern", autonomyLevel="Intern", tools=["git_log"])
    child = world.get("Run", f"{intern.sub_agent.mission}-1")
    with pytest.raises(Refused) as refused:
        spawn(world, child, "own")
    assert refused.value.reason == "SpawnNotAllowed"


def test_width_and_total_are_limited_and_a_place_comes_free(world: World) -> None:
    run = fleet(world)
    spawn(world, run, "one")
    spawn(world, run, "two")
    with pytest.raises(OverLimit) as refused:
        spawn(world, run, "three")
    assert (refused.value.reason, refused.value.after) == ("TooManySubAgents", 3600)
    terminate(world, run, "one")
    world.finish(next(r for r in world.canceled), state=RunState.CANCELED)
    assert len(alive(world)) == 1
    spawn(world, run, "three")
    assert len(alive(world)) == 2


POLICY = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house-rules}
spec:
  spawn: {maxActive: 1, maxPerParent: 5, maxDepth: 1, ttl: 10m}
"""


def test_a_policy_narrows_what_the_agent_declares(world: World) -> None:
    run = fleet(world, policy=POLICY)
    made = spawn(world, run, "one")
    assert (made.sub_agent.expires_at - world.now).total_seconds() == 600
    with pytest.raises(OverLimit):
        spawn(world, run, "two")
    child = world.get("Run", f"{made.sub_agent.mission}-1")
    with pytest.raises(Refused) as refused:
        spawn(world, child, "deeper")
    assert refused.value.reason in ("SpawnTooDeep", "SpawnNotAllowed")


def test_generations_are_limited_and_end_from_the_top(world: World) -> None:
    run = fleet(world)
    child = spawn(world, run, "child", budget={"usd": 1}).sub_agent
    grandchild = spawn(world, world.get("Run", f"{child.mission}-1"), "grandchild", budget={"usd": "0.2"}).sub_agent
    with pytest.raises(Refused) as refused:
        spawn(world, world.get("Run", f"{grandchild.mission}-1"), "too-deep")
    assert refused.value.reason == "SpawnNotAllowed"
    world.finish("a-1", state=RunState.FAILED)
    assert set(world.canceled) == {f"{child.mission}-1", f"{grandchild.mission}-1"}
    for name in world.canceled:
        world.finish(name, state=RunState.CANCELED)
    assert alive(world) == []
    assert open_carves(world) == []
    assert world.state(child.mission) is world.state(grandchild.mission) is MissionState.CANCELED
    world.check()


def test_a_sub_agent_ends_at_its_time_also_over_a_restart(world: World) -> None:
    run = fleet(world)
    made = spawn(world, run, "slow", ttlSeconds=60).sub_agent
    world.advance(30)
    world.restart()
    assert world.canceled == []
    world.advance(31)
    assert world.canceled == [f"{made.mission}-1"]
    world.finish(f"{made.mission}-1", state=RunState.CANCELED)
    assert alive(world) == []
    assert world.events("SubAgentEnded")[-1].reason == "Expired"
    world.check()


def test_what_was_spawned_survives_a_kill_before_anything_else_happened(world: World) -> None:
    run = fleet(world)
    made = spawn(world, run, "links", settle=False).sub_agent
    world.restart()
    assert world.started == ["a-1", f"{made.mission}-1"]
    world.finish("a-1", state=RunState.LOST, settle=False)
    world.restart()
    assert world.canceled == [f"{made.mission}-1"]
    world.finish(f"{made.mission}-1", state=RunState.CANCELED)
    assert alive(world) == []
    world.check()


def test_a_hold_on_the_parent_holds_its_sub_agents(world: World) -> None:
    run = fleet(world)
    world.act(
        "Hold", "pause", {"selector": {"kinds": ["Agent"], "names": ["worker"]}, "mode": "Hold", "reason": "wait"}
    )
    with pytest.raises(Refused) as refused:
        spawn(world, run, "links")
    assert refused.value.reason == "Held"
    world.remove("Hold", "pause")
    made = spawn(world, run, "links").sub_agent
    world.act("Hold", "stop", {"selector": {"kinds": ["Agent"], "names": ["worker"]}, "mode": "Stop", "reason": "no"})
    assert set(world.canceled) == {"a-1", f"{made.mission}-1"}
    for name in world.canceled:
        world.finish(name, state=RunState.CANCELED)
    assert alive(world) == []
    world.check()


def test_a_hosted_sub_agent_is_done_by_its_parents_program(world: World) -> None:
    run = fleet(world)
    made = spawn(world, run, "inline", hosted=True)
    assert made.hosted_run is not None
    assert world.started == ["a-1"]
    assert world.get("Run", f"{made.sub_agent.mission}-1").uid == made.hosted_run
    assert spawn(world, run, "inline", hosted=True) == Made(spawning_shown(world, run), made.hosted_run)
    complete(world, made.hosted_run, "found 3")
    assert world.state(made.sub_agent.mission) is MissionState.DONE
    assert world.get("Run", f"{made.sub_agent.mission}-1").state == RunState.SUCCEEDED
    assert alive(world) == []
    world.check()


def spawning_shown(world: World, run: Resource) -> SubAgent:
    with world.store.snapshot() as snapshot:
        [only] = spawning.of_run(snapshot, run)
    return only


@pytest.mark.parametrize("how", ["ttl", "terminate", "parent"])
def test_a_hosted_sub_agent_ends_at_once(world: World, how: str) -> None:
    run = fleet(world)
    made = spawn(world, run, "inline", hosted=True, ttlSeconds=60)
    if how == "ttl":
        world.restart()
        world.advance(61)
    elif how == "terminate":
        terminate(world, run, "inline")
    else:
        world.finish("a-1", state=RunState.FAILED)
    assert world.started == ["a-1"]
    child = world.get("Run", f"{made.sub_agent.mission}-1")
    assert child.state == (RunState.TIMED_OUT if how == "ttl" else RunState.CANCELED)
    assert world.state(made.sub_agent.mission) in (MissionState.CANCELED, MissionState.FAILED)
    assert alive(world) == []
    assert open_carves(world) == []
    world.check()


def test_a_mission_with_a_selector_does_not_choose_a_sub_agent(world: World) -> None:
    lead = LEAD.replace("{name: worker}", "{name: worker, labels: {team: docs}}")
    run = fleet(world, lead)
    spawn(world, run, "links")
    world.commit({"b.yaml": mission("b", agent=None, agentSelector="{matchLabels: {team: docs}}")})
    world.sync()
    assert world.status("b").agent is not None
    assert world.status("b").agent.name == "worker"  # type: ignore[union-attr]


def test_no_program_is_ever_started_for_a_hosted_sub_agent(world: World) -> None:
    run = fleet(world)
    made = spawn(world, run, "inline", hosted=True).sub_agent
    hold = {"selector": {"kinds": ["Mission"], "names": [made.mission]}, "mode": "Stop", "reason": "look"}
    world.act("Hold", "look", hold)
    assert world.get("Run", f"{made.mission}-1").state == RunState.CANCELED
    world.remove("Hold", "look")
    world.advance(60)
    assert world.started == ["a-1"]
    world.advance(3600)
    assert alive(world) == []
    assert world.started == ["a-1"]
    world.check()


def test_what_the_parent_loses_its_sub_agents_lose(world: World) -> None:
    run = fleet(world)
    child = spawn(world, run, "child", tools=["read_file", "git_log"]).sub_agent
    grandchild = spawn(world, world.get("Run", f"{child.mission}-1"), "grandchild").sub_agent
    less = LEAD.replace("Lead", "Specialist").replace("{name: 'git_*'}", "{name: git_push}")
    world.commit({"fleet.yaml": executor().replace("Text", "Remit") + "---\n" + less})
    world.sync()
    for name in (child.agent, grandchild.agent):
        spec = AgentSpec.model_validate(world.get("Agent", name).spec)
        assert spec.autonomy_level is AutonomyLevel.SPECIALIST
        assert [t.name for t in spec.tools] == ["read_file"]
    assert world.canceled == []
    more = LEAD.replace("{name: read_file}", "{name: read_file}, {name: shell_exec}")
    world.commit({"fleet.yaml": executor().replace("Text", "Remit") + "---\n" + more})
    world.sync()
    spec = AgentSpec.model_validate(world.get("Agent", child.agent).spec)
    assert (spec.autonomy_level, [t.name for t in spec.tools]) == (AutonomyLevel.SPECIALIST, ["read_file"])


def test_the_gate_lets_a_hosted_sub_agent_do_nothing_after_its_time(world: World) -> None:
    run = fleet(world)
    made = spawn(world, run, "inline", hosted=True, ttlSeconds=60)
    desk = Desk(world)
    hosted = f"{made.sub_agent.mission}-1"
    first = desk.ask(hosted, "read_file", {"path": "a"}, key="one", settle=False)
    assert first.decision == "allow"
    world.clock.tick(61)  # nobody has cleaned up yet
    for key in ("one", "two"):
        with pytest.raises(Refused, match="time of its sub-agent is over") as refused:
            desk.ask(hosted, "read_file", {"path": "a"}, key=key, settle=False)
        assert refused.value.reason == KEY_DEAD
    world.settle()
    assert alive(world) == []
