"""Event: one row of the append-only log, and the closed list of what it can say, one word each."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import Int, JsonObject, Model, StatusModel
from schemas.conditions import NoReason
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.quantities import Time


class EventType(StrEnum):
    """What happened. ``get events`` and the dashboard filter by it; the reference page lists them."""

    # Objects
    CREATED = "Created"  # an object was declared, or the engine made a record
    UPDATED = "Updated"  # its spec changed
    MOVED = "Moved"  # its file moved, or it was renamed; uid kept
    DELETION_REQUESTED = "DeletionRequested"  # deletion began; finalizers run
    DELETED = "Deleted"  # it is gone
    CONDITION_CHANGED = "ConditionChanged"  # a condition changed its status
    DRIFT_CORRECTED = "DriftCorrected"  # a declared field was put back
    OVERRIDDEN = "Overridden"  # somebody took a declared field for a time
    OVERRIDE_ENDED = "OverrideEnded"  # an override is over; the field has its declared value again
    FIELD_FIGHT = "FieldFight"  # a declared field keeps being changed by others
    FIELD_FIGHT_ENDED = "FieldFightEnded"  # it came to rest
    FINALIZED = "Finalized"  # a finalizer ended, or was forced at its deadline
    # Sources
    SYNCED = "Synced"  # a unit was brought to a revision
    SYNC_FAILED = "SyncFailed"  # a unit or source could not be compiled, verified or read
    HISTORY_REWRITTEN = "HistoryRewritten"  # a force-push replaced commits that were applied; the new ones were taken
    GUARD_RAISED = "GuardRaised"  # a plan waits for confirmation
    GUARD_CONFIRMED = "GuardConfirmed"  # a confirmation released exactly that plan
    WIDENED = "Widened"  # a change that loosens a limit took effect
    # Schedules
    SCHEDULE_FIRED = "ScheduleFired"  # a mission was made for a fire
    FIRE_SKIPPED = "FireSkipped"  # no mission is made for these fires, and why
    # Goals, to-dos and projects
    GOAL_REVIEWED = "GoalReviewed"  # a goal was looked at, and missions were made for it
    GOAL_REACHED = "GoalReached"  # its target is reached, or is so no more
    TODO_DONE = "TodoDone"  # a to-do is done
    CALENDAR_WRITTEN = "CalendarWritten"  # entries were written into a calendar of people, or removed from it
    STAGE_CHANGED = "StageChanged"  # a project went to another stage
    # Missions and runs
    MISSION_PROPOSED = "MissionProposed"  # an agent proposed a mission
    TRANSITIONED = "Transitioned"  # a mission changed its state
    DISPATCHED = "Dispatched"  # a run was ordered
    RUN_CLAIMED = "RunClaimed"  # a worker of a Pull executor fetched the run, or gave it back
    RUN_POSTED = "RunPosted"  # a worker behind HTTP was sent a run, or told to stop it, and how that went
    JOB_CHANGED = "JobChanged"  # the Job of a run was made, adopted, taken back by its queue, or deleted
    RUN_STARTED = "RunStarted"  # its program runs
    RUN_PROGRESSED = "RunProgressed"  # the agent reported progress
    RUN_FINISHED = "RunFinished"  # the run ended, however
    ARTIFACT_ADDED = "ArtifactAdded"  # the agent handed in a deliverable or evidence
    USAGE_RECORDED = "UsageRecorded"  # cost or tokens were booked
    CALL_DECIDED = "CallDecided"  # an agent asked to use a tool, and was answered
    ENFORCEMENT_CHANGED = "EnforcementChanged"  # the runs of an agent show that it is held tighter, or less tightly
    CALL_ENDED = "CallEnded"  # the result of a tool call was reported, or its run ended without one
    PROVIDER_PAUSED = "ProviderPaused"  # a provider refused: whoever uses it starts nothing for a while
    TENANT_REMOVED = "TenantRemoved"  # the grace period of a tenant is over: what the engine made in it goes
    RETRY_SCHEDULED = "RetryScheduled"  # another attempt will follow
    CANCEL_REQUESTED = "CancelRequested"  # the worker was told to stop
    MESSAGE_POSTED = "MessagePosted"  # a person or an agent said something
    FOLLOW_UP_ASKED = "FollowUpAsked"  # an agent asked to be told something, or to have it said, later
    FOLLOW_UP_ENDED = "FollowUpEnded"  # it was due, or was canceled before
    COMMANDS_OFFERED = "CommandsOffered"  # an agent said which commands it takes in chat
    THREAD_FOLLOWED = "ThreadFollowed"  # a person began or ceased to follow a thread
    MESSAGE_ENDED = "MessageEnded"  # a message was delivered, stopped by a limit, or canceled
    SUB_AGENT_SPAWNED = "SubAgentSpawned"  # an agent spawned another for a part of its mission
    SUB_AGENT_ENDED = "SubAgentEnded"  # a sub-agent ended; its key is dead, what it did not use went back
    TRANSITION_REFUSED = "TransitionRefused"  # somebody asked for a move that is not legal
    REQUEST_HANDLED = "RequestHandled"  # a request token was acted on
    REQUEST_IGNORED = "RequestIgnored"  # a request token had nothing to act on
    # People
    APPROVAL_REQUESTED = "ApprovalRequested"  # a person is asked
    APPROVAL_DECIDED = "ApprovalDecided"  # a person answered and it counted
    APPROVAL_EXPIRED = "ApprovalExpired"  # nobody answered in time, or a leave ended without being used
    WAIVER_ENDING = "WaiverEnding"  # a Waiver ends soon: what it lets through will wait for a person again
    LEAVE_USED = "LeaveUsed"  # an approval let through what it was given for
    BUDGET_WARNING = "BudgetWarning"  # a share of a limit is reached at which people are told
    BUDGET_EXCEEDED = "BudgetExceeded"  # a limit leaves no room; the reason is its onBreach
    BUDGET_EXTENDED = "BudgetExtended"  # a person granted more on top of a limit
    BUDGET_EXTENSION_ENDED = "BudgetExtensionEnded"  # the declared limit counts again
    PROPOSAL_OPENED = "ProposalOpened"  # the branch of a change that an agent proposed is there to be merged
    PROPOSAL_CLOSED = "ProposalClosed"  # the branch and pull request of an answered proposal were cleared away
    APPROVAL_WITHDRAWN = "ApprovalWithdrawn"  # the question no longer stands
    DECISION_REFUSED = "DecisionRefused"  # an answer without effect, and why
    KEY_REVOKED = "KeyRevoked"  # a quarantine killed the key of a run that is at work
    ACT_ADMITTED = "ActAdmitted"  # a cluster authenticated who is about to decide, hold, release or confirm
    RELEASE_ASKED = "ReleaseAsked"  # somebody asked for the end of an e-stop that needs more voices
    HOLD_PLACED = "HoldPlaced"  # a Hold took effect
    HOLD_RELEASED = "HoldReleased"  # a Hold ended
    EXPORT_REQUESTED = "ExportRequested"  # somebody asked for everything of a tenant as a file
    EXPORT_FINISHED = "ExportFinished"  # the file is there until it expires, or could not be made
    # Engine
    ENGINE_LEADS = "EngineLeads"  # of several engines on one store, this one reconciles from now on
    ENGINE_STARTED = "EngineStarted"  # a `remit run` took the store
    ENGINE_STOPPED = "EngineStopped"  # it drained and left
    EFFECT_FAILED = "EffectFailed"  # an outside act failed and is tried again, or was given up
    CIRCUIT_CHANGED = "CircuitChanged"  # the circuit breaker of a worker opened, half-opened or closed
    TOOLS_CHANGED = "ToolsChanged"  # a tool server offers something else, or other tools of it are accepted
    ALERT_RAISED = "AlertRaised"  # something needs attention
    ALERT_ACKNOWLEDGED = "AlertAcknowledged"  # a person looks after an alert
    ALERT_RESOLVED = "AlertResolved"  # a person settled an alert
    NOTIFIED = "Notified"  # people are told of what stands in the log up to here


class EventSpec(Model):
    """One row. ``hash`` covers every other field and the hash of the row before, so a changed row breaks the chain."""

    seq: Int = Field(description="Number of the row, from 1, without gaps.")
    at: Time = Field(description="When.")
    type: EventType = Field(description="What happened.")
    subject: str = Field(description="kind/namespace/name of the object it speaks of.")
    subject_uid: str = Field("", description="Its uid.")
    actor: str = Field(description="Who: user:..., agent:..., controller:..., source:...")
    transport: str = Field("", description="How the identity was proven.")
    reason: str = Field("", description="Why, one word.")
    message: str = Field("", description="For people.")
    data: JsonObject = Field(default_factory=dict, description="Facts, redacted.")
    prev_hash: str = Field("", description="Hash of the row before.")
    hash: str = Field("", description="Hash of this row.")


class EventStatus(StatusModel):
    """Nothing: a row never changes."""


KIND = KindInfo(
    kind="Event",
    plural="events",
    short_names=("ev",),
    object_class=ObjectClass.RECORD,
    spec=EventSpec,
    status=EventStatus,
    reasons=NoReason,
    description="One row of the append-only log.",
    own_table=True,
    condition_types=(),
    columns=(
        Column("SEQ", "spec.seq", "integer"),
        Column("AT", "spec.at", "date"),
        Column("TYPE", "spec.type"),
        Column("SUBJECT", "spec.subject"),
        Column("REASON", "spec.reason"),
        Column("MESSAGE", "spec.message"),
        Column("ACTOR", "spec.actor", wide=True),
        Column("HASH", "spec.hash", wide=True),
    ),
)
