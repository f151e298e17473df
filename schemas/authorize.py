"""May I? What an agent sends before it uses a tool, and the answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from schemas.base import JsonObject, Model
from schemas.policy import Risk
from schemas.protocol import MAX_TOKENS, Cost, Digest, Message
from schemas.quantities import Time
from schemas.resource import canonical_json
from schemas.tool_call import ToolCallReason

MAX_ARGS = 256 * 1024
"""Most bytes that the canonical JSON of arguments may have: a person may have to read them."""
MAX_KEY = 200


def _readable(value: dict[str, Any]) -> dict[str, Any]:
    size = len(canonical_json(value).encode("utf-8", "surrogatepass"))
    if size > MAX_ARGS:
        raise ValueError(
            f"arguments have at most {MAX_ARGS:,} bytes as canonical JSON, these have {size:,}: hand large content in"
            " as an artifact and name its digest"
        )
    return value


CallKey = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY, pattern=r"^[\x20-\x7e]+$")]
"""Printable ASCII, as in the header Idempotency-Key."""


class Estimate(Message):
    """What the agent thinks that the call will cost."""

    usd: Cost | None = Field(None, description="USD; reserved until the result is reported.")
    tokens: int | None = Field(None, ge=0, le=MAX_TOKENS, description="Tokens, input and output together.")


class AuthorizeMessage(Message):
    """What the agent wants to do. One request is one call: it is answered once, however often it is sent."""

    tool: str = Field(min_length=1, max_length=200, description="Tool, as spec.tools of the agent names it.")
    args: Annotated[JsonObject, AfterValidator(_readable)] = Field(
        default_factory=dict, description="Its arguments; at most 256 KiB as canonical JSON."
    )
    args_digest: Digest | None = Field(
        None, description="sha256:<hex> of the canonical JSON of args; refused unless it fits."
    )
    target: str | None = Field(
        None, max_length=2000, description="What it acts on: a file, host, address or command; shown to approvers."
    )
    estimate: Estimate | None = Field(None, description="What it will cost.")
    hinted_risk: Risk | None = Field(
        None, strict=False, description="Risk that a tool server names; it raises the risk, never lowers it."
    )
    idempotency_key: CallKey | None = Field(
        None, description="Names the call, in place of the header Idempotency-Key; where both are given they agree."
    )


class DecisionWord(StrEnum):
    """The answer."""

    ALLOW = "allow"  # do it now, once
    DENY = "deny"  # do not
    ASK = "ask"  # a person is asked; wait for the decision


class Decision(Model):
    """May the call go ahead? ``allow`` holds for this one call."""

    decision: DecisionWord = Field(description="allow, deny or ask.")
    code: ToolCallReason = Field(description="CamelCase word for the reason.")
    reason: str = Field(description="Why, for people.")
    rule: str = Field("", description="What decided: rule and place, or the built-in table.")
    remedy: str = Field("", description="What would allow it, for people.")
    decision_id: str = Field(description="Names the decision: GET /agent/v1/decisions/{id}.")
    tool_call: str = Field(description="Name of the ToolCall that records it.")
    risk: Risk | None = Field(None, description="Risk that it was weighed at.")
    approval_request: str | None = Field(None, description="Name of the ApprovalRequest.")
    action_digest: str | None = Field(None, description="What a person gives leave for: digest of the exact action.")
    expires_at: Time | None = Field(None, description="The question, or the leave, ends then.")
    retry_after_ms: int | None = Field(None, ge=0, description="Ask again after this time.")
    authorize_again: bool = Field(
        False,
        description="It was answered, and the arguments are needed once more: send authorize again with the same key.",
    )
