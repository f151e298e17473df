"""Run: one attempt at a mission by one agent. A record: made by the engine, immutable once it ended."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import Int, Model, Name, ObjectRef, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.mission import Artifact, Spend
from schemas.passage import Passage
from schemas.quantities import Duration, Money, Time


class RunState(StrEnum):
    """Life of a run."""

    PENDING = "Pending"  # ordered, not started yet
    RUNNING = "Running"  # its program runs
    SUCCEEDED = "Succeeded"  # handed in what was asked
    FAILED = "Failed"  # ended without
    TIMED_OUT = "TimedOut"  # stopped at its deadline
    CANCELED = "Canceled"  # stopped on request
    LOST = "Lost"  # vanished before it reported any effect
    UNKNOWN = "Unknown"  # vanished, and nobody can know what it did


SESSION_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,199}$"
"""Names of sessions that are put among the arguments of a program: none looks like an option or a path."""
ENDED = frozenset(RunState) - {RunState.PENDING, RunState.RUNNING}
ACTIVE_STATES = (RunState.PENDING.value, RunState.RUNNING.value)


class ResumedRun(Model):
    """The run whose session this one goes on with."""

    name: Name = Field(description="Its name.")
    uid: str = Field(description="Its uid: where its files lie.")
    session: str = Field(pattern=SESSION_PATTERN, description="The agent program's own session.")
    first_uid: str = Field(description="Uid of the run that began the session, in whose workspace it works.")


class RunSpec(Model):
    """What the run was started with; pinned."""

    mission_ref: ObjectRef = Field(description="The mission.")
    mission_uid: str = Field(description="Its uid.")
    mission_generation: Int = Field(description="Generation of the mission's spec it works from.")
    agent_ref: ObjectRef = Field(description="The agent.")
    agent_uid: str = Field(description="Its uid.")
    agent_generation: Int = Field(description="Generation of the agent's spec it works from.")
    executor_ref: ObjectRef = Field(description="The executor.")
    executor_generation: Int = Field(description="Generation of the executor's spec it works from.")
    attempt: Int = Field(ge=1, description="Which attempt of the round.")
    number: Int = Field(ge=1, description="Which run of the mission in all.")
    timeout: Duration = Field(description="It is stopped after this time.")
    feedback: str | None = Field(None, description="Remarks of the reviewer on the run before.")
    resumes: ResumedRun | None = Field(
        None, description="The run whose session it goes on with, after leave was asked."
    )
    prompt_digest: str = Field("", description="sha256:<hex> of the system prompt, empty without one.")
    provider_ref: ObjectRef | None = Field(None, description="The Provider whose slot it takes.")
    spawned_by: str = Field("", description="uid of the run whose agent spawned its agent; it may take its slot.")
    session: str | None = Field(None, description="The session of its program that it works in, where it has one.")
    session_of: str = Field("", description="Name of the run that left that session.")
    session_why: str = Field("", description="Why it goes on with that session, or begins a clean one.")


class ProviderError(StatusModel):
    """What a provider said when it refused."""

    status: int = Field(description="HTTP status: 429, 503 or 529.")
    retry_after_s: int | None = Field(None, description="Its Retry-After, in seconds.")
    message: str = Field("", description="Its words.")
    at: Time = Field(description="When.")


class Report(StatusModel):
    """What the agent said at its end, before its program ended."""

    outcome: str = Field(description="Complete or Fail.")
    at: Time = Field(description="When.")
    self_review: str | None = Field(None, description="The agent's own check of its deliverable.")
    reason: str = Field("", description="Why it failed.")
    message: str = Field("", description="For people.")
    retryable: bool = Field(True, description="Whether another attempt may help.")


class ModelUsage(StatusModel):
    """What a run used of one model, at one price."""

    model: str = Field("", description="Model, as it was named; empty when it was not.")
    source: str = Field(description="How the cost is known: Reported, Priced, Estimated or Unknown.")
    usd: Money | None = Field(None, description="USD; absent when nobody knows.")
    input_tokens: int = Field(0, description="Input tokens, cached ones included.")
    output_tokens: int = Field(0, description="Output tokens.")
    cache_read_tokens: int = Field(0, description="Input tokens that were read from a cache.")
    cache_write_tokens: int = Field(0, description="Input tokens that were written to one.")
    price: str = Field("", description="Price it was counted at: provider@generation, its name there, since when.")
    provider: str = Field("", description="namespace/name of the Provider of that price.")


class Claim(StatusModel):
    """Which worker fetched the run. Until when is kept in the lease ``claim/<run uid>``."""

    worker: str = Field(description="What the worker calls itself.")
    key: str = Field(description="Digest of the request that claimed it: repeated, it gets the same claim.")
    fence: int = Field(ge=1, description="Fencing token: every write of the worker names it.")
    at: Time = Field(description="When it was claimed.")


class PostAttempt(StatusModel):
    """One request to a worker behind HTTP."""

    number: int = Field(ge=1, description="Which request of the run, of those that started or stopped it.")
    at: Time = Field(description="When it was sent.")
    method: str = Field("POST", description="POST or DELETE.")
    url: str = Field(description="Address, without its query.")
    status: int | None = Field(None, description="Status of the answer; absent when there was none.")
    latency_ms: int = Field(0, ge=0, description="Time until the answer was read, or until it was given up.")
    error: str = Field("", description="What was wrong with it.")


class Post(StatusModel):
    """How the run was handed to a worker behind HTTP."""

    key: str = Field(description="Idempotency-Key: uid of the mission and number of the run.")
    tries: int = Field(0, ge=0, description="How often it was posted.")
    requests: int = Field(0, ge=0, description="Requests in all.")
    sent_at: Time | None = Field(None, description="Since when a request is out whose answer is not known.")
    accepted_at: Time | None = Field(None, description="When the worker took it.")
    deadline: Time | None = Field(None, description="When its worker is told to stop.")
    status_url: str = Field("", description="Where its result is asked for.")
    task: str = Field("", max_length=1024, description="What an A2A service calls it.")
    overdue: bool = Field(False, description="Whether its time is over.")
    waits_for: str = Field("", description="What keeps it from being posted.")
    waits_until: Time | None = Field(None, description="Until when.")
    log: tuple[PostAttempt, ...] = Field((), description="The latest requests.")


class JobPhase(StrEnum):
    """How the Job of a run stands."""

    CREATING = "Creating"  # it is being made
    QUEUED = "Queued"  # it is suspended: its queue has no room yet, or took it back
    WAITING = "Waiting"  # its pod does not run yet
    RUNNING = "Running"  # its pod runs
    DELETING = "Deleting"  # it is being deleted


class JobOfRun(StatusModel):
    """The Job of a cluster that a run is."""

    namespace: str = Field(description="Its namespace in the cluster.")
    name: str = Field(description="Its name: the same however often it is made.")
    uid: str = Field("", description="Its uid in the cluster, once it is known to be there.")
    phase: JobPhase = Field(JobPhase.CREATING, description="How it stands.")
    tries: int = Field(0, ge=0, description="How often it was asked for.")
    sent_at: Time | None = Field(None, description="Since when a request for it is out whose answer is not known.")
    created_at: Time | None = Field(None, description="When the cluster was seen to have it.")
    deadline: Time | None = Field(None, description="When Remit deletes it, or gives up waiting for its deletion.")
    pod: str = Field("", description="Its pod, once there is one.")
    node: str = Field("", description="Where that runs.")
    waits_for: str = Field("", description="What keeps its pod from running.")
    preempted: int = Field(0, ge=0, description="How often its queue took it back while it ran.")
    ends_as: str = Field("", description="Reason that it ends with once it is gone; empty: canceled.")
    ends_why: str = Field("", description="The same for people.")
    log_tries: int = Field(0, ge=0, description="How often its log could not be read after its end.")


class RunReason(StrEnum):
    """Reasons of a Run's Succeeded condition and of ``status.reason``."""

    PENDING = "Pending"  # ordered
    STARTED = "Started"  # its program runs
    COMPLETED = "Completed"  # handed in
    NO_REPORT = "NoReport"  # the program ended well but reported nothing
    NON_ZERO_EXIT = "NonZeroExit"  # the program ended with an exit code
    KILLED = "Killed"  # the program ended by a signal that Remit did not send
    REPORTED_FAILURE = "ReportedFailure"  # the agent said it failed
    PROVIDER_OVERLOADED = "ProviderOverloaded"  # it ended because its provider refused: 429, 503 or 529
    AWAITING_FOLLOW_UP = "AwaitingFollowUp"  # handed back until its follow-up is due; then the next run starts
    AWAITING_APPROVAL = "AwaitingApproval"  # handed back: it can only wait for leave; the next attempt goes on with it
    REQUIREMENTS_MISSING = "RequirementsMissing"  # the deliverable, its evidence or a gate is missing
    OUTPUT_INVALID = "OutputInvalid"  # its output could not be read, or does not meet the agent's outputSchema
    PROGRAM_NOT_FOUND = "ProgramNotFound"  # argv[0] is not there
    START_FAILED = "StartFailed"  # the program could not be started
    SECRET_NOT_FOUND = "SecretNotFound"  # a valueFrom names nothing # noqa: S105
    EXECUTOR_UNSUPPORTED = "ExecutorUnsupported"  # this version cannot use the executor's type
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # stopped at its deadline
    CANCELED = "Canceled"  # stopped on request
    BUDGET_EXCEEDED = "BudgetExceeded"  # stopped: it used more than was reserved for it
    HEARTBEAT_LOST = "HeartbeatLost"  # no sign of life for staleAfter
    WORKER_LOST = "WorkerLost"  # the worker vanished
    MAY_STILL_BE_RUNNING = "MayStillBeRunning"  # it could not be told to stop in time


class RunStatus(StatusModel):
    """What is true of a run."""

    state: RunState = Field(RunState.PENDING, description="Where it stands.")
    conditions: Conditions = Field((), description="Succeeded.")
    reason: str = Field("Pending", description="Why it is in this state.")
    message: str = Field("", description="For people.")
    started_at: Time | None = Field(None, description="When its program started.")
    ended_at: Time | None = Field(None, description="When it ended.")
    exit_code: int | None = Field(None, description="Exit code of the program.")
    engine: str = Field("", description="Where several engines share a store: the one that it belongs to.")
    last_heartbeat_time: Time | None = Field(None, description="Latest sign of life.")
    progress: str | None = Field(None, description="What the agent said last about its progress.")
    percent: int | None = Field(None, ge=0, le=100, description="How far it says it is.")
    work_plan: str | None = Field(None, description="The plan it reported.")
    spend: Spend = Field(default_factory=Spend, description="What it used.")
    usage: tuple[ModelUsage, ...] = Field((), description="The same by model, source and price.")
    usage_told: bool = Field(False, description="Whether it was said what it used itself, beside its tool calls.")
    report: Report | None = Field(None, description="What the agent said at its end.")
    deliverable: Artifact | None = Field(None, description="What was handed in.")
    artifacts: tuple[Artifact, ...] = Field((), description="Everything handed in.")
    session_id: str | None = Field(None, description="The agent program's own session, to resume.")
    provider_error: ProviderError | None = Field(None, description="What its provider last said when it refused.")
    tool_calls: int = Field(0, description="Tool calls it reported.")
    unasked_calls: int = Field(0, description="Of these, the ones that nobody had put before the gate.")
    passages: tuple[Passage, ...] = Field((), description="Places at which its calls were put before the gate.")
    cancel_requested_at: Time | None = Field(None, description="Since when it is being told to stop.")
    cancel_reason: str = Field("", description="Why it is being told to stop.")
    token_revoked_at: Time | None = Field(None, description="Since when its token counts no more, before its end.")
    token_revoked_for: str = Field("", description="Why its token was revoked.")
    retryable: bool = Field(True, description="Whether another attempt may help.")
    log_bytes: int = Field(0, description="Bytes of output kept.")
    log_truncated: bool = Field(False, description="Whether output beyond the cap was dropped.")
    messages: int = Field(0, description="Messages from people to its agent, so far.")
    hosted_until: Time | None = Field(
        None, description="Of a sub-agent that its parent's program holds: its key is dead from then on."
    )
    claim: Claim | None = Field(None, description="Who fetched it; for an executor of type Pull.")
    post: Post | None = Field(None, description="How it was handed over; for an executor of type Http.")
    job: JobOfRun | None = Field(None, description="Its Job in a cluster; for an executor of type KubernetesJob.")
    seen_keys: tuple[str, ...] = Field((), description="Digests of the latest idempotency keys of its agent's writes.")


def run_name(mission: Name, number: int) -> str:
    """``<mission>-<number>``; deterministic, so a restart cannot make a twin."""
    return f"{mission[:240].rstrip('-.')}-{number}"


KIND = KindInfo(
    kind="Run",
    plural="runs",
    short_names=(),
    object_class=ObjectClass.RECORD,
    spec=RunSpec,
    status=RunStatus,
    reasons=RunReason,
    description="One attempt at a mission by one agent.",
    bounded=True,
    condition_types=("Succeeded",),
    columns=(
        Column("STATE", "status.state"),
        Column("MISSION", "spec.missionRef.name"),
        Column("AGENT", "spec.agentRef.name"),
        Column("ATTEMPT", "spec.attempt", "integer"),
        Column("REASON", "status.reason"),
        Column("EXIT", "status.exitCode", "integer", wide=True),
        Column("WORKER", "status.claim.worker", wide=True),
        Column("COST", "status.spend.usd", "money", wide=True),
        Column("MESSAGE", "status.message", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
