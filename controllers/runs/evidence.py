"""What a run shows of how tightly its agent is held."""

from __future__ import annotations

from datetime import datetime

from decisions.enforcement import sandbox_of
from schemas.agent import RunEvidence
from schemas.executor import ExecutorSpec
from schemas.parsed import parsed
from schemas.resource import Resource
from schemas.run import RunSpec, RunStatus
from store.contract import Snapshot


def of_run(snapshot: Snapshot, run: Resource, at: datetime) -> RunEvidence | None:
    """The evidence of a run, as of ``at``; None for one that is not known to have used a tool."""
    status = parsed(RunStatus, run.status)
    if not status.passages and not status.unasked_calls:
        return None
    spec = parsed(RunSpec, run.spec)
    key = spec.executor_ref.key("Executor", run.namespace)
    executor = snapshot.get(key)
    pinned = None if executor is None else snapshot.spec_at(executor.uid, spec.executor_generation)
    command = None if pinned is None else parsed(ExecutorSpec, pinned.spec).command
    return RunEvidence(
        run=run.name,
        executor=f"{key.namespace}/{key.name}@{spec.executor_generation}",
        at=at,
        passages=status.passages,
        unasked=status.unasked_calls,
        sandbox=sandbox_of(command.argv) if command is not None else "",
    )
