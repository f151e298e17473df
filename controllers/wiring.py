"""The only place that builds concrete objects: from a configuration to an engine that runs.

Readers come to see what is joined to what; everything that decides is elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from random import Random, SystemRandom
from typing import TYPE_CHECKING

from controllers.dispatch.command import CommandExecutor
from controllers.dispatch.environment import SecretMissing, SecretUnavailable
from controllers.dispatch.http import POSTED, HttpExecutor
from controllers.dispatch.jobs.access import Access, Accesses
from controllers.dispatch.jobs.cluster import ApiServer
from controllers.dispatch.jobs.executor import KubernetesJobExecutor
from controllers.dispatch.pull import PullExecutor
from controllers.effects import claims, homes, jobs, posts
from controllers.effects.exports import EXPORT, ExportEffects
from controllers.effects.http_runs import HttpRuns
from controllers.effects.job_logs import JobLogs
from controllers.effects.job_runs import JobRuns, Listening
from controllers.effects.job_sweep import JobSweep
from controllers.effects.job_watch import JobWatch
from controllers.effects.runner import Again, Commit, EffectRunner, Handler
from controllers.effects.runs import CANCEL, START, RunContext, RunEffects, end_run
from controllers.holds import effective, stop_file
from controllers.holds.stops import Stops
from controllers.holds.watch import FileWatch, SourceWatch
from controllers.notify import delivery, notices
from controllers.notify.outside import Outside
from controllers.probing import Probes
from controllers.reconcilers import calendars
from controllers.reconcilers.channels import Channels
from controllers.runs import records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.tokens import RunTokens, load_or_create_key
from controllers.runtime import figures
from controllers.runtime.blocking import Blocking, ThreadBlocking
from controllers.runtime.clock import Clock, SystemClock, wait_for_any
from controllers.runtime.fenced import FencedStore
from controllers.runtime.home import Member
from controllers.runtime.ids import IdMint
from controllers.runtime.leadership import Leadership
from controllers.runtime.lifecycle import Lifecycle, Run
from controllers.runtime.manager import Manager, ShutdownReport
from controllers.runtime.together import Together
from controllers.secrets.keeper import make_keeper
from controllers.secrets.known import KnownSecrets
from controllers.sources.committed_holds import CommittedHolds
from controllers.sources.readers import Readers, local_url, make_reader
from controllers.status import commits, proposals
from controllers.status.push import PUSH, PushEffects
from controllers.status.search_index import SearchIndex
from controllers.status.writer import StatusWriter
from controllers.term import DEFAULT_SOURCE as DEFAULT_SOURCE
from controllers.term import Term, ensure_source
from controllers.term import make_reconcilers as make_reconcilers
from controllers.web.client import HttpClient
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.config import Config
from schemas.errors import Fenced, StoreError, StoreUnavailable
from schemas.event import EventType
from schemas.executor import ExecutorSpec, ExecutorType
from schemas.resource import SYSTEM, Resource
from schemas.run import RunReason, RunSpec, RunState
from schemas.secret import ValueFrom
from schemas.secrets_config import KubernetesConfig
from schemas.source import SourceSpec, SourceType
from store import open_store
from store.contract import Effect, Fence, Store, Transaction
from store.location import from_project

if TYPE_CHECKING:
    from controllers.cluster import Cluster
    from controllers.effects.calendars import CalendarEffects
    from controllers.reconcilers.proposing import Proposer

log = logging.getLogger(__name__)

ENGINE = Key("Engine", "", "engine")
HOUSEKEEPING_S = 3600.0
RELEARN_S = 30.0
SWEEP_S = 300.0
"""How often it is looked whether a cluster has Jobs that no run has."""
LEAST_SECRET = 8
RUNS_AT_ONCE = 32
"""Starts, or cancels, of runs that are under way at a time."""
KEEP_RUN_FILES = timedelta(days=7)
REMOTE_S = 15.0
"""How often a source elsewhere is asked for Holds, at most, while the store does not answer."""
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
        self._known = KnownSecrets()
        self._raw: Store = open_store(
            from_project(config.store, place.project),
            now=self.clock.now,
            new_id=self.ids.new,
            create=True,
            exclusive=True,
            mask=self._known.mask,
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
        self.stops = Stops(stop_file.of_project(config, place.project, place.state))
        self._watching = ThreadBlocking(4, name="remit-estop")
        self._telling = ThreadBlocking(4, name="remit-notify")
        self._committed: CommittedHolds | None = None
        self.tokens = RunTokens(load_or_create_key(place.state / "keys" / "run.key"))
        self.artifacts = ArtifactFiles(place.state, mask=self._known.text)
        self.manager = Manager(self.clock, self.random)
        self._cluster: Cluster | None = None
        if config.source.kubernetes is not None:
            from controllers.cluster import Cluster  # most engines have none, and it takes long to load

            self._cluster = Cluster(config.source.kubernetes, environment, self.clock, self.random)
        in_cluster = self._cluster.reader if self._cluster is not None else None
        self._readers = Readers(place.project, place.state / "mirrors", in_cluster)
        self._stop = asyncio.Event()
        self._gone: StoreError | None = None
        self._term: Term | None = None
        self._loop = asyncio.get_running_loop()
        self._secrets = make_keeper(
            config.secrets,
            project=place.project,
            closed=(place.state,),
            variables=environment,
            now=self.clock.now,
            monotonic=self.clock.monotonic,
            known=self._known,
        )
        self._command = CommandExecutor(place.state, self.clock, self.blocking, secrets=self._secrets)
        self._pull = PullExecutor(
            self.blocking, secrets=self._secrets, withdraw=functools.partial(self._of_run, claims.withdraw)
        )
        self._http = HttpExecutor(
            self.blocking,
            secrets=self._secrets,
            offer=functools.partial(self._of_run, posts.offer),
            withdraw=functools.partial(self._of_run, posts.withdraw),
        )
        self._accesses = Accesses(self._secrets, config.secrets.kubernetes_secret or KubernetesConfig(), place.project)
        self._jobs = KubernetesJobExecutor(
            self.blocking,
            self._accesses,
            offer=functools.partial(self._of_run, jobs.offer),
            withdraw=functools.partial(self._of_run, jobs.withdraw),
        )
        context = RunContext(self.tokens, agent_url, place.project, self.stops)
        self._together = Together(self.store, self.blocking)
        self._effects = RunEffects(
            self.store,
            {
                ExecutorType.COMMAND: self._command,
                ExecutorType.PULL: self._pull,
                **dict.fromkeys(POSTED, self._http),
                ExecutorType.KUBERNETES_JOB: self._jobs,
            },
            context,
            files=self.artifacts,
            blocking=self.blocking,
            clock=self.clock,
            together=self._together,
        )
        self._runners = [self._runner("start-runs", START, self._effects.start),
                         self._runner("cancel-runs", CANCEL, self._effects.cancel),
                         self._http_runner(context),
                         self._job_runner(context)]  # fmt: skip

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
            together=self._together,
            slots=RUNS_AT_ONCE,
        )

    def _http_runner(self, context: RunContext) -> EffectRunner:
        """Posts runs to workers behind HTTP. They live on no engine's machine: any may go on with them."""
        runs = HttpRuns(
            self.store,
            context,
            client=HttpClient(self.clock.monotonic),
            secrets=self._secrets,
            files=self.artifacts,
            blocking=self.blocking,
            clock=self.clock,
            random=self.random,
        )
        return EffectRunner(
            "http-runs",
            self.store,
            {posts.POST: runs.post, posts.POLL: runs.poll, posts.STOP: runs.stop},
            holder=self.ids.new(),
            blocking=self.blocking,
            clock=self.clock,
            random=self.random,
            slots=64,
            on_dead=runs.give_up,
            patient=True,
        )

    def _job_runner(self, context: RunContext) -> EffectRunner:
        """Makes and watches Jobs. They live in a cluster: any engine may go on with them."""

        def reach(access: Access, namespace: str) -> ApiServer:
            client = HttpClient(self.clock.monotonic, tls=access.tls)
            return ApiServer(access, namespace, client, self.blocking)

        self._job_sweep = JobSweep(self.store, accesses=self._accesses, reach=reach, blocking=self.blocking)
        self._job_watch = JobWatch(
            self.store, reach=reach, blocking=self.blocking, clock=self.clock, random=self.random
        )
        self._job_logs = JobLogs(
            self.store, known=self._known.values, runs=self.place.state / "runs", blocking=self.blocking,
            clock=self.clock, random=self.random,
        )  # fmt: skip
        runs = JobRuns(
            self.store,
            context,
            accesses=self._accesses,
            reach=reach,
            files=self.artifacts,
            state=self.place.state,
            blocking=self.blocking,
            clock=self.clock,
            random=self.random,
            listening=Listening(self._job_watch, self._job_logs, reach),
        )
        return EffectRunner(
            "job-runs",
            self.store,
            {jobs.MAKE: runs.make, jobs.WATCH: runs.watch, jobs.DELETE: runs.delete, jobs.TIDY: runs.tidy},
            holder=self.ids.new(),
            blocking=self.blocking,
            clock=self.clock,
            random=self.random,
            slots=64,
            on_dead=runs.give_up,
            patient=True,
        )

    def _plain_runner(
        self, name: str, store: Store, handlers: dict[str, Handler],
        on_dead: Callable[[Transaction, Effect, str], None] | None = None,
    ) -> EffectRunner:  # fmt: skip
        """A runner of effects that concern no run."""
        return EffectRunner(
            name,
            store,
            handlers,
            on_dead=on_dead,
            holder=self.ids.new(),
            blocking=self.blocking,
            clock=self.clock,
            random=self.random,
        )

    def worker_token(self, executor: Resource) -> str | None:
        """The token of the workers of a Pull executor; None when it declares none that can be used. Blocks."""
        try:
            return self._pull.token(executor.spec, self.place.project, executor.namespace)
        except SecretMissing:
            return None

    def _of_run(self, write: Callable[[Transaction, str], None], run_uid: str) -> None:
        with self.store.transaction(SYSTEM) as tx:
            write(tx, run_uid)

    @property
    def _source(self) -> SourceSpec | None:
        """The source that the configuration names."""
        if self.config.source.kubernetes is not None:
            return self.config.source.kubernetes.to_spec()
        return self.config.source.to_spec(self.config.status_branch)

    @property
    def _home(self) -> str:
        """What runs of this engine are marked with; "" where it has the store for itself."""
        return "" if self._member is None else self._member.home.name

    def secret(self, reference: ValueFrom) -> str:
        """The value of a reference in the configuration. Blocks. Raises SecretMissing, SecretUnavailable."""
        return self._secrets.of(DEFAULT_NAMESPACE).resolve(reference, self.place.project)

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
        unsubscribe_effects = self.store.subscribe_effects(self._on_effects)
        manager = self.manager
        manager.add("executors", self._open_executors)
        self._add_stops(manager)
        if self._cluster is not None:
            self._add_cluster(self._cluster, manager)
        elif self._member is None:
            self._term = self._make_term(self.store)
            self._term.add_to(manager)
            self._together.lead(self._term.store, self._term.follow)
        if self._member is not None:
            member = self._member
            manager.add("membership", functools.partial(member.stay, store=self._raw, clock=self.clock,
                                                        blocking=self.blocking, lost=self._end))  # fmt: skip
            if self._cluster is None:
                manager.add("leadership", self._leadership(member).run)
        self._exports = ExportEffects(
            self.store, self.place.state, now=self.clock.now, new_id=self.ids.new, blocking=self.blocking
        )
        self._runners.append(self._plain_runner("exports", self.store, {EXPORT: self._exports.export}))
        for runner in self._runners:
            manager.add(runner.name, runner.run)
        manager.add("outcomes", functools.partial(self._effects.collect, executor=self._command))
        manager.add("housekeeping", self._housekeeping)
        manager.add("job-sweep", self._sweep_jobs)
        manager.add("job-watch", self._job_watch.run)
        manager.add("secrets", self._recall_secrets)
        manager.add("search-index", SearchIndex(self.store, clock=self.clock, blocking=self.blocking).run)
        try:
            report = await manager.run(stop)
        finally:
            unsubscribe()
            unsubscribe_effects()
        with contextlib.suppress(StoreUnavailable, Fenced):
            await self.blocking.run(self._stopped)
        await self._command.retire()
        await self._command.close()
        await self._job_logs.close()
        if self._gone is not None:
            raise self._gone
        return report

    def _leadership(self, member: Member) -> Leadership:
        return Leadership(self._raw, member.home.life, self._lead, clock=self.clock, blocking=self.blocking)

    def _add_cluster(self, cluster: Cluster, manager: Manager) -> None:
        """Watch the cluster, and act while this engine holds its Lease. Over a shared store the holder leads by the
        store's lease as well, under whose fence it writes."""

        def hint() -> None:
            self._loop.call_soon_threadsafe(self._look_at_source)

        async def act(ends: asyncio.Event) -> None:
            if self._member is None:
                await self._lead_alone(ends)
                return
            inner = Lifecycle()
            leading = asyncio.create_task(self._leadership(self._member).run(inner))
            await ends.wait()
            inner.stopping.set()
            await leading

        watch = cluster.watch(hint)
        manager.add("kubernetes", watch.run, check=cluster.problem)
        election = cluster.election(f"{socket.gethostname()}-{self.ids.new()}", act, self._store_name)
        manager.add("lease", election.run, check=election.problem)

    def _store_name(self) -> str:
        """What tells this store from every other: the uid of the configured source."""
        with self.store.snapshot() as snapshot:
            source = snapshot.get(DEFAULT_SOURCE)
        return source.uid if source is not None else ""

    def _look_at_source(self) -> None:
        if self._term is not None:
            self._term.look(DEFAULT_SOURCE)

    def _add_stops(self, manager: Manager) -> None:
        """What stops work whatever the store does."""
        files = FileWatch(self.store, self.stops, self._command, clock=self.clock, blocking=self._watching)
        manager.add("estop-files", files.run)
        spec = self._source
        if spec is None:
            return
        cluster = self._cluster
        remote = spec.type is SourceType.GIT and not Path(local_url(spec.url, self.place.project)).is_absolute()
        read = CommittedHolds(
            spec,
            lambda: (
                cluster.reader
                if cluster is not None
                else make_reader(spec, self.place.project, self.place.state / "mirrors" / "holds")
            ),
            now=self.clock.now,
        )
        self._committed = read
        pause_s = max(REMOTE_S, spec.interval.total_seconds()) if remote else 0.0
        source = SourceWatch(
            self.store, self.stops, read, interval_s=pause_s, clock=self.clock, blocking=self._watching
        )
        manager.add("estop-source", source.run)

    @property
    def proposer(self) -> Proposer:
        """Works out what agents propose."""
        from controllers.reconcilers.proposing import Proposer  # loaded with the agent protocol

        return Proposer(self.store, self._readers, now=self.clock.now)

    def close(self) -> None:
        """Let go of the store; after ``run``."""
        self._readers.close()
        if self._committed is not None:
            self._committed.close()
        self._watching.close(wait=False)
        self._telling.close(wait=False)
        self._raw.close()
        if self._cluster is not None:
            self._cluster.close()
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
                claims.forgive(tx)
                if self._source is not None:
                    ensure_source(tx, self._source)
                message = f"engine {os.getpid()} holds the store"
            else:
                home = self._member.home.name
                tx.release_claims(types=homes.own_types(home))
                if self._cluster is not None and self._source is not None:
                    ensure_source(tx, self._source)
                message = f"engine {os.getpid()} of {home} joins the store"
            effective.adopt(tx, self.stops.of_files())
            notices.begin(tx)
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
        status = StatusWriter(
            store,
            project=self.place.project,
            cache=self.place.state / "status",
            clock=self.clock,
            blocking=self.blocking,
            random=self.random,
        )
        pushes = PushEffects(
            store,
            project=self.place.project,
            cache=self.place.state / "status",
            blocking=self.blocking,
            look_again=status.look_again,
        )
        statuses = commits.CommitStatusEffects(
            store,
            secrets=self._secrets,
            project=self.place.project,
            hosts=self.config.forge_hosts,
            blocking=self.blocking,
        )
        proposed = proposals.ProposalEffects(
            store,
            self._readers,
            secrets=self._secrets,
            project=self.place.project,
            hosts=self.config.forge_hosts,
            blocking=self.blocking,
        )
        outside = Outside(self._secrets, self.place.project, now=self.clock.now, monotonic=self.clock.monotonic)
        told = delivery.Deliveries(store, outside.send, blocking=self._telling, now=self.clock.now)
        runners = [
            self._plain_runner("notify", store, {delivery.NOTIFY: told.deliver}, delivery.give_up),
            self._plain_runner("calendars", store, {calendars.SYNC: self._calendars(store)}),
            self._plain_runner(
                "proposals", store, {proposals.OPEN: proposed.open, proposals.CLOSE: proposed.close}, proposals.give_up
            ),
            self._plain_runner("push-status", store, {PUSH: pushes.push}),
            self._plain_runner("commit-statuses", store, {commits.SET_STATUS: statuses.send}),
        ]
        return Term(
            store,
            self._source,
            self.place.project,
            status=status.run,
            beside=[("cluster-status", self._cluster.status(store, DEFAULT_SOURCE).run)] if self._cluster else (),
            follow=proposed.follow,
            runners=runners,
            readers=self._readers,
            probe=Probes(self.place.project, self._command, self._pull, self._http, self._jobs),
            stops=self.stops,
            clock=self.clock,
            random=self.random,
            blocking=self.blocking,
            woken=self._wake_runners,
            gone=self._end,
            channels=Channels(outside.problem, self.config.standup),
            claim=functools.partial(
                self._runners[0].claim_in, prepare=self._effects.prepare_in, ready=self._effects.make_ready
            ),
        )

    def _calendars(self, store: Store) -> Handler:
        """Looks into calendars elsewhere. What that takes is loaded with the first one: most engines have none."""

        @functools.cache
        def effects() -> CalendarEffects:
            from controllers.calendars.services import asking
            from controllers.effects.calendars import CalendarEffects

            return CalendarEffects(
                store,
                asks=functools.partial(asking, HttpClient(self.clock.monotonic)),
                secrets=self._secrets,
                project=self.place.project,
                now=self.clock.now,
                blocking=self.blocking,
            )

        async def sync(effect: Effect) -> Commit | Again | None:
            return await effects().sync(effect)

        return sync

    async def _lead_alone(self, ends: asyncio.Event) -> None:
        """One term of acting over a store that no other engine has."""
        await self._act(self.store, "it holds the Lease of the cluster", ends)

    async def _lead(self, fence: Fence, ends: asyncio.Event) -> None:
        """One term of leading the engines on a shared store."""
        await self._act(FencedStore(self._raw, fence), f"{self._home} leads", ends)

    async def _act(self, store: Store, why: str, ends: asyncio.Event) -> None:
        term = self._make_term(store)

        def begin() -> None:
            with store.transaction(SYSTEM) as tx:
                term.begin(tx)
                tx.event(EventType.ENGINE_LEADS, ENGINE, reason="Elected", message=why)

        await self.blocking.run(begin)
        manager = Manager(self.clock, self.random)
        term.add_to(manager)
        self._term = term
        self._together.lead(store, term.follow)
        try:
            await manager.run(ends, drain_s=TERM_DRAIN_S)
        finally:
            self._together.lead(None)
            self._term = None

    async def _open_executors(self, life: Lifecycle) -> None:
        await self.blocking.run(self._find_lost)
        await self._command.open()
        life.ready()
        await life.stopping.wait()

    async def _sweep_jobs(self, life: Lifecycle) -> None:
        """Delete Jobs that no open run has, every now and then."""
        life.ready()
        while not await wait_for_any(self.clock, SWEEP_S, life.stopping):
            with contextlib.suppress(StoreError):
                await self._job_sweep.sweep()

    async def _recall_secrets(self, life: Lifecycle) -> None:
        """Learn again the secrets of programs that an earlier life started: they are still to be taken out of what
        these say."""
        life.ready()
        while not await self.blocking.run(self._relearn):
            if await wait_for_any(self.clock, RELEARN_S, life.stopping):
                return
        await life.stopping.wait()

    def _relearn(self) -> bool:
        """Whether there is nothing left to try."""
        with self.store.snapshot() as snapshot:
            orders = []
            for run in snapshot.objects("Run", states=[RunState.RUNNING.value]):
                spec = RunSpec.model_validate(run.spec)
                executor = snapshot.get(spec.executor_ref.key("Executor", run.namespace))
                version = None if executor is None else snapshot.spec_at(executor.uid, spec.executor_generation)
                if executor is not None and version is not None:
                    orders.append((executor.namespace, run.namespace, ExecutorSpec.model_validate(version.spec)))
        complete = True
        for executor_namespace, namespace, spec_ in orders:
            program = spec_.command
            for variable in () if program is None else program.env:
                if variable.value_from is None:
                    continue
                try:
                    self._secrets.of(executor_namespace, namespace).resolve(variable.value_from, self.place.project)
                except SecretMissing:
                    continue  # it cannot be had any more, and nothing that is tried again changes that
                except SecretUnavailable:
                    complete = False
        return complete

    def _find_lost(self) -> None:
        """Runs that are said to be running: of some the executor keeps nothing (its folder was deleted), others ended
        after the backup that this store was restored from, and their end is reported once more."""
        with self.store.snapshot() as snapshot:
            running = snapshot.objects("Run", states=[RunState.RUNNING.value])
        for run in running:
            if str(run.status.get("engine", "")) != self._home:
                continue
            if run.status.get("post") is not None:
                continue  # it was posted elsewhere, and the outbox goes on with it
            if run.status.get("job") is not None:
                continue  # it is a Job of a cluster, and the outbox goes on with it
            if run.status.get("claim") is not None:
                continue  # its worker has it, or the end of its lease ends it
            if run.status.get("hostedUntil") is not None:
                continue  # its parent's program has it, and it ends with that or at its time
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
        self._loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._term is not None:
            self._term.wake()

    def _on_effects(self, types: frozenset[str] | None) -> None:
        self._loop.call_soon_threadsafe(self._wake_all_runners, types)

    def _wake_all_runners(self, types: frozenset[str] | None) -> None:
        if self._term is not None:
            self._term.wake_runners(types)
        self._wake_runners(types)

    def _wake_runners(self, types: frozenset[str] | None) -> None:
        for runner in self._runners:
            runner.wake(types)

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
            secret = self._secrets.of(key.namespace).resolve(webhook.secret, self.place.project)
        except (SecretMissing, SecretUnavailable) as error:
            log.warning("%s takes no hooks: spec.webhook.secret: %s", key.short, error)
            return None
        if len(secret) < LEAST_SECRET:
            log.warning("%s takes no hooks: the secret has less than %d characters", key.short, LEAST_SECRET)
            return None
        return str(webhook.type), secret

    def figures(self) -> dict[str, float]:
        """Of the queues; nothing while another engine leads. From any thread."""
        term = self._term
        return {} if term is None else figures.of_queues({"objects": term.objects, "sources": term.sources})

    def hint(self, namespace: str, name: str) -> None:
        """Look at a source soon. An engine that does not lead lets it pass: the leader polls. On the event loop."""
        if self._term is not None:
            self._term.hint(Key("Source", namespace, name))

    async def _housekeeping(self, life: Lifecycle) -> None:
        life.ready()
        while not await wait_for_any(self.clock, HOUSEKEEPING_S, life.stopping):
            await self._command.prune(self.clock.now() - KEEP_RUN_FILES)
            await self.blocking.run(self._exports.prune)
