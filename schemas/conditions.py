"""Conditions: what is true of an object, since when, and why (Kubernetes API conventions, kstatus).

``Ready`` for long-lived kinds, ``Succeeded`` (Unknown while active) for bounded ones. ``Reconciling`` and ``Stalled``
exist only while True. Reasons come from the closed enum that each kind declares; messages hold no timestamps.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

from pydantic import Field

from schemas.base import StatusModel
from schemas.quantities import Time

ABNORMAL_TRUE = ("Reconciling", "Stalled")


class ConditionStatus(StrEnum):
    """Unknown means: not decided yet, or cannot be known."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One observation about an object."""

    type: str = Field(description="What is observed, such as Ready.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: str = Field(description="CamelCase word from the kind's closed list.")
    message: str = Field("", description="For people; stable while nothing changed.")
    last_transition_time: Time = Field(description="When status last changed.")
    observed_generation: int = Field(0, description="Generation of the spec that this speaks of.")


class CommonReason(StrEnum):
    """Reasons that any kind may carry."""

    NOT_RECONCILED_YET = "NotReconciledYet"  # accepted and stored; no controller of this version acts on the kind
    RECONCILED = "Reconciled"  # what the spec declares is in force
    PROGRESSING = "Progressing"  # on its way
    SUSPENDED = "Suspended"  # spec.suspend or a Hold stops it
    DELETING = "Deleting"  # deletionTimestamp is set, finalizers run
    REFERENCE_NOT_FOUND = "ReferenceNotFound"  # a referenced object does not exist
    REFERENCE_NOT_READY = "ReferenceNotReady"  # a referenced object is not Ready
    FIELDS_OVERRIDDEN = "FieldsOverridden"  # somebody took declared fields for a time; describe says who, why, how long
    FIELD_FIGHT = "FieldFight"  # others keep changing a declared field; it is put back ever later
    IN_USE = "InUse"  # deletion waits: other objects refer to this one
    INTERNAL_ERROR = "InternalError"  # a fault in Remit itself; retried with backoff


class NoReason(StrEnum):
    """For kinds without conditions."""


class BlockedOn(StatusModel):
    """What an object that does not move is waiting for."""

    type: str = Field(
        description="Dependency, Hold, Capacity, Provider, Tenant, Review, Approval, Budget, Agent, Person, Retry or "
        "FollowUp."
    )
    ref: str = Field("", description="The object waited for, as kind/namespace/name, or a short text.")
    since: Time = Field(description="Since when.")
    until: Time | None = Field(None, description="When the wait ends by itself, if it does.")
    hint: str = Field("", description="What a person can do, a command where there is one.")


Conditions = tuple[Condition, ...]


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of that type, or None."""
    return next((c for c in conditions if c.type == type_), None)


def is_true(conditions: Iterable[Condition], type_: str) -> bool:
    """Whether the condition exists and is True."""
    condition = find(conditions, type_)
    return condition is not None and condition.status is ConditionStatus.TRUE


def set_condition(
    conditions: Conditions,
    type_: str,
    status: ConditionStatus | bool | None,
    reason: str,
    message: str = "",
    *,
    now: datetime,
    generation: int,
) -> Conditions:
    """A new tuple, sorted by type, with this condition set; ``lastTransitionTime`` moves only with the status.

    ``status`` None means Unknown. Types of ABNORMAL_TRUE are removed instead of being set to anything but True.
    """
    if isinstance(status, ConditionStatus):
        value = status
    elif status is None:
        value = ConditionStatus.UNKNOWN
    else:
        value = ConditionStatus.TRUE if status else ConditionStatus.FALSE
    old = find(conditions, type_)
    if old is not None and (old.status, old.reason, old.message, old.observed_generation) == (
        value, reason, message, generation
    ):  # fmt: skip
        return conditions
    rest = tuple(c for c in conditions if c.type != type_)
    if type_ in ABNORMAL_TRUE and value is not ConditionStatus.TRUE:
        return rest
    since = old.last_transition_time if old is not None and old.status is value else now
    new = Condition(
        type=type_,
        status=value,
        reason=str(reason),
        message=message,
        last_transition_time=since,
        observed_generation=generation,
    )
    return tuple(sorted((*rest, new), key=lambda c: c.type))


def remove_condition(conditions: Conditions, type_: str) -> Conditions:
    """A new tuple without that type."""
    return tuple(c for c in conditions if c.type != type_)
