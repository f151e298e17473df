"""A whole engine with an executor that does nothing: every component of `remit run` but the agent server, real threads
and the real clock, and programs that end as soon as they start."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from controllers.dispatch.command import CommandExecutor
from controllers.dispatch.executor import EndedRun, RunOrder, RunOutcome
from controllers.dispatch.usage import Tokens, UsageReport, UsageSource
from controllers.wiring import Engine, Place
from schemas.config import Config
from schemas.mission import Artifact
from schemas.resource import SYSTEM, Declared
from schemas.run import RunReason, RunState
from tests.fakes import world

SMALL = 50
"""Missions with which nothing is measured."""
PROVIDER = """\
apiVersion: remit.dev/v1alpha1
kind: Provider
metadata: {{name: pool{number}}}
spec: {{maxConcurrency: {slots}}}
"""
WAIT_S = 600.0
QUIET_S = 1.2
"""Longer than what follows behind, such as the index of search, waits for more."""
_TEXT = "done"
_FREE = UsageReport(usd=Decimal(0), tokens=Tokens(), source=UsageSource.REPORTED)
_DIGEST = "sha256:" + hashlib.sha256(_TEXT.encode()).hexdigest()


class NoOp(CommandExecutor):
    """Ends every run as soon as it starts, while the gate is open. ``started_at`` says when they started, by name."""

    def let(self, now: Callable[[], datetime]) -> None:
        """Begin to be used, by an engine whose clock is ``now``; the gate is shut."""
        self._now = now
        self._outcomes: asyncio.Queue[EndedRun] = asyncio.Queue()
        self._shut: list[EndedRun] | None = []
        self.started_at: dict[str, float] = {}

    def open_gate(self) -> None:
        """Let go those that wait, and all others from now on."""
        shut, self._shut = self._shut or [], None
        for ended in shut:
            self._outcomes.put_nowait(ended)

    def shut_gate(self) -> None:
        """Keep those that start from now on."""
        self._shut = []

    @property
    def held(self) -> int:
        """Runs that wait for the gate."""
        return len(self._shut or ())

    async def open(self) -> None:
        """Nothing is left of an earlier life."""

    async def start(self, order: RunOrder) -> None:
        """It runs, and has ended."""
        now = self._now()
        self.started_at[order.run_name] = time.perf_counter()
        artifact = Artifact(name="deliverable", size=len(_TEXT), digest=_DIGEST, text=_TEXT, run=order.run_name)
        outcome = RunOutcome(
            RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0, usage=_FREE, artifacts=(artifact,), started_at=now,
            ended_at=now,
        )  # fmt: skip
        ended = EndedRun(order.run_uid, order.run_name, order.namespace, order.attempt, outcome)
        if self._shut is not None:
            self._shut.append(ended)
        else:
            self._outcomes.put_nowait(ended)

    async def outcomes(self) -> AsyncIterator[EndedRun]:
        """Those that the gate let go."""
        while True:
            yield await self._outcomes.get()

    async def acknowledge(self, run_uid: str) -> None:
        """Nothing is kept of it."""

    def problem(self, executor_spec: Mapping[str, Any], project_root: Path, namespace: str = "") -> None:
        """None: it can always start."""


class NoOpEngine:
    """An engine over a directory of specs, as an asynchronous context manager. ``store`` is the address of a PostgreSQL
    database, None for SQLite; each of the ``agents`` takes ``places`` runs at a time. With ``pools`` they share so many
    Providers, each of which has ``slots``."""

    def __init__(
        self, folder: Path, store: str | None, *, places: int, agents: int = 1, pools: int = 0, slots: int = 0
    ) -> None:
        specs = folder / "specs"
        specs.mkdir(parents=True)
        (specs / "e.yaml").write_text(world.executor())
        for number in range(agents):
            model = {"model": f"{{primary: m, providerRef: {{name: pool{number % pools}}}}}"} if pools else {}
            agent = world.agent(f"worker{number}", maxConcurrentMissions=places, **model)
            (specs / f"a{number}.yaml").write_text(agent)
        for number in range(pools):
            (specs / f"p{number}.yaml").write_text(PROVIDER.format(number=number, slots=slots))
        wire: dict[str, Any] = {"source": {"directory": {"path": "specs"}}}
        if store is not None:
            wire["store"] = store
        config = Config.model_validate(wire)
        self.engine = Engine(
            config, Place(folder, folder / ".remit"), agent_url=lambda: "http://127.0.0.1:1", environment={}
        )
        self.executor = NoOp(folder / ".remit", self.engine.clock, self.engine.blocking, secrets=self.engine._secrets)
        self.executor.let(self.engine.clock.now)
        self.engine._command = self.executor
        self.engine._effects._executors["Command"] = self.executor
        self.agents, self.places = agents, pools * slots if pools else places * agents
        self._submitted = 0
        self._stop = asyncio.Event()

    async def __aenter__(self) -> NoOpEngine:
        gc.freeze()  # as `remit run` does once it has loaded
        self._task = asyncio.create_task(self.engine.run(self._stop))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await self._task
        self.engine.close()
        gc.unfreeze()

    async def until(self, fact: Callable[[], object], what: str, *, pause_s: float = 0.02) -> None:
        """Wait for a fact, which is looked at in a thread."""
        for _ in range(int(WAIT_S / pause_s)):
            if self._task.done():
                self._task.result()
            if await asyncio.to_thread(fact):
                return
            await self.engine.clock.sleep(pause_s)
        raise AssertionError(f"it never came to this: {what}")

    def count(self, *states: str) -> int:
        """Missions in these states."""
        with self.engine.store.snapshot() as snapshot:
            return snapshot.count("Mission", states=states)

    def waiting(self) -> int:
        """Missions that wait for a place."""
        with self.engine.store.snapshot() as snapshot:
            return sum("readySince" in m.status for m in snapshot.objects("Mission", states=["Assigned"]))

    def submit(self, names: Iterable[str]) -> None:
        """Declare missions, one agent after the other."""
        declared = [
            Declared("Mission", "default", name,
                     {"title": f"do {name}", "review": "None", "agentRef": {"name": f"worker{n % self.agents}"}})
            for n, name in enumerate(names)
        ]  # fmt: skip
        with self.engine.store.transaction(SYSTEM) as tx:
            tx.create_many(declared, manager="cli/bench")

    async def lined_up(self, count: int) -> None:
        """Submit so many missions; when this returns all places are taken, the other missions wait, and nothing else is
        at work."""
        self._submitted += count
        first = self._submitted - count
        await asyncio.to_thread(self.submit, [f"m{n:07d}" for n in range(first, self._submitted)])
        held = min(count, self.places)
        await self.until(lambda: self.executor.held == held and self.waiting() == count - held, "they wait")
        seen = -1
        while count > SMALL and seen != self.engine.store.cursor():
            seen = self.engine.store.cursor()
            await self.engine.clock.sleep(QUIET_S)

    async def worked_off(self) -> float:
        """Seconds from the moment at which the first of them ends until all are Done."""
        gc.collect()
        began = time.perf_counter()
        self.executor.open_gate()
        await self.until(lambda: self.count("Done") == self._submitted, "all are done", pause_s=0.01)
        spent = time.perf_counter() - began
        self.executor.shut_gate()
        return spent
