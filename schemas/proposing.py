"""Proposals on the wire of the agent protocol: a structured edit, and what became of it. No path of a file and no
argument of git ever comes from an agent."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, Field, JsonValue, model_validator

from schemas.approval_request import RequestState
from schemas.base import Line, Model, Name, require_unique
from schemas.proposal import ProposedKind, SpecField
from schemas.protocol import Message, Receipt
from schemas.quantities import Time
from schemas.resource import canonical_json

MOST_EDITS = 20
MOST_VALUE = 16_000


def _bounded(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value
    if len(canonical_json(value)) > MOST_VALUE:
        raise ValueError(f"a value has at most {MOST_VALUE:,} characters as JSON")
    return value


class FieldEdit(Message):
    """One field and its new value."""

    field: SpecField = Field(description="The field: spec.limits.usd.")
    value: Annotated[JsonValue, BeforeValidator(_bounded)] = Field(
        description="Its new value as JSON; null takes the field away, so that its default holds."
    )


class ProposeMessage(Message):
    """A change of the specs that a person is asked to merge."""

    kind: ProposedKind = Field(strict=False, description="Kind of the object.")
    name: Name = Field(description="Its name, in the namespace of the agent.")
    edits: tuple[FieldEdit, ...] = Field(
        min_length=1, max_length=MOST_EDITS, description="Fields and their new values; of a new object, all its fields."
    )
    create: bool = Field(False, description="Whether the object is a new one.")
    title: Line | None = Field(None, description="One line for the person who decides.")
    reason: str = Field("", max_length=20_000, description="Why; kept up to 4,000 characters.")

    @model_validator(mode="after")
    def _fields(self) -> Self:
        names = [edit.field for edit in self.edits]
        require_unique(names, "fields")
        for one in names:
            if any(other.startswith(one + ".") for other in names):
                raise ValueError(f"{one} is given as a whole and in parts")
        return self


class Proposal(Model):
    """A proposal, and where it stands."""

    name: str = Field(description="Name of its ApprovalRequest.")
    state: RequestState = Field(description="Pending, Approved (merged), Denied, Expired or Withdrawn.")
    message: str = Field("", description="Why it stands there.")
    subject: str = Field(description="What would change: budget/auditor-day.")
    branch: str = Field(description="Branch that holds it.")
    commit: str | None = Field(None, description="Commit on it, once it was made.")
    pull_request: str | None = Field(None, description="Address of its pull request, where one was opened.")
    changes: tuple[str, ...] = Field((), description="Field by field: spec.limits.usd: 5 -> 8.")
    effects: tuple[str, ...] = Field((), description="What merging would do beyond its fields.")
    expires_at: Time = Field(description="An open one ends then.")


class ProposalReceipt(Receipt):
    """A person is asked."""

    proposal: Proposal = Field(description="It.")


class ProposalList(Model):
    """The proposals of an agent, the newest first."""

    items: tuple[Proposal, ...] = Field((), description="At most 50.")
