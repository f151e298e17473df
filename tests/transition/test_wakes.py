"""Who looks again when something changed: those it concerns, however many others there are."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from random import Random
from typing import Any, cast

import pytest

from controllers.holds import stops
from controllers.reconcilers.executors import Probe
from controllers.runtime.blocking import InlineBlocking
from controllers.term import KEEP_EFFECTS, Term
from schemas.base import Key
from schemas.executor import Capabilities, ExecutorReason
from schemas.resource import SYSTEM
from store.contract import EffectState
from tests.fakes.clock import VirtualClock
from tests.fakes.world import World, agent, executor, mission


def test_a_run_wakes_its_own_mission_and_not_all_that_its_agent_ever_had(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    missions = {f"m{n:02d}.yaml": mission(f"m{n:02d}", priority=90 - n) for n in range(30)}
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), **missions})
    world.sync()
    passed: Counter[Key] = Counter()
    real = World._pass

    def counted(self: World, key: Key) -> None:
        passed[key] += 1
        real(self, key)

    monkeypatch.setattr(World, "_pass", counted)
    world.finish("m00-1")
    assert world.started == ["m00-1", "m01-1"]
    assert {key.name for key in passed if key.kind == "Mission"} == {"m00", "m01"}


def test_an_agent_that_is_not_ready_any_more_wakes_all_who_wait_for_it(world: World) -> None:
    missions = {f"m{n}.yaml": mission(f"m{n}") for n in range(5)}
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), **missions})
    world.sync()
    world.commit({"fleet.yaml": executor() + "---\n" + agent(suspend="true")})
    world.sync()
    waits = [[b.type for b in world.status(f"m{n}").blocked_on] for n in range(1, 5)]
    assert waits == [["Agent"]] * 4


def test_an_agent_that_is_being_deleted_names_who_comes_to_use_it(world: World) -> None:
    world.commit({"e.yaml": executor(), "w.yaml": agent(), "a.yaml": mission("a", suspend="true")})
    world.sync()
    world.commit(delete=("w.yaml",))
    world.sync()
    assert in_use_by(world) == "in use by mission/a: reassign or remove them"
    world.commit({"b.yaml": mission("b", suspend="true")})
    world.sync()
    assert in_use_by(world) == "in use by mission/a, mission/b: reassign or remove them"


def in_use_by(world: World) -> str:
    [ready] = [c for c in world.get("Agent", "worker").status["conditions"] if c["type"] == "Ready"]
    return str(ready["message"])


def test_effects_that_ended_a_month_ago_are_forgotten_and_what_happened_is_not(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "a.yaml": mission("a")})
    world.sync()
    world.finish("a-1")
    term = Term(
        world.store, None, world.folder, status=cast(Any, None), runners=(), readers=world.readers,
        clock=VirtualClock(), probe=lambda spec, namespace: Probe(ExecutorReason.RECONCILED, "", Capabilities()),
        random=Random(1), stops=stops.NONE, blocking=InlineBlocking(), woken=lambda: None, gone=lambda error: None,
        follow=lambda key: None,
    )  # fmt: skip
    world.clock.tick((KEEP_EFFECTS - timedelta(hours=1)).total_seconds())
    with world.store.transaction(SYSTEM) as tx:
        tx.enqueue("StartRun", "start/open", Key("Run", "default", "x"), {}, due_at=tx.now + timedelta(days=9))
    term._tidy()
    assert kept(world) == {"start/open", f"start/{world.get('Run', 'a-1').uid}"}
    world.clock.tick(7200)
    term._tidy()
    assert kept(world) == {"start/open"}
    assert len(world.events("RunStarted")) == 1
    with world.store.transaction(SYSTEM) as tx:
        tx.drop_effect("start/open")


def kept(world: World) -> set[str]:
    with world.store.snapshot() as snapshot:
        return {e.key for e in snapshot.effects(states=list(EffectState))}
