"""What a run that ended says of the generations of its agent and executor: they have worked, or cannot be started."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from controllers.runs.text import MESSAGE, clean
from controllers.runs.verdict import NEVER_STARTED, Ending
from schemas.agent import AgentStatus
from schemas.executor import ExecutorStatus
from schemas.parsed import parsed
from schemas.resource import Resource
from schemas.run import RunSpec, RunState, RunStatus
from store.contract import Snapshot, Transaction

_SILENT = (RunState.CANCELED, RunState.LOST, RunState.UNKNOWN)
"""Ends that tell nothing about the spec a run was started with."""


def forgiving(snapshot: Snapshot, run: Resource, ending: Ending) -> Ending:
    """The ending, retryable where the run could not be started but another generation will serve the next one."""
    if ending.retryable or not _unstarted(ending.state, ending.reason) or _blamed(snapshot, run) is None:
        return ending
    return replace(ending, retryable=True)


def learn(tx: Transaction, run: Resource) -> None:
    """Take in how an ended run fared: a generation that worked needs no last good one any more; the one that could not
    be started is left alone for a while. Call in the transaction that ends the run, once."""
    status = parsed(RunStatus, run.status)
    if status.state in _SILENT:
        return
    if _unstarted(status.state, status.reason):
        blamed = _blamed(tx, run)
        if blamed is not None:
            text = clean(f"{run.name} could not be started ({status.reason}): {status.message}", MESSAGE)
            failed = {"failed_generation": blamed.generation, "failed_at": tx.now, "failed_message": text}
            _put(tx, blamed, failed)
        return
    for resource, generation in _involved(tx, run):
        if generation == resource.generation and resource.status.get("lastGoodGeneration"):
            _put(tx, resource, {"last_good_generation": 0})


def _unstarted(state: RunState, reason: str) -> bool:
    return state is RunState.FAILED and reason in NEVER_STARTED


def _blamed(snapshot: Snapshot, run: Resource) -> Resource | None:
    """Whose edit is behind it: the executor's, else the agent's, when the run had the declared generation and an older
    one is there to serve."""
    for resource, generation in reversed(_involved(snapshot, run)):
        if generation == resource.generation and resource.status.get("lastGoodGeneration"):
            return resource
    return None


def _involved(snapshot: Snapshot, run: Resource) -> list[tuple[Resource, int]]:
    """The run's agent and executor, as far as they are there, each with the generation that the run had."""
    spec = parsed(RunSpec, run.spec)
    agent = snapshot.get_by_uid(spec.agent_uid)
    executor = snapshot.get(spec.executor_ref.key("Executor", run.namespace))
    found = [(agent, spec.agent_generation), (executor, spec.executor_generation)]
    return [(resource, generation) for resource, generation in found if resource is not None]


def _put(tx: Transaction, resource: Resource, update: dict[str, Any]) -> None:
    current = tx.get(resource.key)
    if current is None:
        return
    model = AgentStatus if current.kind == "Agent" else ExecutorStatus
    tx.put_status(current, parsed(model, current.status).model_copy(update=update).to_wire())
