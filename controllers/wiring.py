"""The only place that builds concrete objects: from a configuration to an engine that runs.

Readers come to see what is joined to what; everything that decides is elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random, SystemRandom

from controllers.dispatch.command import CommandExecutor
from controllers.dispatch.environment import LocalSecrets, SecretMissing
from controllers.effects.runner import EffectRunner, Handler
from controllers.effects.runs import CANCEL, START, RunContext, RunEffects, end_run
from controllers.reconcilers import (
    agents,
    approvals,
    budgets,
    dispatcher,
    holds,
    missions,
    ownership,
    policies,
    unreconciled,
    waivers,
)
from controllers.reconcilers.executors import ExecutorReconciler, Probe, Prober
from controllers.reconcilers.wakes import Wakes
from controllers.runs import records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.tokens import RunTokens, load_or_create_key
from controllers.runtime.blocking import Blocking, ThreadBlocking
from controllers.runtime.clock import Clock, SystemClock, wait_for_any
from controllers.runtime.controller import Controller
from controllers.runtime.ids import IdMint
from controllers.runtime.lifecycle import Lifecycle, Run
from controllers.runtime.manager import Manager, ShutdownReport
from controllers.runtime.periodic import Periodic
from controllers.runtime.result import DONE, Result
from controllers.runtime.resync import Resync
from controllers.runtime.workqueue import Priority, WorkQueue
from controllers.sources import ownership as fields
from controllers.sources.readers import Readers, local_url
from controllers.sources.sync import SourceSync
from controllers.sources.watch import Places, directory_places, repository_places, watch
from controllers.status import commits
from controllers.status.push import PUSH, PushEffects
from controllers.status.writer import StatusWriter
from schemas import registry
from schemas.base import Key
from schemas.config import Config
from schemas.errors import SourceUnreadable, StoreGone, StoreUnavailable
from schemas.event import EventType
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec, ExecutorType
from schemas.kind import ObjectClass
from schemas.resource import SYSTEM, Actor, ActorKind, Declared
from schemas.run import RunReason, RunState
from schemas.source import SourceSpec, SourceType
from store import open_store
from store.contract import Store, Transaction
from store.location import from_project

log = logging.getLogger(__name__)

DEFAULT_SOURCE = Key("Source", "default", "default")
ENGINE = Key("Engine", "", "engine")
POLL_S = 0.1
"""How often the store is asked whether another process (the CLI) wrote to it: a memory read."""
TIMERS_S = 1.0
WATCH_RETRY_S = 2.0
"""How often a local repository that is not there is looked for, to be watched once it is."""
HINT_EVERY_S = 2.0
"""Hints of a forge make a source be looked at no more often than this."""
LEAST_SECRET = 8
CHANGES = 5_000
"""Changes that are read in one go."""
HOUSEKEEPING_S = 3600.0
KEEP_TOMBSTONES = 100_000
KEEP_RUN_FILES = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Place:
    """Where one engine lives. ``project`` is where relative paths start; ``state`` (``.remit``) holds what the engine
    keeps: store, runs, workspaces, mirrors, keys."""

    project: Path
    state: Path


class Engine:
    """Everything that runs in one `remit run`, apart from the servers, which ``add`` brings in."""

    def __init__(
        self,
        config: Config,
        place: Place,
        *,
        clock: Clock | None = None,
        random: Random | None = None,
        agent_url: Callable[[], str],
        environment: dict[str, str],
    ) -> None:
        """Opens the store and holds it. Raises StoreLocked when another engine does, StoreUnavailable."""
        self.config = config
        self.place = place
        self.clock = clock or SystemClock()
        self.random = random or Random()  # noqa: S311  spreads load, protects nothing
        self.ids = IdMint(self.clock.now, random or SystemRandom())
        for folder in (place.state, place.state / "keys"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.store: Store = open_store(
            from_project(config.store, place.project),
            now=self.clock.now,
            new_id=self.ids.new,
            create=True,
            exclusive=True,
        )
        self.blocking: Blocking = ThreadBlocking(6)
        self.tokens = RunTokens(load_or_create_key(place.state / "keys" / "run.key"))
        self.artifacts = ArtifactFiles(place.state)
        self.manager = Manager(self.clock, self.random)
        self._readers = Readers(place.project, place.state / "mirrors")
        self._hinted: dict[Key, float] = {}
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._gone: StoreGone | None = None
        self._ready = dispatcher.ReadyMissions()
        self._wakes = Wakes(self._ready)
        self._waking = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._secrets = LocalSecrets(variables=environment)
        self._command = CommandExecutor(place.state, self.clock, self.blocking, secrets=self._secrets)
        context = RunContext(self.tokens, agent_url, place.project)
        self._effects = RunEffects(
            self.store,
            {ExecutorType.COMMAND: self._command},
            context,
            files=self.artifacts,
            blocking=self.blocking,
            clock=self.clock,
        )
        self._status = StatusWriter(
            self.store,
            project=place.project,
            cache=place.state / "status",
            clock=self.clock,
            blocking=self.blocking,
            random=self.random,
        )
        pushes = PushEffects(
            self.store,
            project=place.project,
            cache=place.state / "status",
            blocking=self.blocking,
            look_again=self._status.look_again,
        )
        statuses = commits.CommitStatusEffects(
            self.store, secrets=self._secrets, project=place.project, hosts=config.forge_hosts, blocking=self.blocking
        )
        self._runners = [self._runner("start-runs", START, self._effects.start),
                         self._runner("cancel-runs", CANCEL, self._effects.cancel),
                         self._runner("push-status", PUSH, pushes.push),
                         self._runner("commit-statuses", commits.SET_STATUS, statuses.send)]  # fmt: skip
        self.objects: WorkQueue[Key] = WorkQueue(clock=self.clock, random=self.random)
        self.sources: WorkQueue[Key] = WorkQueue(clock=self.clock, random=self.random)
        self._reconcilers = make_reconcilers(self._probe, self._ready)
        self._sync = SourceSync(
            self.store,
            self._readers,
            cache=self.store,
            now=self.clock.now,
            jitter=lambda: self.random.uniform(0.9, 1.1),
        )

    def _runner(self, name: str, type_: str, handler: Handler) -> EffectRunner:
        return EffectRunner(
            name,
            self.store,
            {type_: handler},
            holder=self.ids.new(),
            blocking=self.blocking,
            clock=self.clock,
            random=self.random,
            on_dead=self._effects.give_up,
        )

    def _probe(self, spec: ExecutorSpec) -> Probe:
        """What this engine can do with an executor."""
        if spec.type is not ExecutorType.COMMAND:
            message = f"accepted and stored; this version does not run type {spec.type} yet"
            return Probe(ExecutorReason.NOT_RECONCILED_YET, message, Capabilities())
        wire = spec.to_wire()
        problem = self._command.problem(wire, self.place.project)
        capabilities = self._command.capabilities(wire)
        if problem is None:
            return Probe(ExecutorReason.RECONCILED, "", capabilities)
        return Probe(
            _EXECUTOR_REASONS.get(problem.reason, ExecutorReason.WORKING_DIR_NOT_FOUND), str(problem), capabilities
        )

    def add(self, name: str, run: Run, *, check: Callable[[], str] | None = None) -> None:
        """Add a component that starts before the engine's own (the agent server has to be up before a run starts)."""
        self.manager.add(name, run, check=check)

    async def run(self, stop: asyncio.Event) -> ShutdownReport:
        """Work until ``stop`` is set, then drain. Runs that are open go on; the next start takes them up.

        Raises StoreGone, after the drain, when the store was removed: nothing that is done now would be remembered.
        """
        self._stop = stop
        await self.blocking.run(self._start)
        unsubscribe = self.store.subscribe(self._on_commit)
        manager = self.manager
        objects = Controller("objects", self._reconcile, queue=self.objects, clock=self.clock, workers=4)
        sources = Controller("sources", self._reconcile_source, queue=self.sources, clock=self.clock, workers=2,
                             timeout_s=None)  # fmt: skip
        resync = Resync(self.objects, self._list, clock=self.clock, random=self.random)
        manager.add("executors", self._open_executors)
        manager.add("changes", self._pump)
        manager.add("resync", resync.run)
        timers = Periodic(self._fire_timers, clock=self.clock, random=self.random, interval_s=TIMERS_S)
        manager.add("timers", timers.run)
        manager.add("objects", objects.run, check=objects.problem)
        manager.add("sources", sources.run)
        for runner in self._runners:
            manager.add(runner.name, runner.run)
        manager.add("outcomes", functools.partial(self._effects.collect, executor=self._command))
        manager.add("status", self._status.run)
        manager.add("watch", self._watch)
        manager.add("housekeeping", self._housekeeping)
        try:
            report = await manager.run(stop)
        finally:
            unsubscribe()
        with contextlib.suppress(StoreUnavailable):
            await self.blocking.run(self._stopped)
        await self._command.retire()
        await self._command.close()
        if self._gone is not None:
            raise self._gone
        return report

    def close(self) -> None:
        """Let go of the store; after ``run``."""
        self._readers.close()
        self.store.close()
        if isinstance(self.blocking, ThreadBlocking):
            self.blocking.close(wait=False)

    # Start and end.

    def _start(self) -> None:
        """Say that the engine is here, keep the Source of the configuration, give back what a dead engine claimed."""
        spec = self.config.source.to_spec(self.config.status_branch)
        with self.store.transaction(SYSTEM) as tx:
            tx.release_claims()
            if spec is not None:
                ensure_source(tx, spec)
            tx.event(
                EventType.ENGINE_STARTED, ENGINE, reason="Started", message=f"engine {os.getpid()} holds the store"
            )

    def _stopped(self) -> None:
        with self.store.transaction(SYSTEM) as tx:
            tx.event(EventType.ENGINE_STOPPED, ENGINE, reason="Drained", message=f"engine {os.getpid()} left the store")

    async def _open_executors(self, life: Lifecycle) -> None:
        await self.blocking.run(self._find_lost)
        await self._command.open()
        life.ready()
        await life.stopping.wait()

    def _find_lost(self) -> None:
        """Runs that are said to be running: of some the executor keeps nothing (its folder was deleted), others ended
        after the backup that this store was restored from, and their end is reported once more."""
        with self.store.snapshot() as snapshot:
            running = snapshot.objects("Run", states=[RunState.RUNNING.value])
        for run in running:
            if self._command.knows(run.uid):
                self._command.recall(run.uid)
                continue
            ending = records.Ending(
                state=RunState.LOST, reason=RunReason.WORKER_LOST, message="what the executor kept of it is gone"
            )
            with self.store.transaction(SYSTEM) as tx:
                end_run(tx, run.uid, ending)

    # Waking.

    def _on_commit(self, version: int) -> None:
        self._loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        self._changed.set()
        for runner in self._runners:
            runner.wake()

    async def _list(self) -> Iterable[tuple[Key, Priority]]:
        kinds = [k for k in self._reconcilers if k not in (dispatcher.KIND, "Confirmation", fields.KIND)]

        def everything() -> list[tuple[Key, Priority]]:
            with self._waking, self.store.snapshot() as snapshot:
                return list(self._wakes.everything(snapshot, kinds))

        found = await self.blocking.run(everything)
        for key, _ in found:
            if key.kind == "Source":
                self.sources.add(key, Priority.RESYNC, fresh=False)
        return [(key, priority) for key, priority in found if key.kind != "Source"]

    async def _pump(self, life: Lifecycle) -> None:
        """Turn what was committed, by this process or another, into keys."""
        cursor = await self.blocking.run(self.store.cursor)
        behind = False
        life.ready()
        while not life.stopping.is_set():
            await wait_for_any(self.clock, POLL_S, life.stopping, self._changed)
            self._changed.clear()
            try:
                if self.store.cursor() == cursor and not behind:
                    continue
                cursor, wakes, more = await self.blocking.run(self._read_changes, cursor)
                if behind:  # what was learnt before the fault may have woken nobody: look at everything once
                    wakes = [*wakes, *await self._list()]
                    behind = False
            except StoreGone as error:
                self._gone = error
                self._stop.set()
                return
            except StoreUnavailable as error:
                log.warning("changes cannot be read: %s", error)
                behind = True
                continue
            for key, priority in wakes:
                (self.sources if key.kind == "Source" else self.objects).add(key, priority)
            for runner in self._runners:
                runner.wake()
            if more:
                self._changed.set()

    def _read_changes(self, cursor: int) -> tuple[int, list[tuple[Key, Priority]], bool]:
        """(new cursor, whom to wake, whether there is more to read)."""
        with self._waking, self.store.snapshot() as snapshot:
            changes = snapshot.changes_since(cursor, limit=CHANGES)
            if not changes:
                return max(cursor, snapshot.latest_version()), [], False
            wakes = [w for w in self._wakes.of(snapshot, changes) if w[0].kind in self._reconcilers]
        return changes[-1].resource_version, wakes, len(changes) == CHANGES

    # Passes.

    async def _reconcile(self, key: Key) -> Result:
        return await self.blocking.run(self._pass, key)

    def _pass(self, key: Key) -> Result:
        reconciler = self._reconcilers.get(key.kind)
        if reconciler is None:
            return DONE
        with self.store.transaction(_actor(key.kind)) as tx:
            return reconciler(tx, key)

    async def _fire_timers(self) -> None:
        """Wake what is due by the store's timers. The queue has the same deadlines on the monotonic clock; these also
        hold when the wall clock jumps."""
        now = self.clock.now()

        def due() -> list[Key]:
            with self.store.snapshot() as snapshot:
                return [timer.key for timer in snapshot.timers(due_before=now)]

        with contextlib.suppress(StoreUnavailable):
            for key in await self.blocking.run(due):
                self.objects.add(key)

    async def _reconcile_source(self, key: Key) -> Result:
        result = await self.blocking.run(self._sync, key)
        await self.blocking.run(commits.report, self.store, key)
        return result

    # Hints from forges.

    async def hook_of(self, namespace: str, name: str) -> tuple[str, str] | None:
        """How requests for a source prove themselves, as (type, secret); None when it takes none."""
        return await self.blocking.run(self._hook_of, Key("Source", namespace, name))

    def _hook_of(self, key: Key) -> tuple[str, str] | None:
        with self.store.snapshot() as snapshot:
            source = snapshot.get(key)
        webhook = SourceSpec.model_validate(source.spec).webhook if source is not None else None
        if webhook is None:
            return None
        try:
            secret = self._secrets.resolve(webhook.secret, self.place.project)
        except SecretMissing as error:
            log.warning("%s takes no hooks: spec.webhook.secret: %s", key.short, error)
            return None
        if len(secret) < LEAST_SECRET:
            log.warning("%s takes no hooks: the secret has less than %d characters", key.short, LEAST_SECRET)
            return None
        return str(webhook.type), secret

    def hint(self, namespace: str, name: str) -> None:
        """Look at a source soon; hints that come in a storm become one look every few seconds. On the event loop."""
        key = Key("Source", namespace, name)
        now_s = self.clock.monotonic()
        wait_s = self._hinted.get(key, -HINT_EVERY_S) + HINT_EVERY_S - now_s
        if wait_s > 0:
            self.sources.add_after(key, wait_s)
            return
        self._hinted[key] = now_s
        self.sources.add(key, Priority.CHANGE)

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
        spec = self.config.source.to_spec(self.config.status_branch)
        if spec is None:
            return None
        if spec.type is SourceType.DIRECTORY:
            return directory_places(self.place.project / spec.url)
        url = local_url(spec.url, self.place.project)
        branch = spec.status_writeback.branch
        return repository_places(Path(url), without=branch) if Path(url).is_absolute() else None

    async def _housekeeping(self, life: Lifecycle) -> None:
        life.ready()
        while not await wait_for_any(self.clock, HOUSEKEEPING_S, life.stopping):
            await self._command.prune(self.clock.now() - KEEP_RUN_FILES)
            await self.blocking.run(self._tidy)

    def _tidy(self) -> None:
        with self.store.transaction(SYSTEM) as tx:
            tx.prune_tombstones(tx.latest_version() - KEEP_TOMBSTONES)


Reconciler = Callable[[Transaction, Key], Result]
_EXECUTOR_REASONS = {
    RunReason.PROGRAM_NOT_FOUND: ExecutorReason.PROGRAM_NOT_FOUND,
    RunReason.SECRET_NOT_FOUND: ExecutorReason.SECRET_NOT_FOUND,
}


@functools.cache
def _actor(kind: str) -> Actor:
    return Actor(ActorKind.SYSTEM, f"controller:{kind.lower()}", "Engine")


def make_reconcilers(probe: Prober, ready: dispatcher.ReadyMissions) -> dict[str, Reconciler]:
    """The reconciler of each kind of key."""
    later = [name.kind for name in registry.NAMES if name.object_class is not ObjectClass.RECORD]
    return {
        **dict.fromkeys(later, unreconciled.reconcile),
        "Agent": agents.reconcile,
        "ApprovalDecision": approvals.reconcile_decision,
        "ApprovalRequest": approvals.reconcile_request,
        "Budget": budgets.reconcile,
        "Confirmation": _rests,
        dispatcher.KIND: dispatcher.Dispatcher(ready),
        "Executor": ExecutorReconciler(probe),
        "Hold": holds.reconcile,
        "Mission": missions.reconcile,
        "Policy": policies.reconcile,
        fields.KIND: ownership.reconcile,
        "Source": _rests,
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
