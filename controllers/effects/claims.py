"""Claims: how workers of a Pull executor come by runs, keep them, and lose them.

An open run of such an executor is offered by being Pending; nothing else is kept of an offer. A claim is the lease
``claim/<run uid>`` in the store: whoever holds it, under its fencing token, works on the run. A claim is never handed
on while its program may run: one that is not renewed makes its run Lost (or Unknown, when its agent had reported
anything), and what follows is a new run with a new token, as the mission's retry allows. Only a worker that says that
it started nothing gives its run back to be offered again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controllers.dispatch.executor import RunOrder
from controllers.effects.runs import RunContext, end_run, order_of
from controllers.runs import inbox, records
from controllers.runtime.result import DONE, RequeueAt, Result
from decisions import dispatch
from schemas.base import Key
from schemas.errors import Refused, Terminal
from schemas.event import EventType
from schemas.executor import ExecutorSpec, ExecutorStatus, ExecutorType, Pull, WorkerSeen
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES, ENDED, Claim, RunReason, RunSpec, RunState, RunStatus
from store.contract import Snapshot, Transaction

KIND = "Claim"
"""Key kind that watches over the lease of a run: Claim/<namespace>/<run>."""
MARGIN_S = 5.0
"""Beside the time that its program gets to stop: a worker that cannot renew ends it first, and then the run is lost."""
SEEN_EVERY = timedelta(seconds=15)
"""A worker's sign of life is written at most this often."""
REMEMBERED = timedelta(days=1)
MOST_WORKERS = 100
_TIMER = "lease"


@dataclass(frozen=True, slots=True)
class Claimed:
    """A claim that was made: what to do, under which fencing token, renewed how often."""

    order: RunOrder
    fence: int
    lease_s: float


def lease_name(run_uid: str) -> str:
    """Of the claim on a run."""
    return f"claim/{run_uid}"


def lease_s(spec: ExecutorSpec) -> float:
    """Seconds that a claim holds without being renewed."""
    return (spec.pull or Pull()).lease.total_seconds()


def offered(snapshot: Snapshot, executor: Key, now: datetime) -> list[Resource]:
    """Open runs of the executor that a worker may fetch, the next one first: by effective priority, then the oldest.
    Runs that are to stop are left out; Holds are looked at when one is claimed."""
    found: dict[Key, Resource] = {}
    candidates = []
    for run in snapshot.objects("Run", states=[RunState.PENDING.value]):
        status = RunStatus.model_validate(run.status)
        if _executor_of(run) != executor or status.claim is not None or status.cancel_requested_at is not None:
            continue
        if status.hosted_until is not None:
            continue  # the program of its parent does it
        mission = snapshot.get_by_uid(run.owner_uid)
        priority = int(mission.spec.get("priority", 50)) if mission is not None else 0
        found[run.key] = run
        candidates.append(dispatch.Candidate(run.key, priority, run.created_at))
    return [found[candidate.key] for candidate in dispatch.order(candidates, now)]


def claimed_with(snapshot: Snapshot, executor: Key, worker: str, key: str) -> Resource | None:
    """The open run that this request of this worker claimed before."""
    for run in snapshot.objects("Run", states=ACTIVE_STATES):
        claim = RunStatus.model_validate(run.status).claim
        if claim is not None and (claim.worker, claim.key) == (worker, _digest(key)) and _executor_of(run) == executor:
            return run
    return None


def claim(tx: Transaction, executor: Resource, worker: str, key: str, context: RunContext) -> Claimed | None:
    """Give the worker the next run that is offered, or the one that the same request got before; None when there is
    nothing to do. A run whose order cannot be put together ends here. Idempotent by ``key``."""
    before = claimed_with(tx, executor.key, worker, key)
    if before is not None:
        status = RunStatus.model_validate(before.status)
        assert status.claim is not None
        return Claimed(order_of(tx, before, context), status.claim.fence, _renew(tx, before, status.claim))
    for run in offered(tx, executor.key, tx.now):
        if inbox.held(tx, run, tx.now, context.stops) is not None:
            continue
        try:
            order = order_of(tx, run, context)
        except Terminal as error:
            reason = RunReason.START_FAILED
            end_run(tx, run.uid, records.Ending(state=RunState.FAILED, reason=reason, message=str(error)))
            continue
        seconds = lease_s(ExecutorSpec.model_validate(order.executor_spec))
        lease = tx.acquire_lease(lease_name(run.uid), f"{worker}/{_digest(key)}", ttl_s=seconds)
        if lease is None:
            continue
        status = RunStatus.model_validate(run.status)
        made = Claim(worker=worker, key=_digest(key), fence=lease.token, at=tx.now)
        tx.put_status(run, status.model_copy(update={"claim": made}).to_wire())
        tx.set_timer(_timer_key(run), _TIMER, lease.expires_at + _margin(order.executor_spec))
        _note(tx, run, "Claimed", f"by worker {worker}", worker=worker, fence=lease.token)
        return Claimed(order, lease.token, seconds)
    return None


def renew(tx: Transaction, executor: Key, run_uid: str, fence: int, *, started: bool) -> tuple[Resource, float]:
    """Keep the claim; ``started`` tells that its program runs. Returns the run and the seconds that it
    holds from now on. Raises Refused (ClaimOver, StaleClaim, NotClaimed)."""
    run, claim_ = require(tx, executor, run_uid, fence)
    seconds = _renew(tx, run, claim_)
    if started:
        records.mark_started(tx, run_uid)
        run = tx.get_by_uid(run_uid) or run
    return run, seconds


def release(tx: Transaction, executor: Key, run_uid: str, fence: int) -> None:
    """Give back a run whose program was never started: it is offered again, or Canceled when it is to stop. Raises
    Refused (as ``renew``; AlreadyStarted)."""
    run, claim_ = require(tx, executor, run_uid, fence)
    status = RunStatus.model_validate(run.status)
    if status.state is not RunState.PENDING:
        raise Refused(f"{run.name} was started: it can only be brought to its end", reason="AlreadyStarted")
    tx.release_lease(lease_name(run_uid), fence)
    tx.clear_timer(_timer_key(run), _TIMER)
    tx.put_status(run, status.model_copy(update={"claim": None}).to_wire())
    _note(tx, run, "Released", f"worker {claim_.worker} gave it back, not started", worker=claim_.worker)
    if status.cancel_requested_at is not None:
        withdraw(tx, run_uid)


def require(snapshot: Snapshot, executor: Key, run_uid: str, fence: int) -> tuple[Resource, Claim]:
    """The run and its claim, if ``fence`` is the current token. Raises Refused: NotClaimed for a run that is not this
    executor's, ClaimOver for one that has ended, StaleClaim for a token that is not the current one."""
    run = snapshot.get_by_uid(run_uid)
    if run is None or run.kind != "Run" or _executor_of(run) != executor:
        raise Refused("this executor has no run of that uid", reason="NotClaimed")
    status = RunStatus.model_validate(run.status)
    if status.state in ENDED:
        raise Refused(
            f"the claim is over: {run.name} has ended, {status.state}, {status.reason}. Stop its program",
            reason="ClaimOver",
        )
    lease = snapshot.lease(lease_name(run_uid))
    if status.claim is None or status.claim.fence != fence or lease is None or lease.token != fence:
        text = f"fencing token {fence} is not the current one of {run.name}. Stop its program"
        raise Refused(text, reason="StaleClaim")
    return run, status.claim


def end(tx: Transaction, run_uid: str, ending: records.Ending) -> None:
    """Bring a claimed run to its end. Idempotent; who calls has checked the claim in this transaction."""
    run = tx.get_by_uid(run_uid)
    if run is not None:
        tx.clear_timer(_timer_key(run), _TIMER)
    end_run(tx, run_uid, ending)


def withdraw(tx: Transaction, run_uid: str) -> None:
    """End a run that is to stop and that no worker holds; one that is held is told when it renews its claim."""
    run = tx.get_by_uid(run_uid)
    if run is None:
        return
    status = RunStatus.model_validate(run.status)
    if status.state is RunState.PENDING and status.claim is None:
        text = f"not fetched by a worker: {status.cancel_reason}".removesuffix(": ")
        end_run(tx, run_uid, records.Ending(state=RunState.CANCELED, reason=RunReason.CANCELED, message=text))


def watch(tx: Transaction, key: Key) -> Result:
    """One look at the lease of a claimed run (``key`` as of KIND): when it was not renewed in time the run is lost."""
    run = tx.get(Key("Run", key.namespace, key.name))
    status = None if run is None else RunStatus.model_validate(run.status)
    lease = None if run is None else tx.lease(lease_name(run.uid))
    if run is None or status is None or status.state in ENDED or status.claim is None or lease is None:
        tx.clear_timer(key, _TIMER)
        return DONE
    due = lease.expires_at + _margin(_pinned(tx, run))
    if tx.now < due:
        tx.set_timer(key, _TIMER, due)
        return RequeueAt(due)
    text = f"worker {status.claim.worker} did not renew its claim in time"
    reason = RunReason.WORKER_LOST
    end(tx, run.uid, records.Ending(state=RunState.LOST, reason=reason, message=text))
    return DONE


def forgive(tx: Transaction) -> int:
    """Begin every lease anew: the engine was away, and nobody could renew. Returns how many."""
    count = 0
    for run in tx.objects("Run", states=ACTIVE_STATES):
        claim_ = RunStatus.model_validate(run.status).claim
        if claim_ is not None:
            _renew(tx, run, claim_)
            due = tx.now + timedelta(seconds=lease_s(ExecutorSpec.model_validate(_pinned(tx, run))))
            tx.set_timer(_timer_key(run), _TIMER, due + _margin(_pinned(tx, run)))
            count += 1
    return count


def saw_is_due(executor: Resource, worker: str, slots: int, now: datetime) -> bool:
    """Whether the sign of life of a worker would change anything."""
    known = {w.name: w for w in ExecutorStatus.model_validate(executor.status).workers}.get(worker)
    return known is None or slots not in (0, known.slots) or abs(now - known.last_seen) >= SEEN_EVERY


def saw(tx: Transaction, executor: Key, worker: str, slots: int = 0) -> None:
    """Note on the Executor that a worker was here; ``slots`` 0 leaves that as it was known."""
    resource = tx.get(executor)
    if resource is None or not saw_is_due(resource, worker, slots, tx.now):
        return
    status = ExecutorStatus.model_validate(resource.status)
    known = {w.name: w for w in status.workers if tx.now - w.last_seen < REMEMBERED}
    before = known.get(worker)
    number = slots or (before.slots if before is not None else 1)
    known[worker] = WorkerSeen(name=worker, slots=number, last_seen=tx.now)
    latest = sorted(known.values(), key=lambda w: w.last_seen)[-MOST_WORKERS:]
    update = {"workers": tuple(sorted(latest, key=lambda w: w.name)), "last_worker_seen": tx.now}
    tx.put_status(resource, status.model_copy(update=update).to_wire())


def _renew(tx: Transaction, run: Resource, claim_: Claim) -> float:
    """Extend the lease for the same holder, also when it ran out: nobody else can have taken it."""
    seconds = lease_s(ExecutorSpec.model_validate(_pinned(tx, run)))
    lease = tx.acquire_lease(lease_name(run.uid), f"{claim_.worker}/{claim_.key}", ttl_s=seconds)
    if lease is None or lease.token != claim_.fence:
        raise Refused(f"fencing token {claim_.fence} is not the current one of {run.name}", reason="StaleClaim")
    return seconds


def _pinned(snapshot: Snapshot, run: Resource) -> dict[str, Any]:
    """The executor's spec that the run was started with; one with the defaults when it is gone."""
    spec = RunSpec.model_validate(run.spec)
    executor = snapshot.get(_executor_of(run))
    version = None if executor is None else snapshot.spec_at(executor.uid, spec.executor_generation)
    return version.spec if version is not None else {"type": ExecutorType.PULL.value}


def _margin(executor_spec: dict[str, Any]) -> timedelta:
    program = ExecutorSpec.model_validate(executor_spec).program
    grace = program.stop_grace if program is not None else timedelta(seconds=10)
    return grace + timedelta(seconds=MARGIN_S)


def _executor_of(run: Resource) -> Key:
    ref = run.spec["executorRef"]
    return Key("Executor", ref.get("namespace") or run.namespace, ref["name"])


def _timer_key(run: Resource) -> Key:
    return Key(KIND, run.namespace, run.name)


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()[:20]


def _note(tx: Transaction, run: Resource, reason: str, message: str, **data: Any) -> None:
    related = [run.spec["missionUid"], run.spec["agentUid"]]
    tx.event(EventType.RUN_CLAIMED, run, reason=reason, message=message, data={**data, "related": related})
