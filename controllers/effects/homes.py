"""Which engine an effect of a run belongs to, where several share a store.

A run belongs to the home that first claimed one of its effects. Claiming, noting the home on the run and addressing the
effect to it are one transaction, so that no other engine ever takes that effect again: ``StartRun`` becomes
``StartRun@<home>``, which only engines of that home claim.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from controllers.effects.runs import CANCEL, ELSEWHERE, START, end_run
from controllers.runs import records
from schemas.base import Key
from schemas.parsed import parsed
from schemas.resource import Resource
from schemas.run import RunReason, RunSpec, RunState, RunStatus
from store.contract import Effect, Snapshot, Transaction

SILENCE = timedelta(minutes=10)
"""How long after its latest possible end a run of a home that is gone counts as lost. Covers clocks that differ."""


def addressed(type_: str, home: str) -> str:
    """The type of an effect of one home."""
    return f"{type_}@{home}"


def own_types(home: str) -> list[str]:
    """Types of the effects that only this home claims."""
    return [addressed(type_, home) for type_ in (START, CANCEL)]


def keeper(home: str) -> Callable[[Transaction, Effect], bool]:
    """What an engine of ``home`` does with each effect in the transaction that claims it: whether to go on with it."""

    def keep(tx: Transaction, effect: Effect) -> bool:
        if "@" in effect.type:
            return True
        run = tx.get_by_uid(str(effect.payload["runUid"]))
        if run is None or _is_offered(tx, run):
            return True  # there is nothing to do, or nothing that needs a machine: anybody may
        owner = run.status.get("engine") or home
        if not run.status.get("engine"):
            tx.put_status(run, {**run.status, "engine": home})
        tx.address_effect(effect, addressed(effect.type, owner), keep=owner == home)
        return owner == home

    return keep


def _is_offered(tx: Transaction, run: Resource) -> bool:
    """Whether workers elsewhere fetch it, or are sent it, so that it lives on no engine's machine."""
    ref = run.spec["executorRef"]
    executor = tx.get(Key("Executor", ref.get("namespace") or run.namespace, ref["name"]))
    return executor is not None and executor.spec.get("type") in ELSEWHERE


def abandoned(snapshot: Snapshot, now: datetime) -> list[Resource]:
    """Open runs whose home has been silent since after the moment at which its supervisor must have ended them."""
    found = []
    for run in snapshot.objects("Run", states=[RunState.PENDING.value, RunState.RUNNING.value]):
        status = parsed(RunStatus, run.status)
        if not status.engine:
            continue
        lease = snapshot.lease(f"engine/{status.engine}")
        alive_until = run.created_at if lease is None else lease.expires_at
        # One that is not known to have started may have been, as long as its engine lived.
        began = status.started_at or alive_until
        is_silent = lease is None or not lease.holder or alive_until + SILENCE < now
        if is_silent and began + parsed(RunSpec, run.spec).timeout + SILENCE < now:
            found.append(run)
    return found


def lose(tx: Transaction, run: Resource) -> None:
    """End a run whose home is gone, and what was to be done with it there."""
    home = str(run.status.get("engine"))
    ending = records.Ending(
        state=RunState.LOST, reason=RunReason.WORKER_LOST, message=f"its engine {home} is gone since its deadline"
    )
    for key in (f"start/{run.uid}", f"cancel/{run.uid}"):
        tx.drop_effect(key)
    end_run(tx, run.uid, ending)
