"""Runs that are Jobs of a cluster: what the store knows of each, and how it comes to its end.

A Job is made by the effect ``job/<run uid>``, looked after by ``watch-job/<run uid>``, deleted by ``delete-job/<run
uid>`` and, once the end is recorded, left to the cluster by ``tidy-job/<run uid>``; any engine on the store may carry
them out. Its name follows from the run, so that making it twice is making it once. Before the first request leaves, the
run says that it is out (``status.job.sentAt``): from then on the run only ends with the word of the cluster, or, where
that is not to be had, as Unknown. How the requests themselves are made is in ``job_runs``.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controllers.dispatch.jobs import document
from controllers.dispatch.jobs.seen import Seen
from controllers.effects.runs import end_run
from controllers.holds.stops import Stops
from controllers.runs import inbox, records
from controllers.runs.run_record import RunRecord
from controllers.runs.text import MESSAGE, line
from controllers.runtime.result import DONE, RequeueAt, Result
from schemas.base import Key
from schemas.event import EventType
from schemas.executor import ExecutorSpec, KubernetesJob
from schemas.hold import HoldMode
from schemas.resource import Resource
from schemas.run import ENDED, JobOfRun, JobPhase, RunReason, RunSpec, RunState, RunStatus
from store.contract import Snapshot, Transaction

KIND = "Job"
"""Key kind that watches over the Job of a run: Job/<namespace>/<run>."""
MAKE, WATCH, DELETE, TIDY = "MakeJob", "WatchJob", "DeleteJob", "TidyJob"
MARGIN = timedelta(minutes=1)
"""So long after its deadline the cluster may take to stop it by itself; then Remit deletes it."""
STOP_WAIT = timedelta(minutes=10)
"""So long its deletion may take to be confirmed; then nobody knows what it does."""
_TIMER = "job"


@dataclass(frozen=True, slots=True)
class Carried:
    """A run and how it is carried: its record, the executor it was pinned to, that one's spec, its Job as it is
    known."""

    run: Resource
    status: RunStatus
    spec: RunSpec
    executor: Key
    executor_spec: ExecutorSpec
    declared: KubernetesJob
    job: JobOfRun
    safe: bool
    """Whether its mission says that repeating the work is safe."""

    @property
    def started(self) -> bool:
        """Whether its pod was seen to run."""
        return self.status.started_at is not None


def offer(tx: Transaction, run_uid: str) -> None:
    """Have the Job made, once."""
    run = tx.get_by_uid(run_uid)
    if run is not None:
        tx.enqueue(MAKE, f"job/{run_uid}", run.key, {"runUid": run_uid})


def find(snapshot: Snapshot, run_uid: str) -> Carried | None:
    """An open run; None when it has ended or is gone, or what it was pinned to is."""
    run = snapshot.get_by_uid(run_uid)
    if run is None or run.state in {state.value for state in ENDED}:
        return None
    spec, status = RunSpec.model_validate(run.spec), RunStatus.model_validate(run.status)
    key = spec.executor_ref.key("Executor", run.namespace)
    executor = snapshot.get(key)
    version = None if executor is None else snapshot.spec_at(executor.uid, spec.executor_generation)
    if version is None:
        return None
    executor_spec = ExecutorSpec.model_validate(version.spec)
    if executor_spec.kubernetes_job is None:
        return None
    pinned = snapshot.spec_at(spec.mission_uid, spec.mission_generation)
    safe = pinned is not None and bool(pinned.spec.get("retry", {}).get("idempotent"))
    job = status.job or JobOfRun(namespace="", name=document.job_name(run.name, run.uid))
    return Carried(run, status, spec, key, executor_spec, executor_spec.kubernetes_job, job, safe)


def begin(tx: Transaction, run_uid: str, namespace: str, stops: Stops) -> tuple[Carried, bool] | None:
    """Say that the Job is about to be asked for; and whether an earlier request may have made it. None when there is
    nothing to make (any more). A run that is to stop, or that a Hold stops, is not made; one that may have been made is
    deleted."""
    found = find(tx, run_uid)
    if found is None or found.job.uid:
        return None
    held = inbox.held(tx, found.run, tx.now, stops)
    halted = found.status.cancel_requested_at is not None or (held is not None and held.mode is HoldMode.STOP)
    if halted or found.job.phase is JobPhase.DELETING:
        withdraw(tx, run_uid)
        found = find(tx, run_uid)
        if found is not None:  # no request of this life is out: what the cluster says from now on counts
            _put(tx, found.run, found.job.model_copy(update={"sent_at": None}))
        return None
    job = found.job.model_copy(
        update={
            "namespace": namespace,
            "sent_at": found.job.sent_at or tx.now,
            "tries": found.job.tries + 1,
            "deadline": found.job.deadline or tx.now + found.spec.timeout + MARGIN,
        }
    )
    assert job.deadline is not None
    tx.set_timer(timer_key(found.run), _TIMER, job.deadline)
    _put(tx, found.run, job)
    again = find(tx, run_uid)
    return None if again is None else (again, found.job.sent_at is not None)


def not_made(tx: Transaction, run_uid: str, why: str, *, certain: bool, ending: records.Ending | None) -> None:
    """Take in that the Job was not made. ``certain`` says that no request of any life may have made it; ``ending`` ends
    the run, None leaves it to be tried again, which it tells."""
    found = find(tx, run_uid)
    if found is None:
        return
    if ending is not None:
        end(tx, run_uid, ending)
        return
    update: dict[str, Any] = {"waits_for": str(found.executor)}
    if certain:
        update["sent_at"] = None
    _tell(tx, found, found.job.model_copy(update=update), why, RunReason.PENDING)


def made(tx: Transaction, run_uid: str, uid: str, *, adopted: bool) -> None:
    """The cluster has the Job: it is looked after from now on."""
    found = find(tx, run_uid)
    if found is None:
        return
    job = found.job.model_copy(
        update={"uid": uid, "created_at": tx.now, "sent_at": None, "phase": JobPhase.WAITING, "waits_for": ""}
    )
    run = _put(tx, found.run, job)
    reason = "Adopted" if adopted else "Created"
    note(tx, run, found.spec, reason, f"{job.namespace}/{job.name}", job=f"{job.namespace}/{job.name}", uid=uid)
    tx.enqueue(WATCH, f"watch-job/{run_uid}", run.key, {"runUid": run_uid})
    if found.status.cancel_requested_at is not None or job.ends_as:
        withdraw(tx, run_uid)


def progress(tx: Transaction, run_uid: str, seen: Seen) -> None:
    """What the cluster says of a Job that is not over; nothing is written when it says the same as before."""
    found = find(tx, run_uid)
    if found is None or found.job.phase is JobPhase.DELETING:
        return
    if seen.phase is JobPhase.DELETING:  # by somebody else: that it is gone is what counts
        unheard(tx, run_uid, "somebody deletes it")
        return
    if seen.stuck:
        stop(tx, found, RunReason.START_FAILED, f"its pod cannot run: {seen.stuck}")
        return
    if seen.phase is JobPhase.RUNNING and not found.started:
        records.mark_started(tx, run_uid, seen.started_at)
        found = find(tx, run_uid) or found
    job, before = found.job, found.job.phase
    waits = seen.phase in (JobPhase.QUEUED, JobPhase.WAITING)
    update: dict[str, Any] = {"phase": seen.phase, "waits_for": str(found.executor) if waits else ""}
    if seen.pod:
        update |= {"pod": seen.pod, "node": seen.node}
    if seen.phase is JobPhase.QUEUED and before is not JobPhase.QUEUED:
        update["preempted"] = job.preempted + (1 if found.started else 0)
        update["deadline"] = None  # the clock of the cluster stands still meanwhile
        tx.clear_timer(timer_key(found.run), _TIMER)
    elif seen.phase is not JobPhase.QUEUED and (before is JobPhase.QUEUED or job.deadline is None):
        update["deadline"] = tx.now + found.spec.timeout + MARGIN
        tx.set_timer(timer_key(found.run), _TIMER, update["deadline"])
    job = job.model_copy(update=update)
    if seen.phase is JobPhase.QUEUED and before is not JobPhase.QUEUED and found.started:
        text = f"taken back by its queue {found.declared.queue_name or ''}".rstrip()
        note(tx, found.run, found.spec, "Preempted", text, job=f"{job.namespace}/{job.name}")
        found = find(tx, run_uid) or found
    why = f"its Job {job.namespace}/{job.name} waits: {seen.why}" if waits else "its pod runs"
    resumed = found.started and before in (JobPhase.QUEUED, JobPhase.WAITING) and seen.phase is JobPhase.RUNNING
    _tell(tx, found, job, why, RunReason.PENDING if waits else RunReason.STARTED, alive=resumed)


def saw_start(tx: Transaction, run_uid: str, seen: Seen) -> None:
    """Its pod runs, or ran, although nobody looked before it was to be stopped."""
    if find(tx, run_uid) is not None:
        records.mark_started(tx, run_uid, seen.started_at)


def unheard(tx: Transaction, run_uid: str, why: str) -> None:
    """Tell that the cluster does not answer. What the Job does meanwhile, nobody knows: the run goes on."""
    found = find(tx, run_uid)
    if found is not None and found.job.phase is not JobPhase.DELETING:
        reason = RunReason.STARTED if found.started else RunReason.PENDING
        _tell(tx, found, found.job, f"nothing good is heard of its Job: {why}", reason)


def withdraw(tx: Transaction, run_uid: str) -> None:
    """Stop a run: one whose Job no cluster can have ends here, for another the Job is deleted."""
    found = find(tx, run_uid)
    if found is None:
        return
    if not found.job.uid and found.job.sent_at is None and found.job.phase is JobPhase.CREATING:
        tx.drop_effect(f"job/{run_uid}")
        text = f"no Job was made for it: {found.status.cancel_reason}".removesuffix(": ")
        ending = records.Ending(state=RunState.CANCELED, reason=RunReason.CANCELED, message=text)
        (end if found.job.tries else _end)(tx, run_uid, ending)
        return
    stop(tx, found, None, "")


def stop(tx: Transaction, found: Carried, ends_as: RunReason | None, why: str) -> None:
    """Have its Job deleted, until it is gone. The run ends as ``ends_as`` then, None: canceled. The first reason
    counts."""
    job = found.job
    until = tx.now + STOP_WAIT
    if job.ends_as or job.phase is JobPhase.DELETING:
        until = job.deadline or until
    else:
        update = {"phase": JobPhase.DELETING, "ends_as": ends_as.value if ends_as else "", "ends_why": why}
        job = job.model_copy(update={**update, "deadline": until, "waits_for": ""})
        _put(tx, found.run, job)
    tx.set_timer(timer_key(found.run), _TIMER, until)
    tx.enqueue(DELETE, f"delete-job/{found.run.uid}", found.run.key, {"runUid": found.run.uid})


def gone(tx: Transaction, run_uid: str) -> None:
    """The cluster has no such Job any more, or never had it."""
    found = find(tx, run_uid)
    if found is None:
        return
    job = found.job
    if job.phase is not JobPhase.DELETING:
        text = f"its Job {job.namespace}/{job.name} is gone: somebody deleted it"
        end(tx, run_uid, records.Ending(state=RunState.LOST, reason=RunReason.WORKER_LOST, message=text))
        return
    note(tx, found.run, found.spec, "Deleted", f"{job.namespace}/{job.name}", job=f"{job.namespace}/{job.name}")
    if not job.ends_as:
        text = "stopped on request: its Job is gone" if found.started else "canceled before its pod ran"
        ending = records.Ending(state=RunState.CANCELED, reason=RunReason.CANCELED, message=text, ended_at=tx.now)
    elif job.ends_as == RunReason.DEADLINE_EXCEEDED and (found.started or job.node):
        text = job.ends_why  # where it had a node, it may have run between two looks
        ending = records.Ending(
            state=RunState.TIMED_OUT, reason=RunReason.DEADLINE_EXCEEDED, message=text, ended_at=tx.now
        )
    else:
        ending = records.Ending(state=RunState.FAILED, reason=RunReason.START_FAILED, message=job.ends_why)
    _end(tx, run_uid, ending)


def end(tx: Transaction, run_uid: str, ending: records.Ending) -> None:
    """End a run whose Job is over or was not made; its Secret goes, and the Job is left to the cluster."""
    found = find(tx, run_uid)
    if found is None:
        return
    _end(tx, run_uid, ending)
    tidy(tx, found)


def tidy(tx: Transaction, found: Carried) -> None:
    """Have its Secret removed, and its Job in its time. Who ended is found no more: the effect says all it takes."""
    payload = {
        "runUid": found.run.uid,
        "runNamespace": found.run.namespace,
        "executor": [found.executor.namespace, found.executor.name],
        "job": [found.job.namespace, found.job.name, found.job.uid],
        "kubernetesJob": {
            name: value
            for name, value in found.declared.to_wire().items()
            if name in ("namespace", "kubeconfig", "context") and value is not None
        },
        "ttl": found.declared.ttl_seconds_after_finished,
    }
    tx.enqueue(TIDY, f"tidy-job/{found.run.uid}", found.run.key, payload)


def store_of(snapshot: Snapshot) -> str:
    """What Jobs of this store are labelled with: it stays with its history, also through a restored backup."""
    first = snapshot.events(limit=1)
    return first[0].hash.removeprefix("sha256:")[:16] if first else "new"


def read_in_vain(tx: Transaction, run_uid: str) -> None:
    """Count that the log of a Job that is over could not be read."""
    found = find(tx, run_uid)
    if found is not None:
        _put(tx, found.run, found.job.model_copy(update={"log_tries": found.job.log_tries + 1}))


def lost(found: Carried, why: str) -> records.Ending:
    """How a run ends of which nobody can know what its Job did."""
    if found.safe:
        return records.Ending(state=RunState.LOST, reason=RunReason.WORKER_LOST, message=why)
    text = f"{why}; its pod may have done the work, and nobody can know"
    return records.Ending(state=RunState.UNKNOWN, reason=RunReason.WORKER_LOST, message=text, retryable=False)


def watch(tx: Transaction, key: Key) -> Result:
    """One look at the deadline of a run (``key`` as of KIND): its Job is deleted then, and the run ends in the end
    also where the cluster says nothing."""
    run = tx.get(Key("Run", key.namespace, key.name))
    found = None if run is None else find(tx, run.uid)
    if found is None or found.job.deadline is None:
        tx.clear_timer(key, _TIMER)
        return DONE
    job, deadline = found.job, found.job.deadline
    assert deadline is not None
    if tx.now < deadline:
        return _wake(tx, key, deadline)
    if not job.uid and job.sent_at is None:
        tx.drop_effect(f"job/{found.run.uid}")
        text = "its time was over before the cluster took its Job"
        end(tx, found.run.uid, records.Ending(state=RunState.FAILED, reason=RunReason.START_FAILED, message=text))
        return DONE
    if job.phase is not JobPhase.DELETING:
        text = (
            "stopped at its deadline: its Job was deleted"
            if found.started or job.node
            else "its time was over before its pod ran"
        )
        stop(tx, found, RunReason.DEADLINE_EXCEEDED, text)
        return _wake(tx, key, tx.now + STOP_WAIT)
    text = f"the cluster did not confirm that its Job {job.namespace}/{job.name} is gone"
    ending = records.Ending(
        state=RunState.UNKNOWN, reason=RunReason.MAY_STILL_BE_RUNNING, message=text, retryable=False
    )
    _end(tx, found.run.uid, ending)
    return DONE


def note(tx: Transaction, run: Resource, spec: RunSpec, reason: str, message: str, **data: Any) -> None:
    """Keep in the log what became of its Job."""
    related = [spec.mission_uid, spec.agent_uid]
    data = {**data, "attempt": spec.attempt, "related": related}
    tx.event(EventType.JOB_CHANGED, run, reason=reason, message=line(message, MESSAGE), data=data)


def timer_key(run: Resource) -> Key:
    """The queue key that watches over a run."""
    return Key(KIND, run.namespace, run.name)


def _tell(tx: Transaction, found: Carried, job: JobOfRun, why: str, reason: RunReason, *, alive: bool = False) -> None:
    """Write how it stands, when that changed; ``alive`` that its agent speaks again from now on."""
    record = RunRecord(tx, found.run)
    record.put(job=job)
    if alive:
        record.put(last_heartbeat_time=tx.now)
    if not found.status.cancel_requested_at:
        record.judge(None, reason, line(why, MESSAGE))
    if record.changed:
        record.save()


def _end(tx: Transaction, run_uid: str, ending: records.Ending) -> None:
    run = tx.get_by_uid(run_uid)
    if run is not None:
        tx.clear_timer(timer_key(run), _TIMER)
    end_run(tx, run_uid, ending)


def _wake(tx: Transaction, key: Key, when: datetime) -> Result:
    tx.set_timer(key, _TIMER, when)
    return RequeueAt(when)


def _put(tx: Transaction, run: Resource, job: JobOfRun) -> Resource:
    status = RunStatus.model_validate(run.status)
    return tx.put_status(run, status.model_copy(update={"job": job}).to_wire())
