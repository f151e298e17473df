"""The workqueue against a naive model: the same calls in any order leave both in the same state.

The model keeps plain lists and the log of what was asked of a running key, and scans them; the queue has lanes, a heap
and lazy deletion. Jitter is off here, so that every due time is exact.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from controllers.runtime.backoff import Backoff
from controllers.runtime.workqueue import Priority, WorkQueue
from tests.fakes.clock import VirtualClock

AGEING_S = 5.0
TURNS = 3
BACKOFF = Backoff(initial_s=0.75, maximum_s=10.0, jitter=0.0)

KEYS = 6
SPANS = [0.0, 0.25, 0.75, 1.0, 2.0, 5.0, 12.0]

keys = st.integers(0, KEYS - 1)
priorities = st.sampled_from(Priority)
spans = st.sampled_from(SPANS)


@dataclass
class Run:
    priority: Priority
    adds: list[tuple[Priority, bool]] = field(default_factory=list)
    dues: list[tuple[float, Priority]] = field(default_factory=list)
    failures: list[tuple[float, Priority]] = field(default_factory=list)
    parked: bool = False

    @property
    def changed(self) -> bool:
        return any(fresh for _, fresh in self.adds)


@dataclass
class Wait:
    due: float
    number: int
    priority: Priority
    backoff: bool


class Model:
    def __init__(self) -> None:
        self.ready: list[tuple[int, Priority, float]] = []  # in order of entering the lane
        self.waits: dict[int, Wait] = {}
        self.running: dict[int, Run] = {}
        self.parked: set[int] = set()
        self.failures: dict[int, int] = {}
        self.passed_over = 0
        self.asked = 0

    def place(self, key: int) -> Priority | None:
        return next((p for k, p, _ in self.ready if k == key), None)

    def make_ready(self, key: int, priority: Priority, now: float) -> None:
        place = self.place(key)
        if place is None or place < priority:
            self.ready = [entry for entry in self.ready if entry[0] != key]
            self.ready.append((key, priority, now))

    def add(self, key: int, priority: Priority, fresh: bool, now: float) -> bool:
        if fresh:
            self.failures.pop(key, None)
        if key in self.running:
            self.running[key].adds.append((priority, fresh))
            return True
        held = key in self.parked or (key in self.waits and self.waits[key].backoff)
        if held and not fresh:
            return False
        self.parked.discard(key)
        self.waits.pop(key, None)
        self.make_ready(key, priority, now)
        return True

    def wait(self, key: int, due: float, priority: Priority, backoff: bool, now: float) -> None:
        if due <= now:
            self.waits.pop(key, None)
            self.make_ready(key, priority, now)
            return
        new = Wait(due, self.asked, priority, backoff)
        old = self.waits.get(key)
        if old is not None and old.due <= due:
            if old.priority >= priority:
                return
            new = Wait(old.due, self.asked, priority, old.backoff)
        elif old is not None:
            new.priority = max(old.priority, priority)
        self.asked += 1
        self.waits[key] = new

    def add_at(self, key: int, due: float, priority: Priority, now: float) -> bool:
        if key in self.parked:
            return False
        if key in self.running:
            self.running[key].dues.append((due, priority))
        elif self.place(key) is None:
            self.wait(key, due, priority, False, now)
        return True

    def fail(self, key: int, after: float | None, now: float) -> float:
        run = self.running.get(key)
        if key in self.parked or (run is not None and run.changed):
            return 0.0
        count = self.failures[key] = self.failures.get(key, 0) + 1
        delay = min(0.75 * 2.0 ** (count - 1), 10.0) if after is None else min(after, 10.0)
        if run is not None:
            run.failures.append((now + delay, run.priority))
        elif self.place(key) is None:
            self.wait(key, now + delay, Priority.CHANGE, True, now)
        return delay

    def get(self, now: float) -> int:
        top = max(p for _, p, _ in self.ready)
        aged = [e for e in self.ready if e[1] < top and now - e[2] >= AGEING_S]
        chosen = next(e for e in self.ready if e[1] == top)
        self.passed_over = self.passed_over + 1 if aged else 0
        if self.passed_over == TURNS:
            self.passed_over = 0
            chosen = min(aged, key=lambda e: (e[2], -e[1]))
        self.ready.remove(chosen)
        self.running[chosen[0]] = Run(chosen[1])
        return chosen[0]

    def done(self, key: int, now: float) -> None:
        run = self.running.pop(key)
        if run.changed:
            self.make_ready(key, max(p for p, _ in run.adds), now)
        elif run.parked:
            self.failures.pop(key, None)
            self.parked.add(key)
        elif run.failures:
            first = min(due for due, _ in run.failures)
            earlier = [due for due, _ in run.dues if due < first]
            priority = max(p for _, p in run.failures + run.dues)
            self.wait(key, min([first, *earlier]), priority, not earlier, now)
        elif run.adds:
            self.make_ready(key, max(p for p, _ in run.adds), now)
        elif run.dues:
            self.wait(key, min(d for d, _ in run.dues), max(p for _, p in run.dues), False, now)

    def tick(self, end: float) -> None:
        due = sorted((w.due, w.number, key) for key, w in self.waits.items() if w.due <= end)
        for when, _, key in due:
            self.make_ready(key, self.waits.pop(key).priority, when)


def take(queue: WorkQueue[int]) -> int:
    """`get` on a queue that has something ready returns without waiting, so it needs no loop."""
    getting = queue.get()
    try:
        getting.send(None)
    except StopIteration as got:
        key: int = got.value
        return key
    getting.close()
    raise AssertionError("get waits although a key is ready")


class Pair:
    """The queue and the model, moved together and compared after every move."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.queue: WorkQueue[int] = WorkQueue(
            self.clock, random.Random(0), backoff=BACKOFF, ageing_s=AGEING_S, turns=TURNS
        )
        self.model = Model()

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def add(self, key: int, priority: Priority, fresh: bool) -> None:
        assert self.queue.add(key, priority, fresh=fresh) == self.model.add(key, priority, fresh, self.now)

    def add_after(self, key: int, seconds: float, priority: Priority) -> None:
        expected = self.model.add_at(key, self.now + seconds, priority, self.now)
        assert self.queue.add_after(key, seconds, priority) == expected

    def fail(self, key: int, after: float | None) -> None:
        assert self.queue.add_rate_limited(key, after=after) == self.model.fail(key, after, self.now)

    def forget(self, key: int) -> None:
        self.queue.forget(key)
        self.model.failures.pop(key, None)

    def get(self) -> None:
        assert take(self.queue) == self.model.get(self.now)

    def park(self, key: int) -> None:
        run = self.model.running[key]
        run.parked = run.parked or not run.changed
        assert self.queue.park(key) == (not run.changed)

    def done(self, key: int) -> None:
        self.queue.done(key)
        self.model.done(key, self.now)

    def tick(self, seconds: float) -> None:
        self.model.tick(self.now + seconds)
        self.clock.tick(seconds)

    def compare(self) -> None:
        model, stats = self.model, self.queue.stats()
        assert stats.depth == len(model.ready) == sum(stats.depth_by_priority.values())
        assert stats.delayed == len(model.waits)
        assert stats.in_flight == len(model.running)
        assert stats.parked == len(model.parked)
        assert stats.failing == len(model.failures)
        assert stats.oldest_s == max((self.now - since for _, _, since in model.ready), default=0.0)
        for key in range(KEYS):
            wait = model.waits.get(key)
            due_in = None if wait is None else wait.due - self.now
            assert self.queue.due_in(key) == (0.0 if model.place(key) is not None else due_in)
            assert self.queue.is_parked(key) == (key in model.parked)
            assert self.queue.num_requeues(key) == model.failures.get(key, 0)

    def end(self) -> None:
        """Whatever the state: a draining queue gives out exactly what is owed, and then ends."""
        self.queue.shutdown(drain=True)
        owed = {key for key, _, _ in self.model.ready}
        for key, run in sorted(self.model.running.items()):
            held = run.parked or run.failures
            if run.changed or (run.adds and not held):
                owed.add(key)
            self.queue.done(key)
        assert not self.queue.add(99)
        given = [take(self.queue) for _ in owed]
        assert set(given) == owed
        stats = self.queue.stats()
        assert (stats.depth, stats.delayed, self.clock.pending) == (0, 0, 0)


class QueueAgainstModel(RuleBasedStateMachine):
    """Small examples, which shrink to the shortest sequence of calls that tells the two apart."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    @rule(key=keys, priority=priorities, fresh=st.booleans())
    def add(self, key: int, priority: Priority, fresh: bool) -> None:
        self.pair.add(key, priority, fresh)

    @rule(key=keys, seconds=spans, priority=priorities)
    def add_after(self, key: int, seconds: float, priority: Priority) -> None:
        self.pair.add_after(key, seconds, priority)

    @rule(key=keys, after=st.one_of(st.none(), spans))
    def fail(self, key: int, after: float | None) -> None:
        self.pair.fail(key, after)

    @rule(key=keys)
    def forget(self, key: int) -> None:
        self.pair.forget(key)

    @precondition(lambda self: self.pair.model.ready)
    @rule()
    def get(self) -> None:
        self.pair.get()

    @precondition(lambda self: self.pair.model.running)
    @rule(data=st.data())
    def park(self, data: st.DataObject) -> None:
        self.pair.park(data.draw(st.sampled_from(sorted(self.pair.model.running))))

    @precondition(lambda self: self.pair.model.running)
    @rule(data=st.data())
    def done(self, data: st.DataObject) -> None:
        self.pair.done(data.draw(st.sampled_from(sorted(self.pair.model.running))))

    @rule(seconds=spans)
    def tick(self, seconds: float) -> None:
        self.pair.tick(seconds)

    @invariant()
    def same_state(self) -> None:
        self.pair.compare()

    def teardown(self) -> None:
        self.pair.end()


TestQueueAgainstModel = QueueAgainstModel.TestCase
TestQueueAgainstModel.settings = settings(max_examples=80, stateful_step_count=50, deadline=None)


def walk(seed: int, steps: int) -> None:
    """A long random walk, with its own mixture of moves and of priorities, so that some walks keep the queue full
    and old, some nearly empty, some failing."""
    chance = random.Random(seed)
    pair = Pair()
    names = ["add", "add_after", "fail", "forget", "get", "park", "done", "tick"]
    weights = [chance.choice([1, 4]) * weight for weight in (4, 3, 2, 1, 3, 1, 3, 3)]
    favoured = [chance.choice([1, 6]) for _ in Priority]
    for _ in range(steps):
        key = chance.randrange(KEYS)
        span = chance.choice(SPANS)
        priority = chance.choices(list(Priority), favoured)[0]
        running = sorted(pair.model.running)
        match chance.choices(names, weights)[0]:
            case "add":
                pair.add(key, priority, chance.random() < 0.4)
            case "add_after":
                pair.add_after(key, span, priority)
            case "fail":
                pair.fail(key, chance.choice([None, None, span]))
            case "forget":
                pair.forget(key)
            case "get" if pair.model.ready:
                pair.get()
            case "park" if running:
                pair.park(chance.choice(running))
            case "done" if running:
                pair.done(chance.choice(running))
            case "tick":
                pair.tick(span)
            case _:
                continue
        pair.compare()
    pair.end()


@pytest.mark.parametrize("block", range(8))
def test_long_random_walks_keep_the_queue_and_the_model_together(block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        walk(seed, 1_000)
