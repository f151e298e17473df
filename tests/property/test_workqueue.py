"""One property for each promise in the docstring of `controllers.runtime.workqueue`, by number."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from controllers.runtime.backoff import Backoff
from controllers.runtime.workqueue import Priority, ShutDown, WorkQueue
from tests.fakes.clock import VirtualClock

Key = str
keys = st.sampled_from("abcdefgh")
priorities = st.sampled_from(Priority)
seeds = st.integers(0, 2**32)
moments = st.integers(0, 64_000).map(lambda n: n / 64)  # sums of these are exact


def make(clock: VirtualClock, seed: int = 0, **settings_: float) -> WorkQueue[Key]:
    return WorkQueue(clock, random.Random(seed), **settings_)  # type: ignore[arg-type]


def simulate(main: Callable[[VirtualClock], Awaitable[None]]) -> None:
    """Run `main` in a fresh loop under a fresh virtual clock."""

    async def inside() -> None:
        clock = VirtualClock()
        await clock.run(main(clock))

    asyncio.run(inside())


async def take_all(queue: WorkQueue[Key]) -> list[Key]:
    """Every key that is ready, in the order it is given out; each is done before the next."""
    order = []
    while queue.stats().depth:
        key = await queue.get()
        queue.done(key)
        order.append(key)
    return order


# 1


@given(st.lists(st.tuples(keys, priorities, st.booleans())))
def test_1_a_key_waits_once_however_often_it_is_added(adds: list[tuple[Key, Priority, bool]]) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        for key, priority, fresh in adds:
            assert queue.add(key, priority, fresh=fresh)
        assert Counter(await take_all(queue)) == Counter({key for key, _, _ in adds})

    simulate(main)


# 2 and 3


@settings(max_examples=150, deadline=None)
@given(seed=seeds, workers=st.integers(1, 5), cancels=st.integers(0, 10))
def test_2_and_3_one_worker_a_key_and_no_add_is_lost(seed: int, workers: int, cancels: int) -> None:
    """Workers, writers and cancelled getters at random. Each write grows a key's version before its `add`; a pass
    notes the version it started with. At rest every version has been seen by a pass that started after it."""

    async def main(clock: VirtualClock) -> None:
        chance = random.Random(seed)
        queue = make(clock, seed)
        written: Counter[Key] = Counter()
        seen: Counter[Key] = Counter()
        running: set[Key] = set()
        tasks: list[asyncio.Task[None]] = []

        async def work() -> None:
            while True:
                key = await queue.get()
                assert key not in running, "two workers hold one key"
                running.add(key)
                version = written[key]
                await clock.sleep(chance.choice([0, 0, 0.1, 1.0]))
                seen[key] = version
                running.remove(key)
                queue.forget(key)
                queue.done(key)

        async def write() -> None:
            for _ in range(20):
                key = chance.choice("abcde")
                written[key] += 1
                queue.add(key, chance.choice(list(Priority)), fresh=chance.random() < 0.5)
                await clock.sleep(chance.choice([0, 0, 0.05, 0.7]))

        async def cancel_waiting_getters() -> None:
            for _ in range(cancels):
                getter = asyncio.create_task(queue.get())
                await clock.sleep(chance.choice([0, 0, 0.05]))
                getter.cancel()
                try:
                    key = await getter
                except asyncio.CancelledError:
                    continue
                queue.add(key, fresh=False)  # it was given out before the cancellation: hand it back
                queue.done(key)

        tasks += [asyncio.create_task(work()) for _ in range(workers)]
        await asyncio.gather(write(), write(), cancel_waiting_getters())
        await clock.sleep(1_000)
        assert seen == written
        assert queue.stats().in_flight == queue.stats().depth == 0
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended

    simulate(main)


@settings(deadline=None)
@given(seed=seeds, getters=st.integers(1, 6), keys_added=st.integers(0, 6))
def test_3_a_wake_up_that_reaches_a_cancelled_getter_goes_to_another(seed: int, getters: int, keys_added: int) -> None:
    """Getters wait; keys come and getters are cancelled within one turn of the loop, so that some of the cancelled
    had been woken. Nobody who is left waits while a key is ready."""

    async def main(clock: VirtualClock) -> None:
        chance = random.Random(seed)
        queue = make(clock)
        tasks = [asyncio.create_task(queue.get()) for _ in range(getters)]
        await clock.sleep(0)
        moves: list[Callable[[], object]] = []
        for number in range(keys_added):
            moves.append(lambda number=number: queue.add(f"key-{number}"))
        doomed = [task for task in tasks if chance.random() < 0.5]
        moves += [task.cancel for task in doomed]
        chance.shuffle(moves)
        for move in moves:
            move()
        await clock.sleep(1)
        got = [task.result() for task in tasks if task.done() and not task.cancelled()]
        waiting = [task for task in tasks if not task.done()]
        assert len(set(got)) == len(got)
        assert len(got) + queue.stats().depth == keys_added
        assert not (waiting and queue.stats().depth)
        for task in waiting:
            task.cancel()

    simulate(main)


# 4


@given(st.lists(st.tuples(keys, moments)))
def test_4_a_delayed_key_runs_at_the_earliest_of_its_times_and_in_their_order(wishes: list[tuple[Key, float]]) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        start = clock.monotonic()
        for key, moment in wishes:
            queue.add_at(key, start + moment)
        earliest: dict[Key, float] = {}
        for key, moment in wishes:
            earliest[key] = min(moment, earliest.get(key, moment))
        times = []
        for _ in earliest:
            key = await queue.get()
            assert clock.monotonic() == start + earliest[key]
            times.append(earliest[key])
            queue.done(key)
        assert times == sorted(times)
        await clock.sleep(2_000)
        assert queue.stats().depth == 0, "a superseded wish came back"

    simulate(main)


@given(before=moments, during=st.lists(moments, min_size=1, max_size=4))
def test_4_a_pass_supersedes_older_delays_and_keeps_those_asked_for_while_it_runs(
    before: float, during: list[float]
) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add_after("a", 1 + before)
        queue.add("a", fresh=False)
        queue.add_after("a", 1 + before)
        key = await queue.get()
        asked_at = clock.monotonic()
        for moment in during:
            queue.add_after(key, 1 + moment)
        queue.done(key)
        await queue.get()
        assert clock.monotonic() == asked_at + (1 + min(during))
        queue.done(key)
        assert queue.due_in(key) is None

    simulate(main)


# 5


@given(st.lists(st.tuples(keys, priorities), max_size=40))
def test_5_the_highest_lane_first_and_in_order_of_arrival_within_it(adds: list[tuple[Key, Priority]]) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        reached: dict[Key, tuple[Priority, int]] = {}
        for number, (key, priority) in enumerate(adds):
            queue.add(key, priority)
            if key not in reached or reached[key][0] < priority:
                reached[key] = (priority, number)
        expected = sorted(reached, key=lambda key: (-reached[key][0], reached[key][1]))
        assert await take_all(queue) == expected

    simulate(main)


# 6


@settings(deadline=None)
@given(
    ageing=st.floats(0.5, 60),
    turns=st.integers(2, 10),
    lesser=st.sampled_from([Priority.RESYNC, Priority.CHANGE, Priority.OPERATOR]),
    pass_s=st.floats(0.01, 2),
)
def test_6_no_key_starves_behind_an_endless_higher_lane(
    ageing: float, turns: int, lesser: Priority, pass_s: float
) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock, ageing_s=ageing, turns=turns)
        higher = Priority(lesser + 1)
        queue.add("low", lesser)
        start = clock.monotonic()
        for number in range(10_000):
            queue.add(f"high-{number}", higher)
            queue.add(f"more-{number}", higher)
            key = await queue.get()
            if key == "low":
                break
            await clock.sleep(pass_s)
            queue.done(key)
        waited = clock.monotonic() - start
        assert ageing <= waited <= ageing + (turns + 1) * pass_s

    simulate(main)


@settings(deadline=None)
@given(seed=seeds, backlog=st.integers(0, 200), urgent=st.integers(1, 5), age=st.floats(0, 1_000))
@example(seed=0, backlog=200, urgent=1, age=1_000)
def test_6_an_urgent_key_waits_for_one_lesser_key_at_most(seed: int, backlog: int, urgent: int, age: float) -> None:
    """Also behind a backlog that has grown old, and at any point of its being worked off."""

    async def main(clock: VirtualClock) -> None:
        chance = random.Random(seed)
        queue = make(clock)
        for number in range(backlog):
            queue.add(f"old-{number}", Priority(chance.randrange(3)))
        await clock.sleep(age)
        for _ in range(min(backlog, chance.randrange(20))):
            queue.done(await queue.get())
        for number in range(urgent):
            queue.add(f"urgent-{number}", Priority.URGENT)
        lesser = 0
        for _ in range(urgent):
            while not (key := await queue.get()).startswith("urgent"):
                queue.done(key)
                lesser += 1
            queue.done(key)
        assert lesser <= 1

    simulate(main)


def test_6_in_a_cold_start_of_ten_thousand_objects_the_e_stop_is_first() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        for number in range(10_000):
            queue.add(f"object-{number}", Priority.RESYNC)
        await clock.sleep(3_600)
        queue.add("e-stop", Priority.URGENT)
        assert await queue.get() == "e-stop"

    simulate(main)


# 7


@settings(deadline=None)
@given(seed=seeds, failures=st.integers(1, 30), forget_at=st.integers(0, 29))
def test_7_failures_wait_longer_and_longer_within_bounds_until_forgotten(
    seed: int, failures: int, forget_at: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        backoff = Backoff(jitter=0.2)
        queue = make(clock, seed)
        queue.add("a")
        count = 0
        for number in range(failures):
            await queue.get()
            if number == forget_at:
                queue.forget("a")
                count = 0
            count += 1
            failed_at = clock.monotonic()
            delay = queue.add_rate_limited("a")
            queue.done("a")
            base = min(0.75 * 2 ** (count - 1), backoff.maximum_s)
            assert 0.75 <= delay <= 900
            assert base / (1 + backoff.jitter) <= delay <= base * (1 + backoff.jitter)
            assert queue.num_requeues("a") == count
            for reminder in range(3):
                assert not queue.add("a", Priority(reminder), fresh=False), "a reminder cut the backoff short"
            await queue.get()
            assert clock.monotonic() == failed_at + delay
            queue.add("a", fresh=False)
            queue.done("a")

    simulate(main)


@given(failures=st.integers(1, 12), share=st.floats(0.01, 0.99))
def test_7_a_due_time_that_comes_before_the_backoff_ends_is_kept(failures: int, share: float) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        delay = 0.0
        for _ in range(failures):
            delay = queue.add_rate_limited("a")
            queue.add_at("a", clock.monotonic())
            queue.done(await queue.get())
        delay = queue.add_rate_limited("a")
        due = clock.monotonic() + delay * share
        assert queue.add_at("a", due)
        await queue.get()
        assert clock.monotonic() == due
        assert queue.num_requeues("a") == failures + 1, "a due time is no success"

    simulate(main)


# 8


@settings(max_examples=300, deadline=None)
@given(seed=seeds, steps=st.integers(0, 25), priority=priorities)
def test_8_a_change_runs_at_once_whatever_the_key_went_through(seed: int, steps: int, priority: Priority) -> None:
    """Any history of one key, then a fresh add: ready now, or, if it runs, at its `done`, whatever the pass answers."""

    async def main(clock: VirtualClock) -> None:
        chance = random.Random(seed)
        queue = make(clock, seed)
        runs = False

        def answer() -> None:
            chance.choice(
                [
                    lambda: queue.add_rate_limited("a"),
                    lambda: queue.add_rate_limited("a", after=chance.uniform(0, 2_000)),
                    lambda: queue.add_after("a", chance.uniform(0, 2_000)),
                    lambda: queue.park("a") if runs else None,
                    lambda: queue.forget("a"),
                ]
            )()

        for _ in range(steps):
            move = chance.randrange(4)
            if move == 0:
                queue.add("a", Priority(chance.randrange(4)), fresh=chance.random() < 0.3)
            elif move == 1:
                answer()
            elif runs:
                queue.done("a")
                runs = False
            elif queue.stats().depth:
                await queue.get()
                runs = True
            else:
                await clock.sleep(chance.uniform(0, 500))
        assert queue.add("a", priority)
        assert queue.num_requeues("a") == 0
        if runs:
            for _ in range(chance.randrange(4)):
                answer()
            assert queue.num_requeues("a") == 0, "the failure of the old revision counts against the new one"
            queue.done("a")
        assert queue.due_in("a") == 0.0
        before = clock.monotonic()
        assert await queue.get() == "a"
        assert clock.monotonic() == before

    simulate(main)


# 9


@settings(deadline=None)
@given(moves=st.lists(st.sampled_from(["remind", "delay", "fail", "forget"])), priority=priorities)
def test_9_a_parked_key_rests_until_a_real_change(moves: list[str], priority: Priority) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add("a")
        await queue.get()
        queue.add_after("a", 5)
        queue.add_rate_limited("a")
        queue.add("a", fresh=False)
        assert queue.park("a")
        queue.done("a")
        for move in moves:
            match move:
                case "remind":
                    assert not queue.add("a", priority, fresh=False)
                case "delay":
                    assert not queue.add_after("a", 1, priority)
                case "fail":
                    assert queue.add_rate_limited("a") == 0
                case _:
                    queue.forget("a")
        await clock.sleep(100_000)
        assert queue.is_parked("a")
        assert queue.stats().depth == queue.stats().delayed == 0
        assert queue.add("a")
        assert not queue.is_parked("a")
        assert await queue.get() == "a"

    simulate(main)


# 10


@settings(deadline=None)
@given(
    drain=st.booleans(),
    ready=st.sets(keys),
    delayed=st.sets(keys),
    taken=st.integers(0, 8),
    readd=st.booleans(),
    waiters=st.integers(0, 4),
)
def test_10_shutdown_gives_out_what_it_owes_and_then_ends_everybody(
    drain: bool, ready: set[Key], delayed: set[Key], taken: int, readd: bool, waiters: int
) -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        for key in sorted(ready):
            queue.add(key)
        for key in sorted(delayed):
            queue.add_after(key, 10)
        running = [await queue.get() for _ in range(min(taken, len(ready)))]
        if readd:
            for key in running:
                queue.add(key)
        waiting = []
        if not queue.stats().depth:
            waiting = [asyncio.create_task(queue.get()) for _ in range(waiters)]
            await clock.sleep(0)
        queue.shutdown(drain=drain)
        for ended in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(ended, ShutDown)
        assert not queue.add("new")
        assert not queue.add_after("new", 1)
        assert queue.add_rate_limited("new") == 0
        for key in running:
            queue.done(key)  # what runs can always be finished
        owed = (ready - set(running)) | (set(running) if readd else set()) if drain else set()
        assert set(await take_all(queue)) == owed
        with pytest.raises(ShutDown):
            await queue.get()
        assert clock.pending == 0

    simulate(main)


def test_10_a_hard_shutdown_ends_a_draining_one() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add("a")
        queue.shutdown(drain=True)
        queue.shutdown()
        with pytest.raises(ShutDown):
            await queue.get()

    simulate(main)


# 11


class CountingKey:
    """Counts how often any key was hashed or compared: the cost of a queue in its own currency."""

    touched = 0

    def __init__(self, number: int) -> None:
        self.number = number

    def __hash__(self) -> int:
        CountingKey.touched += 1
        return hash(self.number)

    def __eq__(self, other: object) -> bool:
        CountingKey.touched += 1
        return isinstance(other, CountingKey) and self.number == other.number


@pytest.mark.parametrize("waiting", [10, 20_000])
def test_11_the_cost_of_a_key_does_not_depend_on_how_many_wait(waiting: int) -> None:
    async def main(clock: VirtualClock) -> None:
        queue: WorkQueue[CountingKey] = WorkQueue(clock, random.Random(0))
        for number in range(waiting):
            queue.add(CountingKey(number), Priority(number % 3))
        await clock.sleep(3_600)  # all of them have aged
        CountingKey.touched = 0
        for number in range(100):
            key = CountingKey(-1 - number)
            queue.add_after(key, 900)
            queue.add(key, Priority.CHANGE)
            queue.add(key, Priority.URGENT)
            taken = await queue.get()
            queue.add(taken)
            queue.add_rate_limited(taken)
            queue.done(taken)
        assert CountingKey.touched / 100 < 60

    simulate(main)


@settings(deadline=None, max_examples=20)
@given(rounds=st.integers(1_000, 3_000), live=st.integers(1, 20))
def test_11_memory_follows_the_keys_and_not_the_calls(rounds: int, live: int) -> None:
    """One hot key, delayed for long and woken again and again, leaves no trail of dead entries."""

    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        for number in range(rounds):
            key = f"hot-{number % live}"
            queue.add_after(key, 900 + number % 7)
            queue.add(key)
            queue.forget(await queue.get())
            queue.add_rate_limited(key, after=600)
            queue.done(key)
        assert queue.stats().delayed == live
        # The heap is where dead entries could pile up; nothing public shows its size.
        assert len(queue._delays._heap) <= 2 * live + 64
        assert clock.pending <= 1

    simulate(main)


# What callers may not do


def test_done_and_park_refuse_a_key_that_nobody_runs() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add("a")
        with pytest.raises(ValueError, match="a does not run"):
            queue.done("a")
        with pytest.raises(ValueError, match="a does not run"):
            queue.park("a")
        queue.done(await queue.get())
        with pytest.raises(ValueError, match="done is called once"):
            queue.done("a")

    simulate(main)


@pytest.mark.parametrize("when", [float("nan"), float("inf"), float("-inf")])
def test_a_due_time_that_is_no_number_is_refused(when: float) -> None:
    queue = make(VirtualClock())
    with pytest.raises(ValueError, match="finite"):
        queue.add_at("a", when)
    with pytest.raises(ValueError, match="finite"):
        queue.add_after("a", when)


@pytest.mark.parametrize(("after", "delay"), [(5.0, 5.0), (1e12, 900.0), (float("inf"), 900.0), (0.0, 0.0)])
def test_a_wanted_delay_replaces_the_backoff_but_not_its_maximum(after: float, delay: float) -> None:
    queue = make(VirtualClock())
    assert queue.add_rate_limited("a", after=after) == delay
    assert queue.num_requeues("a") == 1


@pytest.mark.parametrize("after", [-1.0, float("nan"), float("-inf")])
def test_a_wanted_delay_that_makes_no_sense_falls_back_to_the_backoff(after: float) -> None:
    queue = make(VirtualClock())
    assert 0.75 <= queue.add_rate_limited("a", after=after) <= 0.9


def test_a_failed_urgent_key_stays_urgent_and_a_reminder_at_its_time_is_a_change() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        queue.add("e-stop", Priority.URGENT)
        await queue.get()
        queue.add_rate_limited("e-stop")
        queue.done("e-stop")
        await clock.sleep(1)
        assert queue.stats().depth_by_priority[Priority.URGENT] == 1
        await queue.get()
        queue.add_after("e-stop", 1)
        queue.done("e-stop")
        await clock.sleep(1)
        assert queue.stats().depth_by_priority[Priority.CHANGE] == 1

    simulate(main)


def test_a_hundred_thousand_keys_due_at_once_do_not_stop_the_loop() -> None:
    """They become ready in slices: between two slices every other task gets a turn."""

    async def main(clock: VirtualClock) -> None:
        queue: WorkQueue[int] = WorkQueue(clock, random.Random(0))
        for number in range(100_000):
            queue.add_after(number, 1)
        clock.tick(1)
        turns = 1
        while queue.stats().delayed:
            before = queue.stats().depth
            await clock.sleep(0)
            assert queue.stats().depth - before <= 1_000
            turns += 1
        assert queue.stats().depth == 100_000
        assert turns == 100

    simulate(main)


def test_the_stats_name_what_waits_and_what_runs_longest() -> None:
    async def main(clock: VirtualClock) -> None:
        queue = make(clock)
        for key in "abc":
            queue.add(key)
        await clock.sleep(2)
        await queue.get()
        await clock.sleep(3)
        await queue.get()
        await clock.sleep(4)
        queue.add_after("d", 60)
        stats = queue.stats()
        assert (stats.depth, stats.delayed, stats.in_flight, stats.served, stats.adds) == (1, 1, 2, 2, 3)
        assert (stats.longest_running, stats.longest_running_s, stats.oldest_s) == ("a", 7, 9)
        assert stats.waited_s == 2 + 5
        queue.done("a")
        assert (queue.stats().longest_running, queue.stats().longest_running_s) == ("b", 4)
        queue.add("d")
        assert queue.stats().superseded == 1

    simulate(main)
