"""Todo: open, overdue or done. One with a template has a mission that does it."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

from controllers.reconcilers import owned, writing
from controllers.runtime.result import DONE, Result
from decisions.finalizers import finalizers
from decisions.references import references
from schemas.base import Key
from schemas.conditions import Conditions, is_true, set_condition
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES, MissionState
from schemas.resource import RECONCILE_REQUESTED_AT, Resource
from schemas.todo import TodoReason, TodoSpec, TodoState, TodoStatus
from store.contract import Transaction


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a Todo."""
    todo = tx.get(key)
    if todo is None:
        return writing.gone(tx, key)
    if todo.deletion_at is not None:
        return _delete(tx, todo)
    spec, status = TodoSpec.model_validate(todo.spec), TodoStatus.model_validate(todo.status)
    mission = _mission(tx, todo, spec, status)
    state = MissionState(mission.state or MissionState.INBOX) if mission is not None else None
    done = spec.state is TodoState.DONE or state is MissionState.DONE
    ends = due_at(spec)
    overdue = ends is not None and tx.now >= ends and not done
    conditions = _conditions(tx, todo, spec, status.conditions, state, done=done, overdue=overdue)
    was_done = is_true(status.conditions, "Done")
    new = status.model_copy(
        update={
            "conditions": conditions,
            "observed_generation": todo.generation,
            "mission": mission.name if mission is not None else status.mission,
            "done_at": (status.done_at if was_done else tx.now) if done else None,
            "last_handled_reconcile": todo.annotations.get(RECONCILE_REQUESTED_AT) or status.last_handled_reconcile,
        }
    )
    todo = writing.put_status(tx, todo, new)
    writing.note_ready(tx, todo, status.conditions, conditions)
    if done and not was_done:
        why = "Mission" if state is MissionState.DONE else "Declared"
        tx.event(EventType.TODO_DONE, todo, reason=why, message=spec.title)
    return writing.wake_at(tx, todo, ends if ends is not None and tx.now < ends and not done else None)


def due_at(spec: TodoSpec) -> datetime | None:
    """The end of its last day (UTC)."""
    if spec.due_date is None:
        return None
    return datetime.combine(spec.due_date, time(), UTC) + timedelta(days=1)


def _mission(tx: Transaction, todo: Resource, spec: TodoSpec, status: TodoStatus) -> Resource | None:
    """The mission that does it, made at the first look at an open one."""
    name = status.mission or f"{todo.name}-mission"
    if spec.mission_template is None or (spec.state is TodoState.DONE and status.mission is None):
        return None
    if status.mission is not None:
        mission = tx.get(Key("Mission", todo.namespace, name))
        return mission if mission is not None and mission.owner_uid == todo.uid else None
    wanted = spec.mission_template.spec
    changes = {
        "goal_ref": wanted.goal_ref or spec.goal_ref,
        "project_ref": wanted.project_ref or spec.project_ref,
    }
    return owned.make_mission(
        tx, todo, name, spec.mission_template, wanted.model_copy(update=changes), finalizers=finalizers("Mission")
    )


def _conditions(
    tx: Transaction,
    todo: Resource,
    spec: TodoSpec,
    old: Conditions,
    state: MissionState | None,
    *,
    done: bool,
    overdue: bool,
) -> Conditions:
    missing = next((r for r in references(todo.namespace, todo.spec) if tx.get(r.target) is None), None)
    ready, reason, message = True, TodoReason.RECONCILED, spec.title
    if missing is not None and not done:
        ready, reason = False, TodoReason.REFERENCE_NOT_FOUND
        message = f"{'.'.join(map(str, missing.field))}: there is no {missing.target.short}"
    elif state in TERMINAL_STATES and not done:
        ready, reason, message = False, TodoReason.MISSION_FAILED, f"its mission is {state}"
    new = set_condition(old, "Ready", ready, reason, message, now=tx.now, generation=todo.generation)
    if done:
        reason = TodoReason.DONE
    elif overdue:
        reason = TodoReason.OVERDUE
    elif state is not None and state not in TERMINAL_STATES:
        reason = TodoReason.MISSION_RUNNING
    else:
        reason = TodoReason.OPEN
    return set_condition(new, "Done", done, reason, spec.title, now=tx.now, generation=todo.generation)


def _delete(tx: Transaction, todo: Resource) -> Result:
    left = owned.let_go(tx, todo, ("Mission",))
    if not left:
        return owned.finish(tx, todo, "its mission is gone")
    status = TodoStatus.model_validate(todo.status)
    conditions = set_condition(
        status.conditions, "Ready", False, TodoReason.DELETING, "deletion waits for its mission to end", now=tx.now,
        generation=todo.generation,
    )  # fmt: skip
    todo = writing.put_status(tx, todo, status.model_copy(update={"conditions": conditions}))
    writing.note_ready(tx, todo, status.conditions, conditions)
    tx.clear_timer(todo.key, writing.WAKE)
    return DONE
