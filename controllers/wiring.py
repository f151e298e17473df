"""The only place that builds concrete objects: from a configuration to an engine that runs.

Readers come to see what is joined to what; everything that decides is elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random, SystemRandom

from controllers.dispatch.command import CommandExecutor
from controllers.dispatch.environment import LocalSecrets
from controllers.effects import homes
from controllers.effects.runner import EffectRunner, Handler
from controllers.effects.runs import CANCEL, START, RunContext, RunEffects, end_run
from controllers.reconcilers.executors import Probe
from controllers.runs import records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.tokens import RunTokens, load_or_create_key
from controllers.runtime.blocking import Blocking, ThreadBlocking
from controllers.runtime.clock import Clock, SystemClock, wait_for_any
from controllers.runtime.fenced import FencedStore
from controllers.runtime.home import Member
from controllers.runtime.ids import IdMint
from controllers.runtime.leadership import Leadership
from controllers.runtime.lifecycle import Lifecycle, Run
from controllers.runtime.manager import Manager, ShutdownReport
from controllers.sources.readers import Readers
from controllers.term import DEFAULT_SOURCE as DEFAULT_SOURCE
from controllers.term import Term, ensure_source
from controllers.term import make_reconcilers as make_reconcilers
from schemas.base import Key
from schemas.config import Config
from schemas.errors import Fenced, StoreError, StoreUnavailable
from schemas.event import EventType
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec, ExecutorType
from schemas.resource import SYSTEM
from schemas.run import RunReason, RunState
from store import open_store
from store.contract import Fence, Store
from store.location import from_project

log = logging.getLogger(__name__)

ENGINE = Key("Engine", "", "engine")
HOUSEKEEPING_S = 3600.0
KEEP_RUN_FILES = timedelta(days=7)
TERM_DRAIN_S = 10.0
"""How long the parts of a leader may take to end when it leads no more; they can write nothing meanwhile."""


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
        """Opens the store and holds it, or joins the other engines on it. Raises StoreLocked when another engine holds
        it or lives in this state directory, StoreUnavailable."""
        self.config = config
        self.place = place
        self.clock = clock or SystemClock()
        self.random = random or Random()  # noqa: S311  spreads load, protects nothing
        self.ids = IdMint(self.clock.now, random or SystemRandom())
        for folder in (place.state, place.state / "keys"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._raw: Store = open_store(
            from_project(config.store, place.project),
            now=self.clock.now,
            new_id=self.ids.new,
            create=True,
            exclusive=True,
        )
        self.store: Store = self._raw
        self._member: Member | None = None
        if self._raw.shared:
            try:
                self._member = Member.join(self._raw, place.state, now=self.clock.now(), new_id=self.ids.new)
            except BaseException:
                self._raw.close()
                raise
            self.store = FencedStore(self._raw, self._member.fence)
        self.blocking: Blocking = ThreadBlocking(6)
        self.tokens = RunTokens(load_or_create_key(place.state / "keys" / "run.key"))
        self.artifacts = ArtifactFiles(place.state)
        self.manager = Manager(self.clock, self.random)
        self._readers = Readers(place.project, place.state / "mirrors")
        self._stop = asyncio.Event()
        self._gone: StoreError | None = None
        self._term: Term | None = None
        self._loop = asyncio.get_running_loop()
        self._command = CommandExecutor(
            place.state, self.clock, self.blocking, secrets=LocalSecrets(variables=environment)
        )
        context = RunContext(self.tokens, agent_url, place.project)
        self._effects = RunEffects(
            self.store,
            {ExecutorType.COMMAND: self._command},
            context,
            files=self.artifacts,
            blocking=self.blocking,
            clock=self.clock,
        )
        self._runners = [self._runner("start-runs", START, self._effects.start),
                         self._runner("cancel-runs", CANCEL, self._effects.cancel)]  # fmt: skip

    def _runner(self, name: str, type_: str, handler: Handler) -> EffectRunner:
        home = self._home
        return EffectRunner(
            name,
            self.store,
            {type_: handler, **({homes.addressed(type_, home): handler} if home else {})},
            holder=self.ids.new(),
            blocking=self.blocking,
            clock=self.clock,
            random=self.random,
            on_dead=self._effects.give_up,
            keep=homes.keeper(home) if home else None,
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

    @property
    def _home(self) -> str:
        """What runs of this engine are marked with; "" where it has the store for itself."""
        return "" if self._member is None else self._member.home.name

    def add(self, name: str, run: Run, *, check: Callable[[], str] | None = None) -> None:
        """Add a component that starts before the engine's own (the agent server has to be up before a run starts)."""
        self.manager.add(name, run, check=check)

    async def run(self, stop: asyncio.Event) -> ShutdownReport:
        """Work until ``stop`` is set, then drain. Runs that are open go on; the next start takes them up.

        Raises StoreGone, after the drain, when the store was removed: nothing that is done now would be remembered; and
        StoreLocked when another engine took this one's place.
        """
        self._stop = stop
        await self.blocking.run(self._start)
        unsubscribe = self.store.subscribe(self._on_commit)
        manager = self.manager
        manager.add("executors", self._open_executors)
        if self._member is None:
            self._term = self._make_term(self.store)
            self._term.add_to(manager)
        else:
            member = self._member
            manager.add("membership", functools.partial(member.stay, store=self._raw, clock=self.clock,
                                                        blocking=self.blocking, lost=self._end))  # fmt: skip
            leadership = Leadership(self._raw, member.home.life, self._lead, clock=self.clock, blocking=self.blocking)
            manager.add("leadership", leadership.run)
        for runner in self._runners:
            manager.add(runner.name, runner.run)
        manager.add("outcomes", functools.partial(self._effects.collect, executor=self._command))
        manager.add("housekeeping", self._housekeeping)
        try:
            report = await manager.run(stop)
        finally:
            unsubscribe()
        with contextlib.suppress(StoreUnavailable, Fenced):
            await self.blocking.run(self._stopped)
        await self._command.retire()
        await self._command.close()
        if self._gone is not None:
            raise self._gone
        return report

    def close(self) -> None:
        """Let go of the store; after ``run``."""
        self._readers.close()
        self._raw.close()
        if self._member is not None:
            self._member.home.lock.release()
        if isinstance(self.blocking, ThreadBlocking):
            self.blocking.close(wait=False)

    # Start and end.

    def _start(self) -> None:
        """Say that the engine is here, give back what a dead engine claimed, keep the Source of the configuration."""
        with self.store.transaction(SYSTEM) as tx:
            if self._member is None:
                tx.release_claims()
                spec = self.config.source.to_spec()
                if spec is not None:
                    ensure_source(tx, spec)
                message = f"engine {os.getpid()} holds the store"
            else:
                home = self._member.home.name
                tx.release_claims(types=homes.own_types(home))
                message = f"engine {os.getpid()} of {home} joins the store"
            tx.event(EventType.ENGINE_STARTED, ENGINE, reason="Started", message=message)

    def _stopped(self) -> None:
        with self.store.transaction(SYSTEM) as tx:
            tx.event(EventType.ENGINE_STOPPED, ENGINE, reason="Drained", message=f"engine {os.getpid()} left the store")
            if self._member is not None:
                self._member.leave(tx)

    def _end(self, error: StoreError) -> None:
        """Stop for good: what this engine did from now on would not count."""
        self._gone = error
        self._stop.set()

    def _make_term(self, store: Store) -> Term:
        return Term(
            store,
            self.config.source.to_spec(),
            self.place.project,
            readers=self._readers,
            probe=self._probe,
            clock=self.clock,
            random=self.random,
            blocking=self.blocking,
            woken=self._wake_runners,
            gone=self._end,
        )

    async def _lead(self, fence: Fence, ends: asyncio.Event) -> None:
        """One term of leading the engines on a shared store."""
        term = self._make_term(FencedStore(self._raw, fence))

        def begin() -> None:
            with term.store.transaction(SYSTEM) as tx:
                term.begin(tx)
                tx.event(EventType.ENGINE_LEADS, ENGINE, reason="Elected", message=f"{self._home} leads")

        await self.blocking.run(begin)
        manager = Manager(self.clock, self.random)
        term.add_to(manager)
        self._term = term
        try:
            await manager.run(ends, drain_s=TERM_DRAIN_S)
        finally:
            self._term = None

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
            if str(run.status.get("engine", "")) != self._home:
                continue
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
        if self._term is not None:
            self._term.wake()
        self._wake_runners()

    def _wake_runners(self) -> None:
        for runner in self._runners:
            runner.wake()

    async def _housekeeping(self, life: Lifecycle) -> None:
        life.ready()
        while not await wait_for_any(self.clock, HOUSEKEEPING_S, life.stopping):
            await self._command.prune(self.clock.now() - KEEP_RUN_FILES)


_EXECUTOR_REASONS = {
    RunReason.PROGRAM_NOT_FOUND: ExecutorReason.PROGRAM_NOT_FOUND,
    RunReason.SECRET_NOT_FOUND: ExecutorReason.SECRET_NOT_FOUND,
}
