"""Executor: whether runs can be started with it, and what it can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controllers.reconcilers import writing
from controllers.runtime.result import DONE, Result
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.executor import Capabilities, ExecutorReason, ExecutorSpec, ExecutorStatus, ExecutorType
from schemas.quantities import format_time
from schemas.resource import Resource
from store.contract import Transaction


@dataclass(frozen=True, slots=True)
class Probe:
    """What a look at the machine says of an executor: a reason, words for people, and what it can do."""

    reason: ExecutorReason
    message: str
    capabilities: Capabilities


Prober = Callable[[ExecutorSpec], Probe]
"""Looks whether the program, folder and secrets are there; quick, and writes nothing."""

SHORTEST_SILENCE = timedelta(seconds=90)
"""A worker is taken for gone after this time without a word, or after two leases where that is longer. A waiting one
speaks every half minute."""
RECHECK_S = 60.0
"""A program that is missing now may be installed later: look again."""


class ExecutorReconciler:
    """Reconciles executors with the prober of this process."""

    def __init__(self, probe: Prober) -> None:
        self._probe = probe

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """One pass over an executor."""
        executor = tx.get(key)
        if executor is None:
            return writing.gone(tx, key)
        spec = ExecutorSpec.model_validate(executor.spec)
        status = ExecutorStatus.model_validate(executor.status)
        users = in_use_by(tx, executor) if executor.deletion_at is not None else ()
        if executor.deletion_at is not None and not users:
            tx.event(EventType.DELETED, executor, reason="Finalized", message="no agent refers to it")
            tx.clear_timer(key, writing.WAKE)
            tx.remove(tx.put_finalizers(executor, ()))
            return DONE
        probe = self._probe(spec)
        probe, status, next_look = _workers(spec, status, probe, tx.now)
        ready = probe.reason is ExecutorReason.RECONCILED
        value: bool | None = None if probe.reason is ExecutorReason.NOT_RECONCILED_YET else ready
        reason, message = probe.reason, probe.message
        if users:
            reason, message = ExecutorReason.IN_USE, "deletion waits: in use by " + ", ".join(users[:5])
        conditions = set_condition(
            status.conditions, "Ready", value, reason, message, now=tx.now, generation=executor.generation
        )
        new = status.model_copy(
            update={
                "conditions": conditions,
                "observed_generation": executor.generation,
                "capabilities": probe.capabilities,
            }
        )
        executor = writing.put_status(tx, executor, new)
        writing.note_ready(tx, executor, status.conditions, conditions)
        return writing.wake_at(tx, executor, next_look if ready else tx.now + timedelta(seconds=RECHECK_S))


def _workers(
    spec: ExecutorSpec, status: ExecutorStatus, probe: Probe, now: datetime
) -> tuple[Probe, ExecutorStatus, datetime | None]:
    """What the signs of life of the workers of a Pull executor make of the probe and the status, and when the next of
    them is missing. Other types are left as they are."""
    if spec.type is not ExecutorType.PULL:
        return probe, status.model_copy(update={"workers": (), "workers_ready": None, "last_worker_seen": None}), None
    lease = spec.pull.lease if spec.pull is not None else timedelta()
    silence = max(SHORTEST_SILENCE, 2 * lease)
    here = [worker for worker in status.workers if now - worker.last_seen < silence]
    status = status.model_copy(update={"workers_ready": len(here)})
    if probe.reason is not ExecutorReason.RECONCILED:
        return probe, status, None
    if here:
        names = ", ".join(worker.name for worker in here[:5]) + (", ..." if len(here) > 5 else "")
        return replace(probe, message=f"workers: {names}"), status, min(w.last_seen for w in here) + silence
    seen = (
        f"the last was seen at {format_time(status.last_worker_seen)}" if status.last_worker_seen else "none ever did"
    )
    text = f"no worker asks for runs; {seen}. Start one: remit worker --executor NAME --url URL"
    return replace(probe, reason=ExecutorReason.NO_WORKERS, message=text), status, None


def in_use_by(tx: Transaction, executor: Resource) -> tuple[str, ...]:
    """Agents that refer to it and are not being deleted."""
    users = []
    for agent in tx.objects("Agent"):
        ref = agent.spec["executorRef"]
        place = (ref.get("namespace") or agent.namespace, ref["name"])
        if place == (executor.namespace, executor.name) and agent.deletion_at is None:
            users.append(agent.key.short)
    return tuple(users)
