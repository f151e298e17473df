"""What a Job and its pods, as the API server shows them, say of a run. Pure, and never raises on any answer: pods
write part of what is read here.

Who is to try again follows from the reason, as for programs on the engine's machine: an exit code, an end by a signal
or for want of memory, an image that cannot be pulled, a deadline are the mission's ``retry``; a pod that was evicted or
is gone is a worker that is lost, and what it did is not known. A Job that its queue took back is no failure: it waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from controllers.dispatch.executor import RunOutcome
from controllers.dispatch.outcome import conclude, time_of
from controllers.dispatch.output.formats import PARSERS
from controllers.dispatch.output.parsed import message
from controllers.dispatch.supervision.records import ExitError, ExitRecord
from schemas.executor import OutputFormat
from schemas.run import JobPhase, RunReason, RunState

SOURED = frozenset({"ErrImageNeverPull", "InvalidImageName"})
"""Reasons of a container that waits which never pass."""
SOUR = SOURED | {
    "ErrImagePull", "ImagePullBackOff", "ImageInspectError", "RegistryUnavailable", "CreateContainerConfigError",
    "CreateContainerError", "CreatePodSandboxError", "RunContainerError",
}  # fmt: skip
"""Reasons that may pass, but mostly do not."""
_UNSTARTED = frozenset({"StartError", "ContainerCannotRun"})
_TAKEN = frozenset({"Evicted", "Preempting", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "NodeAffinity"})
"""Reasons of a pod that failed although its program did not."""
_LAST_SIGNAL = 64


@dataclass(frozen=True, slots=True)
class Exit:
    """How the agent's container ended. ``record`` is as for a program; ``why`` is better told than it, where it is
    not "". ``lost`` stands for a pod that was taken away."""

    record: ExitRecord
    why: str = ""
    lost: bool = False
    said: str = ""
    """Its termination message."""
    container: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """How a Job stands. ``exit`` tells that it is over; ``stuck`` why it will never begin, "" when it may."""

    phase: JobPhase
    why: str = ""
    pod: str = ""
    node: str = ""
    container: str = ""
    started_at: datetime | None = None
    exit: Exit | None = None
    stuck: str = ""


def read(
    job: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], *, now: datetime, grace: timedelta, started: bool
) -> Seen:
    """How it stands at ``now``. ``pods`` are those of this Job; ``grace`` is how long a pod may fail to begin;
    ``started`` tells that it was seen to run before."""
    pod = _latest(pods)
    container = _agent_name(job, pod)
    status = _status(pod, container)
    running, ended = _part(_part(status, "state"), "running"), _terminated(status)
    seen = Seen(
        JobPhase.WAITING,
        pod=_text(_part(pod, "metadata"), "name"),
        node=_text(_part(pod, "spec"), "nodeName"),
        container=container,
        started_at=time_of(_text(running or ended, "startedAt")) if running or ended else None,
    )
    finished = _finished(job)
    if finished:
        return replace(seen, phase=JobPhase.RUNNING, exit=_exit(job, pod, ended, finished, container, started=started))
    if _text(_part(job, "metadata"), "deletionTimestamp"):
        return replace(seen, phase=JobPhase.DELETING, why="it is being deleted")
    if _part(job, "spec").get("suspend") is True:
        why = "its queue took it back" if started else "it waits in its queue"
        return replace(seen, phase=JobPhase.QUEUED, why=why)
    if running or ended:
        return replace(seen, phase=JobPhase.RUNNING)
    why, reason = _waiting(pod, status)
    age = _age(pod, now)
    stuck = why if reason in SOURED or (reason in SOUR and age is not None and age >= grace) else ""
    return replace(seen, why=why, stuck=stuck)


def outcome(exit_: Exit, output_format: OutputFormat, log: bytes, run_name: str) -> RunOutcome:
    """The outcome of a run whose pod ended, with its log, by the rules that hold for programs. Output and errors stand
    in one stream there. A termination message that the program wrote is its output where it was asked for a text."""
    if output_format is OutputFormat.TEXT and exit_.said and exit_.record.exit_code == 0:
        log = exit_.said.encode()
    made = conclude(exit_.record, PARSERS[output_format], log or exit_.said.encode(), b"", run_name)
    if exit_.lost:
        return replace(made, state=RunState.LOST, reason=RunReason.WORKER_LOST, message=exit_.why)
    if exit_.why and made.state is not RunState.SUCCEEDED:
        return replace(made, message=exit_.why)
    return made


def _exit(
    job: Mapping[str, Any], pod: Mapping[str, Any], ended: Mapping[str, Any], finished: tuple[bool, str, str],
    container: str, *, started: bool,
) -> Exit:  # fmt: skip
    good, reason, text = finished
    began, over = _text(ended, "startedAt"), _text(ended, "finishedAt") or _end_of(job)
    base = ExitRecord("", started_at=began, ended_at=over, duration_ms=_took_ms(job, began, over))
    said = _raw(ended, "message")
    code = ended.get("exitCode")
    pod_reason = _text(_part(pod, "status"), "reason")
    if reason == "DeadlineExceeded" or pod_reason == "DeadlineExceeded":
        state = _part(_status(pod, container), "state")
        if pod and not (started or ended or _part(state, "running")):
            why = f"its time was over before its pod ran: {_waiting(pod, {})[0]}"
            return Exit(replace(base, error=ExitError(RunReason.START_FAILED.value, why)))
        # Its pod is mostly gone by now: that it was not seen to run does not mean that it did not.
        return Exit(replace(base, timed_out=True), said=said, container=container if pod else "")
    if good and not isinstance(code, int):
        code = 0  # its pod is gone already, and it is said to have ended well
    if not good and (pod_reason in _TAKEN or _disrupted(pod)):
        why = _text(_part(pod, "status"), "message")
        return Exit(
            replace(base, lost=True), f"its pod was taken away: {_joined(pod_reason, why) or 'its node did that'}", True
        )
    if not isinstance(code, int) or isinstance(code, bool):
        why = f"its pod is gone ({_joined(reason, text) or 'no reason given'})"
        return Exit(replace(base, lost=True), why, lost=True)
    word = _text(ended, "reason")
    if word in _UNSTARTED:
        missing = "executable file not found" in said or "no such file" in said
        found = RunReason.PROGRAM_NOT_FOUND if missing else RunReason.START_FAILED
        return Exit(replace(base, started_at="", error=ExitError(found.value, message(said) or word)))
    number = _signal(ended, code)
    if word == "OOMKilled":
        limit = _memory(job)
        why = f"out of memory (OOMKilled){': its limit is ' + limit if limit else ''}"
        return Exit(replace(base, signal=number or 9), why, said=said, container=container)
    if number:
        return Exit(replace(base, signal=number), said=said, container=container)
    return Exit(replace(base, exit_code=code), said=said, container=container)


def _signal(ended: Mapping[str, Any], code: int) -> int:
    """The signal that ended the program, 0 for none: runtimes say 128 + its number as exit code."""
    told = ended.get("signal")
    if isinstance(told, int) and not isinstance(told, bool) and 0 < told <= _LAST_SIGNAL:
        return told
    return code - 128 if code in (128 + 9, 128 + 15, 128 + 6, 128 + 11) else 0


def _finished(job: Mapping[str, Any]) -> tuple[bool, str, str] | None:
    """(whether it went well, reason, message) of a Job that is over."""
    for condition in _list(_part(job, "status").get("conditions")):
        if condition.get("status") == "True" and condition.get("type") in ("Complete", "Failed"):
            return condition["type"] == "Complete", _text(condition, "reason"), _text(condition, "message")
    return None


def _waiting(pod: Mapping[str, Any], status: Mapping[str, Any]) -> tuple[str, str]:
    """(for people, reason) of a pod that does not run."""
    if not pod:
        return "it has no pod yet", ""
    waiting = _part(_part(status, "state"), "waiting")
    init = [_part(_part(s, "state"), "waiting") for s in _list(_part(pod, "status").get("initContainerStatuses"))]
    for found in (waiting, *init):
        reason = _text(found, "reason")
        if reason and reason not in ("ContainerCreating", "PodInitializing"):
            return _joined(reason, _text(found, "message")), reason
    for condition in _list(_part(pod, "status").get("conditions")):
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason = _text(condition, "reason") or "Unschedulable"
            return _joined(reason, _text(condition, "message")), reason
    return "its pod is being started", ""


def _latest(pods: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The youngest pod; an empty one when there is none."""
    return max(
        pods,
        key=lambda pod: (_text(_part(pod, "metadata"), "creationTimestamp"), _text(_part(pod, "metadata"), "name")),
        default={},
    )


def _agent_name(job: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    template = _part(_part(_part(job, "spec"), "template"), "spec")
    containers = _list(template.get("containers")) or _list(_part(pod, "spec").get("containers"))
    return _text(containers[0], "name") if containers else ""


def _status(pod: Mapping[str, Any], container: str) -> Mapping[str, Any]:
    for found in _list(_part(pod, "status").get("containerStatuses")):
        if found.get("name") == container:
            return found
    return {}


def _terminated(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return _part(_part(status, "state"), "terminated") or _part(_part(status, "lastState"), "terminated")


def _disrupted(pod: Mapping[str, Any]) -> bool:
    conditions = _list(_part(pod, "status").get("conditions"))
    return any(c.get("type") == "DisruptionTarget" and c.get("status") == "True" for c in conditions)


def _memory(job: Mapping[str, Any]) -> str:
    containers = _list(_part(_part(_part(job, "spec"), "template"), "spec").get("containers"))
    limits = _part(_part(containers[0], "resources"), "limits") if containers else {}
    return str(limits.get("memory", ""))[:40]


def _end_of(job: Mapping[str, Any]) -> str:
    status = _part(job, "status")
    for condition in _list(status.get("conditions")):
        if condition.get("type") in ("Complete", "Failed") and condition.get("status") == "True":
            return _text(condition, "lastTransitionTime")
    return _text(status, "completionTime")


def _took_ms(job: Mapping[str, Any], began: str, over: str) -> int:
    begins = time_of(began) or time_of(_text(_part(job, "status"), "startTime"))
    ends = time_of(over)
    return 0 if begins is None or ends is None else max(0, int((ends - begins).total_seconds() * 1000))


def _age(pod: Mapping[str, Any], now: datetime) -> timedelta | None:
    made = time_of(_text(_part(pod, "metadata"), "creationTimestamp"))
    return None if made is None else now - made


def _part(value: object, field: str) -> Mapping[str, Any]:
    found = value.get(field) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _list(value: object) -> list[Mapping[str, Any]]:
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def _raw(value: Mapping[str, Any], field: str) -> str:
    found = value.get(field)
    return found if isinstance(found, str) else ""


def _text(value: Mapping[str, Any], field: str) -> str:
    """A text as one short line."""
    return message(value.get(field))


def _joined(reason: str, text: str) -> str:
    return f"{reason}: {text}" if reason and text else reason or text
