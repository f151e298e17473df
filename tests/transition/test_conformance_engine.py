"""Conformance scenarios 11, 20 and 25 where they concern the engine: what comes during a pass, keys of what is deleted,
and the order of a cold start."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from api.agents.callers import find
from api.problems import Problem
from controllers.holds import stops
from controllers.reconcilers.dispatcher import ReadyMissions
from controllers.reconcilers.standings import Standings
from controllers.reconcilers.wakes import Wakes
from controllers.runtime.result import Result
from controllers.runtime.workqueue import Priority, WorkQueue
from controllers.wiring import make_reconcilers
from schemas.base import Key
from schemas.hold import HoldSpec
from schemas.mission import MissionSpec
from schemas.resource import RECONCILE_REQUESTED_AT, RETRY_REQUESTED_AT, SYSTEM, Declared
from store.contract import Transaction
from tests.fakes.clock import VirtualClock
from tests.fakes.world import ALICE, World, agent, executor, mission

OBJECTS = 10_000


# 11 Two request tokens during one pass: both handled.


def test_11_tokens_that_come_during_a_pass_are_both_handled(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    world.finish("a-1")
    key, real = world.get("Mission", "a").key, world.reconcilers["Mission"]
    tokens = ["one", "two"]

    def interrupted(tx: Transaction, asked: Key) -> Result:
        """A pass that another process writes a token behind: it has read the mission already."""
        result = real(tx, asked)
        if tokens and asked == key:
            token, current = tokens.pop(0), tx.get(key)
            assert current is not None
            notes = {**current.annotations, RETRY_REQUESTED_AT: token, RECONCILE_REQUESTED_AT: f"look-{token}"}
            tx.put_spec(current, Declared(key.kind, key.namespace, key.name, current.spec, current.labels, notes))
        return result

    world.reconcilers["Mission"] = interrupted
    world.pending.setdefault(key, Priority.CHANGE)
    world.settle()
    assert tokens == []
    assert world.status("a").last_handled_retry == "two"
    assert world.started == ["a-1", "a-2"], "two requests for one retry are one retry"


# 20 Agent deleted with a live run: its keys are dead.


def test_20_the_key_of_a_deleted_agents_run_is_dead_also_when_its_worker_is_away(world: World) -> None:
    world.commit(
        {"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a"), "x.yaml": mission("x", agent=None)}
    )
    world.sync()
    run = world.get("Run", "a-1")
    assert find(run).uid == run.uid
    world.commit({"fleet.yaml": executor()}, delete=("m.yaml",))
    world.act("Confirmation", "yes", {"planDigest": world.sync().units[0].pending[0].digest})
    world.advance(600)
    assert world.find("Agent", "worker") is None
    with world.store.snapshot() as snapshot, pytest.raises(Problem, match="not valid any more"):
        find(snapshot.get_by_uid(run.uid))


# 25 Cold start of 10k objects with one e-stop: the e-stop is handled first.


@pytest.mark.asyncio
async def test_25_a_cold_start_of_ten_thousand_objects_handles_the_e_stop_first(tmp_path: Path) -> None:
    world = World(tmp_path)
    try:
        await _cold_start(world)
    finally:
        world.close()


async def _cold_start(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(maxConcurrentMissions=100)})
    world.sync()
    spec = MissionSpec.model_validate({"title": "t", "agentRef": {"name": "worker"}, "review": "None"}).to_wire()
    estop = HoldSpec.model_validate({"scope": "Global", "mode": "Stop", "reason": "stop everything"}).to_wire()
    with world.store.transaction(ALICE) as tx:
        for number in range(OBJECTS):
            tx.create(Declared("Mission", "default", f"m{number}", spec), manager="cli/alice", status={})
        tx.create(Declared("Hold", "default", "zz-estop", estop), manager="cli/alice", status={})

    ready, standings = ReadyMissions(), Standings()  # a new engine: the memory of the old one is gone
    wakes, queue = Wakes(ready, standings), WorkQueue[Key](VirtualClock(), Random(0))
    reconcilers = make_reconcilers(world._probe, ready, stops.NONE, standings)
    with world.store.snapshot() as snapshot:
        for key, priority in wakes.everything(snapshot, world._kinds()):
            queue.add(key, priority)
    first = await queue.get()
    assert first == Key("Hold", "default", "zz-estop")
    assert len([key for key in standing(queue) if key.kind == "Mission"]) == OBJECTS
    for key in (first, Key("Mission", "default", "m0"), Key("Dispatch", "default", "worker")):
        with world.store.transaction(SYSTEM) as tx:
            reconcilers[key.kind](tx, key)
    with world.store.snapshot() as snapshot:
        assert list(snapshot.objects("Run")) == [], "nothing of the cold start was dispatched"
    assert world.get("Mission", "m0").status["blockedOn"][0]["type"] == "Hold"


def standing(queue: WorkQueue[Key]) -> list[Key]:
    """The keys that wait in a queue."""
    return list(queue._ready)
