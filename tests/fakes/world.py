"""A whole engine without processes, threads or waiting: the real store, reconcilers, planner and git reader, driven one
pass at a time under a clock that the test moves. Agents are played by the test."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from controllers.effects.runs import CANCEL, START, end_run
from controllers.holds import stops
from controllers.holds.stops import Stops
from controllers.reconcilers.dispatcher import ReadyMissions
from controllers.reconcilers.executors import Probe
from controllers.reconcilers.passes import RECALLED, SHARED, Passes
from controllers.reconcilers.standings import Standings
from controllers.reconcilers.wakes import Wakes
from controllers.runs import records
from controllers.runtime.recall import Recall
from controllers.runtime.result import RequeueAfter, RequeueAt, Result
from controllers.runtime.workqueue import Priority
from controllers.sources.readers import Readers
from controllers.sources.sync import SourceSync
from controllers.wiring import DEFAULT_SOURCE, ensure_source, make_reconcilers
from schemas import condition_check
from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.base import Key
from schemas.errors import Conflict
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec
from schemas.mission import Artifact, MissionState, MissionStatus, Spend
from schemas.resource import RECONCILE_REQUESTED_AT, SYSTEM, Actor, ActorKind, Declared, Resource
from schemas.run import RunReason, RunState
from schemas.source import SourceSpec, SourceStatus
from store.contract import Effect, EffectState, Event, Store, Transaction
from tests.fakes.repos import Repo
from tests.fakes.stores import BACKENDS, SettableClock

ALICE = Actor(ActorKind.HUMAN, "user:alice", "Store")
MAX_PASSES = 5_000
CLOCK_PROBLEMS = ("changed before the object was made", "ends before it began")
"""What a clock that was set back makes of honest times."""

EXECUTOR = """\
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: local}
spec:
  type: Command
  command: {argv: [sh, -c, "true"], outputFormat: Text}
"""


def executor(name: str = "local", program: str = "sh") -> str:
    """The executor that the other manifests refer to, or another one."""
    return EXECUTOR.replace("name: local", f"name: {name}").replace("[sh,", f"[{program},")


def agent(name: str = "worker", *, namespace: str = "", **spec: object) -> str:
    """An agent of that executor; ``spec`` are further fields, as YAML flow text or scalars."""
    place = f", namespace: {namespace}" if namespace else ""
    more = "".join(f"  {key}: {value}\n" for key, value in spec.items())
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Agent\nmetadata: {{name: {name}{place}}}\n"
        f"spec:\n  executorRef: {{name: local}}\n{more}"
    )


def mission(name: str, *, agent: str | None = "worker", annotations: str = "", labels: str = "", **spec: object) -> str:
    """A mission for ``agent``; ``review: None`` unless given."""
    fields: dict[str, object] = {"title": f"do {name}", "review": "None", **spec}
    if agent is not None:
        fields["agentRef"] = f"{{name: {agent}}}"
    meta = f"name: {name}" + (f", annotations: {{{annotations}}}" if annotations else "")
    meta += f", labels: {{{labels}}}" if labels else ""
    lines = "".join(f"  {key}: {value}\n" for key, value in fields.items())
    return f"apiVersion: remit.dev/v1alpha1\nkind: Mission\nmetadata: {{{meta}}}\nspec:\n{lines}"


@dataclass
class World:
    """One engine's state. ``started`` and ``canceled`` list the effects that went out, in order, by run name."""

    folder: Path
    started: list[str] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    ready: bool = True
    missing: set[str] = field(default_factory=set)
    """Programs that are not on the machine."""
    clock_set_back: bool = False
    recalled: int = 0
    """Passes whose answer the engine would have recalled."""
    backend: str = "sqlite"
    at_once: bool = True
    """Whether what follows from a pass, or from the end of a run, is done in the same transaction."""
    stops: Stops = stops.NONE
    """What stops work beside the Holds in the store."""
    most_passes: int = MAX_PASSES
    """After so many passes something goes round in circles."""
    unit: str = "."
    """The unit of what belongs to no tenant."""

    def __post_init__(self) -> None:
        self.harness = BACKENDS[self.backend](self.folder)
        self.clock: SettableClock = self.harness.clock
        self.store: Store = self.harness.open()
        self.repo = Repo(self.folder / "specs")
        self.spec = self._make_spec()
        self.readers: Readers | None = None
        self._restart()

    def _make_spec(self) -> SourceSpec:
        return SourceSpec(url=str(self.folder / "specs"))

    def _make_readers(self) -> Readers:
        return Readers(self.folder, self.folder / "mirrors")

    def _restart(self) -> None:
        if self.readers is not None:
            self.readers.close()  # the processes of a dead engine die with it
        self.readers = self._make_readers()
        ready = ReadyMissions()
        standings = Standings()
        self.wakes = Wakes(ready, standings)
        self.reconcilers = make_reconcilers(self._probe, ready, self.stops, standings)
        self._passes = Passes(
            self.store, self.reconcilers, ready, stops=self.stops, later=self._later,
            keep=lambda memories: self.recall.keep_all(memories),
        )  # fmt: skip
        self.sync_now = SourceSync(
            self.store, self.readers, cache=self.store, now=self.clock, jitter=lambda: 1.0,
            follow=self._brought if self.at_once else None,
        )  # fmt: skip
        with self.store.transaction(SYSTEM) as tx:
            ensure_source(tx, self.spec)
            tx.release_claims()
        with self.store.snapshot() as snapshot:
            self.cursor = snapshot.latest_version()
            self.recall = Recall()
            self.recall.begin(self.cursor)
            self.pending: dict[Key, Priority] = dict(self.wakes.everything(snapshot, self._kinds()))

    def _kinds(self) -> list[str]:
        return [k for k in self.reconcilers if k not in ("Dispatch", "Confirmation", "Ownership", "SubAgent")]

    def _probe(self, spec: ExecutorSpec, namespace: str) -> Probe:
        program = spec.command.argv[0] if spec.command is not None else ""
        if self.ready and program not in self.missing:
            return Probe(ExecutorReason.RECONCILED, "", Capabilities(cancel=True))
        return Probe(ExecutorReason.PROGRAM_NOT_FOUND, "there is no program", Capabilities())

    # The repository.

    def commit(
        self, files: dict[str, str] | None = None, *, delete: tuple[str, ...] = (), message: str = "change"
    ) -> str:
        """Commit files to the branch, as a person would; the commit's id."""
        for name, text in (files or {}).items():
            path = self.repo.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        for name in delete:
            (self.repo.path / name).unlink()
        self.repo.git("add", "-A")
        self.repo.git("commit", "-q", "--allow-empty", "-m", message)
        return self.repo.head

    # Time and passes.

    @property
    def now(self) -> datetime:
        """The moment it is."""
        return self.clock()

    def sync(self) -> SourceStatus:
        """Let the source be looked at, on request, and everything settle."""
        with self.store.transaction(ALICE) as tx:
            source = tx.get(DEFAULT_SOURCE)
            assert source is not None
            notes = {**source.annotations, RECONCILE_REQUESTED_AT: f"t{tx.latest_version()}"}
            tx.put_spec(source, Declared(source.kind, source.namespace, source.name, source.spec, source.labels, notes))
        self.settle()
        return self.source

    @property
    def source(self) -> SourceStatus:
        """The status of the configured source."""
        return SourceStatus.model_validate(self.get("Source", "default").status)

    def advance(self, seconds: float) -> None:
        """Let time pass, and what was due happen in its order."""
        end = self.clock() + timedelta(seconds=seconds)
        while True:
            with self.store.snapshot() as snapshot:
                due = [t.due_at for t in snapshot.timers(due_before=end)]
                due += [
                    e.due_at for e in snapshot.effects(states=[EffectState.PENDING]) if self.clock() < e.due_at <= end
                ]
            following = min((d for d in due if d > self.clock()), default=None)
            if following is None:
                break
            self.clock.tick((following - self.clock()).total_seconds())
            self.settle()
        self.clock.tick((end - self.clock()).total_seconds())
        self.settle()

    def settle(self) -> None:
        """Run passes until nothing wakes any more."""
        for _ in range(self.most_passes):
            self._take_changes()
            if self.pending:
                key = max(self.pending, key=lambda k: (self.pending[k], k))
                del self.pending[key]
                self._pass(key)
            elif not self._deliver():
                return
        raise AssertionError(f"no rest after {self.most_passes} passes: {sorted(self.pending)[:5]}")

    def _take_changes(self) -> None:
        with self.store.snapshot() as snapshot:
            changes = snapshot.changes_since(self.cursor, limit=100_000)
            if changes:
                self.cursor = changes[-1].resource_version
                self.recall.take_in(changes)
                self.pending.update(self.wakes.of(snapshot, changes))
            for timer in snapshot.timers(due_before=self.clock()):
                self.recall.forget(timer.key)
                self.pending.setdefault(timer.key, Priority.CHANGE)

    def _pass(self, key: Key) -> None:
        try:
            if key.kind == "Source":
                self.sync_now(key)
                return
            result = self._reconcile(key)
        except Conflict:
            self.pending.setdefault(key, Priority.CHANGE)
            return
        if isinstance(result, RequeueAfter) and result.seconds == 0:
            self.pending.setdefault(key, Priority.CHANGE)
        if isinstance(result, RequeueAt) and result.when <= self.clock():
            self.pending.setdefault(key, Priority.CHANGE)

    def _brought(self, tx: Transaction, keys: Sequence[Key]) -> Callable[[], object]:
        """As the engine: only while nobody else is ready to be looked at."""
        return (lambda: None) if self.pending else self._passes.brought(tx, keys)

    def _later(self, key: Key, result: Result) -> None:
        if isinstance(result, RequeueAfter) and result.seconds == 0:
            self.pending.setdefault(key, Priority.CHANGE)

    def _reconcile(self, key: Key) -> Result:
        """A pass, and what it leads to at once, as in the engine. Where that would recall its answer, it is made all
        the same, and has to change nothing."""
        recalled = self.recall.answer(key, self.clock()) if key.kind in RECALLED else None
        if self.at_once and key.kind in SHARED and recalled is None:
            ((result, memory),) = self._passes.several([key], leads=not self.pending)
        else:
            result, memory = self._passes.one(key)
        if recalled is not None:
            assert memory is not None, f"the pass of {key.short} was recalled, and is not one that can be"
            assert result == recalled, f"the pass of {key.short} was recalled as {recalled}, and answers {result}"
            self.recalled += 1
        if memory is not None:
            self.recall.keep(key, memory)
        return result

    def _deliver(self) -> bool:
        """Carry out the effects that are due, as the runner would; whether there were any."""
        with self.store.transaction(SYSTEM) as tx:
            claimed = tx.claim_effects("test", types=[START, CANCEL], limit=100, lease_s=60)
        for effect in claimed:
            self._carry_out(effect)
        return bool(claimed)

    def _carry_out(self, effect: Effect) -> None:
        with self.store.transaction(SYSTEM) as tx:
            run = tx.get_by_uid(str(effect.payload["runUid"]))
            tx.finish_effect(effect)
            if run is None:
                return
            if effect.type == START:
                self.started.append(run.name)
                records.mark_started(tx, run.uid)
            else:
                self.canceled.append(run.name)

    def restart(self) -> None:
        """The engine dies and comes back: what was in memory is gone."""
        self._restart()
        self.settle()

    # Agents.

    def finish(
        self, run: str, *, state: RunState = RunState.SUCCEEDED, text: str = "done", reason: RunReason | None = None,
        retryable: bool = True, message: str = "", settle: bool = True, spend: Spend | None = None,
    ) -> None:  # fmt: skip
        """The program of a run ends."""
        resource = self.get("Run", run)
        data = text.encode()
        artifact = Artifact(
            name="deliverable", size=len(data), digest="sha256:" + hashlib.sha256(data).hexdigest(), text=text, run=run
        )
        good = state is RunState.SUCCEEDED
        default = {
            RunState.SUCCEEDED: RunReason.COMPLETED,
            RunState.CANCELED: RunReason.CANCELED,
            RunState.LOST: RunReason.WORKER_LOST,
            RunState.TIMED_OUT: RunReason.DEADLINE_EXCEEDED,
        }.get(state, RunReason.NON_ZERO_EXIT)
        ending = records.Ending(
            state=state,
            reason=reason or default,
            message=message,
            exit_code=0 if good else 1,
            retryable=retryable,
            artifacts=(artifact,) if good else (),
            started_at=self.clock(),
            ended_at=self.clock(),
            usage=spend,
        )
        then = None
        with self.store.transaction(SYSTEM) as tx:
            end_run(tx, resource.uid, ending)
            if settle and self.at_once:
                then = self._passes.follow(tx)
        if then is not None:
            then()
        if settle:
            self.settle()

    # People.

    def answer(self, target: str, verdict: str = "Approve", reason: str = "", **spec: object) -> Resource:
        """Answer what a mission waits for; the decision as it was judged."""
        status = self.status(target)
        open_ones = [name for name in status.action_requests if self.get("ApprovalRequest", name).state == "Pending"]
        request = self.get("ApprovalRequest", status.review_request or open_ones[0])
        values = {
            "requestRef": {"name": request.name, "uid": request.uid},
            "actionDigest": request.spec["actionDigest"],
            "verdict": verdict,
            "reason": reason,
            **spec,
        }
        decision = ApprovalDecisionSpec.model_validate(values)
        with self.store.transaction(ALICE) as tx:
            name = f"d{tx.latest_version()}"
            tx.create(
                Declared("ApprovalDecision", "default", name, decision.to_wire()),
                manager="cli/alice",
                status=ApprovalDecisionStatus(subject="user:alice", transport="Store").to_wire(),
            )
        self.settle()
        return self.get("ApprovalDecision", name)

    def act(self, kind: str, name: str, spec: dict[str, object], status: dict[str, object] | None = None) -> Resource:
        """Create an object by hand, as the command line does."""
        from schemas import registry

        typed = registry.by_kind(kind).spec.model_validate(spec).to_wire()
        with self.store.transaction(ALICE) as tx:
            tx.create(Declared(kind, "default", name, typed), manager="cli/alice", status=status or {})
        self.settle()
        return self.get(kind, name)

    def remove(self, kind: str, name: str) -> None:
        """Take an object away by hand."""
        with self.store.transaction(ALICE) as tx:
            current = tx.get(Key(kind, "default", name))
            assert current is not None
            tx.remove(current)
        self.settle()

    # Looking.

    def find(self, kind: str, name: str, namespace: str = "default") -> Resource | None:
        """The object, or None."""
        with self.store.snapshot() as snapshot:
            return snapshot.get(Key(kind, namespace, name))

    def get(self, kind: str, name: str, namespace: str = "default") -> Resource:
        """The object."""
        found = self.find(kind, name, namespace)
        assert found is not None, f"there is no {kind} {name}"
        return found

    def state(self, name: str) -> MissionState:
        """State of a mission."""
        return self.status(name).state

    def status(self, name: str) -> MissionStatus:
        """Status of a mission."""
        return MissionStatus.model_validate(self.get("Mission", name).status)

    def reason(self, kind: str, name: str, condition: str) -> str:
        """``True/Reconciled`` of a condition; "" when it has none of that type."""
        conditions = self.get(kind, name).status.get("conditions", [])
        found = next((c for c in conditions if c["type"] == condition), None)
        return f"{found['status']}/{found['reason']}" if found else ""

    def events(self, *types: str, subject: str | None = None) -> list[Event]:
        """Events of these types, oldest first."""
        with self.store.snapshot() as snapshot:
            found = snapshot.events(types=list(types) or None, limit=100_000)
        return [e for e in found if subject is None or e.subject.name == subject]

    def everything(self) -> list[Resource]:
        """Every object there is."""
        from schemas import registry

        with self.store.snapshot() as snapshot:
            there = {change.key.kind for change in snapshot.changes_since(0, limit=1_000_000)}
            return [r for name in registry.NAMES if name.kind in there for r in snapshot.objects(name.kind)]

    def check(self) -> None:
        """What must hold whenever nothing moves: conditions are sound, the chain holds, the ledger agrees, each run has
        at most one end and an open run belongs to one mission that says so."""
        resources = self.everything()
        problems = [str(p) for p in condition_check.all_problems(resources)]
        if self.clock_set_back:
            problems = [p for p in problems if not any(text in p for text in CLOCK_PROBLEMS)]
        assert problems == []
        with self.store.snapshot() as snapshot:
            report = snapshot.verify_events()
            assert (report.broken_seq, report.problem) == (0, "")
            open_reservations = {e.key for e in snapshot.open_reservations()}
        ends = [e.subject_uid for e in self.events("RunFinished")]
        assert len(ends) == len(set(ends)), "a run ended twice"
        starts = self.started
        assert len(starts) == len(set(starts)), "a run was started twice"
        runs = [r for r in resources if r.kind == "Run"]
        current = {(m.namespace, m.status.get("currentRun")) for m in resources if m.kind == "Mission"}
        for run in runs:
            is_open = run.state in ("Pending", "Running")
            assert not is_open or (run.namespace, run.name) in current, f"{run.name} is nobody's"
            assert is_open == (f"reserve/run/{run.uid}" in open_reservations), f"reservation of {run.name}"

    def close(self) -> None:
        """Let go of everything."""
        self.readers.close()
        self.harness.close()
