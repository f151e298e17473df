"""Work that repeats, and the full resync."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Iterable

import pytest

from controllers.runtime.clock import wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.periodic import Periodic
from controllers.runtime.resync import Resync
from controllers.runtime.workqueue import Priority, WorkQueue
from tests.fakes.clock import VirtualClock

pytestmark = pytest.mark.asyncio


class Poller:
    def __init__(self, *, takes_s: float = 0.0, jitter: float = 0.1) -> None:
        self.clock = VirtualClock()
        self.rounds: list[float] = []
        self.takes_s = takes_s
        self.life = Lifecycle()
        self.periodic = Periodic(self.work, clock=self.clock, random=random.Random(0), interval_s=60, jitter=jitter)
        self.task = asyncio.create_task(self.periodic.run(self.life))

    async def work(self) -> None:
        self.rounds.append(self.clock.elapsed)
        await self.clock.sleep(self.takes_s)

    async def end(self) -> None:
        self.life.stopping.set()
        await self.clock.run(self.task)


async def test_rounds_come_at_once_and_then_about_every_interval() -> None:
    poller = Poller()
    await poller.clock.advance(3_600)
    gaps = [later - sooner for sooner, later in itertools.pairwise(poller.rounds)]
    assert poller.rounds[0] == 0
    assert len(gaps) >= 54
    assert all(54 <= gap <= 66 for gap in gaps)
    assert max(gaps) - min(gaps) > 6, "pollers would keep in step"
    await poller.end()


async def test_it_is_ready_after_its_first_round_and_stops_at_once() -> None:
    poller = Poller(takes_s=5)
    await poller.clock.advance(4)
    assert not poller.life.is_ready.is_set()
    await poller.clock.advance(1)
    assert poller.life.is_ready.is_set()
    await poller.end()
    assert poller.clock.elapsed == 5


async def test_a_stop_lets_the_round_that_runs_finish() -> None:
    poller = Poller(takes_s=5)
    await poller.clock.advance(2)
    await poller.end()
    assert poller.clock.elapsed == 5
    assert poller.rounds == [0]


async def test_a_storm_of_hints_makes_one_round_and_a_hint_during_a_round_makes_another() -> None:
    poller = Poller(takes_s=5, jitter=0)
    await poller.clock.advance(10)
    for _ in range(10_000):
        poller.periodic.poke()
    await poller.clock.advance(2)
    assert poller.rounds == [0, 10]
    for _ in range(10_000):
        poller.periodic.poke()
    await poller.clock.advance(20)
    assert poller.rounds == [0, 10, 15]
    await poller.clock.advance(55)
    assert poller.rounds == [0, 10, 15, 80]
    await poller.end()


async def test_what_the_work_raises_ends_the_component() -> None:
    async def work() -> None:
        raise OSError("unreachable")

    clock = VirtualClock()
    with pytest.raises(OSError, match="unreachable"):
        await Periodic(work, clock=clock, random=random.Random(0), interval_s=1).run(Lifecycle())


@pytest.mark.parametrize(("interval_s", "jitter"), [(0, 0.1), (-1, 0.1), (1, 1.0), (1, -0.1)])
async def test_an_interval_that_makes_no_sense_is_refused(interval_s: float, jitter: float) -> None:
    async def work() -> None:
        return

    with pytest.raises(ValueError, match="positive interval"):
        Periodic(work, clock=VirtualClock(), random=random.Random(0), interval_s=interval_s, jitter=jitter)


class Store:
    """Names its keys; `arrivals` is when the queue learnt of each, in seconds from the start."""

    def __init__(self, keys: int, *, seed: int = 0) -> None:
        self.clock = VirtualClock()
        self.queue: WorkQueue[str] = WorkQueue(self.clock, random.Random(0))
        self.keys = [(f"key-{number}", Priority.RESYNC) for number in range(keys)]
        self.arrivals: list[tuple[str, float]] = []
        self.life = Lifecycle()
        self.resync = Resync(self.queue, self.list_keys, clock=self.clock, random=random.Random(seed))
        self.tasks = [asyncio.create_task(self.resync.run(self.life)), asyncio.create_task(self.work())]

    async def list_keys(self) -> Iterable[tuple[str, Priority]]:
        return list(self.keys)

    async def work(self) -> None:
        while True:
            key = await self.queue.get()
            self.arrivals.append((key, self.clock.elapsed))
            self.queue.done(key)

    async def end(self) -> None:
        self.life.stopping.set()
        await self.clock.run(self.tasks[0])
        self.tasks[1].cancel()
        await self.clock.settle()


async def test_at_the_start_every_key_comes_at_once_with_the_urgent_ones_first() -> None:
    store = Store(1_000)
    store.keys[500] = ("e-stop", Priority.URGENT)
    await store.clock.settle()
    assert store.life.is_ready.is_set()
    assert [key for key, _ in store.arrivals[:2]] == ["e-stop", "key-0"]
    assert len(store.arrivals) == 1_000
    await store.end()


@pytest.mark.parametrize("stop", [False, True])
async def test_at_the_start_what_may_come_later_waits_for_the_first_work(stop: bool) -> None:
    clock, life = VirtualClock(), Lifecycle()
    queue: WorkQueue[str] = WorkQueue(clock, random.Random(0))

    async def hold(stopping: asyncio.Event) -> None:
        await wait_for_any(clock, 5, stopping)

    async def list_keys() -> Iterable[tuple[str, Priority]]:
        return [("m-1", Priority.RESYNC), ("agent", Priority.RESYNC), ("m-stop", Priority.URGENT)]

    resync = Resync(queue, list_keys, clock=clock, random=random.Random(0), hold=hold,
                    later=lambda key: key.startswith("m-"))  # fmt: skip
    task = asyncio.create_task(resync.run(life))
    await clock.advance(4)
    assert life.is_ready.is_set()
    assert (queue.due_in("m-stop"), queue.due_in("agent"), queue.due_in("m-1")) == (0.0, 0.0, None)
    if stop:
        life.stopping.set()
        await clock.run(task)
        assert clock.elapsed == 4
    else:
        await clock.advance(2)
        assert queue.due_in("m-1") == 0.0
        await clock.advance(900)
        assert resync.rounds == 2
        life.stopping.set()
        await clock.run(task)


async def test_full_rounds_start_every_ten_minutes_and_are_spread_over_half_the_time() -> None:
    store = Store(1_000)
    await store.clock.advance(599)
    del store.arrivals[:]
    await store.clock.advance(1_201)
    for start in (600, 1_200):
        round_ = [(key, at) for key, at in store.arrivals if start <= at < start + 600]
        assert sorted(key for key, _ in round_) == sorted(key for key, _ in store.keys)
        times = [at for _, at in round_]
        assert start <= min(times) <= start + 1
        assert start + 298 <= max(times) <= start + 300
        assert max(sum(t == moment for t in times) for moment in set(times)) <= 4, "a burst"
    orders = [[key for key, at in store.arrivals if start <= at < start + 600] for start in (600, 1_200)]
    assert orders[0] != orders[1], "the same keys would always be last"
    await store.end()


@pytest.mark.parametrize("keys", [0, 1, 3])
async def test_few_keys_keep_the_rhythm_too(keys: int) -> None:
    store = Store(keys)
    await store.clock.advance(3_000)
    assert len(store.arrivals) == keys * 5
    assert store.resync.rounds == 5 + (keys == 0)
    await store.end()


async def test_a_resync_leaves_parked_and_failing_keys_alone_and_lets_changes_overtake_it() -> None:
    store = Store(3)
    await store.clock.advance(1)
    store.tasks[1].cancel()
    await store.clock.settle()
    store.queue.add("key-0")
    assert await store.queue.get() == "key-0"
    store.queue.park("key-0")
    store.queue.done("key-0")
    store.queue.add_rate_limited("key-1", after=900)
    await store.clock.advance(898)
    assert store.queue.stats().depth == 1
    store.queue.add("change", Priority.CHANGE)
    assert [await store.queue.get() for _ in range(2)] == ["change", "key-2"]
    await store.end()


async def test_a_stop_ends_a_round_in_its_middle() -> None:
    store = Store(1_000)
    await store.clock.advance(700)
    assert 1_100 < len(store.arrivals) < 1_900
    await store.end()
    assert store.clock.elapsed == 700


async def test_a_machine_that_slept_through_rounds_makes_up_for_one() -> None:
    store = Store(2)
    await store.clock.advance(1)
    store.clock.tick(5_000)  # time passes, and no task gets a turn
    await store.clock.advance(599)
    assert store.resync.rounds == 2
    await store.clock.advance(301)
    assert store.resync.rounds == 3
    await store.end()


@pytest.mark.parametrize(("interval_s", "spread"), [(0, 0.5), (600, 1.5), (600, -0.1)])
async def test_a_resync_that_makes_no_sense_is_refused(interval_s: float, spread: float) -> None:
    async def list_keys() -> Iterable[tuple[str, Priority]]:
        return []

    clock = VirtualClock()
    queue: WorkQueue[str] = WorkQueue(clock, random.Random(0))
    with pytest.raises(ValueError, match="positive interval"):
        Resync(queue, list_keys, clock=clock, random=random.Random(0), interval_s=interval_s, spread=spread)
