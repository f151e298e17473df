"""Telling people of limits: a warning at each declared share, an alert where a limit stops work, once in each window.

The alert is also the memory: while it is there, nobody is told of the same thing again, also after a restart.
"""

from __future__ import annotations

from controllers.reconcilers import alerts
from decisions.meters import BUILT_IN, Breach, Meter
from schemas.alert import AlertState, AlertType, Severity
from schemas.base import Key
from schemas.budget import OnBreach
from schemas.event import EventType
from schemas.hold import HoldMode, HoldSelector, HoldSpec
from schemas.quantities import format_time, parse_time
from schemas.resource import Declared, Resource, digest
from store.contract import Transaction

MANAGER = "controller/budgets"
_TYPES = (AlertType.BUDGET_WARNING.value, AlertType.BUDGET_EXCEEDED.value)
_ACTS = {
    OnBreach.WARN: "work goes on",
    OnBreach.THROTTLE: "what it covers waits",
    OnBreach.PAUSE_AGENT: "the agent is paused",
    OnBreach.BLOCK_MISSION: "its missions are blocked",
    OnBreach.REQUIRE_APPROVAL: "a person is asked for more",
}


def warn(tx: Transaction, subject: Resource, meter: Meter, used: float) -> None:
    """Say that so much of a limit is spent or reserved, once for each of its thresholds that this reaches."""
    for threshold in sorted({meter.warn_at, *meter.also_warn_at}):
        detail = f"{meter.account}@{threshold}"
        if used < threshold or _was_told(tx, AlertType.BUDGET_WARNING, subject, detail):
            continue
        whose = "the built-in limit" if meter.origin == BUILT_IN else meter.origin
        title = f"{used:.0%} of {whose} is spent or reserved"
        details = {"account": meter.account, "threshold": threshold, **_until(meter)}
        tx.event(EventType.BUDGET_WARNING, subject, reason="Threshold", message=title, data=details)
        alerts.raise_alert(
            tx,
            AlertType.BUDGET_WARNING,
            subject,
            severity=Severity.LOW,
            title=title,
            message=f"told at {threshold:.0%}; see what it goes to: remit costs",
            details=details,
            detail=detail,
        )


def tell(tx: Transaction, breach: Breach, mission: Resource, agent: Resource) -> None:
    """Say that a limit stops a mission (or would, if it did more than warn), and pause the agent where it says so. Not
    while it may still fit, because what is reserved may come back."""
    if not breach.firm:
        return
    meter = breach.meter
    subject = mission if meter.budget is None else tx.get(meter.budget) or mission
    pauses = meter.on_breach is OnBreach.PAUSE_AGENT
    detail = f"/{agent.uid}" if pauses else ""
    if _say(tx, breach, subject, detail, [mission.uid, agent.uid], {"mission": mission.name}) and pauses:
        _pause(tx, breach, agent)


def passed(tx: Transaction, breach: Breach, budget: Resource) -> None:
    """Say that a Budget that stops nothing is used up."""
    if breach.firm:
        _say(tx, breach, budget, "", [], {})


def _say(
    tx: Transaction, breach: Breach, subject: Resource, which: str, related: list[str], more: dict[str, str]
) -> bool:
    """Whether it is news."""
    meter = breach.meter
    detail = f"{meter.account}+{breach.granted}{which}"
    if _was_told(tx, AlertType.BUDGET_EXCEEDED, subject, detail):
        return False
    details = {"account": meter.account, "onBreach": meter.on_breach.value, **more, **_until(meter)}
    act = _ACTS[meter.on_breach]
    tx.event(
        EventType.BUDGET_EXCEEDED,
        subject,
        reason=meter.on_breach.value,
        message=f"{breach.message}: {act}",
        data={**details, "related": related},
    )
    ending = "" if meter.span.end is None else ", or wait for the next window"
    alerts.raise_alert(
        tx,
        AlertType.BUDGET_EXCEEDED,
        subject,
        severity=Severity.MEDIUM if meter.on_breach is OnBreach.WARN else Severity.HIGH,
        title=f"{meter.origin} is used up: {act}",
        message=f"{breach.message}; raise the limit{ending}",
        details=details,
        detail=detail,
        related=related,
    )
    return True


def _pause(tx: Transaction, breach: Breach, agent: Resource) -> None:
    meter = breach.meter
    name = f"budget-{digest([meter.account, breach.granted.usd_micros, agent.uid])[7:19]}"
    key = Key("Hold", agent.namespace, name)
    if tx.get(key) is not None:
        return
    spec = HoldSpec(
        selector=HoldSelector(kinds=("Agent",), names=(agent.name,)),
        mode=HoldMode.HOLD,
        reason=f"{breach.message}. To let it do what still fits: remit release {name}",
        until=meter.span.end,
    )
    tx.create(Declared("Hold", key.namespace, key.name, spec.to_wire()), manager=MANAGER)


def clear_past(tx: Transaction, owner: Resource, *, everything: bool = False) -> None:
    """Settle the alerts about limits of ``owner`` whose window is over, or all of them."""
    for alert in tx.objects("Alert", namespace=owner.namespace, owner_uid=owner.uid):
        if alert.spec["type"] not in _TYPES or alert.state == AlertState.RESOLVED:
            continue
        until = alert.spec.get("details", {}).get("until")
        if everything:
            alerts.clear(tx, alert.key, "the limit is gone")
        elif until is not None and parse_time(until) <= tx.now:
            alerts.clear(tx, alert.key, "the window is over")


def _was_told(tx: Transaction, type_: AlertType, subject: Resource, detail: str) -> bool:
    return tx.get(Key("Alert", subject.namespace, alerts.alert_name(type_, subject.uid, detail))) is not None


def _until(meter: Meter) -> dict[str, str]:
    return {} if meter.span.end is None else {"until": format_time(meter.span.end)}
