"""ToolCall: an agent asked to use a tool, or reported that it did. A record, one for each idempotency key."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.base import JsonObject, Model, ObjectRef, StatusModel
from schemas.conditions import Conditions
from schemas.kind import Column, KindInfo, ObjectClass
from schemas.mission import Spend
from schemas.passage import CallChannel
from schemas.policy import Risk, Verdict
from schemas.quantities import Time


class ToolCallState(StrEnum):
    """Life of a tool call."""

    ASKING = "Asking"  # a person is asked
    ALLOWED = "Allowed"  # it may go ahead; no result was reported yet
    DENIED = "Denied"  # it may not
    SUCCEEDED = "Succeeded"  # it was done
    FAILED = "Failed"  # it was tried and failed
    UNKNOWN = "Unknown"  # the run ended without a result: nobody can know


class ToolCallSpec(Model):
    """What was asked for."""

    run_ref: ObjectRef = Field(description="The run that asked.")
    mission_ref: ObjectRef = Field(description="Its mission.")
    agent_ref: ObjectRef = Field(description="Its agent.")
    tool: str = Field(description="Tool, as the agent names it.")
    args: JsonObject = Field(default_factory=dict, description="Arguments, redacted.")
    args_digest: str = Field(description="sha256:<hex> of the arguments as they were.")
    target: str = Field("", description="What it acts on: a file, host, address or command.")
    estimate: Spend | None = Field(None, description="What the agent thinks it will cost.")
    idempotency_key: str = Field(description="The same call again has the same key and gets the same answer.")
    channel: CallChannel | None = Field(None, description="Where it was put before the gate.")
    placed: bool = Field(
        False, description="Whether the engine put that place there: it proved itself with a token of its own."
    )


class ToolCallReason(StrEnum):
    """Reasons of a ToolCall's Succeeded condition."""

    ALLOWED = "Allowed"  # it may go ahead
    APPROVED = "Approved"  # a person gave leave
    AWAITING_APPROVAL = "AwaitingApproval"  # a person is asked
    HELD = "Held"  # a Hold stops it
    NOT_GRANTED = "NotGranted"  # the agent's tools do not list it
    OVER_BUDGET = "OverBudget"  # nothing is left to pay for it
    HARD_STOP = "HardStop"  # a hard stop forbids it
    RULE = "Rule"  # a rule of a Policy forbids it
    RISK = "Risk"  # too risky for the agent's level
    LIMIT = "Limit"  # an autonomy limit forbids it
    APPROVAL_DENIED = "ApprovalDenied"  # a person refused
    APPROVAL_EXPIRED = "ApprovalExpired"  # nobody answered in time
    CANCELED = "Canceled"  # its run is being stopped
    REPORTED = "Reported"  # the agent reported its result
    REPORTED_FAILURE = "ReportedFailure"  # the agent reported that it failed
    RUN_ENDED = "RunEnded"  # its run ended without a result


class ToolCallStatus(StatusModel):
    """What became of it."""

    state: ToolCallState = Field(ToolCallState.ASKING, description="Where it stands.")
    conditions: Conditions = Field((), description="Succeeded.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    verdict: Verdict | None = Field(None, description="Allow, Deny or RequireApproval.")
    risk: Risk | None = Field(None, description="Risk it was weighed at.")
    rule: str = Field("", description="What decided: rule and place, or the built-in table.")
    message: str = Field("", description="What the agent was told.")
    remedy: str = Field("", description="What would have allowed it.")
    approval_request: str | None = Field(None, description="Name of the ApprovalRequest.")
    expires_at: Time | None = Field(None, description="The leave ends then.")
    started_at: Time | None = Field(None, description="When it was asked for.")
    ended_at: Time | None = Field(None, description="When its result was reported.")
    duration_ms: int | None = Field(None, description="How long it took, as reported.")
    output_digest: str = Field("", description="sha256:<hex> of its output.")
    error_signature: str = Field("", description="What makes two failures the same.")
    spend: Spend = Field(default_factory=Spend, description="What it used.")


KIND = KindInfo(
    kind="ToolCall",
    plural="toolcalls",
    short_names=("tc",),
    object_class=ObjectClass.RECORD,
    spec=ToolCallSpec,
    status=ToolCallStatus,
    reasons=ToolCallReason,
    description="An agent asked to use a tool, or reported that it did.",
    bounded=True,
    condition_types=("Succeeded",),
    columns=(
        Column("STATE", "status.state"),
        Column("TOOL", "spec.tool"),
        Column("RUN", "spec.runRef.name"),
        Column("VERDICT", "status.verdict"),
        Column("RISK", "status.risk"),
        Column("TARGET", "spec.target", wide=True),
        Column("RULE", "status.rule", wide=True),
        Column("CHANNEL", "spec.channel", wide=True),
        Column("COST", "status.spend.usd", "money", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
)
