"""Executor: whether runs can be started with it, and what it can do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controllers.dispatch.http import POSTED
from controllers.effects import posts
from controllers.reconcilers import writing
from controllers.runtime.result import DONE, Result
from decisions import circuit as circuits
from decisions.serving import Trial, explain, fields, trial
from decisions.widening import narrowings
from schemas.base import Key
from schemas.conditions import is_true, set_condition
from schemas.event import EventType
from schemas.executor import (
    Capabilities,
    Circuit,
    CircuitState,
    ExecutorReason,
    ExecutorSpec,
    ExecutorStatus,
    ExecutorType,
)
from schemas.quantities import format_time
from schemas.resource import Resource
from store.contract import Transaction


@dataclass(frozen=True, slots=True)
class Probe:
    """What a look at the machine says of an executor: a reason, words for people, and what it can do."""

    reason: ExecutorReason
    message: str
    capabilities: Capabilities


Prober = Callable[[ExecutorSpec, str], Probe]
"""Looks whether the program, folder and secrets of an executor in a namespace are there; quick, asks no service, and
writes nothing."""

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
        probe = self._probe(spec, executor.namespace)
        executor, status = _circuit(tx, executor, status, spec)
        probe, status, next_look = _workers(spec, status, probe, tx.now)
        probe, next_look = _left_alone(status, probe, next_look)
        ready = probe.reason is ExecutorReason.RECONCILED
        found = self._trial(executor, status, tx)
        serving = executor.generation
        value: bool | None = None if probe.reason is ExecutorReason.NOT_RECONCILED_YET else ready
        reason, message = probe.reason, probe.message
        problem = found.problem if ready else f"{probe.reason}: {probe.message}"
        if probe.reason in (ExecutorReason.NO_WORKERS, ExecutorReason.CIRCUIT_OPEN):
            problem = ""  # whoever is missing would be missing for an older generation too
        if problem:
            older = self._older(tx, executor, found.last_good)
            if older is not None:
                serving, probe, value, reason = found.last_good, older, True, ExecutorReason.LAST_GOOD_SERVES
                message = explain(executor.generation, serving, problem, found.until if ready else None)
        if users:
            reason, message = ExecutorReason.IN_USE, "deletion waits: in use by " + ", ".join(users[:5])
        conditions = set_condition(
            status.conditions, "Ready", value, reason, message, now=tx.now, generation=executor.generation
        )
        new = status.model_copy(
            update={
                "conditions": conditions,
                "observed_generation": executor.generation,
                "serving_generation": serving,
                **fields(status, executor.generation, found),
                "capabilities": probe.capabilities,
            }
        )
        executor = writing.put_status(tx, executor, new)
        writing.note_ready(tx, executor, status.conditions, conditions)
        steady = ready and not problem and not users
        recheck = tx.now + timedelta(seconds=RECHECK_S)
        return writing.wake_at(tx, executor, next_look if steady else min(recheck, next_look or recheck))

    def _trial(self, executor: Resource, status: ExecutorStatus, tx: Transaction) -> Trial:
        served = status.serving_generation or status.observed_generation
        was_ready = is_true(status.conditions, "Ready")
        return trial(status, executor.generation, served, was_ready, tx.now)

    def _older(self, tx: Transaction, executor: Resource, generation: int) -> Probe | None:
        """What a look says of an older generation that can serve; None when it cannot, or when the newer one is
        tighter: a limit that was drawn in is in force, also where that means that nothing runs."""
        pinned = tx.spec_at(executor.uid, generation) if generation else None
        if pinned is None or narrowings("Executor", pinned.spec, executor.spec):
            return None
        probe = self._probe(ExecutorSpec.model_validate(pinned.spec), executor.namespace)
        return probe if probe.reason is ExecutorReason.RECONCILED else None


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


def _circuit(
    tx: Transaction, executor: Resource, status: ExecutorStatus, spec: ExecutorSpec
) -> tuple[Resource, ExecutorStatus]:
    """The circuit breaker as it stands by now: one whose time is over is half-open. Other types have none."""
    known = status.circuit
    if known is None:
        return executor, status
    posted = spec.type in POSTED
    circuit = circuits.half_open(known, tx.now) if posted else Circuit()
    executor = posts.put_circuit(tx, executor, circuit)
    return executor, status.model_copy(update={"circuit": circuit if posted else None})


def _left_alone(status: ExecutorStatus, probe: Probe, next_look: datetime | None) -> tuple[Probe, datetime | None]:
    """An open circuit keeps it from being ready until its time is over."""
    circuit = status.circuit
    if circuit is None or circuit.state is not CircuitState.OPEN or probe.reason is not ExecutorReason.RECONCILED:
        return probe, next_look
    text = f"left alone for a while after failures in a row, the last: {circuit.last_failure}; then one run tries it"
    return replace(probe, reason=ExecutorReason.CIRCUIT_OPEN, message=text), circuit.open_until


def in_use_by(tx: Transaction, executor: Resource) -> tuple[str, ...]:
    """Agents that refer to it, as declared or as they serve, and are not being deleted."""
    users = []
    for agent in tx.objects("Agent"):
        if agent.deletion_at is None and executor.key in _executors(tx, agent):
            users.append(agent.key.short)
    return tuple(users)


def _executors(tx: Transaction, agent: Resource) -> set[Key]:
    """The executor that its declared spec names, and the one of the generation that serves."""
    specs = [agent.spec]
    effective = int(agent.status.get("effectiveGeneration") or agent.generation)
    served = tx.spec_at(agent.uid, effective) if effective != agent.generation else None
    specs += [served.spec] if served is not None else []
    refs = [spec["executorRef"] for spec in specs]
    return {Key("Executor", ref.get("namespace") or agent.namespace, ref["name"]) for ref in refs}
