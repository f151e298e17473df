"""What people are told: from a row of the event log to a notification, and which routes want it. Pure.

Every text is bounded and plain. Words of agents stand in it as data; commands are made of names that were checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from decisions import visible
from schemas.alert import SEVERITY_ORDER, AlertType, Severity
from schemas.approval_decision import ApprovalDecisionReason
from schemas.approval_request import RequestType
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.channel import DEFAULT_NOTIFICATIONS, ChannelSpec, Notification
from schemas.event import EventType
from schemas.identity import is_name, is_namespace
from schemas.message import Direction, MessageReason, MessageState
from schemas.mission import MissionReason, MissionState
from schemas.quantities import parse_time

TITLE = 200
TEXT = 3_000
_REASON = 1_000
_MESSAGE = 2_500
_DIGEST = re.compile(r"^sha256:[0-9a-f]{64}$")
_UNHEALTHY = frozenset({"HeartbeatStale", "ErrorStreak", "ExecutorNotReady", "ExecutorNotFound", "LastGoodServes"})
_ATTEMPTS = frozenset(
    {ApprovalDecisionReason.SELF_APPROVAL, ApprovalDecisionReason.NOT_AN_APPROVER,
     ApprovalDecisionReason.IDENTITY_UNPROVEN}
)  # fmt: skip
_SIGNATURE = ("Signature", "AllowedSigners", "HistoryRewritten")
_UNSAID = frozenset({MessageState.BLOCKED, MessageState.CANCELED, MessageState.FAILED})
_BY_HOLD = frozenset({MissionReason.STOPPED, MissionReason.QUARANTINED})
"""Whoever placed the Hold knows, and HoldPlaced says it once for all missions."""
_ALERTS = {
    AlertType.BUDGET_WARNING: Notification.BUDGET_WARNING,
    AlertType.BUDGET_EXCEEDED: Notification.BUDGET_EXCEEDED,
    AlertType.LOOP_DETECTED: Notification.LOOP_DETECTED,
    AlertType.AGENT_ERROR_STREAK: Notification.AGENT_UNHEALTHY,
    AlertType.AGENT_STALE: Notification.AGENT_UNHEALTHY,
    AlertType.AGENT_NOT_CONFORMANT: Notification.AGENT_UNHEALTHY,
    AlertType.SECURITY_VIOLATION: Notification.SECURITY_VIOLATION,
    AlertType.POLICY_VIOLATION: Notification.SECURITY_VIOLATION,
    AlertType.TOOLS_QUARANTINED: Notification.SECURITY_VIOLATION,
    AlertType.AUDIT_CHAIN_BROKEN: Notification.SECURITY_VIOLATION,
}
READ = tuple(
    str(t)
    for t in (
        EventType.APPROVAL_REQUESTED, EventType.APPROVAL_EXPIRED, EventType.TRANSITIONED, EventType.CREATED,
        EventType.UPDATED, EventType.ALERT_RAISED, EventType.CONDITION_CHANGED, EventType.DECISION_REFUSED,
        EventType.HISTORY_REWRITTEN, EventType.GUARD_RAISED, EventType.SYNC_FAILED, EventType.HOLD_PLACED,
        EventType.HOLD_RELEASED, EventType.MESSAGE_ENDED,
    )
)  # fmt: skip
"""Types of events that may be news."""
CENTRE = frozenset({*DEFAULT_NOTIFICATIONS, Notification.SECURITY_VIOLATION, Notification.CONFIRMATION_REQUIRED})
"""What the notification centre keeps where no Channel of type Dashboard says otherwise."""

SEVERITIES = {
    Notification.APPROVAL_REQUIRED: Severity.HIGH,
    Notification.APPROVAL_REMINDER: Severity.HIGH,
    Notification.APPROVAL_EXPIRED: Severity.HIGH,
    Notification.ASSISTANCE_REQUIRED: Severity.HIGH,
    Notification.MISSION_FAILED: Severity.MEDIUM,
    Notification.MISSION_COMPLETED: Severity.LOW,
    Notification.TODO_ASSIGNED: Severity.LOW,
    Notification.BUDGET_WARNING: Severity.LOW,
    Notification.BUDGET_EXCEEDED: Severity.HIGH,
    Notification.AGENT_UNHEALTHY: Severity.MEDIUM,
    Notification.LOOP_DETECTED: Severity.HIGH,
    Notification.SECURITY_VIOLATION: Severity.CRITICAL,
    Notification.CONFIRMATION_REQUIRED: Severity.MEDIUM,
    Notification.SYNC_FAILED: Severity.HIGH,
    Notification.HOLD_PLACED: Severity.MEDIUM,
    Notification.HOLD_RELEASED: Severity.LOW,
    Notification.DAILY_SUMMARY: Severity.LOW,
    Notification.MESSAGE: Severity.LOW,
}
"""How pressing each is, unless what happened says more."""


@dataclass(frozen=True, slots=True)
class Happened:
    """A row of the event log."""

    seq: int
    at: datetime
    type: str
    subject: Key
    subject_uid: str
    actor: str
    reason: str
    message: str
    data: Mapping[str, Any]

    @property
    def namespace(self) -> str:
        """Whose channels hear of it: an object without a namespace is the tenant of that name, or the operators'."""
        if self.subject.namespace:
            return self.subject.namespace
        return self.subject.name if self.subject.kind == "Tenant" else DEFAULT_NAMESPACE


@dataclass(frozen=True, slots=True)
class About:
    """What is known of the subject by now: its spec and status, and those of the mission it belongs to."""

    spec: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    mission: str = ""
    mission_status: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    channels: frozenset[str] = frozenset()
    """Channels that hear of it whatever its labels: that of its project."""


@dataclass(frozen=True, slots=True)
class Told:
    """One notification."""

    event: Notification
    severity: Severity
    title: str
    text: str
    command: str = ""
    until: datetime | None = None


def kind_of(happened: Happened) -> Notification | None:
    """Which notification the row is, by itself; None when it is none."""
    match happened.type:
        case EventType.APPROVAL_REQUESTED if happened.reason == "Reminder":
            return Notification.APPROVAL_REMINDER
        case EventType.APPROVAL_REQUESTED if happened.reason != RequestType.UNBLOCK:  # the Blocked mission says it
            return Notification.APPROVAL_REQUIRED
        case EventType.APPROVAL_EXPIRED:
            return Notification.APPROVAL_EXPIRED
        case EventType.TRANSITIONED:
            return _moved(happened)
        case EventType.CREATED | EventType.UPDATED if happened.subject.kind == "Todo":
            return Notification.TODO_ASSIGNED if _assigns(happened) else None
        case EventType.ALERT_RAISED:
            return _alarmed(happened)
        case EventType.CONDITION_CHANGED if happened.subject.kind == "Agent":
            bad = happened.reason in _UNHEALTHY or (
                happened.data.get("condition") == "Conformant" and happened.data.get("status") == "False"
            )
            return Notification.AGENT_UNHEALTHY if bad else None
        case EventType.DECISION_REFUSED if happened.reason in _ATTEMPTS:
            return Notification.SECURITY_VIOLATION
        case EventType.HISTORY_REWRITTEN:
            return Notification.SECURITY_VIOLATION
        case EventType.SYNC_FAILED:
            refused = happened.reason.startswith(_SIGNATURE)
            return Notification.SECURITY_VIOLATION if refused else Notification.SYNC_FAILED
        case EventType.GUARD_RAISED:
            return Notification.CONFIRMATION_REQUIRED
        case EventType.HOLD_PLACED:
            return Notification.HOLD_PLACED
        case EventType.HOLD_RELEASED:
            return Notification.HOLD_RELEASED
        case EventType.MESSAGE_ENDED if happened.reason == MessageReason.DELIVERED:  # its turn came, nobody stopped it
            return Notification.MESSAGE
    return None


def _moved(happened: Happened) -> Notification | None:
    match happened.data.get("to"):
        case MissionState.BLOCKED if happened.reason not in _BY_HOLD:
            return Notification.ASSISTANCE_REQUIRED
        case MissionState.FAILED:
            return Notification.MISSION_FAILED
        case MissionState.DONE:
            return Notification.MISSION_COMPLETED
    return None


def _assigns(happened: Happened) -> bool:
    if happened.type == EventType.CREATED:
        return True
    changes = happened.data.get("changes", ())
    return any(isinstance(change, dict) and str(change.get("field", "")).endswith("assignee") for change in changes)


def _alarmed(happened: Happened) -> Notification | None:
    try:
        found = _ALERTS.get(AlertType(happened.reason))
    except ValueError:
        return None
    if happened.reason == AlertType.TOOLS_QUARANTINED and happened.data.get("severity") != Severity.HIGH:
        return None  # new tools that nobody has accepted yet are no attack
    if happened.data.get("toldBy"):
        return None  # the row of the log that it follows from tells people
    return found


def compose(event: Notification, happened: Happened, about: About, redact: Callable[[str], str] = str) -> Told | None:
    """The notification in words: what, why, until when, and the command that moves it; None when what is known by now
    says that nobody needs to be told. ``redact`` takes out credentials, before anything is cut: half of one has another
    shape."""
    if event is Notification.TODO_ASSIGNED and not str(about.spec.get("assignee") or "").startswith("user:"):
        return None
    if event is Notification.TODO_ASSIGNED and about.spec.get("state") == "Done":
        return None
    if event is Notification.APPROVAL_EXPIRED and about.status.get("decidedBy"):
        return None  # it was answered; only the leave ended unused
    if event is Notification.MESSAGE and (not about.channels or about.status.get("state") in _UNSAID):
        return None
    if event is Notification.MESSAGE and about.spec.get("direction") == Direction.INBOUND:
        return None
    title, why = (redact(words) for words in _words(event, happened, about))
    until = _until(happened, about)
    command = _command(event, happened, about)
    lines = [visible.block(why, _MESSAGE if event is Notification.MESSAGE else _REASON)] if why else []
    if happened.actor and event in (Notification.HOLD_PLACED, Notification.HOLD_RELEASED):
        lines.append(f"By: {visible.line(happened.actor, TITLE)}")
    if until is not None:
        lines.append(f"Until: {visible.moment(until)}")
    if command:
        lines.append(f"Do: {command}")
    return Told(
        event, severity_of(event, happened, about), visible.line(title, TITLE), visible.block("\n".join(lines), TEXT),
        command, until,
    )  # fmt: skip


def severity_of(event: Notification, happened: Happened, about: About) -> Severity:
    """How pressing it is."""
    said = happened.data.get("severity")
    if happened.type == EventType.ALERT_RAISED and said in SEVERITY_ORDER:
        return Severity(str(said))
    if event is Notification.HOLD_PLACED and (happened.data.get("estop") or happened.data.get("quarantine")):
        return Severity.CRITICAL
    if event in (Notification.APPROVAL_REQUIRED, Notification.APPROVAL_REMINDER) and about.spec.get("risk") == "Red":
        return Severity.CRITICAL
    if happened.type == EventType.DECISION_REFUSED:
        return Severity.HIGH
    return SEVERITIES[event]


def _words(event: Notification, happened: Happened, about: About) -> tuple[str, str]:
    """(title, why)."""
    name = happened.subject.short
    message = happened.message
    match event:
        case Notification.APPROVAL_REQUIRED | Notification.APPROVAL_REMINDER | Notification.APPROVAL_EXPIRED:
            what = str(about.spec.get("title") or message or name)
            asked = f"{about.spec.get('type', 'Approval')} asked by {about.spec.get('requester', 'the engine')}"
            why = f"{asked}\nRisk: {about.spec.get('risk', 'Green')}\nRule: {about.spec.get('rule') or '-'}"
            if event is Notification.APPROVAL_REQUIRED:
                return f"Approval required: {what}", why
            if event is Notification.APPROVAL_REMINDER:
                return f"Still waits for an answer: {what}", why
            parked = "it is parked until a person answers" if about.spec.get("onTimeout") == "Park" else "it is refused"
            return f"Nobody answered in time: {what}", f"{why}\n{message}: {parked}"
        case Notification.ASSISTANCE_REQUIRED:
            hints = [str(b.get("hint", "")) for b in about.status.get("blockedOn", ()) if b.get("hint")]
            return f"{name} is blocked and needs a person", "\n".join([f"{happened.reason}: {message}", *hints[:3]])
        case Notification.MISSION_FAILED:
            failure = about.status.get("failure") or {}
            why = str(failure.get("message") or message)
            return f"{name} failed: {failure.get('reason') or happened.reason}", why
        case Notification.MISSION_COMPLETED:
            return f"{name} is done", str(about.spec.get("title", ""))
        case Notification.TODO_ASSIGNED:
            return f"To do for {about.spec['assignee']}: {about.spec.get('title', name)}", str(
                about.spec.get("description") or ""
            )
        case Notification.AGENT_UNHEALTHY:
            return f"{name} is not well: {happened.reason}", message
        case Notification.CONFIRMATION_REQUIRED:
            return f"A change waits for confirmation: {happened.reason}", message
        case Notification.SYNC_FAILED:
            return f"{name} cannot be applied: {happened.reason}", message
        case Notification.HOLD_PLACED:
            return f"Held: {name}", message
        case Notification.HOLD_RELEASED:
            return f"Released: {name}", f"{happened.reason}: {message}"
        case Notification.MESSAGE:
            return f"{about.spec.get('author', 'An agent')} writes", str(about.spec.get("text", message))
    if happened.type == EventType.ALERT_RAISED:
        return f"{happened.reason}: {message}", str(about.spec.get("message", ""))
    return f"{happened.reason} at {name}", message


def _until(happened: Happened, about: About) -> datetime | None:
    for text in (about.spec.get("expiresAt"), about.spec.get("until"), happened.data.get("until")):
        if isinstance(text, str) and happened.type not in (EventType.APPROVAL_EXPIRED, EventType.HOLD_RELEASED):
            try:
                found: datetime = parse_time(text)
            except ValueError:
                continue
            return found
    return None


def _command(event: Notification, happened: Happened, about: About) -> str:
    """Made of checked names only: whoever copies it runs it."""
    key = happened.subject
    match event:
        case Notification.APPROVAL_REQUIRED | Notification.APPROVAL_REMINDER:
            if about.spec.get("type") == RequestType.CHANGE:
                return _line("describe", f"approvalrequest/{key.name}", key)
            digest = str(about.spec.get("actionDigest", ""))
            which = f" --digest {digest[7:19]}" if _DIGEST.fullmatch(digest) else ""
            return _line("approve", key.name, key, which)
        case Notification.APPROVAL_EXPIRED:
            return _line("describe", f"mission/{about.mission}" if about.mission else _target(key), key)
        case Notification.ASSISTANCE_REQUIRED:
            return _line("approve", f"mission/{key.name}", key)
        case Notification.MISSION_FAILED:
            return _line("retry", f"mission/{key.name}", key)
        case Notification.CONFIRMATION_REQUIRED:
            digest = str(happened.data.get("planDigest", ""))
            return f"remit confirm {digest[7:19]}" if _DIGEST.fullmatch(digest) else "remit diff"
        case Notification.HOLD_PLACED if not happened.data.get("estop"):
            return _line("release", key.name, key)
        case Notification.HOLD_PLACED:
            return "remit estop release --reason WHY"
        case Notification.MESSAGE:
            return _line("say", f"mission/{about.mission}", key) if about.mission else ""
    if happened.type == EventType.ALERT_RAISED:
        return _line("ack", key.name, key)
    return _line("describe", _target(key), key)


def _target(key: Key) -> str:
    return f"{key.kind.lower()}/{key.name}"


def _line(verb: str, target: str, key: Key, options: str = "") -> str:
    if not is_name(target.rpartition("/")[2]):
        return ""
    place = f" -n {key.namespace}" if key.namespace not in ("", DEFAULT_NAMESPACE) else ""
    return f"remit {verb} {target}{options}{place}" if not place or is_namespace(key.namespace) else ""


def wants(spec: ChannelSpec, event: Notification) -> bool:
    """Whether a route of the channel names the event at all."""
    return not spec.suspend and any(event in route.events for route in spec.routes)


def routed(spec: ChannelSpec, told: Told, labels: Mapping[str, str], *, whatever_labels: bool) -> bool:
    """Whether the channel carries the notification."""
    if spec.suspend:
        return False
    rank = SEVERITY_ORDER.index(told.severity)
    return any(
        told.event in route.events
        and rank >= SEVERITY_ORDER.index(route.severity)
        and (whatever_labels or all(labels.get(key) == value for key, value in route.match_labels.items()))
        for route in spec.routes
    )
