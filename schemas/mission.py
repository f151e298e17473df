"""Mission: one piece of work for an agent, with its states, its requirements and its record."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from schemas.base import MAX_SECONDS, Bool, Int, JsonObject, LabelSelector, Line, Model, Number, ObjectRef, StatusModel
from schemas.conditions import BlockedOn, Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.loop import MissionLoop
from schemas.quantities import Duration, Money, PositiveDuration, Time

PRIORITY_WORDS = {"High": 80, "Medium": 50, "Low": 20}


def _priority(value: object) -> object:
    return PRIORITY_WORDS.get(value, value) if isinstance(value, str) else value


Priority = Annotated[
    Int,
    BeforeValidator(_priority),
    Field(ge=0, le=100),
    WithJsonSchema(
        {"anyOf": [{"type": "integer", "minimum": 0, "maximum": 100}, {"enum": list(PRIORITY_WORDS), "type": "string"}]}
    ),
]
"""0..100, or High (80), Medium (50), Low (20)."""


class MissionState(StrEnum):
    """Where a mission stands. ``decisions.mission`` holds the legal moves."""

    INBOX = "Inbox"  # nobody is assigned
    ASSIGNED = "Assigned"  # an agent is named; waits for its turn
    IN_PROGRESS = "InProgress"  # a run works on it, or the next attempt is due
    REVIEW = "Review"  # the deliverable waits for a verdict
    NEEDS_APPROVAL = "NeedsApproval"  # an action waits for leave
    BLOCKED = "Blocked"  # needs a person
    DONE = "Done"  # accepted
    FAILED = "Failed"  # attempts are used up: the dead letter
    CANCELED = "Canceled"  # given up on purpose


TERMINAL_STATES = frozenset({MissionState.DONE, MissionState.FAILED, MissionState.CANCELED})


class Review(StrEnum):
    """Who accepts the deliverable."""

    HUMAN = "Human"  # a person, by ApprovalDecision
    AUTO = "Auto"  # the declared gates
    NONE = "None"  # nobody: it is accepted as handed in


class DesiredState(StrEnum):
    """What the declaration wants of the mission."""

    COMPLETE = "Complete"
    CANCELED = "Canceled"


class RerunPolicy(StrEnum):
    """What an edit of a finished mission does."""

    NEVER = "Never"  # it becomes Outdated and stays as it is
    ON_CHANGE = "OnChange"  # it runs again


class Gate(StrEnum):
    """A check that a deliverable must pass before review."""

    NO_PLACEHOLDERS = "NoPlaceholders"  # no TODO, FIXME, PLACEHOLDER or stub in the deliverable


class Evidence(Model):
    """What must come with the deliverable."""

    required: Bool = Field(False, description="Whether a completion without evidence is sent back.")
    gates: tuple[Gate, ...] = Field((), description="Checks on the deliverable: NoPlaceholders.")


class Limits(Model):
    """Limits of money and effort."""

    usd: Money | None = Field(None, description="USD.")
    tokens: Int | None = Field(None, ge=0, le=10**15, description="Tokens, input and output together.")
    tool_calls: Int | None = Field(None, ge=0, le=10**15, description="Tool calls.")
    wall_time: Duration | None = Field(None, description="Time that runs may take together.")


class Backoff(Model):
    """Pauses between attempts: initial * 2^n up to max, each moved by +-jitter."""

    initial: Duration = Field("2s", description="Pause before the second attempt.")  # type: ignore[assignment]
    max: Duration = Field("5m", description="Longest pause.")  # type: ignore[assignment]
    jitter: Number = Field(0.2, ge=0, le=1, description="Random share added or taken, 0..1.")


class Retry(Model):
    """What happens when an attempt fails."""

    max_attempts: Int = Field(1, ge=1, le=100, description="Attempts in all, the first included.")
    backoff: Backoff = Field(default_factory=Backoff, description="Pauses between attempts.")
    idempotent: Bool = Field(
        False, description="Whether repeating is safe after a loss, where the program cannot tell what it did."
    )


Title = Line
MissionType = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Za-z0-9]{0,62}$")]


class MissionSpec(Model):
    """One piece of work."""

    title: Title = Field(description="One line that says what is to be done.")
    description: str | None = Field(None, max_length=100_000, description="The task in full.")
    type: MissionType = Field(
        "Ops",
        description=(
            "Class of work: Content, Social, EmailMarketing, CustomerResearch, SeoResearch, Engineering, Docs, Ops, "
            "or a word of your own in PascalCase."
        ),
    )
    agent_ref: ObjectRef | None = Field(None, description="The agent that does it. Empty with no selector: Inbox.")
    agent_selector: LabelSelector | None = Field(
        None, description="Any agent with these labels; the first by name with a free place takes it."
    )
    project_ref: ObjectRef | None = Field(None, description="Project it belongs to.")
    goal_ref: ObjectRef | None = Field(None, description="Goal it serves.")
    priority: Priority = Field(50, description="0..100, or High (80), Medium (50), Low (20).")
    input: JsonObject = Field(
        default_factory=dict, description="Free JSON for the agent; must meet the agent's inputSchema."
    )
    work_plan: str | None = Field(
        None, max_length=100_000, description="How it is to be done; an agent may report its own before it starts."
    )
    depends_on: tuple[ObjectRef, ...] = Field((), description="Missions that must be Done first.")
    review: Review = Field(Review.HUMAN, description="Who accepts the deliverable: Human, Auto or None.")
    evidence: Evidence = Field(default_factory=Evidence, description="What must come with the deliverable.")
    budget: Limits = Field(default_factory=Limits, description="What this mission may use in all.")
    deadline: PositiveDuration | None = Field(
        None, description="Longest time from the start of the first run to the end."
    )
    retry: Retry = Field(default_factory=Retry, description="What happens when an attempt fails.")
    desired_state: DesiredState = Field(
        DesiredState.COMPLETE, description="Complete, or Canceled to stop the work for good."
    )
    rerun_policy: RerunPolicy = Field(RerunPolicy.NEVER, description="What an edit does once it is finished.")
    suspend: Bool = Field(False, description="Start nothing new while true.")
    ttl_seconds_after_finished: Int | None = Field(
        None,
        ge=0,
        le=MAX_SECONDS,
        description="Remove the mission this long after it ended, unless a source still declares it.",
    )

    @model_validator(mode="after")
    def _one_assignee(self) -> Self:
        if self.agent_ref is not None and self.agent_selector is not None:
            raise ValueError("name agentRef or agentSelector, not both")
        return self


class MissionReason(StrEnum):
    """Reasons of a Mission's conditions."""

    ACCEPTED = "Accepted"  # the spec can be worked on
    AGENT_NOT_FOUND = "AgentNotFound"  # agentRef names no agent
    EXECUTOR_NOT_FOUND = "ExecutorNotFound"  # the agent's executor does not exist
    INPUT_INVALID = "InputInvalid"  # input does not meet the agent's inputSchema
    DEPENDENCY_CYCLE = "DependencyCycle"  # dependsOn leads back here
    NO_AGENT = "NoAgent"  # nobody is assigned
    ADMITTED = "Admitted"  # nothing stands between it and a run but its turn
    DEPENDENCY_NOT_FOUND = "DependencyNotFound"  # a mission in dependsOn does not exist
    DEPENDENCY_NOT_DONE = "DependencyNotDone"  # a mission in dependsOn is not Done yet
    DEPENDENCY_FAILED = "DependencyFailed"  # one of them failed or was canceled
    BUDGET_EXCEEDED = "BudgetExceeded"  # a limit leaves no room for its next run
    RUN_OVER_BUDGET = "RunOverBudget"  # its run used more than one run may
    AGENT_NOT_READY = "AgentNotReady"  # the agent is not Ready
    HELD = "Held"  # a Hold stops it
    SUSPENDED = "Suspended"  # spec.suspend
    AT_CAPACITY = "AtCapacity"  # the agent's places are taken
    TENANT_SUSPENDED = "TenantSuspended"  # its tenant is Suspended, or waits to be deleted
    QUEUE_FULL = "QueueFull"  # as many missions of its tenant wait as may
    RETRY_BACKOFF = "RetryBackoff"  # the next attempt waits for its time
    UPDATE_PENDING = "UpdatePending"  # the agent drains before a changed spec holds
    NOT_DISPATCHED = "NotDispatched"  # no run yet
    DISPATCHED = "Dispatched"  # a run exists
    NOT_REQUIRED = "NotRequired"  # no verdict is needed yet or at all
    AWAITING_REVIEW = "AwaitingReview"  # a person is asked for a verdict
    AWAITING_FOLLOW_UP = "AwaitingFollowUp"  # its agent asked to go on later, or when somebody says something
    AWAITING_APPROVAL = "AwaitingApproval"  # an action waits for leave
    APPROVAL_EXPIRED = "ApprovalExpired"  # nobody gave leave for its action in time
    APPROVED = "Approved"  # a person accepted it, or gave leave
    AUTO_ACCEPTED = "AutoAccepted"  # accepted by its declared review policy
    CHANGES_REQUESTED = "ChangesRequested"  # sent back with remarks
    DENIED = "Denied"  # a person turned it down
    REVIEW_EXPIRED = "ReviewExpired"  # nobody gave a verdict in time
    WAITING = "Waiting"  # not started
    RUNNING = "Running"  # work is under way
    COMPLETED = "Completed"  # Done
    RETRIES_EXHAUSTED = "RetriesExhausted"  # every attempt failed
    NOT_RETRYABLE = "NotRetryable"  # the failure cannot be cured by trying again
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # it took longer than spec.deadline
    CANCELED = "Canceled"  # spec.desiredState or a person ended it
    CANCEL_REQUESTED = "CancelRequested"  # the worker is being told to stop
    OUTCOME_UNKNOWN = "OutcomeUnknown"  # the worker vanished and nobody can know what it did
    OUTDATED = "Outdated"  # the spec was edited after the end
    QUARANTINED = "Quarantined"  # a Hold took its agent out of service
    STOPPED = "Stopped"  # a Hold with mode Stop ended its run
    LOOP_DETECTED = "LoopDetected"  # it went around in circles and was stopped
    DELETING = "Deleting"  # deletionTimestamp is set


class Transition(StatusModel):
    """One move of the state machine."""

    at: Time = Field(description="When.")
    from_state: MissionState = Field(description="From.")
    to_state: MissionState = Field(description="To.")
    actor: str = Field(description="Who: user:..., agent:..., controller:...")
    reason: str = Field(description="Why, one of the kind's reasons.")
    message: str = Field("", description="For people.")
    key: str = Field(description="Idempotency key of the move.")
    artifacts: tuple[str, ...] = Field((), description="What was handed in with it.")


class Artifact(StatusModel):
    """Something that an agent handed in. Text is kept in the store up to a limit, files in the run's folder."""

    name: str = Field(description="Name, unique within the run.")
    media_type: str = Field("text/plain", description="Content type.")
    size: int = Field(0, description="Bytes.")
    digest: str = Field("", description="sha256:<hex> of the content.")
    text: str | None = Field(None, description="The content, when it is text and small.")
    run: str = Field("", description="Run that handed it in.")


class Spend(StatusModel):
    """What was used. ``usd`` is absent while nothing priced is known."""

    usd: Money | None = Field(None, description="USD.")
    input_tokens: int = Field(0, description="Input tokens.")
    output_tokens: int = Field(0, description="Output tokens.")
    source: str = Field("Unknown", description="Weakest source among the parts: Reported, Priced, Estimated, Unknown.")


class Failure(StatusModel):
    """Why the last attempt failed."""

    reason: str = Field(description="CamelCase word.")
    message: str = Field("", description="For people.")
    exit_code: int | None = Field(None, description="Of the program, where there is one.")
    run: str = Field("", description="Run that failed.")


class Verdict(StatusModel):
    """The approval record of a finished review."""

    verdict: str = Field(description="Approve, Deny or ChangesRequested.")
    actor: str = Field(description="Who, or the policy that stands for a person.")
    transport: str = Field("", description="How the identity was proven.")
    reason: str = Field("", description="The note that was given.")
    at: Time = Field(description="When.")
    decision: str = Field("", description="Name of the ApprovalDecision; empty for a policy.")


class ProposedBy(StatusModel):
    """Who proposed a mission, and whether it was taken."""

    agent: ObjectRef = Field(description="The agent.")
    run: str = Field(description="Its run.")
    mission: str = Field(description="The mission that it worked on.")
    mission_uid: str = Field(description="Uid of that.")
    reason: str = Field("", description="Why it proposed it.")
    accepted: bool = Field(False, description="Whether it may be worked on.")
    accepted_by: str = Field("", description="Who took it: user:..., or the Goal that lets its type start by itself.")


class MissionStatus(StatusModel):
    """What is true of a mission."""

    state: MissionState = Field(MissionState.INBOX, description="Where it stands.")
    conditions: Conditions = Field((), description="Accepted, Admitted, Approved, Dispatched, Succeeded, Outdated.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    agent: ObjectRef | None = Field(None, description="The agent it is assigned to.")
    attempts: int = Field(0, description="Runs begun in the current round.")
    total_runs: int = Field(0, description="Runs ever begun; numbers the next one.")
    current_run: str | None = Field(None, description="Name of the run that is open.")
    last_run: str | None = Field(None, description="Name of the latest run.")
    ready_since: Time | None = Field(None, description="Since when it could run but for its turn.")
    started_at: Time | None = Field(None, description="Start of the first run of the round.")
    finished_at: Time | None = Field(None, description="When it ended.")
    finished_generation: int | None = Field(None, description="Generation of the spec at its end.")
    next_attempt_at: Time | None = Field(None, description="When the next attempt is due.")
    awaits_follow_up: Time | None = Field(None, description="Since when it waits for a follow-up of its agent.")
    work_plan: str | None = Field(None, description="The plan in force: declared, reported, or title and description.")
    spend: Spend = Field(default_factory=Spend, description="Used by all runs together.")
    deliverable: Artifact | None = Field(None, description="What was handed in.")
    self_review: str | None = Field(None, description="The agent's own check of it.")
    artifacts: tuple[Artifact, ...] = Field((), description="Everything handed in by the latest run.")
    gate_findings: tuple[str, ...] = Field((), description="What the declared gates remarked.")
    feedback: str | None = Field(None, description="Remarks of the last ChangesRequested; the next run gets them.")
    review: Verdict | None = Field(None, description="The approval record.")
    review_request: str | None = Field(None, description="Name of the open ApprovalRequest.")
    proposed: ProposedBy | None = Field(None, description="Who proposed it, where an agent did.")
    review_cycles: int = Field(0, description="How often it went to review.")
    failure: Failure | None = Field(None, description="Why the last attempt failed.")
    loop: MissionLoop | None = Field(None, description="What is counted to notice work that goes around in circles.")
    action_requests: tuple[str, ...] = Field((), description="ApprovalRequests that it waits for in NeedsApproval.")
    overloads: int = Field(0, description="Attempts in a row that cost none, as the provider was overloaded.")
    resume_state: MissionState | None = Field(None, description="Where it goes back to after Blocked or NeedsApproval.")
    blocked_on: tuple[BlockedOn, ...] = Field((), description="What it waits for.")
    transitions: tuple[Transition, ...] = Field((), description="The last 20 moves, oldest first.")
    last_handled_retry: str | None = Field(None, description="Latest retry token acted on.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")
    last_handled_reset: str | None = Field(None, description="Latest reset token acted on.")


KIND = KindInfo(
    kind="Mission",
    plural="missions",
    short_names=("mi",),
    object_class=ObjectClass.INTENT,
    spec=MissionSpec,
    status=MissionStatus,
    reasons=MissionReason,
    description="One piece of work for an agent.",
    bounded=True,
    max_name=240,  # runs add a number
    condition_types=("Accepted", "Admitted", "Approved", "Dispatched", "Succeeded", "Outdated"),
    columns=(
        Column("STATE", "status.state"),
        Column("AGENT", "status.agent.name"),
        Column("PRIORITY", "spec.priority", "integer"),
        Column("ATTEMPTS", "status.attempts", "integer"),
        Column("WAITS FOR", "status.blockedOn[0].hint"),
        Column("TITLE", "spec.title", wide=True),
        Column("FAILURE", "status.failure.reason", wide=True),
        Column("COST", "status.spend.usd", "money", wide=True),
        Column("RUN", "status.lastRun", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={
        "": Disruption.NEXT_RUN,
        "priority": Disruption.LIVE,
        "budget": Disruption.LIVE,
        "suspend": Disruption.LIVE,
        "deadline": Disruption.LIVE,
        "review": Disruption.LIVE,
        "desiredState": Disruption.RESTART,
        "ttlSecondsAfterFinished": Disruption.LIVE,
        "agentRef": Disruption.DRAIN,
        "agentSelector": Disruption.DRAIN,
    },
)
