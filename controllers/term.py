"""What one engine of a store does at a time: it reconciles, reads the sources, and minds the timers.

All of it writes through the store that it is given. Where several engines share a store, that one is fenced, and each
term of leading gets a new object of this class: what it knows is in memory, and learnt anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

from controllers.effects import claims, homes, jobs, posts
from controllers.effects.runner import EffectRunner
from controllers.gate.tally import Tally
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.notify import retention
from controllers.notify.notices import Notices
from controllers.reconcilers import (
    agents,
    approvals,
    budgets,
    calendars,
    dispatcher,
    goals,
    holds,
    missions,
    ownership,
    policies,
    projects,
    providers,
    schedules,
    sessions,
    source_alarms,
    sub_agents,
    tenants,
    todos,
    tool_servers,
    unreconciled,
    waivers,
)
from controllers.reconcilers.channels import Channels
from controllers.reconcilers.executors import ExecutorReconciler, Prober
from controllers.reconcilers.passes import MOST, SHARED, Claim, Passes, Reconciler
from controllers.reconcilers.passes import RECALLED as RECALLED
from controllers.reconcilers.standings import Standings
from controllers.reconcilers.wakes import Wakes
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.controller import Controller
from controllers.runtime.lifecycle import Lifecycle, Run
from controllers.runtime.manager import Manager
from controllers.runtime.periodic import Periodic
from controllers.runtime.recall import Memory, Recall
from controllers.runtime.result import DONE, RequeueAfter, Result
from controllers.runtime.resync import Resync
from controllers.runtime.workqueue import Priority, WorkQueue
from controllers.sources import ownership as fields
from controllers.sources.readers import Readers, local_url
from controllers.sources.sync import SourceSync
from controllers.sources.watch import Places, directory_places, repository_places, watch
from controllers.status import commits
from schemas import registry
from schemas.base import Key
from schemas.errors import SourceUnreadable, StoreError, StoreGone, StoreUnavailable
from schemas.event import EventType
from schemas.kind import ObjectClass
from schemas.resource import SYSTEM, Declared
from schemas.source import SourceSpec, SourceType
from store.contract import Change, Store, Transaction

log = logging.getLogger(__name__)

DEFAULT_SOURCE = Key("Source", "default", "default")
POLL_S = 0.1
"""How often the store is asked whether another process (the CLI) wrote to it: a memory read in SQLite."""
TIMERS_S = 1.0
WATCH_RETRY_S = 2.0
"""How often a local repository that is not there is looked for, to be watched once it is."""
HINT_EVERY_S = 2.0
"""Hints of a forge make a source be looked at no more often than this."""
FIRST_LOOK_S = 2.0
FIRST_WORK_S = 0.5
"""At the start, every mission is looked at once the source was looked at, or after so long, and a moment more: what the
look brings goes ahead of them."""
CHANGES = 5_000
"""Changes that are read in one go."""
TALLY_S = 5.0
"""How often the calls that Policies and Waivers decided are counted."""
NOTICES_S = 0.5
"""How often it is looked whether something happened that people are told of."""
TIDY_S = 3600.0
ABANDONED_S = 60.0
KEEP_TOMBSTONES = 100_000
KEEP_EFFECTS = timedelta(days=30)
"""Nobody asks for an effect once more after so long: a run is started and canceled while it is open."""
TIDY_BATCH = 2_000
"""Rows that are deleted in one transaction: others wait for its end."""


class Term:
    """Everything of an engine that only one engine does at a time."""

    def __init__(
        self,
        store: Store,
        source: SourceSpec | None,
        project: Path,
        *,
        status: Run,
        follow: Callable[[Key], object],
        runners: Sequence[EffectRunner],
        readers: Readers,
        probe: Prober,
        stops: Stops,
        clock: Clock,
        random: Random,
        blocking: Blocking,
        woken: Callable[[frozenset[str]], None],
        gone: Callable[[StoreGone], None],
        channels: Channels | None = None,
        claim: Claim | None = None,
        beside: Sequence[tuple[str, Run]] = (),
    ) -> None:
        """``source`` is that of the configuration; ``status`` writes the status branches, ``beside`` are further
        components that only the leader has, ``follow`` looks at what was proposed to a source, ``runners`` carry out
        what only the leader may; ``woken`` is called with the types of effects that wait, ``gone`` when the store was
        removed; ``claim`` takes the effects of runs that are ordered."""
        self.store = store
        self.clock = clock
        self.random = random
        self.blocking = blocking
        self._source = source
        self._project = project
        self._woken = woken
        self._lost = gone
        self._status = status
        self._follow = follow
        self._beside = beside
        self._runners = list(runners)
        self._tally = Tally(store)
        self._notices = Notices(store)
        self._hinted: dict[Key, float] = {}
        self._changed = asyncio.Event()
        self._looked = asyncio.Event()
        """The source of the configuration was looked at."""
        ready = dispatcher.ReadyMissions()
        standings = Standings()
        self._wakes = Wakes(ready, standings)
        self._waking = threading.Lock()
        self.objects: WorkQueue[Key] = WorkQueue(clock=clock, random=random)
        self.sources: WorkQueue[Key] = WorkQueue(clock=clock, random=random)
        self._reconcilers = make_reconcilers(probe, ready, stops, standings, channels)
        self._passes = Passes(
            store, self._reconcilers, ready, stops=stops, claim=claim, later=self._again, keep=self._learnt
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._recall = Recall()
        self._known = False
        """Everything was listed once: it is known who shares what."""
        self._sync = SourceSync(
            store,
            readers,
            cache=store,
            now=clock.now,
            jitter=lambda: self.random.uniform(0.9, 1.1),
            follow=self._brought,
        )

    def begin(self, tx: Transaction) -> None:
        """Keep the Source of the configuration; before ``add_to``. Leases of workers begin anew: nobody may have been
        there to renew them with."""
        claims.forgive(tx)
        if self._source is not None:
            ensure_source(tx, self._source)

    def add_to(self, manager: Manager) -> None:
        """Add its components. In the event loop that they run in."""
        self._loop = asyncio.get_running_loop()
        objects = Controller("objects", self._reconcile, queue=self.objects, clock=self.clock, workers=4,
                             recall=self._recalled, several=self, most=MOST)  # fmt: skip
        sources = Controller("sources", self._reconcile_source, queue=self.sources, clock=self.clock, workers=2,
                             timeout_s=None)  # fmt: skip
        resync = Resync(self.objects, self._list, clock=self.clock, random=self.random, hold=self._first_work,
                        later=lambda key: key.kind == "Mission")  # fmt: skip
        timers = Periodic(self._fire_timers, clock=self.clock, random=self.random, interval_s=TIMERS_S)
        manager.add("changes", self._pump)
        manager.add("resync", resync.run)
        manager.add("timers", timers.run)
        manager.add("objects", objects.run, check=objects.problem)
        manager.add("sources", sources.run)
        for runner in self._runners:
            manager.add(runner.name, runner.run)
        manager.add("status", self._status)
        for name, run in self._beside:
            manager.add(name, run)
        manager.add("watch", self._watch)
        manager.add("tidy", self._tidy_often)
        tally = Periodic(self._count, clock=self.clock, random=self.random, interval_s=TALLY_S)
        manager.add("tally", tally.run)
        notices = Periodic(self._tell, clock=self.clock, random=self.random, interval_s=NOTICES_S)
        manager.add("notices", notices.run)
        if self.store.shared:
            abandoned = Periodic(self._lose, clock=self.clock, random=self.random, interval_s=ABANDONED_S)
            manager.add("abandoned", abandoned.run)

    def wake(self) -> None:
        """Something was committed: look now. Call from the event loop."""
        self._changed.set()

    def wake_runners(self, types: frozenset[str] | None) -> None:
        """Effects of these types are due, or may be of any for None. Call from the event loop."""
        for runner in self._runners:
            runner.wake(types)

    def look(self, key: Key) -> None:
        """Look at a source now. On the event loop."""
        self.sources.add(key, Priority.CHANGE)

    def hint(self, key: Key) -> None:
        """Look at a source soon; hints that come in a storm become one look every few seconds. On the event loop."""
        now_s = self.clock.monotonic()
        wait_s = self._hinted.get(key, -HINT_EVERY_S) + HINT_EVERY_S - now_s
        if wait_s > 0:
            self.sources.add_after(key, wait_s)
            return
        self._hinted[key] = now_s
        self.sources.add(key, Priority.CHANGE)

    # Waking.

    async def _list(self) -> Iterable[tuple[Key, Priority]]:
        no_objects = (
            dispatcher.KIND, claims.KIND, jobs.KIND, posts.KIND, sub_agents.KIND, "Confirmation", fields.KIND,
        )  # fmt: skip
        kinds = [k for k in self._reconcilers if k not in no_objects]

        def everything() -> list[tuple[Key, Priority]]:
            with self._waking, self.store.snapshot() as snapshot:
                return list(self._wakes.everything(snapshot, kinds))

        found = await self.blocking.run(everything)
        self._known = True
        for key, _ in found:
            if key.kind == "Source":
                self.sources.add(key, Priority.RESYNC, fresh=False)
        return [(key, priority) for key, priority in found if key.kind != "Source"]

    async def _first_work(self, stopping: asyncio.Event) -> None:
        """Wait until the source was looked at, and what it brought is under way. Missions that wait for an agent are
        known by now, and work on others is woken by what changes."""
        if self._source is not None:
            await wait_for_any(self.clock, FIRST_LOOK_S, self._looked, stopping)
        await wait_for_any(self.clock, FIRST_WORK_S, stopping)

    async def _pump(self, life: Lifecycle) -> None:
        """Turn what was committed, by this process or another, into keys."""
        try:
            cursor = await self.blocking.run(self.store.cursor)
        except StoreGone as error:
            await self._ends(error, life)
            return
        self._recall.begin(cursor)
        behind = False
        life.ready()
        while not life.stopping.is_set():
            await wait_for_any(self.clock, POLL_S, life.stopping, self._changed)
            self._changed.clear()
            try:
                version = await self._version()
                if version == cursor and not behind:
                    continue
                if version < cursor:  # a standby took over that lacks the last commits: numbers are given out anew
                    log.warning("the store went back from version %d to %d: everything is looked at", cursor, version)
                    cursor, behind = version, True
                    self._recall.begin(version)
                cursor, changes, wakes, waiting = await self.blocking.run(self._read_changes, cursor)
                self._recall.take_in(changes)
                if behind:  # what was learnt before the fault may have woken nobody: look at everything once
                    wakes = [*wakes, *await self._list()]
                    behind = False
            except StoreGone as error:
                await self._ends(error, life)
                return
            except StoreUnavailable as error:
                log.warning("changes cannot be read: %s", error)
                behind = True
                continue
            for key, priority in wakes:
                (self.sources if key.kind == "Source" else self.objects).add(key, priority)
            if waiting:  # whoever put them there: another process, too
                self._woken(waiting)
                self.wake_runners(waiting)
            if len(changes) == CHANGES:
                self._changed.set()

    async def _ends(self, error: StoreGone, life: Lifecycle) -> None:
        """Have the engine end, and wait for that: who returned before would be started again, for nothing."""
        self._lost(error)
        await life.stopping.wait()

    async def _version(self) -> int:
        if self.store.shared:  # a question to a server, which may take its time
            return await self.blocking.run(self.store.cursor)
        return self.store.cursor()

    def _read_changes(self, cursor: int) -> tuple[int, list[Change], list[tuple[Key, Priority]], frozenset[str]]:
        """(new cursor, what changed, whom to wake, types of effects that wait). There may be more to read after CHANGES
        of them."""
        with self._waking, self.store.snapshot() as snapshot:
            waiting = snapshot.waiting_effects(self.clock.now())
            changes = snapshot.changes_since(cursor, limit=CHANGES)
            if not changes:
                return max(cursor, snapshot.latest_version()), [], [], waiting
            wakes = [w for w in self._wakes.of(snapshot, changes) if w[0].kind in self._reconcilers]
        wakes.sort(key=lambda wake: _FIRST.get(wake[0].kind, len(_FIRST)))
        return changes[-1].resource_version, changes, wakes, waiting

    # Passes.

    def follow(self, tx: Transaction) -> Callable[[], object]:
        """Go on with what a transaction of the leader's own engine leads to: see ``Passes.follow``."""
        return self._passes.follow(tx)

    def _brought(self, tx: Transaction, keys: Sequence[Key]) -> Callable[[], object]:
        """The same for a look at a source. Places are given out in it unless others are ready to be looked at."""
        return self._passes.brought(tx, keys) if self._known and self.objects.idle else _nothing

    def takes(self, key: Key) -> bool:
        """Whether its pass may share a transaction with others."""
        return key.kind in SHARED

    async def __call__(self, keys: list[Key]) -> list[Result]:
        """Passes that share a transaction. Places are given out in it unless others are ready to be looked at, who may
        have the better claim."""
        made = await self.blocking.run(self._passes.several, keys, leads=self.objects.idle)
        for key, (_, memory) in zip(keys, made, strict=True):
            if memory is not None:
                self._recall.keep(key, memory)
        return [result for result, _ in made]

    def _again(self, key: Key, result: Result) -> None:
        """From a thread: a pass that was made along with others asks to be made again."""
        if isinstance(result, RequeueAfter) and self._loop is not None:
            self._loop.call_soon_threadsafe(self.objects.add_after, key, result.seconds)

    def _learnt(self, memories: Mapping[Key, Memory]) -> None:
        """From a thread, before the changes of the same transaction are read: passes that were made along."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._recall.keep_all, memories)

    async def _reconcile(self, key: Key) -> Result:
        if key.kind not in self._reconcilers:
            return DONE
        result, memory = await self.blocking.run(self._passes.one, key)
        if memory is not None:
            self._recall.keep(key, memory)
        return result

    def _recalled(self, key: Key) -> Result | None:
        return self._recall.answer(key, self.clock.now()) if key.kind in RECALLED else None

    async def _fire_timers(self) -> None:
        """Wake what is due by the store's timers. The queue has the same deadlines on the monotonic clock; these also
        hold when the wall clock jumps."""
        now = self.clock.now()

        def due() -> list[Key]:
            with self.store.snapshot() as snapshot:
                return [timer.key for timer in snapshot.timers(due_before=now)]

        with contextlib.suppress(StoreUnavailable):
            for key in await self.blocking.run(due):
                self._recall.forget(key)
                self.objects.add(key)

    async def _reconcile_source(self, key: Key) -> Result:
        try:
            return await self.blocking.run(self._look_at, key)
        finally:
            if key == DEFAULT_SOURCE:
                self._looked.set()

    def _look_at(self, key: Key) -> Result:
        result = self._sync(key)
        self._follow(key)
        commits.report(self.store, key)
        source_alarms.report(self.store, key)
        return result

    # Watching.

    async def _watch(self, life: Lifecycle) -> None:
        """Hints from the file system for the source of the configuration; the poll is what counts."""
        life.ready()

        def hint() -> None:
            self.sources.add(DEFAULT_SOURCE, Priority.CHANGE)

        while not life.stopping.is_set():
            try:
                places = await self.blocking.run(self._places)
            except SourceUnreadable:
                # It may be made or mounted later than the engine starts.
                await wait_for_any(self.clock, WATCH_RETRY_S, life.stopping)
                continue
            if places is None:
                await life.stopping.wait()
            else:
                await watch(places, hint, clock=self.clock, stop=life.stopping)

    def _places(self) -> Places | None:
        """What to watch; None when the source is not on this machine. Raises SourceUnreadable while it is not there."""
        spec = self._source
        if spec is None:
            return None
        if spec.type is SourceType.KUBERNETES:
            return None  # it is watched by the engine, also while another one leads
        if spec.type is SourceType.DIRECTORY:
            return directory_places(self._project / spec.url)
        url = local_url(spec.url, self._project)
        branch = spec.status_writeback.branch
        return repository_places(Path(url), ref=spec.ref, without=branch) if Path(url).is_absolute() else None

    # Tidying.

    async def _tidy_often(self, life: Lifecycle) -> None:
        life.ready()
        while not await wait_for_any(self.clock, TIDY_S, life.stopping):
            await self.blocking.run(self._tidy)

    def _tidy(self) -> None:
        with self.store.transaction(SYSTEM) as tx:
            tx.prune_tombstones(tx.latest_version() - KEEP_TOMBSTONES)
        full = True
        while full:
            with self.store.transaction(SYSTEM) as tx:
                full = tx.prune_effects(tx.now - KEEP_EFFECTS, limit=TIDY_BATCH) == TIDY_BATCH

        retention.prune(self.store, self.clock.now())

    async def _tell(self) -> None:
        """What people are to be told."""
        with contextlib.suppress(StoreError):
            await self.blocking.run(self._notices.read)

    async def _count(self) -> None:
        """What Policies and Waivers decided."""
        with contextlib.suppress(StoreError):
            await self.blocking.run(self._tally.count)

    async def _lose(self) -> None:
        """Runs whose engine is gone for good."""

        def lose() -> None:
            now = self.clock.now()
            with self.store.snapshot() as snapshot:
                found = homes.abandoned(snapshot, now)
            for run in found:
                with self.store.transaction(SYSTEM) as tx:
                    homes.lose(tx, run)

        with contextlib.suppress(StoreError):
            await self.blocking.run(lose)


def _nothing() -> None:
    """Nothing follows."""


_FIRST = {dispatcher.KIND: 0, "Mission": 1}
"""Of what one commit wakes, these go first: they stand between it and work."""


def make_reconcilers(
    probe: Prober,
    ready: dispatcher.ReadyMissions,
    stops: Stops = other.NONE,
    standings: Standings | None = None,
    channels: Channels | None = None,
) -> dict[str, Reconciler]:
    """The reconciler of each kind of key."""
    counted = standings if standings is not None else Standings()
    later = [name.kind for name in registry.NAMES if name.object_class is not ObjectClass.RECORD]
    return {
        **dict.fromkeys(later, unreconciled.reconcile),
        "Agent": agents.reconcile,
        "ApprovalDecision": approvals.reconcile_decision,
        "ApprovalRequest": approvals.reconcile_request,
        claims.KIND: claims.watch,
        "Budget": budgets.reconcile,
        "Channel": channels or Channels(),
        "Calendar": calendars.reconcile,
        "Confirmation": _rests,
        dispatcher.KIND: dispatcher.Dispatcher(ready, stops),
        "Executor": ExecutorReconciler(probe),
        "Goal": goals.Goals(counted, stops),
        "Hold": holds.reconcile,
        jobs.KIND: jobs.watch,
        "Mission": functools.partial(missions.reconcile, crowd=ready, stops=stops),
        "Policy": policies.reconcile,
        posts.KIND: posts.watch,
        "Project": projects.Projects(counted, stops),
        "Provider": providers.Providers(ready),
        fields.KIND: ownership.reconcile,
        "Schedule": schedules.Schedules(stops),
        "Session": sessions.Sessions(stops),
        "Source": _rests,
        sub_agents.KIND: sub_agents.reconcile,
        "Tenant": tenants.reconcile,
        "Todo": todos.reconcile,
        "ToolServer": tool_servers.reconcile,
        "Waiver": waivers.reconcile,
    }


def _rests(tx: Transaction, key: Key) -> Result:
    """Kinds that others read: their change wakes those, nothing else is to do."""
    return DONE


def ensure_source(tx: Transaction, spec: SourceSpec) -> None:
    """Keep the Source of the configuration: the engine owns it, ``remit sync`` and status live on it."""
    declared = Declared("Source", DEFAULT_SOURCE.namespace, DEFAULT_SOURCE.name, spec.to_wire())
    current = tx.get(DEFAULT_SOURCE)
    if current is None:
        source = tx.create(declared, manager="engine/config")
        tx.event(EventType.CREATED, source, reason="Configured", message="from remit.yaml")
    elif current.spec != declared.spec:
        changed = tx.put_spec(current, replace(declared, annotations=current.annotations), manager="engine/config")
        tx.event(EventType.UPDATED, changed, reason="Configured", message="remit.yaml changed")
