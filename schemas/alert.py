"""Alert: something needs attention. A record; the same thing again counts up instead of making another."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import JsonObject, Model, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Time


class Severity(StrEnum):
    """How pressing it is."""

    LOW = "Low"  # worth knowing
    MEDIUM = "Medium"  # look at it today
    HIGH = "High"  # look at it now
    CRITICAL = "Critical"  # something is wrong or unsafe at this moment


SEVERITY_ORDER = tuple(Severity)
"""From least to most pressing."""


class AlertType(StrEnum):
    """What it is about."""

    BUDGET_WARNING = "BudgetWarning"  # a budget is above warnAt
    BUDGET_EXCEEDED = "BudgetExceeded"  # a limit is reached
    LOOP_DETECTED = "LoopDetected"  # work goes around in circles and was contained
    AGENT_ERROR_STREAK = "AgentErrorStreak"  # runs of an agent keep failing
    AGENT_STALE = "AgentStale"  # an agent with open runs gives no sign of life
    AGENT_NOT_CONFORMANT = "AgentNotConformant"  # an agent reports something else than is declared
    APPROVAL_TIMEOUT = "ApprovalTimeout"  # nobody answered in time
    MISSION_FAILED = "MissionFailed"  # every attempt at a mission failed
    OUTCOME_UNKNOWN = "OutcomeUnknown"  # a worker vanished and nobody can know what it did
    SECURITY_VIOLATION = "SecurityViolation"  # somebody tried what they may not: forged, stale or foreign credentials
    POLICY_VIOLATION = "PolicyViolation"  # an agent did what was denied
    TOOLS_QUARANTINED = "ToolsQuarantined"  # a tool server offers tools that nobody has accepted, or changed ones
    SYNC_FAILED = "SyncFailed"  # a source cannot be read, or a unit does not compile
    FIELD_FIGHT = "FieldFight"  # something outside keeps changing a declared field
    EFFECT_FAILED = "EffectFailed"  # an outside act was given up
    AUDIT_CHAIN_BROKEN = "AuditChainBroken"  # a row of the event log was changed
    EMERGENCY_STOP = "EmergencyStop"  # everything is stopped


class AlertState(StrEnum):
    """Life of an alert."""

    OPEN = "Open"
    ACKNOWLEDGED = "Acknowledged"  # a person looks after it
    RESOLVED = "Resolved"


class AlertSpec(Model):
    """What needs attention."""

    type: AlertType = Field(description="What it is about.")
    severity: Severity = Field(description="Low, Medium, High or Critical.")
    subject: str = Field(description="kind/namespace/name of what it is about.")
    subject_uid: str = Field("", description="Its uid.")
    title: str = Field(description="One line for people.")
    message: str = Field("", description="What happened, and what a person can do.")
    details: JsonObject = Field(default_factory=dict, description="Facts, redacted.")
    fingerprint: str = Field(description="sha256:<hex>; the same thing again has the same.")


class AlertReason(StrEnum):
    """Reasons of an Alert's Succeeded condition."""

    OPEN = "Open"  # it stands
    ACKNOWLEDGED = "Acknowledged"  # a person looks after it
    RESOLVED = "Resolved"  # a person or the engine settled it
    CLEARED = "Cleared"  # what it was about is over


class AlertStatus(StatusModel):
    """How it stands."""

    state: AlertState = Field(AlertState.OPEN, description="Where it stands.")
    conditions: Conditions = Field((), description="Succeeded: True once it is settled.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    count: int = Field(1, description="How often it happened.")
    first_seen: Time | None = Field(None, description="When it first happened.")
    last_seen: Time | None = Field(None, description="When it last happened.")
    acknowledged_by: str = Field("", description="Who looks after it.")
    acknowledged_at: Time | None = Field(None, description="Since when.")
    resolved_by: str = Field("", description="Who settled it.")
    resolved_at: Time | None = Field(None, description="When.")


KIND = KindInfo(
    kind="Alert",
    plural="alerts",
    short_names=("al",),
    object_class=ObjectClass.RECORD,
    spec=AlertSpec,
    status=AlertStatus,
    reasons=AlertReason,
    description="Something needs attention.",
    bounded=True,
    condition_types=("Succeeded",),
    columns=(
        Column("STATE", "status.state"),
        Column("SEVERITY", "spec.severity"),
        Column("TYPE", "spec.type"),
        Column("SUBJECT", "spec.subject"),
        Column("COUNT", "status.count", "integer"),
        Column("LAST SEEN", "status.lastSeen", "date"),
        Column("TITLE", "spec.title", wide=True),
        Column("BY", "status.acknowledgedBy", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
