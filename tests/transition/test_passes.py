"""Steps that follow from each other in one transaction, and the same steps taken one by one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from controllers.effects.runs import START, end_run
from controllers.reconcilers.passes import Passes
from controllers.reconcilers.ready import ReadyMissions
from controllers.runs import records
from controllers.runtime.recall import Memory
from controllers.runtime.result import DONE as DONE_
from controllers.runtime.result import Result
from controllers.wiring import make_reconcilers
from schemas.base import Key
from schemas.mission import Artifact
from schemas.resource import SYSTEM, Declared
from schemas.run import RunReason, RunState
from store.contract import Effect, EffectState, Transaction
from tests.fakes import world as fakes
from tests.fakes.world import World

DONE = "sha256:" + hashlib.sha256(b"done").hexdigest()


class Desk:
    """The passes of an engine that takes over a world, with a place of its own for what it hands over."""

    def __init__(self, made: World, *, claims: bool = True) -> None:
        self.ready = ReadyMissions()
        with made.store.snapshot() as snapshot:
            for kind, learn in (("Agent", self.ready.learn_agent), ("Mission", self.ready.learn)):
                for resource in snapshot.objects(kind):
                    learn(resource)
        self.handed_over: list[str] = []
        self.later: list[Key] = []
        self.kept: dict[Key, Memory] = {}
        reconcilers = make_reconcilers(made._probe, self.ready)
        self.passes = Passes(
            made.store, reconcilers, self.ready, claim=self._claim if claims else None, later=self._later,
            keep=self.kept.update,
        )  # fmt: skip

    def _claim(self, tx: Transaction) -> Callable[[], object]:
        claimed: list[Effect] = tx.claim_effects("me", types=[START], limit=100, lease_s=60)
        return lambda: self.handed_over.extend(effect.subject.name for effect in claimed)

    def _later(self, key: Key, result: Result) -> None:
        self.later.append(key)


def begun(world: World, *names: str, places: int = 1) -> World:
    """Missions that nobody has looked at."""
    world.commit({"e.yaml": fakes.executor(), "a.yaml": fakes.agent(maxConcurrentMissions=places)})
    world.sync()
    with world.store.transaction(SYSTEM) as tx:
        for name in names:
            spec = {"title": f"do {name}", "review": "None", "agentRef": {"name": "worker"}}
            tx.create(Declared("Mission", "default", name, spec), manager="cli/test")
    return world


def ended(tx: Transaction, world: World, run: str) -> None:
    resource = world.get("Run", run)
    records.mark_started(tx, resource.uid)
    text = Artifact(name="deliverable", size=4, digest=DONE, text="done", run=run)
    ending = records.Ending(
        RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0, artifacts=(text,), started_at=tx.now, ended_at=tx.now
    )
    end_run(tx, resource.uid, ending)


def test_a_mission_is_taken_in_and_started_in_one_transaction(world: World) -> None:
    desk = Desk(begun(world, "a"))
    key = Key("Mission", "default", "a")
    desk.passes.several([key], leads=True)
    mission = world.get("Mission", "a")
    assert mission.state == "InProgress"
    assert mission.status["currentRun"] == "a-1"
    assert desk.handed_over == ["a-1"]
    with world.store.snapshot() as snapshot:
        (effect,) = snapshot.effects(type=START)
        assert (effect.state, effect.claimed_by, effect.tries) == (EffectState.CLAIMED, "me", 1)
    assert [e.type for e in world.events(subject="a-1")] == ["Dispatched"]


def test_places_wait_while_others_may_have_the_better_claim(world: World) -> None:
    desk = Desk(begun(world, "a"))
    desk.passes.several([Key("Mission", "default", "a")], leads=False)
    assert world.get("Mission", "a").status["readySince"]
    assert desk.handed_over == []


def test_the_end_of_a_run_its_mission_and_the_next_run_are_one_transaction(world: World) -> None:
    desk = Desk(begun(world, "a", "b"))
    desk.passes.several([Key("Mission", "default", name) for name in ("a", "b")], leads=True)
    assert desk.handed_over == ["a-1"]
    with world.store.transaction(SYSTEM) as tx:
        ended(tx, world, "a-1")
        then = desk.passes.follow(tx)
        assert desk.handed_over == ["a-1"], "nothing goes out before the commit"
    then()
    assert world.get("Mission", "a").state == "Done"
    assert world.get("Mission", "b").status["currentRun"] == "b-1"
    assert desk.handed_over == ["a-1", "b-1"]


def test_passes_that_would_find_nothing_after_a_dispatch_and_an_end_are_remembered(world: World) -> None:
    desk, a, b = Desk(begun(world, "a", "b")), Key("Mission", "default", "a"), Key("Mission", "default", "b")
    desk.passes.several([a, b], leads=True)
    with world.store.transaction(SYSTEM) as tx:
        ended(tx, world, "a-1")
        then = desk.passes.follow(tx)
        assert desk.kept == {}, "nothing is known before the commit"
    then()
    assert [desk.kept[key].result for key in (a, b)] == [DONE_, DONE_]
    for key in (a, b):
        before = world.get("Mission", key.name)
        (answer,) = desk.passes.several([key], leads=False)
        assert answer[0] == desk.kept[key].result
        assert world.get("Mission", key.name) == before


@pytest.mark.parametrize("spec", [{"deadline": "1h"}, {"agentSelector": {"matchLabels": {"team": "a"}}}])
def test_the_pass_after_a_dispatch_is_made_where_it_may_find_something(world: World, spec: dict[str, Any]) -> None:
    desk = Desk(begun(world, "other"))
    with world.store.transaction(SYSTEM) as tx:
        ref = {} if "agentSelector" in spec else {"agentRef": {"name": "worker"}}
        agent = tx.get(Key("Agent", "default", "worker"))
        assert agent is not None
        tx.put_spec(agent, Declared("Agent", "default", "worker", agent.spec, labels={"team": "a"}))
        tx.create(Declared("Mission", "default", "a", {"title": "do a", "priority": 90, **ref, **spec}))
    key = Key("Mission", "default", "a")
    found = desk.passes.several([Key("Mission", "default", "other"), key], leads=True)
    mission = world.get("Mission", "a")
    assert mission.status.get("currentRun") == "a-1"
    memory = found[1][1]
    assert memory is None or memory.version < mission.resource_version, "it is made once more"


def test_a_transaction_that_is_lost_takes_nobody_out_of_the_queue(world: World) -> None:
    desk = Desk(begun(world, "a"))

    def lost() -> None:
        with world.store.transaction(SYSTEM) as tx:
            desk.passes._made(tx, Key("Mission", "default", "a"))
            desk.passes.follow(tx)
            assert tx.get(Key("Run", "default", "a-1")) is not None
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lost()
    assert world.find("Run", "a-1") is None
    desk.passes.several([Key("Mission", "default", "a")], leads=True)
    assert desk.handed_over == ["a-1"]


def test_a_mission_fares_the_same_whether_its_steps_are_taken_together_or_one_by_one(tmp_path: Path) -> None:
    said = []
    for at_once in (True, False):
        folder = tmp_path / str(at_once)
        folder.mkdir()
        made = World(folder, at_once=at_once)
        files = {
            f"{name}.yaml": fakes.mission(name, priority=priority) for name, priority in (("low", 10), ("high", 90))
        }
        made.commit({"e.yaml": fakes.executor(), "a.yaml": fakes.agent(), **files})
        made.sync()
        while open_runs := [run.name for run in made.everything() if run.kind == "Run" and run.state == "Running"]:
            made.finish(open_runs[0])
        made.check()
        said.append(
            {
                "order": made.started,
                "states": {m.name: m.state for m in made.everything() if m.kind == "Mission"},
                "history": {name: [e.type for e in made.events() if e.subject.name == name]
                            for name in ("low", "high", "low-1", "high-1")},
                "why": {m.name: [(c["type"], c["reason"]) for c in m.status["conditions"]]
                        for m in made.everything() if m.kind == "Mission"},
            }
        )  # fmt: skip
        made.close()
    assert said[0] == said[1]
    assert said[0]["order"] == ["high-1", "low-1"]
