"""Holds, quarantine and e-stop: what is stopped, what stays stopped, and who may let it go on."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from controllers.effects.runs import RunContext, RunEffects
from controllers.holds import effective, estop
from controllers.holds.stop_file import StopFile
from controllers.holds.stops import Stops
from controllers.reconcilers.dispatcher import ReadyMissions
from controllers.reconcilers.wakes import Wakes
from controllers.runs import records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.tokens import RunTokens
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.workqueue import WorkQueue
from decisions.holds import HoldFacts
from schemas.base import Key, ObjectRef
from schemas.errors import Refused
from schemas.hold import HoldSpec, Released
from schemas.mission import MissionSpec, MissionState
from schemas.resource import Actor, ActorKind, Declared, Resource
from schemas.run import RunState
from store.contract import Effect
from tests.fakes.clock import VirtualClock
from tests.fakes.scripted_executor import ScriptedExecutor
from tests.fakes.stores import BACKENDS
from tests.fakes.world import ALICE, World, agent, executor, mission

BOB = Actor(ActorKind.HUMAN, "user:bob", "Store")
CAROL = Actor(ActorKind.HUMAN, "user:carol", "Store")


def fleet(world: World, *agents: str, missions: int = 1, **spec: object) -> None:
    """Agents of one place, each with missions ``<agent>-m0`` and so on."""
    names = agents or ("worker",)
    files = {"fleet.yaml": "---\n".join([executor(), *(agent(name) for name in names)])}
    for name in names:
        files[f"{name}.yaml"] = "---\n".join(mission(f"{name}-m{n}", agent=name, **spec) for n in range(missions))
    world.commit(files)
    world.sync()


def policy(quorum: int) -> str:
    return (
        "apiVersion: remit.dev/v1alpha1\nkind: Policy\nmetadata: {name: rules}\n"
        f"spec:\n  selector: {{matchLabels: {{}}}}\n  approvals: {{quorum: {quorum}}}\n"
    )


def stop(world: World, reason: str = "incident", tenant: str = "", by: Actor = ALICE) -> Resource:
    with world.store.transaction(by) as tx:
        hold, _ = estop.place(tx, reason, tenant=tenant)
    world.settle()
    return hold


def release(world: World, by: Actor = ALICE, part: Released | None = None, reason: str = "fixed") -> int:
    """How many voices are missing yet."""
    with world.store.transaction(by) as tx:
        answer = estop.release(tx, estop.standing(tx)[0], reason, part)
    world.settle()
    return answer.missing


# Holds.


@pytest.mark.parametrize(
    ("hold", "free"),
    [
        ({"selector": {"kinds": ["Agent"], "names": ["a"]}}, ["b-m0-1"]),
        ({"selector": {"kinds": ["Mission"], "names": ["b-m0"]}}, ["a-m0-1"]),
        ({"selector": {"kinds": ["Executor"], "names": ["local"]}}, []),
        ({"selector": {"kinds": ["Mission"], "matchLabels": {"team": "x"}}}, []),
        ({"scope": "Tenant"}, []),
        ({"scope": "Global"}, []),
    ],
)
def test_a_hold_reaches_what_it_names(world: World, hold: dict[str, object], free: list[str]) -> None:
    world.act("Hold", "h", {**hold, "reason": "look"})
    fleet(world, "a", "b", labels="team: x")
    assert world.started == free
    world.remove("Hold", "h")
    assert sorted(world.started) == ["a-m0-1", "b-m0-1"]


def test_a_hold_on_a_project_stops_its_missions(world: World) -> None:
    world.act("Hold", "h", {"selector": {"kinds": ["Project"], "names": ["site"]}, "mode": "Stop", "reason": "look"})
    fleet(world, "a", projectRef="{name: site}")
    assert world.started == []
    assert world.status("a-m0").blocked_on[0].ref == "Hold/default/h"


def test_the_strictest_of_hold_and_suspend_is_shown(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(suspend="true")})
    world.sync()
    assert world.get("Agent", "worker").status["held"] == "Suspend"
    assert world.reason("Agent", "worker", "Suspended") == "True/Suspended"
    world.act("Hold", "h", {"selector": {"names": ["worker"]}, "mode": "Drain", "reason": "look"})
    assert world.get("Agent", "worker").status["held"] == "Drain"
    assert world.reason("Agent", "worker", "Suspended") == "True/Held"
    world.remove("Hold", "h")
    assert world.get("Agent", "worker").status["held"] == "Suspend"
    world.commit({"fleet.yaml": executor() + "---\n" + agent()})
    world.sync()
    assert world.get("Agent", "worker").status["held"] == ""


def test_a_stop_cancels_every_run_in_the_pass_of_the_hold(world: World) -> None:
    fleet(world, "a", "b", "c")
    with world.store.transaction(ALICE) as tx:
        hold, _ = estop.place(tx, "incident")
    with world.store.transaction(ALICE) as tx:
        world.reconcilers["Hold"](tx, hold.key)
    runs = [world.get("Run", f"{name}-m0-1") for name in "abc"]
    assert all(run.status["cancelReason"] == "Stopped" for run in runs)
    events = world.events("CancelRequested")
    assert [e.subject.name for e in events] == ["a-m0", "b-m0", "c-m0"]
    world.settle()
    assert sorted(world.canceled) == ["a-m0-1", "b-m0-1", "c-m0-1"]
    assert len(world.events("CancelRequested")) == 3, "the passes of the missions ask for nothing twice"


def test_a_drain_lets_what_runs_end(world: World) -> None:
    fleet(world, "a", missions=2)
    world.act("Hold", "h", {"selector": {"names": ["a"]}, "mode": "Drain", "reason": "upgrade"})
    assert world.canceled == []
    world.finish("a-m0-1")
    assert world.state("a-m0") is MissionState.DONE
    assert world.started == ["a-m0-1"]
    world.remove("Hold", "h")
    assert world.started == ["a-m0-1", "a-m1-1"]


def test_a_hold_with_an_end_resumes_by_itself_also_as_a_stop(world: World) -> None:
    fleet(world, "a")
    until = (world.now + timedelta(hours=1)).isoformat()
    world.act("Hold", "h", {"scope": "Tenant", "mode": "Stop", "reason": "short", "until": until})
    world.finish("a-m0-1", state=RunState.CANCELED)
    assert world.state("a-m0") is MissionState.BLOCKED
    world.advance(3601)
    assert world.started == ["a-m0-1", "a-m0-2"]
    assert world.find("Hold", "h") is None


# Quarantine.


def quarantine(world: World, name: str = "bad") -> None:
    selector = {"kinds": ["Agent"], "names": [name]}
    spec = {"selector": selector, "mode": "Stop", "quarantine": True, "reason": "it asked for keys"}
    world.act("Hold", "q", spec, {"placedBy": "user:alice", "transport": "Store"})


def test_a_quarantine_stops_revokes_and_blocks_with_who_and_why(world: World) -> None:
    fleet(world, "bad", "good", missions=2)
    quarantine(world)
    run = world.get("Run", "bad-m0-1")
    assert run.status["cancelReason"] == "Stopped"
    assert run.status["tokenRevokedAt"]
    assert "tokenRevokedAt" not in world.get("Run", "good-m0-1").status
    world.finish("bad-m0-1", state=RunState.CANCELED)
    for name in ("bad-m0", "bad-m1"):
        assert world.state(name) is MissionState.BLOCKED
        move = world.status(name).transitions[-1]
        assert (move.reason, move.message) == (
            "Quarantined",
            "quarantine by user:alice: it asked for keys; release: remit release hold/q",
        )
        assert world.status(name).blocked_on[0].ref == "Hold/default/q"
    assert world.state("good-m0") is MissionState.IN_PROGRESS
    assert world.reason("Agent", "bad", "Suspended") == "True/Quarantined"
    world.remove("Hold", "q")
    assert "bad-m0-2" in world.started
    assert world.state("bad-m1") is MissionState.ASSIGNED


def test_a_new_mission_of_an_agent_in_quarantine_is_blocked_too(world: World) -> None:
    fleet(world, "bad")
    quarantine(world)
    world.finish("bad-m0-1", state=RunState.CANCELED)
    world.commit({"more.yaml": mission("late", agent="bad")})
    world.sync()
    assert world.state("late") is MissionState.BLOCKED
    world.commit({"more.yaml": mission("late", agent="good")})
    world.commit({"good.yaml": agent("good")})
    world.sync()
    assert world.state("late") is MissionState.IN_PROGRESS, "given to another agent it goes on"


def test_what_waits_for_a_verdict_goes_on_waiting_in_a_quarantine(world: World) -> None:
    fleet(world, "bad", review="Human")
    world.finish("bad-m0-1")
    quarantine(world)
    assert world.state("bad-m0") is MissionState.REVIEW
    world.answer("bad-m0")
    assert world.state("bad-m0") is MissionState.DONE


# E-stop.


def test_an_estop_is_one_hold_that_stands_until_it_is_released(world: World) -> None:
    fleet(world, "a", "b")
    stop(world)
    world.finish("a-m0-1", state=RunState.CANCELED)
    world.finish("b-m0-1", state=RunState.CANCELED)
    assert [world.state(f"{n}-m0") for n in "ab"] == [MissionState.BLOCKED] * 2
    version = world.get("Hold", "estop").resource_version
    stop(world, "again", by=BOB)
    assert world.get("Hold", "estop").resource_version == version, "one that stands is left as it is"
    world.commit({"fleet.yaml": "---\n".join([executor(), agent("a"), agent("b", description="changed")])})
    world.sync()
    world.restart()
    world.advance(24 * 3600)
    assert sorted(world.started) == ["a-m0-1", "b-m0-1"]
    assert release(world) == 0
    assert sorted(world.started) == ["a-m0-1", "a-m0-2", "b-m0-1", "b-m0-2"]


def test_an_estop_does_not_take_the_place_of_another_hold_of_its_name(world: World) -> None:
    fleet(world, "a")
    world.act("Hold", "estop", {"selector": {"names": ["a"]}, "reason": "called so by somebody"})
    assert stop(world).name == "estop-2"
    assert stop(world, "again").name == "estop-2"
    assert world.get("Hold", "estop").spec["mode"] == "Hold"
    assert world.canceled == ["a-m0-1"]


def test_a_tenant_is_stopped_alone(world: World) -> None:
    world.commit(
        {
            "fleet.yaml": executor() + "---\n" + agent("a"),
            "a.yaml": mission("a-m0", agent="a"),
            "theirs/fleet.yaml": executor().replace("{name: local}", "{name: local, namespace: acme}")
            + "---\n"
            + agent("b", namespace="acme")
            + "---\n"
            + mission("b-m0", agent="b").replace("{name: b-m0}", "{name: b-m0, namespace: acme}"),
        }
    )
    world.sync()
    stop(world, tenant="acme")
    assert world.canceled == ["b-m0-1"]
    with world.store.snapshot() as snapshot:
        assert estop.standing(snapshot) == []
        assert [h.namespace for h in estop.standing(snapshot, "acme")] == ["acme"]


def test_a_release_needs_a_reason(world: World) -> None:
    fleet(world, "a")
    stop(world)
    with pytest.raises(Refused) as refused:
        release(world, reason=" ")
    assert refused.value.reason == "ReasonMissing"
    assert world.find("Hold", "estop") is not None


def test_an_estop_that_a_source_declares_is_ended_there(world: World) -> None:
    fleet(world, "a")
    world.commit(
        {
            "stop.yaml": "apiVersion: remit.dev/v1alpha1\nkind: Hold\nmetadata: {name: byhand}\n"
            "spec: {scope: Global, mode: Stop, reason: by commit}\n"
        }
    )
    world.sync()
    assert world.canceled == ["a-m0-1"]
    with pytest.raises(Refused, match=r"declared at stop\.yaml:1"):
        release(world)


def test_with_a_quorum_another_person_has_to_ask_for_the_same(world: World) -> None:
    fleet(world, "a")
    world.commit({"policy.yaml": policy(2)})
    world.sync()
    stop(world)
    world.finish("a-m0-1", state=RunState.CANCELED)
    assert release(world, ALICE) == 1
    assert release(world, ALICE) == 1, "one person has one voice"
    part = Released(percent=50)
    assert release(world, BOB, part) == 1, "a part is not the whole"
    assert world.started == ["a-m0-1"]
    assert release(world, BOB) == 0
    assert world.started == ["a-m0-1", "a-m0-2"]
    assert [e.actor.subject for e in world.events("ReleaseAsked")] == ["user:alice", "user:alice", "user:bob"]


def test_a_voice_does_not_count_for_ever_nor_for_the_next_stop(world: World) -> None:
    fleet(world, "a")
    world.commit({"policy.yaml": policy(2)})
    world.sync()
    stop(world)
    assert release(world, ALICE) == 1
    world.advance(24 * 3600 + 1)
    assert release(world, BOB) == 1
    assert release(world, CAROL) == 0
    assert world.find("Hold", "estop") is None
    stop(world)
    assert release(world, CAROL) == 1


def test_parts_are_released_step_by_step_and_a_new_stop_takes_them_back(world: World) -> None:
    names = [f"a{n}" for n in range(8)]
    fleet(world, *names)
    stop(world)
    for name in names:
        world.finish(f"{name}-m0-1", state=RunState.CANCELED)
    before = len(world.started)
    release(world, part=Released(agents=(ObjectRef(name="a3"),)))
    assert world.started[before:] == ["a3-m0-2"]
    release(world, part=Released(agents=(ObjectRef(name="a5"),)))
    assert world.started[before:] == ["a3-m0-2", "a5-m0-2"], "what was released stays so"
    assert world.reason("Hold", "estop", "Ready") == "True/PartlyReleased"
    assert world.get("Agent", "a3").status["held"] == ""
    assert world.get("Agent", "a0").status["held"] == "Stop"
    stop(world, "worse than it looked", by=BOB)
    assert sorted(world.canceled[-2:]) == ["a3-m0-2", "a5-m0-2"]
    assert world.get("Hold", "estop").status["placedBy"] == "user:bob"
    for name in ("a3-m0-2", "a5-m0-2"):
        world.finish(name, state=RunState.CANCELED)
    release(world, part=Released(tenants=("default",)))
    assert len(world.started) == before + 2 + len(names)


# Beside the store.


@pytest.fixture
def file(world: World) -> StopFile:
    made = StopFile(world.folder / "state" / "ESTOP", "here")
    world.stops = Stops(made)
    world.restart()
    return made


def test_a_file_that_appears_stops_the_next_dispatch_and_becomes_a_hold_that_stays(
    world: World, file: StopFile
) -> None:
    file.write("by hand", by="user:alice", at=world.now)
    fleet(world, "a")
    assert world.started == []
    holds = [r for r in world.everything() if r.kind == "Hold"]
    assert [(h.status["placedBy"], h.spec["reason"], h.status["file"]) for h in holds] == [
        ("user:alice", "by hand", file.place())
    ]
    file.remove()
    world.restart()
    assert world.started == []
    assert release(world) == 0
    assert world.started == ["a-m0-1"]


def test_a_release_while_the_file_stands_is_none(world: World, file: StopFile) -> None:
    file.write("by hand", by="user:alice", at=world.now)
    fleet(world, "a")
    release(world)
    world.commit({"more.yaml": mission("late", agent="a")})
    world.sync()
    assert world.started == []


def test_a_part_is_not_free_while_the_file_stands(world: World, file: StopFile) -> None:
    file.write("by hand", by="user:alice", at=world.now)
    fleet(world, "a")
    release(world, part=Released(percent=100))
    assert world.started == []


def test_a_file_is_seen_in_the_transaction_and_adopted_once(world: World, file: StopFile) -> None:
    fleet(world, "a")
    file.write("now", by="user:alice", at=world.now)
    with world.store.transaction(ALICE) as tx:
        agent_, mission_ = tx.get(Key("Agent", "default", "a")), tx.get(Key("Mission", "default", "a-m0"))
        found = effective.held(tx, world.stops, agent_, mission_, tx.now)
        assert found is not None
        assert found.estop
        assert len(effective.adopt(tx, world.stops.of_files())) == 1
        assert effective.adopt(tx, world.stops.of_files()) == []
    world.settle()
    assert world.canceled == ["a-m0-1"]


def test_a_hold_of_a_commit_that_the_store_does_not_know_counts(world: World) -> None:
    spec = HoldSpec.model_validate({"scope": "Global", "mode": "Stop", "reason": "by commit"})
    world.stops = Stops()
    world.stops.commit([HoldFacts(Key("Hold", "default", "h"), spec, "the source", world.now, place="stop.yaml:1")])
    world.restart()
    fleet(world, "a")
    assert world.started == []
    world.stops.commit([])
    world.restart()
    assert world.started == ["a-m0-1"]


def test_a_token_is_revoked_once_and_not_after_the_end(world: World) -> None:
    fleet(world, "a")
    for _ in range(2):
        with world.store.transaction(ALICE) as tx:
            records.revoke_token(tx, world.get("Run", "a-m0-1"), "why\nnot")
    assert len(world.events("KeyRevoked")) == 1
    assert world.get("Run", "a-m0-1").status["tokenRevokedFor"] == "why not"
    world.finish("a-m0-1")
    with world.store.transaction(ALICE) as tx:
        records.revoke_token(tx, world.get("Run", "a-m0-1"), "late")
    assert len(world.events("KeyRevoked")) == 1


def test_without_files_nothing_is_stopped_by_one(tmp_path: Path) -> None:
    assert Stops().everywhere() == []
    assert Stops(StopFile(tmp_path / "none" / "ESTOP", "here")).everywhere() == []


# 25 Cold start of 10k objects with one e-stop: the e-stop is handled first.


def test_25_a_cold_start_of_ten_thousand_objects_handles_the_estop_first(tmp_path: Path) -> None:
    harness = BACKENDS["sqlite"](tmp_path)
    store = harness.open()
    typed = MissionSpec.model_validate({"title": "work", "agentRef": {"name": "nobody"}}).to_wire()
    with store.transaction(ALICE) as tx:
        tx.create_many([Declared("Mission", "default", f"m{n:05d}", typed) for n in range(10_000)], manager="cli/alice")
    with store.transaction(ALICE) as tx:
        estop.place(tx, "incident")
    queue: WorkQueue[Key] = WorkQueue(clock=VirtualClock(), random=Random(1))
    with store.snapshot() as snapshot:
        for key, priority in Wakes(ReadyMissions()).everything(snapshot, ("Agent", "Executor", "Hold", "Mission")):
            queue.add(key, priority, fresh=False)
    assert queue.stats().depth == 10_001
    assert asyncio.run(queue.get()) == Key("Hold", "default", "estop")
    harness.close()


# A start that was ordered before the stop.


class Tokens(RunTokens):
    """For runs whose uid is none."""

    def mint(self, run_uid: str) -> str:
        return f"token-{run_uid}"


class Desk:
    """The handlers of run effects over an executor that notes what it is told."""

    def __init__(self, world: World, stops: Stops) -> None:
        self.executor = ScriptedExecutor(world.clock, lambda: "")
        self.effects = RunEffects(
            world.store,
            {"Command": cast(Any, self.executor)},
            RunContext(Tokens(b"k" * 32), lambda: "http://127.0.0.1:1", world.folder, stops),
            files=ArtifactFiles(world.folder),
            blocking=InlineBlocking(),
            clock=cast(Any, Moment(world)),
        )


class Moment:
    """The clock of the world, as effects ask it."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> datetime:
        return self._world.now


def ordered(world: World) -> Effect:
    """The StartRun of the world's first run, claimed as a runner does."""
    with world.store.snapshot() as snapshot:
        return next(e for e in snapshot.effects() if e.type == "StartRun")


def test_a_start_that_is_delivered_after_the_stop_starts_nothing(world: World, file: StopFile) -> None:
    fleet(world, "a")
    file.write("now", by="user:alice", at=world.now)
    desk = Desk(world, world.stops)
    asyncio.run(desk.effects.start(ordered(world)))
    assert not desk.executor.starts
    file.remove()
    asyncio.run(desk.effects.start(ordered(world)))
    assert desk.executor.starts.total() <= 1


def test_a_start_that_is_delivered_again_after_the_stop_tells_the_program_to_end(world: World) -> None:
    fleet(world, "a")
    desk = Desk(world, Stops())
    asyncio.run(desk.effects.start(ordered(world)))
    assert desk.executor.starts.total() == 1
    with world.store.transaction(ALICE) as tx:
        estop.place(tx, "incident")
    asyncio.run(desk.effects.start(ordered(world)))
    (worker,) = desk.executor.workers.values()
    assert worker.told_to_stop
    assert desk.executor.starts.total() == 1
