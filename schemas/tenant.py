"""Tenant: a group of people and everything that is theirs. It owns the namespace of its name."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from schemas.base import Bool, Int, Line, Model, ObjectRef, StatusModel, Subject, require_unique
from schemas.conditions import Conditions
from schemas.kind import Column, Disruption, KindInfo, ObjectClass
from schemas.quantities import Duration, PositiveDuration, Time
from schemas.standup import Standup


class Role(StrEnum):
    """What a person or program may do."""

    VIEWER = "Viewer"  # reads
    OPERATOR = "Operator"  # reads, declares, holds and releases
    APPROVER = "Approver"  # reads and answers approval requests
    ADMIN = "Admin"  # everything, members included


class Lifecycle(StrEnum):
    """What is wanted of the tenant."""

    ACTIVE = "Active"  # it works
    SUSPENDED = "Suspended"  # nothing new starts; everything stays
    PENDING_DELETION = "PendingDeletion"  # nothing new starts; everything goes after deletionGracePeriod


class Member(Model):
    """One person or program, and what it may do."""

    subject: Subject = Field(description="user:<name>, service:<name> or agent:<namespace>/<name>.")
    role: Role = Field(description="Viewer, Operator, Approver or Admin.")


class GroupRole(Model):
    """Everybody whose identity provider says they belong to a group."""

    claim: Line = Field(description="Group, as the identity provider writes it.")
    role: Role = Field(description="Viewer, Operator, Approver or Admin.")


class TenantDefaults(Model):
    """What holds where nothing else is said."""

    budget_ref: ObjectRef | None = Field(None, description="Budget for work that no other Budget covers.")
    policy_refs: tuple[ObjectRef, ...] = Field((), description="Policies for every agent, beside those that pick it.")
    built_in_budgets: Bool = Field(
        True, description="Whether the built-in limits hold where no Budget does; if not, such work is refused."
    )


class TenantLimits(Model):
    """Upper bounds of the whole tenant."""

    max_active_agents: Int = Field(100, ge=0, le=100_000, description="Agents with an open run at a time.")
    max_sub_agents: Int = Field(30, ge=0, le=100_000, description="Spawned agents alive at a time.")
    max_waiting_missions: Int = Field(
        100_000,
        ge=0,
        le=10_000_000,
        description="Missions that wait for their turn at a time; more are taken in as room is made.",
    )
    max_event_streams: Int = Field(200, ge=0, le=100_000, description="Open event streams at a time.")


class Retention(Model):
    """How long what happened is kept. Absent: for ever."""

    records: PositiveDuration | None = Field(None, description="Finished runs, tool calls, messages and the like.")
    events: PositiveDuration | None = Field(None, description="Rows of the event log, oldest first.")


class TenantSpec(Model):
    """A group of people and everything that is theirs."""

    display_name: Line | None = Field(None, description="Name for people.")
    members: tuple[Member, ...] = Field((), max_length=10_000, description="Who belongs to it, and what they may do.")
    groups: tuple[GroupRole, ...] = Field((), max_length=1000, description="Roles by group of the identity provider.")
    defaults: TenantDefaults = Field(default_factory=TenantDefaults, description="What holds where nothing is said.")
    limits: TenantLimits = Field(default_factory=TenantLimits, description="Upper bounds of the whole tenant.")
    retention: Retention = Field(default_factory=Retention, description="How long what happened is kept.")
    standup: Standup | None = Field(None, description="When its daily summary is made; absent: as remit.yaml says.")
    lifecycle: Lifecycle = Field(Lifecycle.ACTIVE, description="Active, Suspended or PendingDeletion.")
    deletion_grace_period: Duration = Field(
        "7d",  # type: ignore[assignment]
        description="Between PendingDeletion and the removal of everything; Active again within it stops that.",
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        require_unique((m.subject for m in self.members), "the subjects of members")
        require_unique((g.claim for g in self.groups), "the claims of groups")
        return self


class TenantReason(StrEnum):
    """Reasons of a Tenant's conditions."""

    RECONCILED = "Reconciled"  # what it declares is in force
    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted; not looked at yet
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # a default names a Budget or Policy that does not exist
    SUSPENDED = "Suspended"  # spec.lifecycle is Suspended
    PENDING_DELETION = "PendingDeletion"  # spec.lifecycle is PendingDeletion; everything goes at status.removalTime
    HELD = "Held"  # a Hold stops everything in it
    REMOVED = "Removed"  # its grace period is over: what the engine made in it is gone, the rest goes with its files
    IN_USE = "InUse"  # deletion waits: its namespace still holds objects
    DELETING = "Deleting"  # deletionTimestamp is set


class TenantStatus(StatusModel):
    """How it fares."""

    conditions: Conditions = Field((), description="Ready.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")
    active_agents: int = Field(0, description="Agents with an open run.")
    sub_agents: int = Field(0, description="Spawned agents alive.")
    remaining: int = Field(0, description="While it goes: objects that are still there.")
    pending_since: Time | None = Field(None, description="Since when deletion is pending.")
    removal_time: Time | None = Field(None, description="When everything goes, while deletion is pending.")
    last_handled_reconcile: str | None = Field(None, description="Latest reconcile token acted on.")


KIND = KindInfo(
    kind="Tenant",
    plural="tenants",
    short_names=("tn",),
    object_class=ObjectClass.INTENT,
    spec=TenantSpec,
    status=TenantStatus,
    reasons=TenantReason,
    description="A group of people and everything that is theirs.",
    namespaced=False,
    guardrail=True,
    max_name=63,  # its name is that of a namespace
    columns=(
        Column("LIFECYCLE", "spec.lifecycle"),
        Column("READY", "status.conditions[Ready].status"),
        Column("REASON", "status.conditions[Ready].reason"),
        Column("ACTIVE", "status.activeAgents", "integer"),
        Column("DISPLAY NAME", "spec.displayName", wide=True),
        Column("REMOVAL", "status.removalTime", "date", wide=True),
        Column("AGE", "metadata.creationTimestamp", "date"),
    ),
    disruption={"": Disruption.LIVE, "lifecycle": Disruption.DRAIN},
)
