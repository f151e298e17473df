"""Going on with an agent program's session, whose run stopped to wait for leave and ended."""

from __future__ import annotations

import re

from schemas.base import Key
from schemas.executor import ExecutorSpec
from schemas.parsed import parsed
from schemas.resource import Resource
from schemas.run import SESSION_PATTERN, ResumedRun, RunReason, RunSpec, RunState, RunStatus
from store.contract import Snapshot

_SESSION = re.compile(SESSION_PATTERN)


def session_of(tx: Snapshot, mission: Resource, last: str | None, executor: ExecutorSpec) -> ResumedRun | None:
    """The session of the mission's last run, where that run stopped for leave and its executor says how to go on. A
    name that could pass for an option is none: agents write it."""
    if not last or executor.command is None or not executor.command.resume:
        return None
    run = tx.get(Key("Run", mission.namespace, last))
    if run is None or run.owner_uid != mission.uid:
        return None
    status = parsed(RunStatus, run.status)
    waited = status.state is RunState.FAILED and status.reason == RunReason.AWAITING_APPROVAL
    if not waited or not status.session_id or _SESSION.fullmatch(status.session_id) is None:
        return None
    before = parsed(RunSpec, run.spec).resumes
    first = run.uid if before is None else before.first_uid
    return ResumedRun(name=run.name, uid=run.uid, session=status.session_id, first_uid=first)


def fits(tx: Snapshot, resumes: ResumedRun, spec: RunSpec) -> bool:
    """Whether the session was begun for what is to be done now: by the same agent, with the same specs. An edit of any
    of them begins anew."""
    run = tx.get_by_uid(resumes.uid)
    if run is None:
        return False
    before = parsed(RunSpec, run.spec)
    return _work(before) == _work(spec)


def _work(spec: RunSpec) -> tuple[object, ...]:
    executor = (spec.executor_ref, spec.executor_generation)
    return (spec.mission_uid, spec.mission_generation, spec.agent_uid, spec.agent_generation, *executor)
