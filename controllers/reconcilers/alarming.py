"""Alerts that follow from facts: raised once when a fact begins, in the transaction that finds it, and settled when it
is over. What a person settled meanwhile stays settled until the fact begins anew.

Each of these facts has a row of its own in the log, which tells people of it (``toldBy``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controllers.reconcilers import alerts
from decisions.agent import ERROR_STREAK
from schemas.agent import AgentReason, AgentStatus
from schemas.alert import AlertType, Severity
from schemas.approval_decision import ApprovalDecisionReason
from schemas.base import Key
from schemas.conditions import find
from schemas.event import EventType
from schemas.mission import MissionState, MissionStatus
from schemas.resource import Resource
from store.contract import Transaction

ATTEMPTS = frozenset(
    {
        ApprovalDecisionReason.SELF_APPROVAL,
        ApprovalDecisionReason.NOT_AN_APPROVER,
        ApprovalDecisionReason.IDENTITY_UNPROVEN,
    }
)
"""Answers of somebody who may not give them."""


def of_agent(tx: Transaction, agent: Resource, status: AgentStatus) -> AgentStatus:
    """Raise and settle the alerts about an agent; its status with those that stand."""
    reachable = find(status.conditions, "Reachable")
    stale = (
        reachable is not None
        and status.active_runs > 0
        and (reachable.status, reachable.reason) == ("False", AgentReason.HEARTBEAT_STALE)
    )
    standing = []
    for type_, holds, title, message in (
        (
            AlertType.AGENT_STALE,
            stale,
            f"{agent.key.short} gives no sign of life",
            f"{reachable.message if reachable is not None else ''}. Look at what its program does "
            f"(remit logs), or stop the mission",
        ),
        (
            AlertType.AGENT_ERROR_STREAK,
            status.error_streak >= ERROR_STREAK,
            f"runs of {agent.key.short} keep failing",
            f"its last {status.error_streak} runs failed. See why (remit describe {agent.key.short}), and hold it "
            f"until that is mended",
        ),
    ):
        stood = type_ in status.alerts
        if holds and not stood:
            details = {"errorStreak": status.error_streak, "activeRuns": status.active_runs}
            _raise(tx, type_, agent, title, message, severity=Severity.MEDIUM, details=details,
                   told_by=EventType.CONDITION_CHANGED)  # fmt: skip
        elif stood and not holds:
            _clear(tx, type_, agent, "it gives signs of life, or works again")
        if holds:
            standing.append(type_.value)
    return status if tuple(standing) == status.alerts else status.model_copy(update={"alerts": tuple(standing)})


def agent_gone(tx: Transaction, agent: Resource) -> None:
    """Settle what stands about an agent that is being removed."""
    for name in AgentStatus.model_validate(agent.status).alerts:
        _clear(tx, AlertType(name), agent, "the agent is gone")


def of_mission(tx: Transaction, mission: Resource, status: MissionStatus) -> None:
    """A mission is about to get this status: raise the alert when it fails, settle it when it goes on."""
    failed = status.state is MissionState.FAILED
    if failed and mission.state != MissionState.FAILED:
        why = f"{status.failure.reason}: {status.failure.message}" if status.failure is not None else ""
        _raise(
            tx,
            AlertType.MISSION_FAILED,
            mission,
            f"{mission.key.short} failed",
            f"{why or 'every attempt failed'}. See why (remit describe {mission.key.short}), then start a new round: "
            f"remit retry {mission.key.short}",
            severity=Severity.MEDIUM,
            details={"attempts": status.attempts, "run": status.last_run or ""},
            told_by=EventType.TRANSITIONED,
        )
    elif mission.state == MissionState.FAILED and not failed:
        _clear(tx, AlertType.MISSION_FAILED, mission, "a new round begins")


def of_refusal(tx: Transaction, decision: Resource, subject: Resource | None, who: str, reason: str) -> None:
    """Somebody answered who may not: about what was asked, by who tried, so that many tries are one alert. A person
    settles it."""
    if reason not in ATTEMPTS:
        return
    about = subject or decision
    _raise(
        tx,
        AlertType.SECURITY_VIOLATION,
        about,
        f"{who or 'somebody'} may not answer {about.key.short}",
        f"{reason}: the answer {decision.name} has no effect. Find out who that was, then settle this: remit resolve",
        severity=Severity.HIGH,
        details={"decision": decision.name, "who": who, "reason": reason},
        detail=who,
        told_by=EventType.DECISION_REFUSED,
        related=decision.uid,
    )


def _raise(
    tx: Transaction, type_: AlertType, subject: Resource, title: str, message: str, *, severity: Severity,
    details: Mapping[str, Any], told_by: EventType, detail: str = "", related: str = "",
) -> None:  # fmt: skip
    alerts.raise_alert(
        tx, type_, subject, severity=severity, title=title, message=message,
        details={**details, "toldBy": told_by.value}, detail=detail, related=[related] if related else [],
    )  # fmt: skip


def _clear(tx: Transaction, type_: AlertType, subject: Resource, why: str) -> None:
    alerts.clear(tx, Key("Alert", subject.namespace, alerts.alert_name(type_, subject.uid)), why)
