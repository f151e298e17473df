"""Budget: how much of its current window is used, and when it will be used up at this pace."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal

from controllers.reconcilers import breaches, counting, extensions, spending, writing
from controllers.runtime.result import DONE, Result
from decisions.meters import Cap, Meter, Reading, room, share
from decisions.windows import Span, span
from schemas.amounts import NOTHING
from schemas.amounts import Amounts as Counted
from schemas.base import Key
from schemas.budget import Amounts, BudgetReason, BudgetSpec, BudgetStatus, Counting, OnBreach, Window
from schemas.conditions import Conditions, set_condition
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES, MissionState
from schemas.quantities import from_micros
from schemas.resource import RECONCILE_REQUESTED_AT, Resource
from store.contract import Snapshot, Transaction

_UNFINISHED = tuple(s.value for s in MissionState if s not in TERMINAL_STATES)


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over a Budget. It writes what is true; who may start is decided where work starts."""
    budget = tx.get(key)
    if budget is None:
        return writing.gone(tx, key)
    if budget.deletion_at is not None:
        breaches.clear_past(tx, budget, everything=True)
        tx.event(EventType.DELETED, budget, reason="Finalized", message="nothing to undo")
        tx.clear_timer(key, writing.WAKE)
        tx.remove(tx.put_finalizers(budget, ()) if budget.finalizers else budget)
        return DONE
    spec, old = BudgetSpec.model_validate(budget.spec), BudgetStatus.model_validate(budget.status)
    window = span(spec.window, spec.time_zone, tx.now)
    meter = _meter(budget.key, spec, "", window)
    readings = []
    for account, reading in _readings(tx, budget, spec, window):
        limit = _meter(budget.key, spec, account, window)
        breaches.warn(tx, budget, limit, share(meter, reading))
        over = room(limit, reading, NOTHING) if spec.on_breach is OnBreach.WARN else None
        if over is not None:
            breaches.passed(tx, over, budget)
        readings.append(reading)
    fullest = max(readings, key=lambda r: (share(meter, r), r.spent.usd_micros + r.reserved.usd_micros), default=_EMPTY)
    breaches.clear_past(tx, budget)
    used = share(meter, fullest)
    problem = _missing(tx, budget.key, spec)
    conditions = _conditions(old.conditions, spec, used, fullest, problem, tx.now, budget.generation)
    status = old.model_copy(
        update={
            "conditions": conditions,
            "observed_generation": budget.generation,
            "window_start": window.start,
            "window_end": window.end,
            "spent": _shown(fullest.spent),
            "reserved": _shown(fullest.reserved),
            "granted": _shown(fullest.granted),
            "remaining": _remaining(meter.cap, fullest),
            "burn_per_hour": _burn(fullest, window, tx.now),
            "forecast_breach_time": _forecast(meter, fullest, window, tx.now),
            "last_handled_reconcile": budget.annotations.get(RECONCILE_REQUESTED_AT, old.last_handled_reconcile),
        }
    )
    budget = writing.put_status(tx, budget, status)
    writing.note_ready(tx, budget, old.conditions, conditions)
    return writing.wake_at(tx, budget, window.end)


_EMPTY = Reading(NOTHING, NOTHING, NOTHING)


def _meter(key: Key, spec: BudgetSpec, account: str, window: Span) -> Meter:
    cap = Cap.of(spec.limits)
    return Meter(account, cap, key.short, spec.on_breach, window, spec.warn_at, key, spec.also_warn_at)


def _readings(tx: Transaction, budget: Resource, spec: BudgetSpec, window: Span) -> Iterable[tuple[str, Reading]]:
    """The accounts that it limits, with what they hold."""
    for account in _accounts(tx, budget.key, spec, window):
        counting.count_in(tx, budget, spec, account, window)
        extensions.end_due(tx, budget.namespace, account)
        yield account, spending.reading(tx, account)


def _accounts(tx: Snapshot, key: Key, spec: BudgetSpec, window: Span) -> Iterable[str]:
    """The accounts that it limits: one, or that of each agent or mission it picks."""
    scope = spec.scope
    if spec.window is Window.RUN:
        return []
    if scope.tenant is not None:
        return [f"tenant/{key.namespace}/{window.name}"]
    if scope.project_ref is not None:
        project = scope.project_ref.key("Project", key.namespace)
        return [f"project/{project.namespace}/{project.name}/{window.name}"]
    if scope.agent_ref is not None:
        agent = tx.get(scope.agent_ref.key("Agent", key.namespace))
        return [] if agent is None else [f"agent/{agent.uid}/{window.name}"]
    if spec.counting is Counting.TOGETHER:
        return [f"budget/{key.namespace}/{key.name}/{window.name}"]
    if scope.agent_selector is not None:
        agents = tx.objects("Agent", namespace=key.namespace, labels=scope.agent_selector.match_labels)
        return [f"agent/{a.uid}/{window.name}" for a in agents]
    labels = scope.mission_selector.match_labels if scope.mission_selector is not None else None
    missions: Iterable[Resource] = tx.objects("Mission", namespace=key.namespace, labels=labels, states=_UNFINISHED)
    if scope.mission_type is not None:
        missions = [m for m in missions if m.spec.get("type", "Ops") == str(scope.mission_type)]
    return [f"mission/{m.uid}/{window.name}" for m in missions]


def _missing(tx: Snapshot, key: Key, spec: BudgetSpec) -> str:
    for kind, ref in (("Project", spec.scope.project_ref), ("Agent", spec.scope.agent_ref)):
        if ref is not None and tx.get(ref.key(kind, key.namespace)) is None:
            return f"there is no {ref.key(kind, key.namespace).short}: it limits nothing yet"
    return ""


def _conditions(
    old: Conditions, spec: BudgetSpec, used: float, reading: Reading, problem: str, now: datetime, generation: int
) -> Conditions:
    ready = BudgetReason.REFERENCE_NOT_FOUND if problem else BudgetReason.RECONCILED
    made = set_condition(old, "Ready", not problem, ready, problem, now=now, generation=generation)
    percent = f"{used:.0%} is spent or reserved"
    if spec.window is Window.RUN:
        verdict, reason, percent = True, BudgetReason.WITHIN_LIMITS, "counts for each run by itself"
    elif used >= 1:
        verdict, reason = False, BudgetReason.EXCEEDED
    elif used >= spec.warn_at:
        verdict, reason = True, BudgetReason.WARNING
    elif reading.granted != NOTHING:
        verdict, reason = True, BudgetReason.EXTENDED
    else:
        verdict, reason, percent = True, BudgetReason.WITHIN_LIMITS, ""
    return set_condition(made, "WithinBudget", verdict, reason, percent, now=now, generation=generation)


def _shown(amounts: Counted) -> Amounts:
    return Amounts(
        usd=from_micros(amounts.usd_micros),
        tokens=amounts.tokens,
        tool_calls=amounts.tool_calls,
        wall_time=timedelta(milliseconds=amounts.wall_ms),
    )


def _remaining(cap: Cap, reading: Reading) -> Amounts:
    """What is left of each limit, never below nothing; absent where there is no limit."""

    def left(name: str) -> int | None:
        limit = getattr(cap, name)
        if limit is None:
            return None
        used = getattr(reading.spent, name) + getattr(reading.reserved, name)
        return max(0, int(limit + getattr(reading.granted, name) - used))

    usd, wall = left("usd_micros"), left("wall_ms")
    return Amounts(
        usd=None if usd is None else from_micros(usd),
        tokens=left("tokens"),
        tool_calls=left("tool_calls"),
        wall_time=None if wall is None else timedelta(milliseconds=wall),
    )


def _burn(reading: Reading, window: Span, now: datetime) -> Decimal | None:
    """USD in an hour, on average since the window began; rounded up to a cent of a cent. None for a window without
    beginning, and in its first minute, which tells nothing."""
    passed = timedelta(0) if window.start is None else now - window.start
    if passed < timedelta(minutes=1):
        return None
    micros = -(-reading.spent.usd_micros * 3_600_000 // (passed // timedelta(milliseconds=1)))
    return from_micros(-(-micros // 100) * 100)


def _forecast(meter: Meter, reading: Reading, window: Span, now: datetime) -> datetime | None:
    """When the limit is reached if spending goes on as it did since the window began; None when that is after its end.
    Counted from what is spent, not from what is reserved."""
    if window.start is None or window.end is None:
        return None
    pace = share(meter, Reading(reading.spent, NOTHING, reading.granted))
    passed = (now - window.start).total_seconds()
    if pace <= 0 or passed <= 0:
        return None
    when = now if pace >= 1 else window.start + timedelta(seconds=round(passed / pace))
    return when if when < window.end else None
