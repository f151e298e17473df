"""A whole engine with an executor that does nothing: every component of `remit run` but the agent server, and programs
that end as soon as they start."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from controllers.dispatch.command import CommandExecutor
from controllers.dispatch.executor import EndedRun, RunOrder, RunOutcome
from controllers.wiring import Engine, Place
from schemas.config import Config
from schemas.mission import Artifact
from schemas.resource import SYSTEM, Declared
from schemas.run import RunReason, RunState
from tests.fakes import world

_TEXT = "done"
_DIGEST = "sha256:" + hashlib.sha256(_TEXT.encode()).hexdigest()


class NoOp(CommandExecutor):
    """Ends every run at once, well, once ``open_gate`` was called. ``ended`` counts outcomes that are durable."""

    def let(self, now: Any) -> None:
        """Begin to be used, by an engine whose clock is ``now``."""
        self._now = now
        self._outcomes: asyncio.Queue[EndedRun] = asyncio.Queue()
        self._shut: list[EndedRun] | None = []
        self.ended = 0
        self.started_at: dict[str, float] = {}

    def open_gate(self) -> None:
        shut, self._shut = self._shut or [], None
        for ended in shut:
            self._outcomes.put_nowait(ended)

    @property
    def held(self) -> int:
        """Runs that wait for the gate."""
        return len(self._shut or ())

    async def open(self) -> None:
        """Nothing is left of an earlier life."""

    async def start(self, order: RunOrder) -> None:
        now: datetime = self._now()
        self.started_at[order.run_name] = time.perf_counter()
        artifact = Artifact(name="deliverable", size=len(_TEXT), digest=_DIGEST, text=_TEXT, run=order.run_name)
        outcome = RunOutcome(
            RunState.SUCCEEDED, RunReason.COMPLETED, exit_code=0, artifacts=(artifact,), started_at=now, ended_at=now
        )
        ended = EndedRun(order.run_uid, order.run_name, order.namespace, order.attempt, outcome)
        if self._shut is not None:
            self._shut.append(ended)
        else:
            self._outcomes.put_nowait(ended)

    async def outcomes(self) -> AsyncIterator[EndedRun]:
        while True:
            yield await self._outcomes.get()

    async def acknowledge(self, run_uid: str) -> None:
        self.ended += 1

    def problem(self, executor_spec: Mapping[str, Any], project_root: Path, namespace: str = "") -> None:
        return None


class NoOpEngine:
    """An engine over a directory of specs. Use inside of a running event loop, as a context manager."""

    def __init__(self, folder: Path, store: str | None, *, places: int, agents: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        specs = folder / "specs"
        specs.mkdir()
        (specs / "e.yaml").write_text(world.executor())
        for number in range(agents):
            (specs / f"a{number}.yaml").write_text(world.agent(f"worker{number}", maxConcurrentMissions=places))
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
        self.agents = agents
        self._stop = asyncio.Event()

    async def __aenter__(self) -> NoOpEngine:
        self._task = asyncio.create_task(self.engine.run(self._stop))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        await self._task
        self.engine.close()

    async def until(self, fact: Any, what: str, *, seconds: float = 600.0, pause_s: float = 0.02) -> None:
        """Wait for a fact, which is asked in a thread."""
        for _ in range(int(seconds / pause_s)):
            assert not self._task.done(), "the engine ended"
            if await asyncio.to_thread(fact):
                return
            await asyncio.sleep(pause_s)
        raise AssertionError(f"timeout: {what}")

    def count(self, *states: str) -> int:
        with self.engine.store.snapshot() as snapshot:
            return snapshot.count("Mission", states=states)

    def submit(self, names: list[str]) -> None:
        """Declare missions, as a command does."""
        with self.engine.store.transaction(SYSTEM) as tx:
            tx.create_many(
                [
                    Declared("Mission", "default", name, {
                        "title": f"do {name}", "review": "None", "agentRef": {"name": f"worker{n % self.agents}"},
                    })
                    for n, name in enumerate(names)
                ],
                manager="cli/bench", finalizers=lambda kind: (),
            )  # fmt: skip

    def ready(self) -> int:
        """Missions that wait for a place."""
        with self.engine.store.snapshot() as snapshot:
            return sum(1 for m in snapshot.objects("Mission", states=["Assigned"]) if m.status.get("readySince"))
