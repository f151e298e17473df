"""One seed: an engine, people, workers and faults, in an order that the seed alone decides.

Nothing here waits or reads a clock: the same seed gives the same steps, the same ids and the same event log.
"""

from __future__ import annotations

import itertools
import sqlite3
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from controllers.runs import reports
from controllers.runs.once import Once
from controllers.sources import planning
from controllers.sources.compile import NoCache, compile_unit
from controllers.sources.units import split
from controllers.wiring import DEFAULT_SOURCE
from schemas.base import Key
from schemas.errors import NotFound, Refused, Retry, StoreError
from schemas.mission import Spend
from schemas.resource import Declared
from schemas.run import RunState
from schemas.source import SourceSpec, WideningMode
from store.sql_store import SqlStore
from store.sqlite import SqliteBackend
from tests.fakes.clock import VirtualClock
from tests.fakes.faulty_store import Crash, Fault, FaultyStore
from tests.fakes.memory_source import MemorySource
from tests.fakes.scripted_executor import LOSE_ANSWER, REFUSE, ScriptedExecutor
from tests.fakes.stores import empty_store
from tests.simulation.engine import SimulatedEngine, next_due
from tests.simulation.history import History, Violation, require
from tests.simulation.people import ALICE, People
from tests.simulation.team import TEAM, Team

STEPS = 150
SHOWN = 40
WIDTH = 200
FAR = 4 * 3600.0
"""What is due later than this is left to time: an approval's reminder comes after days."""
MOMENT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
UNREADABLE = ("RepositoryUnreachable", "RefNotFound", "ObjectDamaged", "FetchTimeout", "SignatureUnsigned")


class _Backend(SqliteBackend):
    """Without fsync: no power fails here. What survives a real kill is for tests/integration."""

    def connect(self, *, query_only: bool = False) -> sqlite3.Connection:
        connection = super().connect(query_only=query_only)
        if not query_only:
            connection.execute("PRAGMA synchronous=OFF")
        return connection


def _uids() -> Callable[[], str]:
    """Uids that count."""
    numbers = itertools.count(1)
    return lambda: str(uuid.UUID(int=(7 << 76) | (2 << 62) | next(numbers)))


class Simulation:
    """``run`` plays the seed; ``trace`` is what happened, one line a step."""

    def __init__(self, seed: int, folder: Path, *, steps: int = STEPS) -> None:
        self.seed = seed
        self.steps = steps
        self.trace: list[str] = []
        self._random = Random(seed)
        self._folder = folder
        self._clock = VirtualClock(MOMENT)
        path = folder / "state.db"
        path.write_bytes(empty_store())
        self._inner = SqlStore(_Backend(path, exclusive=True), now=self._clock.now, new_id=_uids())
        self.spec = SourceSpec(url="specs", widening=self._random.choice([WideningMode.APPLY, WideningMode.CONFIRM]))
        self._trouble = self._random.choice([0.0, 0.01, 0.03, 0.08])
        self._calm = False
        self._store = FaultyStore(self._inner, self._choose)
        self._source, self._team_source = MemorySource(), MemorySource()
        self._sources = {DEFAULT_SOURCE: self._source, TEAM: self._team_source}
        self._executor = ScriptedExecutor(self._clock.now, self._executor_fault)
        self.history = History(self._inner, self._executor)
        self._people = People(self._random, self._source, self._inner, self._clock.now())
        self._team = Team(self._random, self._team_source)
        with self._inner.transaction(ALICE) as tx:
            tx.create(Declared(*TEAM, SourceSpec(url="team").to_wire()), manager="cli/alice")
        self._reported: dict[str, set[int]] = {}
        self._lives = 0
        self._hit = ""
        self.engine = self._boot()

    # Faults.

    def _choose(self, possible: tuple[Fault, ...]) -> tuple[Fault, int]:
        if self._calm or self._random.random() >= self._trouble:
            return Fault.NONE, 0
        fault = self._random.choice(possible)
        self._hit += f" [{fault}]"
        return fault, self._random.randint(0, 12)

    def _executor_fault(self) -> str:
        if self._calm or self._random.random() >= 3 * self._trouble:
            return ""
        fault = self._random.choice([REFUSE, LOSE_ANSWER])
        self._hit += f" [{fault}]"
        return fault

    def _boot(self) -> SimulatedEngine:
        while True:
            self._lives += 1
            try:
                return SimulatedEngine(
                    self._store, self._executor, self._sources, self._clock, self._folder, self._lives, self.spec
                )
            except (StoreError, Crash):
                continue

    # Steps.

    def run(self) -> None:
        """Play, heal, check. Raises whatever was violated."""
        weighted: list[tuple[int, Callable[[], str]]] = [
            (42, self._pass), (16, self._pump), (8, self._claim), (10, self._deliver), (10, self._book),
            (8, self._outcome), (7, self._worker_ends), (6, self._time), (1, self._jump), (6, self._commit),
            (3, self._team_commits), (6, self._person),
            (8, self._report), (1, self._crash), (2, self._break_source), (1, self._settle),
        ]  # fmt: skip
        acts, weights = [a for _, a in weighted], [w for w, _ in weighted]
        for _ in range(self.steps):
            self._step(self._random.choices(acts, weights)[0])
        self._heal()

    def _step(self, act: Callable[[], str]) -> None:
        self._hit = ""
        hits = self._store.hits
        name = act.__name__.lstrip("_")
        try:
            said = act()
        except Crash:
            said = "the engine dies"
            self.engine = self._boot()
        except StoreError as error:
            if self._store.hits == hits:
                raise
            said = f"{type(error).__name__}"
        finally:
            self.trace.append(f"{self._clock.now():%H:%M:%S} {name}{self._hit}"[:WIDTH])
        self.trace[-1] = f"{self._clock.now():%H:%M:%S} {name}: {said}{self._hit}"[:WIDTH]
        self.history.observe(self._clock.now())

    def _pass(self) -> str:
        if not self.engine.pending:
            return self._pump()
        key = self._random.choice(sorted(self.engine.pending))
        if key in self._sources:
            return self._sync(key)
        self._hit += f" {key}"
        self.engine.look(key)
        return ""

    def _sync(self, key: Key) -> str:
        self.history.observe(self._clock.now())
        before = self.history.before_sync(f"{key.name}:.")
        source = self._sources[key]
        blind = source.unreadable and source.fails_at != "blobs"  # compiled ones need not be read again
        unusable = bool(blind) or any(f.startswith("bad") for f in source.files)
        try:
            self.engine.look(key)
        finally:
            events = self.history.observe(self._clock.now())
            self.history.after_sync(before, events, usable=not unusable)
        return f"{key.name} {'unusable ' if unusable else ''}{source.branch[-1][:7]}"

    def _pump(self) -> str:
        return "changes" if self.engine.take_changes() else "nothing new"

    def _claim(self) -> str:
        return "effects" if self.engine.claim(self._random.randint(1, 3)) else "no effect is due"

    def _deliver(self) -> str:
        waiting = [o for o in self.engine.out if not o.handled]
        if not waiting:
            return self._claim()
        out = self._random.choice(waiting)
        uid = str(out.effect.payload["runUid"])
        ended, begun = uid in self.history.finished, self._executor.starts[uid]
        self.engine.deliver(out)
        require(not ended or self._executor.starts[uid] == begun, f"{out.effect.subject} had ended and was started")
        if out.error is not None and not isinstance(out.error, (Retry, TimeoutError, StoreError)):
            raise out.error
        return f"{out.effect.type} {out.effect.subject.name} {out.error or ''}"

    def _book(self) -> str:
        handled = [o for o in self.engine.out if o.handled]
        if not handled:
            return self._deliver()
        out = self._random.choice(handled)
        self.engine.book(out)
        return f"{out.effect.type} {out.effect.subject.name}"

    def _outcome(self) -> str:
        told = self._executor.unacknowledged()
        late = [w for w in self._executor.workers.values() if w.acknowledged]
        if late and self._random.random() < 0.1:
            told = late  # once more, long after
        if not told:
            return "nothing ended"
        worker = self._random.choice(told)
        self._hit += f" {worker.name}"
        self.engine.take_outcome(worker)
        return ""

    def _worker_ends(self) -> str:
        running = self._executor.running()
        if not running:
            return "nothing runs"
        worker = self._random.choice(running)
        states = [RunState.SUCCEEDED, RunState.FAILED, RunState.LOST, RunState.TIMED_OUT]
        state = self._random.choices(states, [7, 3, 1, 1])[0]
        if worker.told_to_stop and self._random.random() < 0.8:
            state = RunState.CANCELED
        self._executor.end(worker.uid, state, retryable=self._random.random() < 0.8)
        return f"{worker.name} {state}"

    def _report(self) -> str:
        """A program reports: once more what it said before, out of order, or after its end."""
        if not self._executor.workers:
            return "nobody was started"
        worker = self._random.choice(list(self._executor.workers.values()))
        number = self._random.randint(1, 5)
        once = Once.of(f"usage-{number}", b"usage")
        used = Spend(input_tokens=10**number, source="Reported")
        late = worker.uid in self.history.finished
        self._hit += f" {worker.name}{' late' if late else ''}"
        alive = self._random.random() < 0.2
        if not alive:
            self._reported.setdefault(worker.uid, set()).add(number)
        try:
            if alive:
                self.engine.report(lambda tx: reports.heartbeat(tx, worker.uid))
            else:
                self.engine.report(lambda tx: reports.usage(tx, worker.uid, used, once=once))
        except (Refused, NotFound) as refusal:
            return f"told {type(refusal).__name__}"
        require(not late, f"{worker.name} had ended, and what it reports was taken")
        return "it is alive" if alive else f"{10**number} tokens"

    def _counted_once(self) -> None:
        """What a run says it used is a sum of reports, each at most once: tokens are powers of ten, so a digit above 1
        is a report that counted twice."""
        with self._inner.snapshot() as snapshot:
            runs = snapshot.objects("Run")
        for run in runs:
            tokens = int(run.status.get("spend", {}).get("inputTokens", 0))
            digits = {place for place, digit in enumerate(reversed(str(tokens))) if digit != "0"}
            require(set(str(tokens)) <= {"0", "1"}, f"{run.key} counts a report twice: {tokens} tokens")
            require(digits <= self._reported.get(run.uid, set()), f"{run.key} counts what nobody reported: {tokens}")

    def _time(self) -> str:
        seconds = self._random.choice([1.0, 5.0, 30.0, 90.0])
        due = next_due(self.engine, self._inner, self._clock.now(), self._clock.monotonic())
        if due is not None and due < FAR and self._random.random() < 0.6:
            seconds = due
        self._clock.tick(seconds)
        return f"+{seconds:g} s"

    def _jump(self) -> str:
        seconds = self._random.choice([3600, -3600])
        self._clock.jump_wall(seconds)
        self.history.clock_set_back = self.history.clock_set_back or seconds < 0
        return f"the wall clock is set {seconds:+} s"

    def _commit(self) -> str:
        said = self._people.undo_unrelated() if self._random.random() < 0.1 else self._people.commit()
        if self._random.random() < 0.7:
            self.engine.hint()
        return said

    def _team_commits(self) -> str:
        said = self._team.commit(sorted(self._people.wishes))
        if self._random.random() < 0.7:
            self.engine.hint(TEAM)
        return said

    def _person(self) -> str:
        return self._people.act(self._clock.now())

    def _crash(self) -> str:
        raise Crash

    def _break_source(self) -> str:
        key = self._random.choice(sorted(self._sources))
        source = self._sources[key]
        if source.unreadable:
            source.unreadable = ""
            return f"{key.name} can be read again"
        source.unreadable = self._random.choice(UNREADABLE)
        source.fails_at = self._random.choice(["fetch", "head", "tree", "blobs"])
        return f"{key.name}: {source.unreadable} at {source.fails_at}"

    # Rest and healing.

    def _settle(self) -> str:
        """Let the engine come to rest, without faults and without anything new from outside."""
        calm, self._calm = self._calm, True
        for _ in range(3_000):
            self.engine.take_changes()
            if self.engine.pending:
                self._pass()
            elif self.engine.out:
                out = self.engine.out[0]
                self.engine.book(out) if out.handled else self.engine.deliver(out)
            elif not self.engine.claim(10):
                self._calm = calm
                self.history.observe(self._clock.now())
                self.history.rest()
                return "at rest"
            self.history.observe(self._clock.now())
        raise Violation(f"no rest after 3000 passes: {sorted(map(str, self.engine.pending))[:5]}")

    def _heal(self) -> None:
        """No fault any more; the head is good; workers finish; people confirm, or do not. Everything must end."""
        self._calm = True
        for key, source in self._sources.items():
            source.unreadable = ""
            self.engine.hint(key)
        self._people.mend()
        self._team.mend()
        self._step(self._settle)
        if self._random.random() < 0.5:
            for digest in self._people.pending():
                self._people.confirm(digest, self._clock.now())
        if self._random.random() < 0.5:
            with self._inner.snapshot() as snapshot:
                holds = snapshot.objects("Hold")
            for hold in holds:
                self._people.release(hold.key)
        for _ in range(400):
            self._step(self._settle)
            if not self._quiet():
                self._step(self._all_end)
                continue
            due = next_due(self.engine, self._inner, self._clock.now(), self._clock.monotonic())
            if due is None or due > FAR or (self._only_polls() and self._trace_polls() > 2):
                break
            self._clock.tick(due)
            self._step(self._pump)
        else:
            raise Violation("it does not come to an end")
        self._converged()

    def _quiet(self) -> bool:
        return not self._executor.running() and not self._executor.unacknowledged()

    def _all_end(self) -> str:
        for worker in self._executor.running():
            self._executor.end(worker.uid, RunState.CANCELED if worker.told_to_stop else RunState.SUCCEEDED)
        for worker in self._executor.unacknowledged():
            self.engine.take_outcome(worker)
        return "every worker ends"

    def _only_polls(self) -> bool:
        """Whether nothing but the poll of the source is due in the near future."""
        with self._inner.snapshot() as snapshot:
            waits = [(t.due_at - self._clock.now()).total_seconds() for t in snapshot.timers(limit=100)]
            effects = [e for e in snapshot.effects(limit=10_000) if e.state in ("Pending", "Claimed")]
        return not effects and not [w for w in waits if w < FAR]

    def _trace_polls(self) -> int:
        self._polls = getattr(self, "_polls", 0) + 1
        return self._polls

    def _converged(self) -> None:
        self.history.end(self._store.acknowledged, self._clock.now())
        self._as_declared()
        self._counted_once()
        before = (self._inner.cursor(), sum(self.history.counts.values()))
        self.engine.relist()
        self._step(self._settle)
        after = (self._inner.cursor(), sum(self.history.counts.values()))
        require(before == after, f"a further look at everything wrote something: {before} -> {after}")

    def _as_declared(self) -> None:
        """Plans of the heads against the store hold nothing but what waits for a person."""
        for key, source in self._sources.items():
            self._is_as_declared(key.name, source)

    def _is_as_declared(self, name: str, source: MemorySource) -> None:
        revision = source.head()
        tree = source.read_tree(revision)
        (files,) = split(tree)
        unit = compile_unit(name, files, tree, source, NoCache())
        require(not unit.diagnostics, f"the head is meant to be good: {unit.diagnostics[:2]}")
        with self._inner.snapshot() as snapshot:
            spec = self.spec if source is self._source else SourceSpec(url=name)
            planned = planning.plan_unit(snapshot, name, unit, revision, spec)
            ending = {r.key for r in snapshot.list_unit(f"{name}:.") if r.deletion_at is not None}
        require(not planned.faults, f"faults: {planned.faults[:2]}")
        waiting = {e.key for g in planned.plan.guards for e in g.entries}
        left = [f"{e.action} {e.key}" for e in planned.plan.entries if e.key not in waiting and e.key not in ending]
        require(not left, f"the store is not as the head declares: {left}")
        pending = set(self._people.pending())
        unsaid = [g.digest for g in planned.plan.guards if g.digest not in pending]
        require(not unsaid, "a guard holds something back and the source does not say so")

    def close(self) -> None:
        """Let go of the store."""
        self._inner.close()


class Failed(AssertionError):
    """A seed that fails, told so that it can be replayed."""


def play(seed: int, folder: Path, *, steps: int = STEPS) -> Simulation:
    """Play one seed in an empty folder. Raises Failed with the last steps and how to replay it."""
    simulation = Simulation(seed, folder, steps=steps)
    try:
        simulation.run()
    except Exception as error:
        last = "\n".join(simulation.trace[-SHOWN:])
        raise Failed(
            f"seed {seed}: {type(error).__name__}: {error}\n{last}\n"
            f"replay: python -m tests.simulation.soak --first {seed} --seeds 1"
        ) from error
    finally:
        simulation.close()
    return simulation
