"""One engine in virtual time, one thing after another: passes while anything is pending, then effects, then the next
moment at which anything happens. The same seed over the same specs gives the same history."""

from __future__ import annotations

import heapq
import itertools
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from controllers.effects.runs import CANCEL, START
from controllers.notify import notices
from controllers.notify.notices import Notices
from controllers.reconcilers.dispatcher import ReadyMissions
from controllers.reconcilers.executors import Probe
from controllers.reconcilers.standings import Standings
from controllers.reconcilers.wakes import Wakes
from controllers.runtime.recall import Recall, Watched
from controllers.runtime.result import RequeueAfter, RequeueAt, Result
from controllers.runtime.workqueue import Priority
from controllers.simulation.assumptions import Assumptions
from controllers.simulation.faults import Faults, Weather
from controllers.simulation.people import answer
from controllers.simulation.work import Work
from controllers.sources.readers import Readers
from controllers.sources.sync import SourceSync
from controllers.term import DEFAULT_SOURCE, RECALLED, ensure_source, make_reconcilers
from schemas.base import Key
from schemas.errors import Conflict, Refused
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec
from schemas.resource import SYSTEM, Resource
from schemas.source import SourceSpec, SourceType
from store import open_store
from store.contract import Change, EffectState, Store

MOST_PASSES = 200_000
"""Passes at one moment: more is a defect, or specs that wake one another for ever."""
_NO_OBJECTS = ("Dispatch", "Claim", "Post", "Confirmation", "Ownership", "SubAgent")


class _Killed(Exception):
    """The engine was killed."""


@dataclass
class VirtualClock:
    """Time that somebody moves."""

    at: datetime

    def __call__(self) -> datetime:
        """The moment it is."""
        return self.at


@contextmanager
def scratch_store(folder: Path, clock: Callable[[], datetime]) -> Iterator[Store]:
    """An empty store in ``folder``, with ids that count."""
    numbers = itertools.count(1)
    store = open_store(
        f"sqlite:///{folder / 'simulation.db'}",
        now=clock,
        new_id=lambda: str(uuid.UUID(int=(7 << 76) | (2 << 62) | next(numbers))),
        create=True,
        exclusive=True,
    )
    try:
        yield store
    finally:
        store.close()


@dataclass(order=True)
class _Due:
    """Something that happens by itself at its time."""

    at: datetime
    number: int
    act: Callable[[], None] = field(compare=False)


class VirtualEngine:
    """An engine over ``store``. ``watch`` is told of every change, in its order, with the objects as they are then."""

    def __init__(
        self,
        store: Store,
        clock: VirtualClock,
        *,
        seed: int,
        assumed: Assumptions,
        faults: Faults = Faults(),
        watch: Callable[[datetime, list[Change], dict[Key, Resource]], None] = lambda *_: None,
    ) -> None:
        self.store = store
        self.clock = clock
        self._assumed = assumed
        self._watch = watch
        self._committed = True
        store.subscribe(self._note)
        self.weather = Weather(faults, Random(f"{seed}/faults"))  # noqa: S311  a forecast, no secret
        self._work = Work(store, self.at, seed=seed, assumed=assumed, weather=self.weather)
        self._steps: int | None = None
        self._life = 0
        self._numbers = itertools.count()
        self._due: list[_Due] = []
        self._asked: set[str] = set()
        self._heard: set[tuple[Key, datetime]] = set()
        self.unanswered: list[str] = []
        self.start()

    def start(self) -> None:
        """Begin a life: what an earlier one kept in memory is gone, what work is under way goes on."""
        self._life += 1
        self._steps = None
        self._notices = Notices(self.store)
        ready, standings = ReadyMissions(), Standings()
        self._wakes = Wakes(ready, standings)
        self._reconcilers = make_reconcilers(_probe, ready, standings=standings)
        self._recall = Recall()
        self._pending: dict[Key, Priority] = {}
        self._queue: list[tuple[int, int, Key]] = []
        with self.store.transaction(SYSTEM) as tx:
            tx.release_claims()
        with self.store.snapshot() as snapshot:
            self._cursor = snapshot.latest_version()
            self._recall.begin(self._cursor)
            kinds = [kind for kind in self._reconcilers if kind not in _NO_OBJECTS]
            found = list(self._wakes.everything(snapshot, kinds))
        for key, priority in found:
            self._wake(key, priority)

    def load(self, folder: Path, cache: Path) -> None:
        """Apply the specs of a folder as a sync would. Sources that they declare are not followed. Raises Refused when
        they do not apply."""
        spec = SourceSpec(type=SourceType.DIRECTORY, url=str(folder.resolve()))
        with self.store.transaction(SYSTEM) as tx:
            ensure_source(tx, spec)
            notices.begin(tx)
        readers = Readers(folder, cache)
        try:
            SourceSync(self.store, readers, cache=self.store, now=self.clock, jitter=lambda: 1.0)(DEFAULT_SOURCE)
        finally:
            readers.close()
        with self.store.snapshot() as snapshot:
            source = snapshot.get(DEFAULT_SOURCE)
        assert source is not None
        wrong = [c for c in source.status.get("conditions", ()) if c["type"] == "Ready" and c["status"] == "False"]
        if wrong:
            raise Refused(f"the specs do not apply: {wrong[0].get('message') or wrong[0]['reason']}", reason="Invalid")

    def run_until(self, end: datetime) -> None:
        """Let everything happen that happens until then."""
        self.weather.plan(self.at, self.clock, {"storms": self._storm, "jumps": self._jump, "kills": self._kill})
        while True:
            self._live()
            following = self._next(end)
            if following is None:
                self.clock.at = max(self.clock.at, end)
                self._live()
                return
            self.clock.at = max(self.clock.at, following)
            self._heard.clear()
            while self._due and self._due[0].at <= self.clock.at:
                heapq.heappop(self._due).act()

    def at(self, when: datetime, act: Callable[[], None]) -> None:
        """Have something happen at a time."""
        heapq.heappush(self._due, _Due(when, next(self._numbers), act))

    def _live(self) -> None:
        """As ``settle``, through as many lives as it takes."""
        while True:
            try:
                self.settle()
            except _Killed:
                self._revive()
            else:
                return

    def settle(self) -> None:
        """Passes and effects until nothing is left to do at this moment."""
        for _ in range(MOST_PASSES):
            self._step()
            self._take_changes()
            if self._queue:
                _, _, key = heapq.heappop(self._queue)
                if self._pending.pop(key, None) is not None:
                    self._pass(key)
            elif not self._deliver() and not self._ring() and not self._notices.read():
                return
        text = f"{MOST_PASSES} passes at {self.clock.at:%Y-%m-%d %H:%M} and no rest: the specs wake one another"
        raise Refused(text, reason="NoRest")

    # Waking.

    def _next(self, end: datetime) -> datetime | None:
        """When something happens next, up to ``end``."""
        now = self.clock.at
        with self.store.snapshot() as snapshot:
            due = [timer.due_at for timer in snapshot.timers(due_before=end) if timer.due_at > now]
            due += [
                effect.due_at
                for type_ in (START, CANCEL)
                for effect in snapshot.effects(states=[EffectState.PENDING], type=type_)
                if effect.due_at > now
            ]
        due += [self._due[0].at] if self._due else []
        following = min(due, default=None)
        return following if following is not None and following <= end else None

    def _note(self, version: int) -> None:
        self._committed = True

    def _wake(self, key: Key, priority: Priority) -> None:
        known = self._pending.get(key)
        if known is None or priority > known:
            self._pending[key] = priority
            heapq.heappush(self._queue, (-int(priority), next(self._numbers), key))

    def _take_changes(self) -> None:
        if not self._committed:
            return
        self._committed = False
        with self.store.snapshot() as snapshot:
            changes = snapshot.changes_since(self._cursor, limit=100_000)
            if not changes:
                return
            self._cursor = changes[-1].resource_version
            wakes = self._wakes.of(snapshot, changes)
            kept = {c.key for c in changes if c.key.kind in ("Mission", "ApprovalRequest", "Run", "Budget")}
            found = snapshot.get_many(sorted(kept))
        self._recall.take_in(changes)
        for key, priority in wakes:
            if key.kind in self._reconcilers and key.kind != "Source":
                self._wake(key, priority)
        self._ask_people(found)
        self._watch(self.clock.at, changes, found)

    def _ring(self) -> bool:
        """Wake what is due by the store's timers; whether there was anything new. One that its reconciler leaves
        standing rings once a moment."""
        with self.store.snapshot() as snapshot:
            due = snapshot.timers(due_before=self.clock.at)
        fresh = [timer for timer in due if (timer.key, timer.due_at) not in self._heard]
        for timer in fresh:
            self._heard.add((timer.key, timer.due_at))
            self._recall.forget(timer.key)
            self._wake(timer.key, Priority.CHANGE)
        return bool(fresh)

    def _pass(self, key: Key) -> None:
        try:
            result = self._reconcile(key)
        except Conflict:
            self._wake(key, Priority.CHANGE)
            return
        if isinstance(result, RequeueAfter):
            if result.seconds == 0:
                self._wake(key, Priority.CHANGE)
            else:
                self._later(key, timedelta(seconds=result.seconds))
        if isinstance(result, RequeueAt) and result.when <= self.clock.at:
            self._wake(key, Priority.CHANGE)

    def _later(self, key: Key, wait: timedelta) -> None:
        life = self._life

        def wake() -> None:
            if self._life == life:  # else it was kept in the memory of an engine that is gone
                self._wake(key, Priority.RESYNC)

        self.at(self.clock.at + wait, wake)

    def _reconcile(self, key: Key) -> Result:
        known = self._recall.answer(key, self.clock.at) if key.kind in RECALLED else None
        if known is not None:
            return known
        with self.store.transaction(SYSTEM) as tx:
            if key.kind not in RECALLED:
                return self._reconcilers[key.kind](tx, key)
            watched = Watched(tx)
            result = self._reconcilers[key.kind](watched.as_transaction(), key)
            memory = watched.memory(result)
        if memory is not None:
            self._recall.keep(key, memory)
        return result

    # Work.

    def _deliver(self) -> bool:
        with self.store.snapshot() as snapshot:
            waiting = [
                e
                for type_ in (CANCEL, START)
                for e in snapshot.effects(states=[EffectState.PENDING], type=type_, limit=200)
                if e.due_at <= self.clock.at
            ]
        if not waiting:
            return False
        with self.store.transaction(SYSTEM) as tx:
            claimed = tx.claim_effects("simulation", types=[START, CANCEL], limit=200, lease_s=60)
        self._step()
        with self.store.transaction(SYSTEM) as tx:
            for effect in claimed:
                tx.finish_effect(effect)
                self._work.carry_out(tx, effect)
        return bool(claimed)

    # What goes wrong.

    def _storm(self) -> None:
        with self.store.snapshot() as snapshot:
            self.weather.break_out((provider.key for provider in snapshot.objects("Provider")), self.clock.at)

    def _jump(self) -> None:
        self.clock.at += self.weather.jump()

    def _kill(self) -> None:
        self._steps = self.weather.steps()

    def _step(self) -> None:
        """Die here, if this is where the engine is killed: what was committed is all that is left."""
        if self._steps is None:
            return
        self._steps -= 1
        if self._steps < 0:
            raise _Killed

    def _revive(self) -> None:
        self.clock.at += self.weather.down()
        self._heard.clear()
        self.start()

    # People.

    def _ask_people(self, found: dict[Key, Resource]) -> None:
        wait = self._assumed.answer_after
        if wait is None:
            return
        for request in found.values():
            if request.kind == "ApprovalRequest" and request.state == "Pending" and request.uid not in self._asked:
                self._asked.add(request.uid)
                self.at(self.clock.at + wait, lambda uid=request.uid: self._answer(uid))  # type: ignore[misc]

    def _answer(self, uid: str) -> None:
        with self.store.transaction(SYSTEM) as tx:
            request = tx.get_by_uid(uid)
            if request is not None and request.state == "Pending" and not answer(tx, request):
                self.unanswered.append(request.name)


def _probe(spec: ExecutorSpec, namespace: str) -> Probe:
    """Every executor works: what would run it may not be on this machine."""
    return Probe(ExecutorReason.RECONCILED, "", Capabilities(cancel=True))
