"""One life of an engine, without threads: the real reconcilers, sync, planner, outbox and run effects, each moved one
piece at a time, so that everything may happen between any two of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, ParamSpec, TypeVar, cast

from controllers.dispatch.executor import Executor
from controllers.effects.runner import Commit, EffectRunner
from controllers.effects.runs import CANCEL, START, RunContext, RunEffects, end_run
from controllers.reconcilers.dispatcher import ReadyMissions
from controllers.reconcilers.executors import Probe
from controllers.reconcilers.passes import SHARED, Passes
from controllers.reconcilers.standings import Standings
from controllers.reconcilers.wakes import Wakes
from controllers.runs import records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.tokens import RunTokens
from controllers.runtime.result import RequeueAfter, Result
from controllers.runtime.workqueue import Priority
from controllers.sources.sync import SourceSync
from controllers.wiring import DEFAULT_SOURCE, ENGINE, ensure_source, make_reconcilers
from schemas.base import Key
from schemas.errors import Fenced, StoreUnavailable
from schemas.event import EventType
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec
from schemas.resource import SYSTEM
from schemas.run import RunReason, RunState
from schemas.source import SourceSpec
from store.contract import Effect, Store, Transaction
from tests.fakes.clock import VirtualClock
from tests.fakes.faulty_store import FaultyStore
from tests.fakes.memory_source import MemorySource
from tests.fakes.scripted_executor import ScriptedExecutor, Worker

P = ParamSpec("P")
T = TypeVar("T")


class InPlace:
    """`controllers.runtime.blocking.Blocking` that runs the work where it is asked for."""

    async def run(self, work: Any, /, *args: Any, **kwargs: Any) -> Any:
        return work(*args, **kwargs)


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(T, end.value)
    coroutine.close()
    raise AssertionError("it waits for something")


@dataclass
class Out:
    """An effect that was claimed; ``handled`` once its handler has run, with what it wants written or why it failed."""

    runner: EffectRunner
    effect: Effect
    handled: bool = False
    commit: Commit | None = None
    error: Exception | None = None


class SimulatedEngine:
    """Everything that one process keeps in memory. The store, the executor and the source outlive it."""

    def __init__(
        self, store: FaultyStore, executor: ScriptedExecutor, sources: Mapping[Key, MemorySource], clock: VirtualClock,
        folder: Path, life: int, spec: SourceSpec,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._spec = spec
        self._executor = executor
        self.faulty = store
        self.store = cast(Store, store)
        blocking = InPlace()
        self.effects = RunEffects(
            self.store,
            {"Command": cast(Executor, executor)},
            RunContext(RunTokens(b"k" * 32), lambda: "http://127.0.0.1:1", folder),
            files=ArtifactFiles(folder),
            blocking=blocking,
            clock=clock,
        )
        self.runners = [
            EffectRunner(
                type_, self.store, {type_: handler}, holder=f"life-{life}", blocking=blocking, clock=clock,
                random=Random(life), on_dead=self.effects.give_up,
            )
            for type_, handler in ((START, self.effects.start), (CANCEL, self.effects.cancel))
        ]  # fmt: skip
        ready = ReadyMissions()
        standings = Standings()
        self._wakes = Wakes(ready, standings)
        self._reconcilers = make_reconcilers(_probe, ready, standings=standings)
        self._passes = Passes(self.store, self._reconcilers, ready, later=self._again)
        self._looks = 0
        self._sync = SourceSync(
            self.store, lambda source, _spec: sources[source.key], cache=self.store, now=clock.now, jitter=lambda: 1.0,
            follow=self._brought,
        )  # fmt: skip
        self.pending: dict[Key, Priority] = {}
        self.later: dict[Key, float] = {}
        self.out: list[Out] = []
        self._start()

    def _start(self) -> None:
        """As ``Engine._start``, ``_find_lost`` and the first listing."""
        with self.store.transaction(SYSTEM) as tx:
            tx.release_claims()
            ensure_source(tx, self._spec)
            tx.event(EventType.ENGINE_STARTED, ENGINE, reason="Started", message="a life begins")
        with self.store.snapshot() as snapshot:
            running = snapshot.objects("Run", states=[RunState.RUNNING.value])
        for run in running:
            if not self._executor.knows(run.uid):
                ending = records.Ending(state=RunState.LOST, reason=RunReason.WORKER_LOST, message="nothing is kept")
                with self.store.transaction(SYSTEM) as tx:
                    end_run(tx, run.uid, ending)
        self._cursor = self.store.cursor()
        self.relist()

    def relist(self) -> None:
        """As the resync: every object once."""
        kinds = [k for k in self._reconcilers if k not in ("Dispatch", "Confirmation", "Ownership")]
        with self.store.snapshot() as snapshot:
            found = list(self._wakes.everything(snapshot, kinds))
        self.pending.update(found)

    def take_changes(self) -> bool:
        """As the pump: turn what was committed into keys; whether there was anything. Timers that are due, too."""
        with self.store.snapshot() as snapshot:
            changes = snapshot.changes_since(self._cursor, limit=100_000)
            wakes = self._wakes.of(snapshot, changes) if changes else []
            due = snapshot.timers(due_before=self._clock.now())
        if changes:
            self._cursor = changes[-1].resource_version
        before = len(self.pending)
        for key, priority in wakes:
            if key.kind in self._reconcilers:
                self.pending[key] = max(priority, self.pending.get(key, priority))
        for timer in due:
            self.pending.setdefault(timer.key, Priority.CHANGE)
        for key in [k for k, at in self.later.items() if at <= self._clock.monotonic()]:
            del self.later[key]
            self.pending.setdefault(key, Priority.RESYNC)
        return len(self.pending) > before

    def look(self, key: Key) -> None:
        """One pass. What it raises is the caller's; the key is due again then."""
        del self.pending[key]
        try:
            result = self._pass(key)
        except Exception:
            self.pending.setdefault(key, Priority.CHANGE)
            raise
        if isinstance(result, RequeueAfter):
            if result.seconds == 0:
                self.pending.setdefault(key, Priority.CHANGE)
            else:
                self.later[key] = self._clock.monotonic() + result.seconds

    def _pass(self, key: Key) -> Result:
        if key.kind == "Source":
            return self._sync(key)
        self._looks += 1
        if key.kind not in SHARED or self._looks % 3 == 0:
            return self._passes.one(key)[0]
        others = [other for other in self.pending if other.kind in SHARED][: self._looks % 4]
        found = self._passes.several([key, *others], leads=len(others) == len(self.pending))
        for other, (result, _) in zip(others, found[1:], strict=True):
            del self.pending[other]
            self._again(other, result)
        return found[0][0]

    def _brought(self, tx: Transaction, keys: Sequence[Key]) -> Callable[[], object]:
        """As the engine while nobody else is ready, and as one that has others to look at, by turns."""
        return self._passes.brought(tx, keys) if self._looks % 2 else (lambda: None)

    def _again(self, key: Key, result: Result) -> None:
        """A pass that was made along with others wants to be made again by itself."""
        if isinstance(result, RequeueAfter):
            if result.seconds == 0:
                self.pending.setdefault(key, Priority.CHANGE)
            else:
                self.later[key] = self._clock.monotonic() + result.seconds

    def hint(self, source: Key = DEFAULT_SOURCE) -> None:
        """The source is looked at soon."""
        self.pending.setdefault(source, Priority.CHANGE)

    # The outbox, in its three pieces.

    def claim(self, limit: int) -> bool:
        """Take due effects; whether there were any."""
        found = False
        for runner in self.runners:
            for effect in runner._claim_now(limit):
                self.out.append(Out(runner, effect))
                found = True
        return found

    def deliver(self, out: Out) -> None:
        """Run the handler of a claimed effect."""
        try:
            out.commit = at_once(out.runner._handlers[out.effect.type](out.effect))
        except Exception as error:  # what the runner does with any fault of a handler
            out.error = error
        out.handled = True

    def book(self, out: Out) -> None:
        """Write how it went."""
        self.out.remove(out)
        if isinstance(out.error, StoreUnavailable):
            return  # as the runner: the claim runs out
        try:
            if out.error is not None:
                out.runner._fail(out.effect, out.error)
            else:
                out.runner._finish(out.effect, out.commit)
        except (Fenced, StoreUnavailable):
            pass  # as the runner: the claim runs out
        except Exception as error:  # as the runner
            out.runner._fail(out.effect, error)
            raise

    def report(self, what: Callable[[Transaction], Any]) -> None:
        """As the agent port: what a program says, in one transaction."""
        with self.store.transaction(SYSTEM) as tx:
            what(tx)

    def take_outcome(self, worker: Worker) -> None:
        """Record how a run ended, then acknowledge it."""
        assert worker.ended is not None
        ended, ending = worker.ended, self.effects._concluded(worker.ended)
        self._looks += 1
        if ending is not None and self._looks % 2:
            with self.store.transaction(SYSTEM) as tx:
                end_run(tx, ended.run_uid, ending)
                then = self._passes.follow(tx)
            then()
        elif ending is not None:
            with self.store.transaction(SYSTEM) as tx:
                end_run(tx, ended.run_uid, ending)
        at_once(self._executor.acknowledge(worker.uid))


def _probe(spec: ExecutorSpec, namespace: str) -> Probe:
    return Probe(ExecutorReason.RECONCILED, "", Capabilities(cancel=True))


def next_due(engine: SimulatedEngine, store: Store, now: datetime, monotonic: float) -> float | None:
    """Seconds until something is due by itself; None when nothing is."""
    with store.snapshot() as snapshot:
        waits = [(t.due_at - now).total_seconds() for t in snapshot.timers(limit=100)]
        for effect in snapshot.effects(states=None, limit=10_000):
            if effect.state == "Pending":
                waits.append((effect.due_at - now).total_seconds())
            elif effect.state == "Claimed" and effect.claim_until is not None:
                waits.append((effect.claim_until - now).total_seconds())
    waits += [at - monotonic for at in engine.later.values()]
    return min((w for w in waits if w > 0), default=None)
