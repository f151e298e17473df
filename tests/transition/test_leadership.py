"""Engines that share a store: one leads, another steps in, and what a deposed one writes is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from controllers.effects import homes
from controllers.effects.runs import START
from controllers.runtime import home
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.fenced import FencedStore
from controllers.runtime.home import LEADER, RENEW_S, TTL_S, Member
from controllers.runtime.leadership import LOOK_S, Leadership
from controllers.runtime.lifecycle import Lifecycle
from schemas.base import Key
from schemas.errors import Fenced, StoreError, StoreLocked, StoreUnavailable
from schemas.resource import SYSTEM
from store.contract import EffectState, Fence, Store
from tests.fakes.clock import VirtualClock
from tests.fakes.stores import BACKENDS, CountedIds, Harness, mission
from tests.fakes.world import World, agent, executor
from tests.fakes.world import mission as declared


@pytest.fixture(params=sorted(BACKENDS))
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Harness]:
    made = BACKENDS[request.param](tmp_path)
    yield made
    made.close()


class Candidate:
    """An engine's leadership on a clock of its own machine, with what it did while it led."""

    def __init__(self, name: str, store: Store, clock: VirtualClock) -> None:
        self.name, self.store = name, store
        self.fences: list[Fence] = []
        self.leadership = Leadership(store, name, self._lead, clock=clock, blocking=InlineBlocking())
        self.life = Lifecycle()
        self.task = asyncio.create_task(self.leadership.run(self.life))

    async def _lead(self, fence: Fence, ends: asyncio.Event) -> None:
        self.fences.append(fence)
        await ends.wait()

    @property
    def leads(self) -> bool:
        return self.leadership.leads

    def write(self, name: str) -> None:
        """As whatever it last was."""
        with FencedStore(self.store, self.fences[-1]).transaction(SYSTEM) as tx:
            tx.create(mission(name))

    def die(self) -> None:
        """kill -9: nothing is given back."""
        self.task.cancel()
        self.task.add_done_callback(lambda _: None)

    async def stop(self, clock: VirtualClock) -> None:
        self.life.stopping.set()
        await clock.run(self.task)


async def passes(harness: Harness, clock: VirtualClock, seconds: float) -> None:
    """Let time pass for an engine, and on the wall clock."""
    for _ in range(round(seconds * 4)):
        harness.clock.tick(0.25)
        await clock.advance(0.25)


def advancing(harness: Harness, clock: VirtualClock) -> VirtualClock:
    harness.clock.moment = clock.now()
    return clock


@pytest.mark.asyncio
async def test_one_leads_and_a_stop_hands_the_lead_over_at_once(harness: Harness) -> None:
    clock = advancing(harness, VirtualClock())
    one = Candidate("one", harness.open(), clock)
    await passes(harness, clock, 0.25)
    two = Candidate("two", harness.open(), clock)
    await passes(harness, clock, 60)
    assert (one.leads, two.leads) == (True, False)
    await one.stop(clock)
    await passes(harness, clock, LOOK_S * 2)
    assert (one.leads, two.leads) == (False, True)
    assert two.fences[0].token == one.fences[0].token + 1
    await two.stop(clock)


@pytest.mark.asyncio
@pytest.mark.parametrize("skew_s", [0, 300, -300, 86_400])
async def test_a_dead_leader_is_followed_within_seconds_however_wrong_its_clock(harness: Harness, skew_s: int) -> None:
    """The lease carries the wall clock of whoever wrote it; the successor counts on its own monotonic one."""
    clock = advancing(harness, VirtualClock())
    one = Candidate("one", harness.open(), clock)
    await passes(harness, clock, 0.25)
    two = Candidate("two", harness.open(), clock)
    harness.clock.tick(skew_s)
    for _ in range(40):
        await passes(harness, clock, 1)
        assert (one.leads, two.leads) == (True, False)
    one.die()
    await passes(harness, clock, TTL_S - RENEW_S - 1)
    assert not two.leads
    await passes(harness, clock, RENEW_S + 3)
    assert two.leads
    with pytest.raises(Fenced):
        one.write("late")
    two.write("now")
    await two.stop(clock)


@pytest.mark.asyncio
async def test_a_leader_that_slept_finds_itself_deposed_and_has_written_nothing(harness: Harness) -> None:
    clock, slow = advancing(harness, VirtualClock()), VirtualClock()
    sleeper = Candidate("sleeper", harness.open(), slow)
    await passes(harness, slow, 0.25)
    assert sleeper.leads
    other = Candidate("other", harness.open(), clock)
    await passes(harness, clock, TTL_S + 2)  # the sleeper's time stands still
    assert other.leads
    assert sleeper.leads, "it does not know yet"
    with pytest.raises(Fenced):
        sleeper.write("from the past")
    await passes(harness, slow, RENEW_S + 1)
    assert not sleeper.leads
    assert other.leads
    other.write("from the present")
    await other.stop(clock)
    await passes(harness, slow, LOOK_S * 2)
    assert sleeper.leads
    assert [f.token for f in sleeper.fences] == [1, 3]
    await sleeper.stop(slow)


@pytest.mark.asyncio
async def test_a_term_that_ends_by_itself_gives_the_lead_up(harness: Harness) -> None:
    clock = advancing(harness, VirtualClock())
    terms: list[int] = []

    async def short(fence: Fence, ends: asyncio.Event) -> None:
        terms.append(fence.token)

    life = Lifecycle()
    leadership = Leadership(harness.open(), "one", short, clock=clock, blocking=InlineBlocking())
    task = asyncio.create_task(leadership.run(life))
    await passes(harness, clock, 3)
    assert terms[:2] == [1, 2]
    life.stopping.set()
    await clock.run(task)


@pytest.mark.asyncio
async def test_while_the_store_is_silent_nobody_leads_or_stops_leading(harness: Harness) -> None:
    clock = advancing(harness, VirtualClock())
    store = harness.open()
    one = Candidate("one", store, clock)
    await passes(harness, clock, 0.25)
    store.close()  # it answers StoreUnavailable from now on
    await passes(harness, clock, 60)
    assert one.leads
    with pytest.raises(StoreUnavailable):
        one.write("a")
    await one.stop(clock)
    assert not one.leads


# Homes.


def test_a_home_has_one_life_at_a_time_and_keeps_its_name(harness: Harness, tmp_path: Path) -> None:
    store, ids = harness.open(), CountedIds("01jd")
    first = Member.join(store, tmp_path, now=harness.clock(), new_id=ids)
    with pytest.raises(StoreLocked):
        Member.join(store, tmp_path, now=harness.clock(), new_id=ids)
    first.home.lock.release()  # its process died
    second = Member.join(store, tmp_path, now=harness.clock(), new_id=ids)
    assert second.home.name == first.home.name
    assert (second.home.before, second.lease.token) == (first.home.life, first.lease.token + 1)
    with pytest.raises(Fenced), store.transaction(SYSTEM, fence=first.fence):
        pass
    with store.transaction(SYSTEM, fence=second.fence) as tx:
        second.leave(tx)
    second.home.lock.release()


def test_the_next_life_takes_back_what_the_last_one_led(harness: Harness, tmp_path: Path) -> None:
    store, ids = harness.open(), CountedIds("01jd")
    first = Member.join(store, tmp_path, now=harness.clock(), new_id=ids)
    with store.transaction(SYSTEM) as tx:
        assert tx.acquire_lease(LEADER, first.home.life, ttl_s=TTL_S) is not None
    first.home.lock.release()
    second = Member.join(store, tmp_path, now=harness.clock(), new_id=ids)
    with store.snapshot() as snapshot:
        held = snapshot.lease(LEADER)
    assert held is not None
    assert held.holder == "", "free at once, not after it ran out"
    second.home.lock.release()


def test_a_copied_state_directory_does_not_work_beside_the_original(harness: Harness, tmp_path: Path) -> None:
    store, ids = harness.open(), CountedIds("01jd")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    original = Member.join(store, tmp_path / "a", now=harness.clock(), new_id=ids)
    (tmp_path / "b" / "engine.name").write_text(original.home.name)
    with pytest.raises(StoreLocked, match=r"remove engine\.name"):
        Member.join(store, tmp_path / "b", now=harness.clock(), new_id=ids)
    original.home.lock.release()


@pytest.mark.asyncio
async def test_an_engine_whose_home_was_taken_ends(harness: Harness, tmp_path: Path) -> None:
    clock = advancing(harness, VirtualClock())
    store = harness.open()
    member = Member.join(store, tmp_path, now=harness.clock(), new_id=CountedIds("01jd"))
    lost: list[StoreError] = []
    life = Lifecycle()
    task = asyncio.create_task(member.stay(life, store=store, clock=clock, blocking=InlineBlocking(), lost=lost.append))
    await passes(harness, clock, 60)
    assert lost == []
    with store.transaction(SYSTEM) as tx:
        tx.release_lease(member.lease.name, member.lease.token)
        tx.acquire_lease(member.lease.name, "another", ttl_s=TTL_S)
    await passes(harness, clock, RENEW_S + 1)
    assert [type(e) for e in lost] == [StoreLocked]
    life.stopping.set()
    await clock.run(task)
    member.home.lock.release()


def test_a_name_made_from_any_host_is_fit_for_an_effect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(home.socket, "gethostname", lambda: "Bürо_42.example.com")
    found = home.move_in(tmp_path, now=VirtualClock().now(), new_id=CountedIds("01jd"))
    assert home._NAME.fullmatch(found.name)
    found.lock.release()


# Runs and their homes.


def one_start(world: World) -> None:
    """A world whose only mission waits for its start."""
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": declared("m")})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "_deliver", lambda: False)
        world.sync()


def take(world: World, name: str) -> list[str]:
    """What an engine of that home claims and goes on with: the types of the effects."""
    keep = homes.keeper(name)
    with world.store.transaction(SYSTEM) as tx:
        claimed = tx.claim_effects(name, types=[START, *homes.own_types(name)], limit=10, lease_s=60)
        return [effect.type for effect in claimed if keep(tx, effect)]


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_run_belongs_to_the_home_that_claimed_it_first_for_ever(world: World) -> None:
    one_start(world)
    assert take(world, "here") == [START]
    assert world.get("Run", "m-1").status["engine"] == "here"
    world.clock.tick(1_000)  # the claim ran out: its engine died between claim and start
    assert take(world, "there") == []
    assert take(world, "here") == ["StartRun@here"]
    with world.store.transaction(SYSTEM) as tx:
        tx.release_claims()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.fakes.world.START", "StartRun@here")
        world.settle()
    world.finish("m-1")


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_a_cancel_goes_to_the_home_of_its_run(world: World) -> None:
    one_start(world)
    take(world, "here")
    run = world.get("Run", "m-1")
    with world.store.transaction(SYSTEM) as tx:
        tx.enqueue("CancelRun", f"cancel/{run.uid}", run.key, {"runUid": run.uid})
        claimed = tx.claim_effects("there", types=["CancelRun"], limit=10, lease_s=60)
        assert [homes.keeper("there")(tx, effect) for effect in claimed] == [False]
    with world.store.snapshot() as snapshot:
        effect = snapshot.effect(f"cancel/{run.uid}")
    assert effect is not None
    assert (effect.type, effect.state) == ("CancelRun@here", EffectState.PENDING)
    with world.store.transaction(SYSTEM) as tx:
        homes.lose(tx, tx.get(run.key) or run)
        tx.release_claims()
        tx.drop_effect(f"start/{run.uid}")
    world.settle()


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_runs_of_a_home_that_never_came_back_are_lost_once_they_must_have_ended(world: World) -> None:
    one_start(world)
    take(world, "here")
    with world.store.transaction(SYSTEM) as tx:
        lease = tx.acquire_lease("engine/here", "here/1", ttl_s=TTL_S)
        assert lease is not None
    for minutes, count in ((15, 0), (30, 0), (40, 0), (41, 1)):  # 30 of its own, 10 of silence
        with world.store.snapshot() as snapshot:
            at = world.now + timedelta(minutes=minutes)
            assert len(homes.abandoned(snapshot, at)) == count, f"after {minutes} min"
    with world.store.transaction(SYSTEM) as tx:
        tx.acquire_lease("engine/here", "here/1", ttl_s=7200)
    with world.store.snapshot() as snapshot:
        assert homes.abandoned(snapshot, world.now + timedelta(minutes=41)) == [], "it lives, and is waited for"
        run = snapshot.get(Key("Run", "default", "m-1"))
    assert run is not None
    with world.store.transaction(SYSTEM) as tx:
        tx.release_claims()
        homes.lose(tx, run)
    world.settle()
    assert world.get("Run", "m-1").state == "Lost"
