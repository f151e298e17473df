"""A store with a mission whose run was ordered, as the dispatcher leaves it."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from controllers.runs.settlement import reservation_key
from schemas.agent import AgentSpec
from schemas.base import ObjectRef
from schemas.executor import ExecutorSpec
from schemas.mission import MissionSpec
from schemas.resource import SYSTEM, Declared, Resource
from schemas.run import RunSpec, RunState, RunStatus, run_name
from store.contract import Amounts, Balance, EntryKind, Event, LedgerEntry, Store, Transaction
from store.sql_store import SqlStore
from store.sqlite import BUSY_WAIT_S, SqliteBackend
from tests.fakes.stores import SettableClock, empty_store

RESERVED = Amounts(usd_micros=750_000, tokens=10_000, tool_calls=50, wall_ms=0)


class UuidIds:
    """UUIDs that count: canonical, sorted, the same in each test."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()

    def __call__(self) -> str:
        with self._lock:
            return str(uuid.UUID(int=0x0197_0000_0000_7000_8000_0000_0000_0000 + next(self._numbers)))


@dataclass
class RunBench:
    """A store in ``folder``, with the tools that tests of runs need."""

    folder: Path
    clock: SettableClock = field(default_factory=SettableClock)
    now: Callable[[], datetime] | None = None
    busy_wait_s: float = BUSY_WAIT_S

    def __post_init__(self) -> None:
        self.path = self.folder / "state.db"
        if not self.path.exists():
            self.path.write_bytes(empty_store())
        backend = SqliteBackend(self.path, busy_wait_s=self.busy_wait_s)
        self.store: Store = SqlStore(backend, now=self.now or self.clock, new_id=UuidIds())
        self._numbers = itertools.count(1)

    def close(self) -> None:
        self.store.close()

    @contextmanager
    def tx(self) -> Iterator[Transaction]:
        with self.store.transaction(SYSTEM) as tx:
            yield tx

    def declare(self, kind: str, name: str, spec: dict[str, Any], **labels: str) -> Resource:
        """Create an object."""
        with self.tx() as tx:
            return tx.create(Declared(kind, "default", name, spec, labels=labels))

    def order(
        self,
        *,
        output_format: str = "Remit",
        output_schema: dict[str, Any] | None = None,
        state: RunState = RunState.PENDING,
        reserve: Amounts | None = RESERVED,
        mission: str = "",
        executor: Resource | None = None,
        priority: int = 50,
    ) -> Resource:
        """A run that was ordered, with mission, agent and, unless one is given, executor of its own."""
        name = mission or f"work-{next(self._numbers)}"
        executor = executor or self.declare(
            "Executor",
            f"{name}-local",
            ExecutorSpec.model_validate(
                {"type": "Command", "command": {"argv": ["true"], "outputFormat": output_format}}
            ).to_wire(),
        )
        agent = self.declare(
            "Agent",
            f"{name}-agent",
            AgentSpec.model_validate(
                {"executorRef": {"name": executor.name}, "outputSchema": output_schema or {}}
            ).to_wire(),
            team="docs",
        )
        target = self.declare(
            "Mission",
            name,
            MissionSpec.model_validate(
                {"title": "Work", "agentRef": {"name": agent.name}, "priority": priority}
            ).to_wire(),
        )
        spec = RunSpec(
            mission_ref=ObjectRef(name=target.name),
            mission_uid=target.uid,
            mission_generation=1,
            agent_ref=ObjectRef(name=agent.name),
            agent_uid=agent.uid,
            agent_generation=1,
            executor_ref=ObjectRef(name=executor.name),
            executor_generation=1,
            attempt=1,
            number=1,
            timeout=timedelta(minutes=30),
        )
        status = RunStatus(state=state)
        if state is RunState.RUNNING:
            status = status.model_copy(update={"started_at": self.clock(), "last_heartbeat_time": self.clock()})
        with self.tx() as tx:
            run = tx.create(
                Declared("Run", "default", run_name(name, 1), spec.to_wire()),
                owner_uid=target.uid,
                status=status.to_wire(),
            )
            if reserve is not None:
                accounts = (f"mission/{target.uid}/total", f"run/{run.uid}")
                tx.post(LedgerEntry(reservation_key(run.uid), EntryKind.RESERVE, accounts, reserve, tx.now))
            return run

    def run(self, uid: str) -> Resource:
        with self.store.snapshot() as snapshot:
            found = snapshot.get_by_uid(uid)
        assert found is not None
        return found

    def status(self, uid: str) -> RunStatus:
        return RunStatus.model_validate(self.run(uid).status)

    def events(self, uid: str, *types: str) -> list[Event]:
        """Events whose subject is this object, oldest first."""
        with self.store.snapshot() as snapshot:
            found = snapshot.events(subject_uid=uid, types=types or None)
        return [event for event in found if event.subject_uid == uid]

    def balance(self, uid: str) -> Balance:
        """Of the run's own account."""
        with self.store.snapshot() as snapshot:
            return snapshot.balance(f"run/{uid}")
