"""New missions are looked at, and get their place, in the transaction that brings them; or as ever, where not."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, cast

import pytest

from controllers.dispatch.executor import RunOrder
from controllers.effects.runs import RunContext, RunEffects
from controllers.holds import estop
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.tokens import RunTokens
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.result import Result
from controllers.runtime.workqueue import Priority
from controllers.term import DEFAULT_SOURCE
from schemas.base import Key
from schemas.resource import SYSTEM
from store.contract import Transaction
from tests.fakes.clock import VirtualClock
from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.world import ALICE, EXECUTOR, World, agent, mission


@pytest.fixture
def made(world: World) -> World:
    """An engine with an agent of five places."""
    world.commit({"e.yaml": EXECUTOR, "a.yaml": agent(maxConcurrentMissions=5)})
    world.sync()
    return world


def look(made: World) -> None:
    """One look at the source, and nothing that it wakes."""
    made._pass(DEFAULT_SOURCE)


def settle(made: World) -> None:
    """A look at the source, as after a hint, and everything that it leads to."""
    made.pending[DEFAULT_SOURCE] = Priority.CHANGE
    made.settle()


def test_a_new_mission_gets_its_place_in_the_transaction_that_brings_it(made: World) -> None:
    made.commit({"m.yaml": mission("job")})
    look(made)
    assert made.get("Mission", "job").state == "InProgress"
    assert made.get("Run", "job-1").state == "Pending"
    made.settle()
    assert made.started == ["job-1"]
    made.finish("job-1")
    assert made.get("Mission", "job").state == "Done"


def test_the_history_is_that_of_steps_taken_one_by_one(tmp_path: Path) -> None:
    told = []
    for at_once in (True, False):
        (tmp_path / str(at_once)).mkdir()
        with contextlib.closing(World(tmp_path / str(at_once), at_once=at_once)) as made:
            made.commit({"e.yaml": EXECUTOR, "a.yaml": agent(maxConcurrentMissions=5)})
            made.sync()
            made.commit({"m.yaml": mission("job"), "n.yaml": mission("other")})
            settle(made)
            assert sorted(made.started) == ["job-1", "other-1"]
            with made.store.snapshot() as snapshot:
                told.append([(e.subject.kind, e.subject.name, e.type, e.reason) for e in snapshot.events()])
    assert sorted(told[0]) == sorted(told[1])


def test_a_pass_that_fails_costs_the_look_nothing(made: World) -> None:
    real, failed = made.reconcilers["Mission"], []

    def fails_once(tx: Transaction, key: Key) -> Result:
        if not failed:
            failed.append(key)
            raise ValueError("a defect")
        return real(tx, key)

    made.reconcilers["Mission"] = fails_once
    made.commit({"m.yaml": mission("job")})
    look(made)
    assert failed == [Key("Mission", "default", "job")]
    assert made.get("Mission", "job").state == "Inbox"
    assert made.source.revision is not None
    assert made.source.revision.endswith(made.repo.head)
    made.settle()
    assert made.started == ["job-1"]


@pytest.mark.parametrize(
    "files",
    [
        {"m.yaml": mission("job"), "b.yaml": agent("other")},
        {f"m{n}.yaml": mission(f"m{n}") for n in range(9)} | {"m.yaml": mission("job")},
    ],
    ids=["with an agent", "many"],
)
def test_what_comes_with_others_is_woken_by_the_change(made: World, files: dict[str, str]) -> None:
    made.commit(files)
    look(made)
    assert made.get("Mission", "job").state == "Inbox"
    made.settle()
    assert "job-1" in made.started or len(made.started) == 5


def test_a_hold_counts_what_a_commit_brings(made: World) -> None:
    made.commit(
        {"h.yaml": "apiVersion: remit.dev/v1alpha1\nkind: Hold\nmetadata: {name: stop}\n"
                   "spec: {scope: Global, mode: Hold, reason: careful}\n"}
    )  # fmt: skip
    made.sync()
    made.commit({"m.yaml": mission("job")})
    look(made)
    assert made.get("Mission", "job").state == "Inbox"
    made.settle()
    assert made.started == []


class Forehand(ScriptedExecutor):
    """Does a part of a start ahead of it, and notes whose."""

    def __init__(self, world: World) -> None:
        super().__init__(world.clock, lambda: "")
        self.ready: list[str] = []

    def make_ready(self, order: RunOrder) -> None:
        self.ready.append(order.run_name)


class Tokens(RunTokens):
    """For runs whose uid is none."""

    def mint(self, run_uid: str, kind: str = "") -> str:
        return f"token-{run_uid}"


@pytest.mark.parametrize("stopped", [False, True])
def test_an_order_that_a_stop_overtook_is_looked_at_anew_before_its_program_is_made(made: World, stopped: bool) -> None:
    made.commit({"m.yaml": mission("job")})
    look(made)
    executor = Forehand(made)
    effects = RunEffects(
        made.store,
        {"Command": cast(Any, executor)},
        RunContext(Tokens(b"k" * 32), lambda: "http://127.0.0.1:1", made.folder),
        files=ArtifactFiles(made.folder),
        blocking=InlineBlocking(),
        clock=VirtualClock(),
    )
    with made.store.transaction(SYSTEM) as tx:
        (effect,) = tx.claim_effects("test", types=["StartRun"], limit=1, lease_s=60)
        effects.prepare_in(tx, effect)
    if stopped:
        with made.store.transaction(ALICE) as tx:
            estop.place(tx, "incident")
    effects.make_ready(effect)
    asyncio.run(effects.start(effect))
    assert executor.ready == ([] if stopped else ["job-1"])
    assert executor.starts.total() == (0 if stopped else 1)
    with made.store.transaction(SYSTEM) as tx:
        tx.release_claims()
