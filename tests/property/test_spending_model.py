"""Reservations against a model: whatever starts, ends, crashes and races, and however Budgets come, change and go, a
run starts exactly when every limit has room for its worst case, so that none is ever passed unless a run used more than
was reserved for it; and every balance is what its entries add up to."""

from __future__ import annotations

import tempfile
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from controllers.reconcilers import budgets, spending
from controllers.runs import settlement
from decisions.windows import span
from schemas.agent import AgentSpec
from schemas.base import Key
from schemas.budget import BudgetSpec, BudgetStatus, Window
from schemas.executor import ExecutorSpec
from schemas.mission import MissionSpec, Spend
from schemas.quantities import from_micros, to_micros
from schemas.resource import SYSTEM, Declared
from schemas.run import RunState, RunStatus
from store import maintenance
from store.contract import Amounts, EntryKind, LedgerEntry, Store, Transaction
from tests.fakes.scratch import scratch
from tests.fakes.stores import BACKENDS, abandoned

WANT = 250_000
"""The worst case of a run of an Intern, in millionths of a USD."""
BUILT_IN_DAY = 2_000_000
STARTS = (
    datetime(2026, 11, 1, 1, tzinfo=UTC),  # in Havana the next midnight happens twice
    datetime(2026, 3, 7, 20, tzinfo=UTC),  # and here it does not happen at all
    datetime(2026, 10, 24, 20, tzinfo=UTC),  # Berlin puts its clocks back
    datetime(2026, 12, 31, 9, tzinfo=UTC),
)
ZONES = ("UTC", "Europe/Berlin", "America/Havana", "Asia/Kathmandu")
SCOPES: dict[str, dict[str, Any]] = {
    "tenant": {"scope": {"tenant": True}},
    "project": {"scope": {"projectRef": {"name": "site"}}},
    "agents": {"scope": {"agentSelector": {"matchLabels": {"team": "x"}}}, "counting": "Together"},
    "each": {"scope": {"agentSelector": {}}, "counting": "Each"},
    "first": {"scope": {"agentRef": {"name": "first"}}},
}
AGENTS = {"first": {"team": "x"}, "second": {"team": "x"}, "third": {}}


@dataclass
class Started:
    """A run of the model."""

    uid: str
    agent: str
    project: bool
    at: datetime
    used: int | None = None
    over: bool = field(default=False)

    @property
    def counts(self) -> int:
        return WANT if self.used is None else self.used


class SpendingMachine(RuleBasedStateMachine):
    backend = "sqlite"

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: datetime) -> None:
        self.directory = tempfile.TemporaryDirectory(dir=scratch())
        self.harness = BACKENDS[self.backend](Path(self.directory.name))
        self.harness.clock.moment = start
        self.store: Store = self.harness.open()
        self.runs: list[Started] = []
        self.budgets: dict[str, BudgetSpec] = {}
        self.number = 0
        self.lock = threading.Lock()
        with self.store.transaction(SYSTEM) as tx:
            executor = ExecutorSpec.model_validate(
                {"type": "Command", "command": {"argv": ["x"], "outputFormat": "ClaudeJson"}, "timeout": "1m"}
            )
            tx.create(Declared("Executor", "default", "local", executor.to_wire()))
            for name, labels in AGENTS.items():
                agent = AgentSpec.model_validate({"executorRef": {"name": "local"}})
                tx.create(Declared("Agent", "default", name, agent.to_wire(), labels=labels))

    # Model.

    def spent_under(self, spec: BudgetSpec, agent: str) -> int:
        """What counts now against a Budget, as far as it concerns ``agent``."""
        window = span(spec.window, spec.time_zone, self.harness.clock.moment)
        return sum(
            run.counts
            for run in self.runs
            if self.covers(spec, run.agent, run.project)
            and (str(spec.counting) == "Together" or spec.scope.agent_selector is None or run.agent == agent)
            and (window.start is None or window.start <= run.at)
            and (window.end is None or run.at < window.end)
        )

    @staticmethod
    def covers(spec: BudgetSpec, agent: str, project: bool) -> bool:
        scope = spec.scope
        if scope.tenant:
            return True
        if scope.project_ref is not None:
            return project
        if scope.agent_ref is not None:
            return scope.agent_ref.name == agent
        assert scope.agent_selector is not None
        return all(AGENTS[agent].get(k) == v for k, v in scope.agent_selector.match_labels.items())

    def fits(self, agent: str, project: bool) -> bool:
        limits = [
            (self.spent_under(spec, agent), spec.limits.usd)
            for spec in self.budgets.values()
            if self.covers(spec, agent, project)
        ]
        for_agents = (s for s in self.budgets.values() if s.scope.agent_ref or s.scope.agent_selector)
        own = [
            s
            for s in for_agents
            if s.window is Window.DAY and str(s.counting) == "Each" and self.covers(s, agent, project)
        ]
        if not own:
            day = self.harness.clock.moment.date()
            today = sum(r.counts for r in self.runs if r.agent == agent and r.at.date() == day)
            limits.append((today, from_micros(BUILT_IN_DAY)))
        return all(used < to_micros(usd) and used + WANT <= to_micros(usd) for used, usd in limits if usd is not None)

    # What the engine does.

    def reserve(self, tx: Transaction, agent: str, project: bool) -> str | None:
        """The uid of the run that was started; None where a limit has no room."""
        with self.lock:
            self.number += 1
            number = self.number
        declared: dict[str, Any] = {"title": "x", "agentRef": {"name": agent}}
        if project:
            declared["projectRef"] = {"name": "site"}
        spec = MissionSpec.model_validate(declared)
        mission = tx.create(Declared("Mission", "default", f"m{number}", spec.to_wire()))
        worker, executor = (tx.get(Key(k, "default", n)) for k, n in (("Agent", agent), ("Executor", "local")))
        assert worker is not None
        assert executor is not None
        quoted = spending.quote(tx, mission, worker, executor)
        assert quoted.want.usd_micros == WANT
        if quoted.breach is not None:
            return None
        uid = f"run{number}"
        tx.post(
            LedgerEntry(
                settlement.reservation_key(uid), EntryKind.RESERVE, quoted.accounts, quoted.want, tx.now,
                note=quoted.note,
            )
        )  # fmt: skip
        return uid

    @rule(agent=st.sampled_from(sorted(AGENTS)), project=st.booleans())
    def start(self, agent: str, project: bool) -> None:
        expected = self.fits(agent, project)
        with self.store.transaction(SYSTEM) as tx:
            uid = self.reserve(tx, agent, project)
        assert (uid is not None) == expected
        if uid is not None:
            self.runs.append(Started(uid, agent, project, self.harness.clock.moment))

    @rule(agent=st.sampled_from(sorted(AGENTS)), project=st.booleans())
    def die_before_the_commit(self, agent: str, project: bool) -> None:
        with abandoned(self.store) as tx:
            self.reserve(tx, agent, project)

    @rule(agent=st.sampled_from(sorted(AGENTS)), project=st.booleans(), count=st.integers(2, 5))
    def race(self, agent: str, project: bool, count: int) -> None:
        """Several writers at once: as many start as fit one after the other."""
        got: list[str | None] = []

        def attempt() -> None:
            with self.store.transaction(SYSTEM) as tx:
                got.append(self.reserve(tx, agent, project))

        threads = [threading.Thread(target=attempt) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == count
        for uid in sorted(got, key=lambda u: u is None):
            assert (uid is not None) == self.fits(agent, project)
            if uid is not None:
                self.runs.append(Started(uid, agent, project, self.harness.clock.moment))

    def end(self, tx: Transaction, run: Started, usd: int | None) -> Amounts | None:
        spend = Spend() if usd is None else Spend(usd=from_micros(usd), source="Reported")
        status = RunStatus(state=RunState.SUCCEEDED, spend=spend, usage_told=usd is not None)
        return settlement.settle(tx, run.uid, run.uid, status, ran=True)

    @precondition(lambda self: any(run.used is None for run in self.runs))
    @rule(data=st.data(), usd=st.none() | st.integers(0, WANT) | st.integers(WANT, 2 * WANT))
    def settle(self, data: st.DataObject, usd: int | None) -> None:
        """In any order. None: it says nothing of its cost."""
        run = data.draw(st.sampled_from([run for run in self.runs if run.used is None]))
        with abandoned(self.store) as tx:
            self.end(tx, run, usd)
        with self.store.transaction(SYSTEM) as tx:
            booked = self.end(tx, run, usd)
        assert booked is not None
        run.used = WANT if usd is None else usd
        assert booked.usd_micros == run.used

    @precondition(lambda self: any(run.used is not None for run in self.runs))
    @rule(data=st.data(), usd=st.integers(0, 9 * WANT))
    def settle_twice(self, data: st.DataObject, usd: int) -> None:
        run = data.draw(st.sampled_from([run for run in self.runs if run.used is not None]))
        with self.store.transaction(SYSTEM) as tx:
            assert self.end(tx, run, usd) is None

    @precondition(lambda self: any(run.used is None for run in self.runs))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """It turned out that nothing ran."""
        run = data.draw(st.sampled_from([run for run in self.runs if run.used is None]))
        with self.store.transaction(SYSTEM) as tx:
            settlement.settle(tx, run.uid, run.uid, RunStatus(state=RunState.FAILED), ran=False)
        run.used = 0

    # What people and time do.

    @rule(
        name=st.sampled_from(sorted(SCOPES)),
        usd=st.sampled_from(["0", "0.25", "0.6", "1.1"]),
        window=st.sampled_from(["Day", "Month", "Total"]),
        zone=st.sampled_from(ZONES),
    )
    def declare(self, name: str, usd: str, window: str, zone: str) -> None:
        wire = {**SCOPES[name], "window": window, "timeZone": zone, "limits": {"usd": usd}}
        spec = BudgetSpec.model_validate(wire)
        with self.store.transaction(SYSTEM) as tx:
            declared, known = (
                Declared("Budget", "default", name, spec.to_wire()),
                tx.get(Key("Budget", "default", name)),
            )
            if known is None:
                tx.create(declared)
            else:
                tx.put_spec(known, declared)
        self.budgets[name] = spec

    @precondition(lambda self: self.budgets)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.budgets)))
        with self.store.transaction(SYSTEM) as tx:
            budget = tx.get(Key("Budget", "default", name))
            assert budget is not None
            tx.remove(budget)
        del self.budgets[name]

    @precondition(lambda self: self.budgets)
    @rule()
    def look(self) -> None:
        """What a Budget shows is what was used under it, by whoever used most."""
        for name, spec in self.budgets.items():
            key = Key("Budget", "default", name)
            with self.store.transaction(SYSTEM) as tx:
                budgets.reconcile(tx, key)
                budget = tx.get(key)
            assert budget is not None
            status = BudgetStatus.model_validate(budget.status)
            assert status.spent.usd is not None
            assert status.reserved.usd is not None
            shown = to_micros(status.spent.usd + status.reserved.usd)
            used = [self.spent_under(spec, agent) for agent in AGENTS]
            assert shown == max(used)

    @rule(hours=st.sampled_from([0.25, 1, 3.5, 9, 24, 24 * 8]))
    def pass_time(self, hours: float) -> None:
        self.harness.clock.tick(timedelta(hours=hours).total_seconds())

    @rule()
    def die_and_come_back(self) -> None:
        self.store.close()
        self.store = self.harness.open()

    # What must hold.

    @invariant()
    def the_standing_accounts_are_what_the_runs_used(self) -> None:
        if not hasattr(self, "store"):
            return
        with self.store.snapshot() as snapshot:
            for name in AGENTS:
                agent = snapshot.get(Key("Agent", "default", name))
                assert agent is not None
                balance = snapshot.balance(f"agent/{agent.uid}/total")
                mine = [run for run in self.runs if run.agent == name]
                assert balance.spent.usd_micros == sum(r.used for r in mine if r.used is not None)
                assert balance.reserved.usd_micros == WANT * sum(r.used is None for r in mine)

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.close()
            if self.backend == "sqlite":
                url = f"sqlite:///{next(Path(self.directory.name).rglob('*.db'))}"
                assert maintenance.check(url).problems == ()
            self.directory.cleanup()


class PostgresSpendingMachine(SpendingMachine):
    backend = "postgres"


SpendingMachine.TestCase.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
PostgresSpendingMachine.TestCase.settings = settings(max_examples=5, stateful_step_count=25, deadline=None)
TestSpending = SpendingMachine.TestCase
TestSpendingOnPostgres = PostgresSpendingMachine.TestCase
