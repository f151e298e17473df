"""An executor that outlives the engine, starts what it is told, and ends runs when the test says so."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from controllers.dispatch.executor import EndedRun, RunOrder, RunOutcome
from schemas.errors import Retry
from schemas.mission import Artifact
from schemas.run import RunReason, RunState

REFUSE, LOSE_ANSWER = "refuse", "lose the answer"
_REASONS = {
    RunState.SUCCEEDED: RunReason.COMPLETED,
    RunState.CANCELED: RunReason.CANCELED,
    RunState.LOST: RunReason.WORKER_LOST,
    RunState.TIMED_OUT: RunReason.DEADLINE_EXCEEDED,
}


@dataclass
class Worker:
    """One run, as its executor sees it."""

    uid: str
    name: str
    namespace: str
    attempt: int
    begun: datetime | None
    ended: EndedRun | None = None
    told_to_stop: bool = False
    acknowledged: bool = False


class ScriptedExecutor:
    """``fault`` is asked at each call: REFUSE fails before anything happened, LOSE_ANSWER after it did, "" for none.
    ``starts`` counts how often a run was really begun."""

    def __init__(self, now: Callable[[], datetime], fault: Callable[[], str]) -> None:
        self._now = now
        self._fault = fault
        self.workers: dict[str, Worker] = {}
        self.starts: Counter[str] = Counter()

    def knows(self, uid: str) -> bool:
        """Whether it keeps anything of a run."""
        return uid in self.workers

    async def start(self, order: RunOrder) -> None:
        fault = self._fault()
        if fault == REFUSE:
            raise Retry("injected: the executor is busy")
        if order.run_uid not in self.workers:
            self.starts[order.run_uid] += 1
            self.workers[order.run_uid] = Worker(
                order.run_uid, order.run_name, order.namespace, order.attempt, self._now()
            )
        if fault == LOSE_ANSWER:
            raise TimeoutError("injected: no answer to the start, which was executed")

    async def cancel(self, run_uid: str, grace_s: float) -> None:
        fault = self._fault()
        if fault == REFUSE:
            raise Retry("injected: the executor is busy")
        worker = self.workers.get(run_uid)
        if worker is None:
            # Not started yet, so it never will be.
            self.workers[run_uid] = Worker(run_uid, "", "", 0, None, told_to_stop=True)
            self.end(run_uid, RunState.CANCELED)
        else:
            worker.told_to_stop = True
        if fault == LOSE_ANSWER:
            raise TimeoutError("injected: no answer to the cancel, which was executed")

    async def acknowledge(self, run_uid: str) -> None:
        fault = self._fault()
        if fault != REFUSE and run_uid in self.workers:
            self.workers[run_uid].acknowledged = True

    # The test's side.

    def running(self) -> list[Worker]:
        """Runs that have not ended, in the order of their start."""
        return [w for w in self.workers.values() if w.ended is None]

    def unacknowledged(self) -> list[Worker]:
        """Runs whose end is still to be told."""
        return [w for w in self.workers.values() if w.ended is not None and not w.acknowledged]

    def end(self, uid: str, state: RunState, *, retryable: bool = True, text: str = "done") -> None:
        """The program of a run ends; the first end counts."""
        worker = self.workers[uid]
        if worker.ended is not None:
            return
        data = text.encode()
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        good = state is RunState.SUCCEEDED
        artifact = Artifact(name="deliverable", size=len(data), digest=digest, text=text, run=worker.name or "run")
        outcome = RunOutcome(
            state=state,
            reason=_REASONS.get(state, RunReason.NON_ZERO_EXIT),
            exit_code=0 if good else 1,
            retryable=retryable and state is not RunState.CANCELED,
            artifacts=(artifact,) if good else (),
            started_at=worker.begun,
            ended_at=self._now(),
        )
        worker.ended = EndedRun(uid, worker.name, worker.namespace, worker.attempt, outcome)
