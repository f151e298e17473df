"""Agent: who works. Declared with its executor, model, tools and limits; status says how it fares."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from schemas.base import Bool, Int, JsonObject, Model, Name, ObjectRef, StatusModel, exactly_one_field
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.mission import Spend
from schemas.passage import Passage
from schemas.proposal import Proposals
from schemas.quantities import Duration, PositiveDuration, Time
from schemas.user_schema import require_json_schema


class AutonomyLevel(StrEnum):
    """How far an agent goes alone."""

    INTERN = "Intern"  # reads, comments and researches; everything else needs leave
    SPECIALIST = "Specialist"  # does Yellow within allowlists and budget
    LEAD = "Lead"  # does Yellow; Red needs leave


class IdentityMode(StrEnum):
    """In whose name it acts outside."""

    PERSONA = "Persona"  # its own
    OPERATOR_PROXY = "OperatorProxy"  # its operator's; must be chosen explicitly


class SessionStrategy(StrEnum):
    """Which session of the agent a mission runs in."""

    AUTO = "Auto"  # reuse for related work, new for unrelated or urgent work
    REUSE = "Reuse"
    NEW = "New"


class UpdatePolicy(StrEnum):
    """When a changed spec takes hold of a working agent."""

    ON_IDLE = "OnIdle"  # when its current run has ended; new runs start meanwhile under the old spec
    DRAIN = "Drain"  # nothing new starts until its runs have ended, then at once
    IMMEDIATE = "Immediate"  # running work is stopped and begun again
    MANUAL = "Manual"  # when a person asks: annotation remit.dev/reconcile-requested-at


class Enforcement(StrEnum):
    """How tightly its acts are held, from evidence."""

    OBSERVED = "Observed"  # none of its calls was put before the gate
    ADVISED = "Advised"  # calls were, by a place that is its own or that it can go around
    GATED = "Gated"  # all that is known of were, by a place that the engine put there
    CONTAINED = "Contained"  # Gated, and its program was started in a sandbox


class ModelChoice(Model):
    """The model that drives it."""

    provider_ref: ObjectRef | None = Field(None, description="Provider whose pool and prices apply.")
    primary: str = Field(max_length=200, description="Model name.")
    fallback: tuple[str, ...] = Field((), description="Models to use, in order, when the primary is not to be had.")


class PromptSource(Model):
    """Where the system prompt is kept."""

    path: str = Field(max_length=1000, description="File below the source path, versioned with the spec.")

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        if value.startswith("/") or ".." in value.split("/") or "\\" in value or "\x00" in value:
            raise ValueError("a path below the source, without '..' or a leading '/'")
        return value


class McpTools(Model):
    """Tools of an MCP server."""

    server_ref: ObjectRef = Field(description="The tool server.")
    tool_names: tuple[str, ...] = Field((), description="Which of its tools; empty for all.")


class ToolGrant(Model):
    """A tool the agent may call: a name or an MCP server's tools."""

    model_config = exactly_one_field()

    name: str | None = Field(None, min_length=1, max_length=200, description="Tool name; globs are allowed.")
    mcp: McpTools | None = Field(None, description="Tools of an MCP server.")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.name is None) == (self.mcp is None):
            raise ValueError("name exactly one of name and mcp")
        return self


class Session(Model):
    """Session handling."""

    strategy: SessionStrategy = Field(SessionStrategy.AUTO, description="Auto, Reuse or New.")


class Heartbeat(Model):
    """Signs of life while a run is open."""

    interval: PositiveDuration = Field("30s", description="How often one is expected.")  # type: ignore[assignment]
    stale_after: Duration = Field("5m", description="Silence after which the agent counts as stale.")  # type: ignore[assignment]

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.stale_after < self.interval:
            raise ValueError("staleAfter must not be shorter than interval")
        return self


class SubAgents(Model):
    """What it may spawn."""

    allowed: Bool = Field(False, description="Whether it may spawn at all; never for an Intern.")
    max: Int = Field(3, ge=0, le=100, description="At most so many at a time.")
    max_depth: Int = Field(2, ge=1, le=10, description="Generations below it.")
    ttl: PositiveDuration = Field("6h", description="Longest life of one.")  # type: ignore[assignment]


class AgentSpec(Model):
    """Who works."""

    description: str | None = Field(None, max_length=10_000, description="What it is for.")
    executor_ref: ObjectRef = Field(description="How work reaches it.")
    model: ModelChoice | None = Field(None, description="The model that drives it, where one does.")
    autonomy_level: AutonomyLevel = Field(AutonomyLevel.INTERN, description="Intern, Specialist or Lead.")
    identity_mode: IdentityMode = Field(IdentityMode.PERSONA, description="In whose name it acts outside.")
    system_prompt: str | None = Field(None, max_length=200_000, description="System prompt, inline.")
    system_prompt_from: PromptSource | None = Field(None, description="System prompt kept in a file of the source.")
    tools: tuple[ToolGrant, ...] = Field((), max_length=500, description="Tools it may call.")
    max_concurrent_missions: Int = Field(1, ge=0, le=1000, description="Places: how many runs at a time; 0 is none.")
    session: Session = Field(default_factory=Session, description="Session handling.")
    heartbeat: Heartbeat = Field(default_factory=Heartbeat, description="Signs of life.")
    sub_agents: SubAgents = Field(default_factory=SubAgents, description="What it may spawn.")
    proposals: Proposals | None = Field(
        None, description="Changes of specs and missions that it may propose; a person takes them or not."
    )
    input_schema: JsonObject = Field(default_factory=dict, description="JSON Schema for a mission's input.")
    output_schema: JsonObject = Field(default_factory=dict, description="JSON Schema for its deliverable.")
    update_policy: UpdatePolicy = Field(UpdatePolicy.ON_IDLE, description="When a changed spec takes hold.")
    suspend: Bool = Field(False, description="Start nothing new while true.")

    @field_validator("input_schema", "output_schema")
    @classmethod
    def _is_schema(cls, value: dict[str, Any]) -> dict[str, Any]:
        if value:
            require_json_schema(value)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.system_prompt is not None and self.system_prompt_from is not None:
            raise ValueError("give systemPrompt or systemPromptFrom, not both")
        if self.sub_agents.allowed and self.autonomy_level is AutonomyLevel.INTERN:
            raise ValueError("an Intern may not spawn: set subAgents.allowed to false or raise autonomyLevel")
        return self


class AgentReason(StrEnum):
    """Reasons of an Agent's conditions."""

    RECONCILED = "Reconciled"  # it can take missions
    EXECUTOR_NOT_FOUND = "ExecutorNotFound"  # executorRef names no executor
    EXECUTOR_NOT_READY = "ExecutorNotReady"  # its executor is not Ready
    SUSPENDED = "Suspended"  # spec.suspend
    HELD = "Held"  # a Hold stops it
    QUARANTINED = "Quarantined"  # a Hold took it out of service: stopped, keys revoked, missions Blocked
    NOT_HELD = "NotHeld"  # nothing stops it
    DRAINING = "Draining"  # it ends its runs and starts none
    UPDATE_PENDING = "UpdatePending"  # a changed spec waits for its runs to end
    IDLE = "Idle"  # reachable as far as known: nothing has been tried yet
    HEARTBEAT_RECEIVED = "HeartbeatReceived"  # it gave a sign of life in time
    HEARTBEAT_STALE = "HeartbeatStale"  # no sign of life for staleAfter
    CONFORMANT = "Conformant"  # it reports what is declared
    NOT_REPORTED = "NotReported"  # it reports neither model nor tools
    ERROR_STREAK = "ErrorStreak"  # its runs keep failing
    WITHIN_LIMITS = "WithinLimits"  # below warnAt of every limit
    BUDGET_WARNING = "BudgetWarning"  # above warnAt of one
    BUDGET_EXCEEDED = "BudgetExceeded"  # a limit has no room left
    LAST_GOOD_SERVES = "LastGoodServes"  # the declared generation is not healthy; the last good one serves
    DELETING = "Deleting"  # deletionTimestamp is set
    MAY_STILL_BE_RUNNING = "MayStillBeRunning"  # a worker of it could not be told to stop


class Ancestor(StatusModel):
    """Who a sub-agent descends from, and what it works on."""

    agent: ObjectRef = Field(description="The agent.")
    mission: ObjectRef = Field(description="Its mission.")


class Spawned(StatusModel):
    """How a sub-agent came to be, and when it ends."""

    name: str = Field(description="What its parent calls it.")
    run: Name = Field(description="The run that spawned it.")
    run_uid: str = Field(description="Its uid: the sub-agent ends with it.")
    mission: ObjectRef = Field(description="What the sub-agent works on, and nothing else.")
    mission_uid: str = Field(description="Its uid.")
    depth: int = Field(description="Generations below a declared agent.")
    lineage: tuple[Ancestor, ...] = Field((), description="Its ancestors, the declared agent first.")
    expires_at: Time = Field(description="It ends then at the latest.")
    hosted: bool = Field(False, description="Whether the program of its parent does its work, with a key of its own.")
    ending: str = Field("", description="Why it is being ended.")


class AgentSession(StatusModel):
    """A session of the agent's program that it can go on with."""

    id: str = Field(description="What the program calls it.")
    run: Name = Field(description="The run that left it.")
    mission: ObjectRef = Field(description="What that worked on.")
    mission_uid: str = Field(description="Its uid.")
    project: ObjectRef | None = Field(None, description="The project of that mission.")
    goal: ObjectRef | None = Field(None, description="The goal of that mission.")
    prompt_digest: str = Field("", description="sha256:<hex> of the system prompt that it began with.")
    executor: str = Field("", description="Executor that holds it, as kind/namespace/name.")
    at: Time = Field(description="When that run ended.")


class RunEvidence(StatusModel):
    """What one of its runs shows of how tightly it is held."""

    run: Name = Field(description="The run.")
    executor: str = Field(description="namespace/name@generation of the executor that it was started by.")
    at: Time = Field(description="When it ended; when it started, while it is open.")
    passages: tuple[Passage, ...] = Field((), description="Places at which its calls were put before the gate.")
    unasked: int = Field(0, description="Calls that it reported, and that nobody had put before the gate.")
    sandbox: str = Field("", description="What the engine started its program in; empty for nothing.")


class AgentStatus(StatusModel):
    """How it fares."""

    conditions: Conditions = Field((), description="Ready, Reachable, Conformant, WithinBudget, Suspended.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    effective_generation: int = Field(0, description="Generation that new runs start with (update policy).")
    serving_executor: ObjectRef | None = Field(
        None, description="Executor that new runs start with, where it is not the declared one."
    )
    last_good_generation: int = Field(
        0, description="Generation that serves when the declared one turns out broken; 0 once that one has worked."
    )
    failed_generation: int = Field(0, description="Generation whose run could not be started; 0 is none.")
    failed_at: Time | None = Field(None, description="When that was; after 30 minutes it is tried again.")
    failed_message: str = Field("", description="Why it could not be started.")
    held: str = Field("", description="What stops it: Hold, Drain, Stop, Quarantine or Suspend; empty for nothing.")
    active_runs: int = Field(0, description="Runs that are open.")
    current_missions: tuple[Name, ...] = Field((), description="Missions that are worked on, sorted.")
    spend: Spend = Field(default_factory=Spend, description="Used by all its runs.")
    spend_today: Spend = Field(default_factory=Spend, description="Used today (UTC).")
    error_streak: int = Field(0, description="Failed runs since the last good one.")
    alerts: tuple[str, ...] = Field((), description="Types of the alerts that follow from how it stands now.")
    last_heartbeat_time: Time | None = Field(None, description="Latest sign of life.")
    last_run_time: Time | None = Field(None, description="When a run last ended.")
    enforcement: Enforcement = Field(Enforcement.OBSERVED, description="How tightly its acts are held.")
    enforcement_message: str = Field("", description="What that rests on.")
    evidence: tuple[RunEvidence, ...] = Field((), description="Its latest runs that used tools, newest first.")
    sessions: tuple[AgentSession, ...] = Field((), description="Sessions of its program, latest first.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")
    spawned: Spawned | None = Field(None, description="Of a sub-agent: who spawned it, and when it ends.")


KIND = KindInfo(
    kind="Agent",
    plural="agents",
    short_names=("ag",),
    object_class=ObjectClass.INTENT,
    spec=AgentSpec,
    status=AgentStatus,
    reasons=AgentReason,
    description="Who works.",
    condition_types=("Ready", "Reachable", "Conformant", "WithinBudget", "Suspended"),
    columns=(
        Column("READY", "status.conditions[Ready].status"),
        Column("LEVEL", "spec.autonomyLevel"),
        Column("RUNS", "status.activeRuns", "integer"),
        Column("EXECUTOR", "spec.executorRef.name"),
        Column("ENFORCEMENT", "status.enforcement"),
        Column("REASON", "status.conditions[Ready].reason"),
        Column("HELD", "status.held"),
        Column("ERRORS", "status.errorStreak", "integer", wide=True),
        Column("COST", "status.spend.usd", "money", wide=True),
        Column("LAST BEAT", "status.lastHeartbeatTime", "date", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={
        "": Disruption.RESTART,
        "description": Disruption.LIVE,
        "autonomyLevel": Disruption.LIVE,
        "tools": Disruption.LIVE,
        "maxConcurrentMissions": Disruption.LIVE,
        "suspend": Disruption.LIVE,
        "heartbeat": Disruption.LIVE,
        "subAgents": Disruption.LIVE,
        "proposals": Disruption.LIVE,
        "updatePolicy": Disruption.LIVE,
        "systemPrompt": Disruption.NEXT_RUN,
        "systemPromptFrom": Disruption.NEXT_RUN,
        "session": Disruption.NEXT_RUN,
        "inputSchema": Disruption.NEXT_RUN,
        "outputSchema": Disruption.NEXT_RUN,
        "identityMode": Disruption.DRAIN,
        "executorRef": Disruption.DRAIN,
        "model": Disruption.DRAIN,
    },
)
