"""The workqueue: which key runs next. Its promises, each with a property test in tests/property/test_workqueue.py:

1.  **Deduplicated.** However often a key is added, it waits once.
2.  **One worker a key.** A key that `get` gave out is not given out again before its `done`.
3.  **Nothing is lost.** A key added while it runs runs again after `done`. A pass that starts after an `add` serves it.
4.  **Due times hold.** A delayed key is never early, and the earliest of several wishes wins. Delayed keys become
    ready in the order of their due times. A pass that starts supersedes the delays asked for before it, because it
    decides its next wake-up afresh; those asked for while it runs are kept.
5.  **Priority.** The highest lane first; first in, first out within a lane. A key moves up when it is added with a
    higher priority, and never down.
6.  **Ageing.** No key starves: see `lanes.Lanes` for the exact share. An urgent key waits for one lesser key at most.
7.  **Backoff.** Consecutive failures of a key wait longer and longer, within bounds, until `forget`. A reminder (an
    `add` with ``fresh=False``, such as the resync) does not cut such a wait short; a due time that comes earlier does.
8.  **A change supersedes.** A fresh `add` forgets the failures, cancels the delay and unparks: the key is ready now.
    If the key runs, it runs again at once, whatever the old pass answers: retry, wait or park.
9.  **Parked rests.** A parked key ignores delays and reminders; only a fresh `add` runs it.
10. **Shutdown.** After `shutdown` nothing is accepted. Draining, what was ready by then is still given out; else
    nothing is. Then `get` raises `ShutDown`, also in those who wait. Keys that run can always be finished.
11. **Cost.** `add`, `get` and `done` cost O(1), a delay O(log n); memory follows the number of keys that the queue
    holds, not the number of calls.

The queue is memory only: after a crash the keys are listed again (`resync`). It belongs to one event loop; another
thread calls ``loop.call_soon_threadsafe(queue.add, key)``.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass
from random import Random
from typing import Generic, TypeVar

from controllers.runtime.backoff import Backoff
from controllers.runtime.clock import Clock, Timer
from controllers.runtime.delays import Delays
from controllers.runtime.lanes import Lanes, Priority

__all__ = ["Priority", "QueueStats", "ShutDown", "WorkQueue"]

K = TypeVar("K", bound=Hashable)

AGEING_S = 30.0
"""A key that waited this long gets its share ahead of higher lanes."""
TURNS = 8
"""That share: one key in this many."""
_DUE_BATCH = 1_000
"""Due keys moved in one turn of the loop: a hundred thousand timers of one second do not stop the process."""


class ShutDown(Exception):
    """The queue is shut down and has nothing more to give: the worker ends."""


@dataclass(frozen=True, slots=True)
class QueueStats:
    """The queue at one moment. Counters count from the start of the process; ages are in seconds, 0 when nothing
    waits or runs. `waited_s / served` is the mean wait of a ready key."""

    depth: int
    depth_by_priority: dict[Priority, int]
    delayed: int
    parked: int
    in_flight: int
    failing: int
    adds: int
    retries: int
    superseded: int
    served: int
    waited_s: float
    oldest_s: float
    longest_running_s: float
    longest_running: object | None


class _Next:
    """What was asked of a key while it runs; decided at `done`. Class attributes hold the defaults, which makes the
    object cheap: a busy key gets one a pass."""

    again: Priority | None = None
    fresh: bool = False
    due: float = math.inf
    due_priority: Priority = Priority.RESYNC
    backoff: float = math.inf
    parked: bool = False


class WorkQueue(Generic[K]):
    """See the module for the promises. `random` only spreads the backoff."""

    def __init__(
        self,
        clock: Clock,
        random: Random,
        *,
        backoff: Backoff | None = None,
        ageing_s: float = AGEING_S,
        turns: int = TURNS,
    ) -> None:
        self._clock = clock
        self._monotonic = clock.monotonic
        self._random = random
        self._backoff = backoff or Backoff()
        # A key is in exactly one of these four, or rests and is in none.
        self._lanes: Lanes[K] = Lanes(ageing_s=ageing_s, turns=turns)
        self._delays: Delays[K] = Delays()
        self._running: dict[K, tuple[Priority, float]] = {}  # in order of starting
        self._parked: set[K] = set()
        # Beside them: wishes for keys that run, and failures in a row (never of a parked key).
        self._next: dict[K, _Next] = {}
        self._failures: dict[K, int] = {}
        self._ready = self._lanes.places
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._closing = self._draining = False
        self._adds = self._retries = self._superseded = self._served = 0
        self._waited_s = 0.0

    # Asking for a pass

    def add(self, key: K, priority: Priority = Priority.CHANGE, *, fresh: bool = True) -> bool:
        """Run `key` now, or again if it runs.

        `fresh` says that something really changed (a new generation, dependency or revision, a person's request):
        it supersedes failures, delays and parking. A reminder passes False and leaves those alone. Returns whether
        the key will run because of this call or of an earlier one; False for a reminder that a backoff or parking
        held off, and after `shutdown`. Idempotent.
        """
        if self._closing:
            return False
        self._adds += 1
        if fresh and self._failures:
            self._failures.pop(key, None)
        place = self._ready.get(key)
        if place is not None and place >= priority:
            return True
        if key in self._running:
            wish = self._wish(key)
            wish.again = priority if wish.again is None else max(wish.again, priority)
            wish.fresh = wish.fresh or fresh
            return True
        if key in self._parked:
            if not fresh:
                return False
            self._parked.remove(key)
            self._superseded += 1
        elif (delay := self._delays.get(key)) is not None:
            if delay.backoff and not fresh:
                return False
            self._delays.cancel(key)
            self._superseded += fresh
        self._make_ready(key, priority)
        return True

    def add_at(self, key: K, when: float, priority: Priority = Priority.CHANGE) -> bool:
        """Run `key` at `when` (monotonic seconds of the clock; ValueError unless finite), or earlier if it is ready
        or due earlier. A moment in the past means now. Returns False when the key is parked or the queue shut down."""
        if not math.isfinite(when):
            raise ValueError(f"a due time is a finite number of monotonic seconds, not {when}")
        if self._closing or key in self._parked:
            return False
        if key in self._running:
            wish = self._wish(key)
            wish.due = min(wish.due, when)
            wish.due_priority = max(wish.due_priority, priority)
        elif key not in self._ready:
            self._delay(key, when, priority, backoff=False)
        return True

    def add_after(self, key: K, seconds: float, priority: Priority = Priority.CHANGE) -> bool:
        """Run `key` in `seconds` from now: see `add_at`."""
        return self.add_at(key, self._monotonic() + seconds, priority)

    def add_rate_limited(self, key: K, priority: Priority | None = None, *, after: float | None = None) -> float:
        """Count a failure of `key` and run it again after its backoff. Returns that delay in seconds.

        `after` (seconds) takes the place of the backoff, cut to the backoff's maximum; a value that is not a number
        or negative is ignored. `priority` None keeps the one the key runs with: a failed e-stop stays urgent. A key
        that is ready, or due earlier, is not held back.
        Returns 0 and counts nothing when a fresh `add` came while the key ran (the failure belongs to the past), when
        the key is parked, and after `shutdown`.
        """
        wish = self._next.get(key)
        if self._closing or key in self._parked or (wish is not None and wish.fresh):
            return 0.0
        self._retries += 1
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        delay = self._backoff.delay(failures, self._random)
        if after is not None and after >= 0:
            delay = min(after, self._backoff.maximum_s)
        when = self._monotonic() + delay
        run = self._running.get(key)
        if run is not None:
            wish = self._wish(key)
            wish.backoff = min(wish.backoff, when)
            wish.due_priority = max(wish.due_priority, run[0] if priority is None else priority)
        elif key not in self._ready:
            self._delay(key, when, Priority.CHANGE if priority is None else priority, backoff=True)
        return delay

    def forget(self, key: K) -> None:
        """Its failures are history: the next one waits the shortest time again. Moves no pass."""
        self._failures.pop(key, None)

    def num_requeues(self, key: K) -> int:
        """Failures of `key` in a row."""
        return self._failures.get(key, 0)

    # Working

    async def get(self) -> K:
        """The next key to work on; waits for one. The caller owns it until it calls `done`. Raises `ShutDown`.
        Cancelling a waiting `get` loses no key."""
        while not self._ready:
            if self._closing:
                raise ShutDown
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                # Cancelled before or after its wake-up came: a wake-up that came belongs to somebody else now.
                if not waiter.cancelled():
                    self._wake_one()
                elif waiter in self._waiters:
                    self._waiters.remove(waiter)
                raise
        return self._give()

    def get_nowait(self) -> K | None:
        """The next key to work on, as ``get`` gives it; None when none is ready."""
        return self._give() if self._ready else None

    def _give(self) -> K:
        now = self._monotonic()
        key, priority, since = self._lanes.pop(now)
        self._running[key] = (priority, now)
        self._served += 1
        self._waited_s += now - since
        return key

    @property
    def idle(self) -> bool:
        """Whether no key is ready."""
        return not self._ready

    def done(self, key: K) -> None:
        """The pass of `key` has ended; what was asked meanwhile takes effect. ValueError for a key that nobody runs."""
        if self._running.pop(key, None) is None:
            raise ValueError(f"{key} does not run: done is called once after each get")
        if self._next:
            wish = self._next.pop(key, None)
            if wish is not None:
                self._follow(key, wish)

    def park(self, key: K) -> bool:
        """End the running pass of `key` (at `done`) in rest: only a fresh `add` runs it again. ValueError for a key
        that nobody runs. Returns False, and parks nothing, when such an `add` came while it ran."""
        if key not in self._running:
            raise ValueError(f"{key} does not run: only a pass parks its key")
        wish = self._wish(key)
        if wish.fresh:
            return False
        wish.parked = True
        return True

    def is_parked(self, key: K) -> bool:
        """Whether `key` rests until a real change."""
        return key in self._parked

    def due_in(self, key: K) -> float | None:
        """Seconds until `key` runs by itself: 0 when it is ready, None when it rests, is parked or runs."""
        if key in self._ready:
            return 0.0
        delay = self._delays.get(key)
        return None if delay is None else max(0.0, delay.due - self._monotonic())

    # Ending

    def shutdown(self, *, drain: bool = False) -> None:
        """Accept nothing more. With `drain`, ready keys (and running ones that were added again) are still given
        out; without, nothing is. Delays are dropped either way: the store knows them. Idempotent; a later call
        without `drain` ends a draining one."""
        self._closing = True
        self._draining = drain
        self._delays.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf
        if not drain:
            self._lanes.clear()
        while self._waiters:
            self._wake_one()

    def stats(self) -> QueueStats:
        """What the queue holds and has done; cheap."""
        now = self._monotonic()
        oldest = self._lanes.oldest()
        longest = next(iter(self._running.items()), None)
        return QueueStats(
            depth=len(self._ready),
            depth_by_priority=self._lanes.depths(),
            delayed=len(self._delays),
            parked=len(self._parked),
            in_flight=len(self._running),
            failing=len(self._failures),
            adds=self._adds,
            retries=self._retries,
            superseded=self._superseded,
            served=self._served,
            waited_s=self._waited_s,
            oldest_s=0.0 if oldest is None else now - oldest,
            longest_running_s=0.0 if longest is None else now - longest[1][1],
            longest_running=None if longest is None else longest[0],
        )

    # Inside

    def _wish(self, key: K) -> _Next:
        wish = self._next.get(key)
        if wish is None:
            wish = self._next[key] = _Next()
        return wish

    def _follow(self, key: K, wish: _Next) -> None:
        """Carry out what was asked of `key` while it ran. The order of the branches is the precedence."""
        held = wish.parked or wish.backoff < math.inf
        if wish.again is not None and (wish.fresh or not held):
            if self._draining or not self._closing:
                self._make_ready(key, wish.again)
        elif self._closing:
            return
        elif wish.parked:
            self._failures.pop(key, None)
            self._parked.add(key)
        elif held or wish.due < math.inf:
            # A mere reminder waits with the failure; a due time may come first.
            due = min(wish.due, wish.backoff)
            self._delay(key, due, wish.due_priority, backoff=wish.backoff <= wish.due)

    def _make_ready(self, key: K, priority: Priority) -> None:
        if self._lanes.push(key, priority, self._monotonic()):
            self._wake_one()

    def _delay(self, key: K, due: float, priority: Priority, *, backoff: bool) -> None:
        if due <= self._monotonic():
            self._delays.cancel(key)
            self._make_ready(key, priority)
            return
        self._delays.ask(key, due, priority, backoff=backoff)
        if due < self._timer_at:
            self._arm(due)

    def _arm(self, due: float) -> None:
        """Have `_on_due` called at `due`. A timer for a wait that is gone by then rings for nothing and sets the next:
        cheaper than moving it at every cancellation."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_at(due, self._on_due)
        self._timer_at = due

    def _on_due(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self._monotonic()
        for delay in self._delays.take_due(now, _DUE_BATCH):
            if self._lanes.push(delay.key, delay.priority, now):
                self._wake_one()
        due = self._delays.next_due()
        if due is not None:
            self._arm(due)

    def _wake_one(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
