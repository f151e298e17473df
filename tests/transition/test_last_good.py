"""The last good generation of an agent or executor serves until the new one is healthy."""

from __future__ import annotations

from datetime import timedelta

from cli.description import describe_object
from schemas.mission import MissionState
from schemas.run import RunReason, RunState
from tests.fakes.world import World, agent, executor, mission


def first(world: World, **spec: object) -> None:
    """One mission done with the first generation of everything."""
    world.commit({"e.yaml": executor(), "ag.yaml": agent(maxConcurrentMissions=2, **spec), "a.yaml": mission("a")})
    world.sync()
    world.finish("a-1")


def pins(world: World, run: str) -> tuple[int, int]:
    """Generations of agent and executor that a run was started with."""
    spec = world.get("Run", run).spec
    return spec["agentGeneration"], spec["executorGeneration"]


def message(world: World, kind: str, name: str) -> str:
    conditions = world.get(kind, name).status["conditions"]
    return str(next(c["message"] for c in conditions if c["type"] == "Ready"))


def test_an_executor_whose_new_program_is_missing_serves_with_the_last_good_one(world: World) -> None:
    first(world)
    world.missing = {"nowhere"}
    world.commit({"e.yaml": executor(program="nowhere"), "b.yaml": mission("b")})
    world.sync()
    assert world.reason("Executor", "local", "Ready") == "True/LastGoodServes"
    assert "generation 2 is not healthy: ProgramNotFound" in message(world, "Executor", "local")
    assert "generation 1 serves" in message(world, "Executor", "local")
    assert pins(world, "b-1") == (1, 1)
    assert [e.reason for e in world.events("ConditionChanged", subject="local")][-1] == "LastGoodServes"
    with world.store.snapshot() as snapshot:
        text = describe_object(snapshot, world.get("Executor", "local"), world.now)
    assert "Serving: generation 1; declared is 2" in text


def test_what_a_run_may_take_is_reckoned_by_the_program_that_serves(world: World) -> None:
    def limited(minutes: int, program: str = "sh") -> str:
        return executor(program=program).replace("  type: Command", f"  type: Command\n  timeout: {minutes}m")

    world.commit({"e.yaml": limited(10), "ag.yaml": agent(), "a.yaml": mission("a")})
    world.sync()
    world.finish("a-1")
    world.missing = {"nowhere"}
    world.commit({"e.yaml": limited(50, "nowhere"), "b.yaml": mission("b")})
    world.sync()
    assert pins(world, "b-1") == (1, 1)
    with world.store.snapshot() as snapshot:
        [reserved] = snapshot.open_reservations()
    assert reserved.amounts.wall_ms == 10 * 60_000


def test_it_takes_the_new_one_when_the_program_is_there(world: World) -> None:
    first(world)
    world.missing = {"nowhere"}
    world.commit({"e.yaml": executor(program="nowhere")})
    world.sync()
    world.missing = set()
    world.advance(61)
    assert world.reason("Executor", "local", "Ready") == "True/Reconciled"
    world.commit({"b.yaml": mission("b")})
    world.sync()
    assert pins(world, "b-1") == (1, 2)
    world.finish("b-1")
    assert world.get("Executor", "local").status["lastGoodGeneration"] == 0


def test_a_chain_of_broken_edits_keeps_the_one_that_worked(world: World) -> None:
    first(world)
    world.missing = {"nowhere", "neither"}
    for program in ("nowhere", "neither"):
        world.commit({"e.yaml": executor(program=program)})
        world.sync()
    world.commit({"b.yaml": mission("b")})
    world.sync()
    assert pins(world, "b-1") == (1, 1)


def test_a_first_generation_that_is_broken_has_nothing_to_serve(world: World) -> None:
    world.missing = {"nowhere"}
    world.commit({"e.yaml": executor(program="nowhere"), "ag.yaml": agent(), "a.yaml": mission("a")})
    world.sync()
    assert world.reason("Executor", "local", "Ready") == "False/ProgramNotFound"
    assert world.started == []


def test_a_program_that_goes_away_after_it_worked_brings_no_older_one_back(world: World) -> None:
    first(world)
    world.commit({"e.yaml": executor(program="next"), "b.yaml": mission("b")})
    world.sync()
    world.finish("b-1")
    world.missing = {"next"}
    world.restart()
    world.commit({"c.yaml": mission("c")})
    world.sync()
    assert world.reason("Executor", "local", "Ready") == "False/ProgramNotFound"
    assert "c-1" not in world.started


def test_a_run_that_cannot_be_started_brings_the_last_good_one_back_and_is_tried_again(world: World) -> None:
    first(world)
    world.commit({"e.yaml": executor(program="broken"), "b.yaml": mission("b", retry="{maxAttempts: 2}")})
    world.sync()
    assert pins(world, "b-1") == (1, 2)
    world.finish("b-1", state=RunState.FAILED, reason=RunReason.START_FAILED, retryable=False, message="exec format")
    assert world.reason("Executor", "local", "Ready") == "True/LastGoodServes"
    assert "exec format" in message(world, "Executor", "local")
    world.advance(600)
    assert pins(world, "b-2") == (1, 1)
    world.finish("b-2")
    assert world.state("b") is MissionState.DONE
    world.advance(1800)
    assert world.reason("Executor", "local", "Ready") == "True/Reconciled", "it is tried again after half an hour"


def test_10_a_fix_pushed_while_the_last_good_one_serves_holds_at_once(world: World) -> None:
    first(world)
    world.missing = {"nowhere"}
    world.commit({"e.yaml": executor(program="nowhere")})
    world.sync()
    before = world.now
    world.commit({"e.yaml": executor(program="fixed"), "b.yaml": mission("b")})
    world.sync()
    assert pins(world, "b-1") == (1, 3)
    assert world.now - before < timedelta(seconds=1)


def test_an_agent_sent_to_a_missing_executor_goes_on_with_the_old_one(world: World) -> None:
    first(world)
    text = agent(maxConcurrentMissions=2).replace("{name: local}", "{name: other}")
    world.commit({"ag.yaml": text, "b.yaml": mission("b")})
    world.sync()
    assert world.reason("Agent", "worker", "Ready") == "True/LastGoodServes"
    assert "there is no executor/other" in message(world, "Agent", "worker")
    assert pins(world, "b-1") == (1, 1)
    world.commit({"o.yaml": executor("other")})
    world.sync()
    world.finish("b-1")
    world.commit({"c.yaml": mission("c")})
    world.sync()
    assert world.reason("Agent", "worker", "Ready") == "True/Reconciled"
    assert pins(world, "c-1") == (2, 1)
    assert world.get("Run", "c-1").spec["executorRef"]["name"] == "other"


def test_an_executor_renamed_to_a_broken_one_stays_as_long_as_it_serves(world: World) -> None:
    first(world)
    world.missing = {"nowhere"}
    files = {"o.yaml": executor("other", "nowhere"), "b.yaml": mission("b")}
    text = agent(maxConcurrentMissions=2).replace("{name: local}", "{name: other}")
    world.commit({**files, "ag.yaml": text}, delete=("e.yaml",))
    world.sync()
    assert world.get("Run", "b-1").spec["executorRef"]["name"] == "local"
    assert world.reason("Executor", "local", "Ready") == "True/InUse"
    world.finish("b-1")
    world.missing = set()
    world.advance(130)
    assert world.reason("Agent", "worker", "Ready") == "True/Reconciled"
    assert world.find("Executor", "local") is None


def test_immediate_stops_no_run_for_a_spec_that_is_not_healthy(world: World) -> None:
    world.commit({"e.yaml": executor(), "ag.yaml": agent(updatePolicy="Immediate"), "a.yaml": mission("a")})
    world.sync()
    text = agent(updatePolicy="Immediate").replace("{name: local}", "{name: other}")
    world.commit({"ag.yaml": text})
    world.sync()
    assert world.canceled == []
    world.commit({"o.yaml": executor("other")})
    world.sync()
    assert world.canceled == ["a-1"]


def test_5_a_tighter_spec_that_is_not_healthy_never_lets_the_looser_one_serve(world: World) -> None:
    first(world, tools="[{name: shell}, {name: read}]")
    text = agent(maxConcurrentMissions=2, tools="[{name: read}]").replace("{name: local}", "{name: other}")
    world.commit({"ag.yaml": text, "b.yaml": mission("b")})
    world.sync()
    assert world.reason("Agent", "worker", "Ready") == "False/ExecutorNotFound"
    assert "b-1" not in world.started
