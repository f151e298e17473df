"""Crash recovery: an engine that is killed at any moment, any number of times, ends where it would have without."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable

import hypothesis.strategies as st
from hypothesis import given, settings

from controllers.runtime.controller import Controller
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.result import DONE, RequeueAfter, Result
from controllers.runtime.resync import Resync
from controllers.runtime.workqueue import Priority, WorkQueue
from schemas import errors
from tests.fakes.clock import VirtualClock


class Store:
    """What survives: per key the declared and the observed generation, and the effects by idempotency key."""

    def __init__(self, keys: int) -> None:
        self.declared = Counter({f"object-{number}": 1 for number in range(keys)})
        self.observed: Counter[str] = Counter()
        self.effects: Counter[tuple[str, int]] = Counter()
        self.faults = True  # whether passes fail at random

    @property
    def converged(self) -> bool:
        return self.observed == self.declared


class Engine:
    """What dies: queue, controller, resync."""

    def __init__(self, store: Store, clock: VirtualClock, chance: random.Random) -> None:
        self.store = store
        self.clock = clock
        self.chance = chance
        self.queue: WorkQueue[str] = WorkQueue(clock, random.Random(chance.random()))
        self.first: list[str] = []
        controller = Controller("objects", self.reconcile, queue=self.queue, clock=clock, workers=3, timeout_s=5)
        resync = Resync(self.queue, self.list_keys, clock=clock, random=random.Random(chance.random()))
        # The listing comes first, as the manager starts it: workers wait until it is in the queue.
        self.tasks = [asyncio.create_task(resync.run(Lifecycle())), asyncio.create_task(controller.run(Lifecycle()))]

    async def list_keys(self) -> Iterable[tuple[str, Priority]]:
        return [(key, Priority.URGENT if key == "object-7" else Priority.RESYNC) for key in self.store.declared]

    async def reconcile(self, key: str) -> Result:
        self.first.append(key)
        pause = self.clock.sleep
        declared = self.store.declared[key]
        slow = 60 if self.store.faults else 1  # cut by the timeout
        await pause(self.chance.choice([0, 0, 0.2, 2, slow]))
        match self.chance.randrange(6) if self.store.faults else 6:
            case 0:
                raise errors.Retry("passing fault")
            case 1:
                raise ZeroDivisionError
            case 2:
                return RequeueAfter(self.chance.uniform(0, 30))
        if self.store.observed[key] < declared:
            # One transaction: the effect under its idempotency key, and the status that says so.
            self.store.effects[(key, declared)] += 1
            self.store.observed[key] = declared
        return DONE

    async def kill(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), crashes=st.integers(0, 8), keys=st.integers(1, 30))
def test_an_engine_that_is_killed_again_and_again_converges_with_one_effect_a_generation(
    seed: int, crashes: int, keys: int
) -> None:
    async def main() -> None:
        clock, chance = VirtualClock(), random.Random(seed)
        store = Store(keys)
        engine = Engine(store, clock, chance)
        for _ in range(crashes):
            await clock.advance(chance.choice([0, 0.1, 1, 30]))
            for _ in range(chance.randrange(3)):
                key = chance.choice(list(store.declared))
                store.declared[key] += 1
                if chance.random() < 0.5:
                    engine.queue.add(key)  # else the crash is faster than the notification
            await engine.kill()
            engine = Engine(store, clock, chance)
        store.faults = False
        await clock.advance(1_000)  # the longest backoff, and the passes that still run into their timeout
        assert store.converged
        assert set(store.effects.values()) <= {1}
        await engine.kill()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_lost_notification_is_healed_by_the_next_full_resync(seed: int) -> None:
    async def main() -> None:
        clock, chance = VirtualClock(), random.Random(seed)
        store = Store(20)
        store.faults = False
        engine = Engine(store, clock, chance)
        await clock.advance(300)
        store.declared["object-3"] += 1
        await clock.advance(299)
        assert not store.converged
        await clock.advance(1 + 300 + 10)  # the round begins, its spread, the work
        assert store.converged
        await engine.kill()

    asyncio.run(main())


def test_a_cold_start_of_ten_thousand_objects_handles_the_e_stop_first() -> None:
    async def main() -> None:
        clock = VirtualClock()
        store = Store(10_000)
        engine = Engine(store, clock, random.Random(0))
        await clock.settle()
        assert engine.first[0] == "object-7"
        await engine.kill()

    asyncio.run(main())
