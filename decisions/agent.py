"""How an agent fares, and which generation of its spec new runs start with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from decisions import enforcement
from decisions.holds import Held
from decisions.meters import BUILT_IN, Meter
from decisions.mission_facts import Note
from decisions.serving import Trial, explain, fields, trial
from schemas.agent import AgentReason, AgentSpec, AgentStatus, RunEvidence, UpdatePolicy
from schemas.base import Key, ObjectRef
from schemas.conditions import Conditions, is_true, set_condition
from schemas.event import EventType
from schemas.hold import HoldMode
from schemas.kind import Disruption
from schemas.mission import Spend
from schemas.resource import RECONCILE_REQUESTED_AT

ERROR_STREAK = 5
"""So many failed runs in a row are shown as a problem of the agent."""
DRAIN_DEADLINE = timedelta(minutes=10)
"""How long the runs of a deleted agent may go on before they are told to stop."""


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run of the agent that has not ended. ``reports`` is whether its program gives signs of life at all."""

    key: Key
    mission: str
    agent_generation: int
    started_at: datetime | None
    last_heartbeat_at: datetime | None
    cancel_requested: bool
    reports: bool


@dataclass(frozen=True, slots=True)
class LastGood:
    """An older generation that can serve, and the executor it names."""

    generation: int
    executor: ObjectRef


def standing(generation: int, status: AgentStatus, now: datetime) -> Trial:
    """How far the declared generation of an agent has come."""
    return trial(status, generation, status.effective_generation, is_true(status.conditions, "Ready"), now)


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """Everything a decision about an agent may rest on. ``executor_ready`` is None when the executor does not exist.
    ``disruption`` is the class of what changed between the effective generation and the current one. ``in_use_by``
    names missions that are declared for it and not finished. ``last_good`` is None when nothing older can serve;
    ``effective_executor`` is what the effective generation names. ``used_share`` of the limit ``fullest`` is spent or
    reserved, more than of any other. ``executor_version`` is namespace/name@generation of its executor, and
    ``evidence`` what its runs showed, newest first."""

    key: Key
    generation: int
    spec: AgentSpec
    status: AgentStatus
    annotations: Mapping[str, str]
    deleting_since: datetime | None
    executor: Key
    executor_ready: bool | None
    executor_message: str
    held: Held | None
    runs: tuple[OpenRun, ...]
    disruption: Disruption
    in_use_by: tuple[str, ...]
    spend: Spend
    spend_today: Spend
    trial: Trial
    last_good: LastGood | None
    effective_executor: ObjectRef | None
    executor_version: str = ""
    evidence: tuple[RunEvidence, ...] = ()
    used_share: float = 0.0
    fullest: Meter | None = None


@dataclass(slots=True)
class AgentDecision:
    """The new status and what follows: runs to stop (with the reason), whether the finalizers may go."""

    status: AgentStatus
    notes: list[Note]
    cancel: tuple[tuple[Key, str], ...] = ()
    wake_at: datetime | None = None
    finalized: bool = False


def decide(facts: AgentFacts, now: datetime) -> AgentDecision:
    """The agent's status, and what its update policy or its deletion asks for."""
    notes: list[Note] = []
    status = facts.status
    token = facts.annotations.get(RECONCILE_REQUESTED_AT)
    asked = bool(token) and token != status.last_handled_reconcile
    if asked:
        notes.append(Note(EventType.REQUEST_HANDLED, "Reconcile", "looked at on request", {"token": token}))
    effective, cancel, draining, pending = _update(facts, asked)
    problem = _problem(facts)
    if problem and facts.last_good is not None:
        effective, cancel, draining = facts.last_good.generation, (), False
        problem = explain(facts.generation, effective, problem, facts.trial.until if facts.executor_ready else None)
    else:
        problem = ""
    if facts.deleting_since is not None and now >= facts.deleting_since + DRAIN_DEADLINE:
        cancel = tuple((r.key, "AgentDeleted") for r in facts.runs if not r.cancel_requested)
    held_by = enforcement.judge(facts.evidence, facts.executor_version, now)
    if held_by.level is not status.enforcement:
        notes.append(Note(EventType.ENFORCEMENT_CHANGED, held_by.level, held_by.message, {"was": status.enforcement}))
    beats = [r.last_heartbeat_at or r.started_at for r in facts.runs]
    latest = max((b for b in beats if b is not None), default=None)
    status = status.model_copy(
        update={
            "observed_generation": facts.generation,
            "effective_generation": effective,
            "serving_executor": _serving_executor(facts, effective),
            **fields(status, facts.generation, facts.trial),
            "held": _held(facts),
            "active_runs": len(facts.runs),
            "current_missions": tuple(sorted({r.mission for r in facts.runs})),
            "spend": facts.spend,
            "spend_today": facts.spend_today,
            "last_heartbeat_time": _later(status.last_heartbeat_time, latest),
            "enforcement": held_by.level,
            "enforcement_message": held_by.message,
            "last_handled_reconcile": token if asked else status.last_handled_reconcile,
        }
    )
    conditions, wake = _conditions(facts, status, now, draining=draining, pending=pending, last_good=problem)
    if facts.trial.until is not None:
        wake = min(wake, facts.trial.until) if wake is not None else facts.trial.until
    if held_by.until is not None:
        wake = min(wake, held_by.until) if wake is not None else held_by.until
    if facts.deleting_since is not None and facts.runs:
        deadline = facts.deleting_since + DRAIN_DEADLINE
        wake = deadline if wake is None and now < deadline else wake
    return AgentDecision(
        status=status.model_copy(update={"conditions": conditions}),
        notes=notes,
        cancel=cancel,
        wake_at=wake,
        finalized=facts.deleting_since is not None and not facts.runs and not facts.in_use_by,
    )


def _held(facts: AgentFacts) -> str:
    """The strictest of all that stops it, in a word."""
    held = facts.held
    if held is not None and held.quarantine:
        return "Quarantine"
    if held is not None and (held.mode is not HoldMode.HOLD or not facts.spec.suspend):
        return str(held.mode)
    return "Suspend" if facts.spec.suspend else ""


def _problem(facts: AgentFacts) -> str:
    """Why the declared generation is not healthy; "" as far as it is."""
    if facts.deleting_since is not None:
        return ""
    if facts.executor_ready is None:
        return f"there is no {facts.executor.short}"
    if not facts.executor_ready:
        return f"{facts.executor.short}: {facts.executor_message}"
    return facts.trial.problem


def _serving_executor(facts: AgentFacts, effective: int) -> ObjectRef | None:
    """Named only where it is not the declared one."""
    if effective == facts.generation:
        return None
    good = facts.last_good
    ref = good.executor if good is not None and good.generation == effective else facts.effective_executor
    return ref if ref is not None and ref.key("Executor", facts.key.namespace) != facts.executor else None


def _update(facts: AgentFacts, asked: bool) -> tuple[int, tuple[tuple[Key, str], ...], bool, bool]:
    """(generation that new runs start with, runs to stop, whether nothing may start, whether a change waits)."""
    effective = facts.status.effective_generation
    if effective in (0, facts.generation):
        return facts.generation, (), False, False
    gentle = facts.disruption in (Disruption.LIVE, Disruption.NEXT_RUN)
    policy = facts.spec.update_policy
    if gentle or (policy is UpdatePolicy.MANUAL and asked):
        return facts.generation, (), False, False
    if policy is UpdatePolicy.MANUAL:
        return effective, (), False, True
    if policy is UpdatePolicy.IMMEDIATE:
        old = tuple((r.key, "AgentUpdated") for r in facts.runs if not r.cancel_requested)
        return facts.generation, old, False, False
    if not facts.runs:
        return facts.generation, (), False, False
    return effective, (), policy is UpdatePolicy.DRAIN, True


def _conditions(
    facts: AgentFacts, status: AgentStatus, now: datetime, *, draining: bool, pending: bool, last_good: str
) -> tuple[Conditions, datetime | None]:
    reason, ready, message = _ready(facts, draining=draining, pending=pending, last_good=last_good)
    made = status.conditions

    def put(type_: str, value: bool | None, why: AgentReason, text: str = "") -> None:
        nonlocal made
        made = set_condition(made, type_, value, why, text, now=now, generation=facts.generation)

    put("Ready", ready, reason, message)
    held = facts.held
    if held is not None and (held.mode is not HoldMode.HOLD or not facts.spec.suspend):
        put("Suspended", True, AgentReason.QUARANTINED if held.quarantine else AgentReason.HELD, held.hint)
    elif facts.spec.suspend:
        put("Suspended", True, AgentReason.SUSPENDED, "spec.suspend")
    else:
        put("Suspended", False, AgentReason.NOT_HELD)
    put("Conformant", None, AgentReason.NOT_REPORTED)
    _within_budget(facts, put)
    wake = held.until if held is not None else None
    stale_after = facts.spec.heartbeat.stale_after
    heard = {r: (r.last_heartbeat_at or r.started_at or now) + stale_after for r in facts.runs if r.reports}
    silent = [r for r, due in heard.items() if due <= now]
    if silent:
        names = ", ".join(sorted(r.key.name for r in silent))
        put("Reachable", False, AgentReason.HEARTBEAT_STALE, f"no sign of life from {names}")
    elif facts.runs:
        put("Reachable", True, AgentReason.HEARTBEAT_RECEIVED)
        wake = min([*heard.values(), *([wake] if wake is not None else [])], default=None)
    elif status.last_run_time is None:
        put("Reachable", None, AgentReason.IDLE)
    return made, wake


def _within_budget(facts: AgentFacts, put: Callable[[str, bool | None, AgentReason, str], None]) -> None:
    meter, share = facts.fullest, facts.used_share
    if meter is None or share < meter.warn_at:
        put("WithinBudget", True, AgentReason.WITHIN_LIMITS, "")
        return
    origin = "the built-in limit" if meter.origin == BUILT_IN else meter.origin
    reason = AgentReason.BUDGET_EXCEEDED if share >= 1 else AgentReason.BUDGET_WARNING
    put("WithinBudget", share < 1, reason, f"{share:.0%} of {origin} is spent or reserved")


def _ready(facts: AgentFacts, *, draining: bool, pending: bool, last_good: str) -> tuple[AgentReason, bool, str]:
    reason = AgentReason
    if facts.deleting_since is not None:
        if facts.in_use_by:
            return reason.DELETING, False, "in use by " + ", ".join(facts.in_use_by[:5]) + ": reassign or remove them"
        return reason.DELETING, False, f"{len(facts.runs)} open run(s) end first"
    if last_good and not facts.spec.suspend:
        return reason.LAST_GOOD_SERVES, True, last_good
    if facts.executor_ready is None:
        return reason.EXECUTOR_NOT_FOUND, False, f"there is no {facts.executor.short}"
    if not facts.executor_ready:
        return reason.EXECUTOR_NOT_READY, False, f"{facts.executor.short}: {facts.executor_message}"
    if facts.spec.suspend:
        return reason.SUSPENDED, False, "spec.suspend is set"
    if draining:
        return reason.DRAINING, True, "its runs end before the changed spec holds"
    if pending:
        return reason.UPDATE_PENDING, True, f"a changed spec waits (updatePolicy {facts.spec.update_policy})"
    if facts.status.error_streak >= ERROR_STREAK:
        return reason.ERROR_STREAK, True, f"its last {facts.status.error_streak} runs failed"
    return reason.RECONCILED, True, ""


def _later(a: datetime | None, b: datetime | None) -> datetime | None:
    if a is None or b is None:
        return a or b
    return max(a, b)
