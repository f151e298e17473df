"""Sections of several Policies as one: where several speak, the strictest holds; where none does, what is built in."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.approval_request import OnTimeout
from schemas.policy import (
    DEFAULT_APPROVALS,
    DEFAULT_AUTONOMY,
    DEFAULT_LOOP_DETECTION,
    DEFAULT_SPAWN,
    Approvals,
    Approvers,
    AutonomyLimits,
    LoopDetection,
    PolicySpec,
    Redaction,
    SpawnLimits,
)
from schemas.tenant import Role

_REDACTION = {Redaction.OFF: 0, Redaction.STANDARD: 1, Redaction.STRICT: 2}


def approvals(specs: Iterable[PolicySpec]) -> Approvals:
    """How people are asked. Approvers are those whom every section accepts; when that is nobody, Admins."""
    found = [spec.approvals for spec in specs if spec.approvals is not None]
    if not found:
        return DEFAULT_APPROVALS
    first, *others = found
    roles, subjects = set(first.approvers.roles), set(first.approvers.subjects)
    for other in others:
        roles &= set(other.approvers.roles)
        subjects &= set(other.approvers.subjects)
    quorum = max(a.quorum for a in found)
    if not roles and len(subjects) < quorum:
        roles.add(Role.ADMIN)
    timeout = min(a.timeout for a in found)
    reminders = [a.remind_after for a in found if a.remind_after is not None and a.remind_after < timeout]
    return Approvals(
        timeout=timeout,
        remind_after=min(reminders) if reminders else None,
        on_timeout=OnTimeout.DENY if any(a.on_timeout is OnTimeout.DENY for a in found) else OnTimeout.PARK,
        approvers=Approvers(roles=tuple(role for role in Role if role in roles), subjects=tuple(sorted(subjects))),
        quorum=quorum,
        separation_of_duties=any(a.separation_of_duties for a in found),
    )


def autonomy(specs: Iterable[PolicySpec]) -> AutonomyLimits:
    """How far a session goes by itself: the fewest messages, the longest pause."""
    found = [spec.autonomy for spec in specs if spec.autonomy is not None]
    if not found:
        return DEFAULT_AUTONOMY
    return AutonomyLimits(
        max_consecutive=min(a.max_consecutive for a in found), cooldown=max(a.cooldown for a in found)
    )


def loop_detection(specs: Iterable[PolicySpec]) -> LoopDetection:
    """What counts as going around in circles: the smallest of each number."""
    found = [spec.loop_detection for spec in specs if spec.loop_detection is not None]
    if not found:
        return DEFAULT_LOOP_DETECTION
    return LoopDetection.model_validate(
        {name: min(getattr(item, name) for item in found) for name in LoopDetection.model_fields}
    )


def spawn(specs: Iterable[PolicySpec]) -> SpawnLimits:
    """Limits of sub-agents: the smallest of each number."""
    found = [spec.spawn for spec in specs if spec.spawn is not None]
    if not found:
        return DEFAULT_SPAWN
    return SpawnLimits.model_validate(
        {name: min(getattr(item, name) for item in found) for name in SpawnLimits.model_fields}
    )


def redaction(specs: Iterable[PolicySpec]) -> Redaction:
    """How much is masked: the most that any of them says."""
    return max((spec.redaction for spec in specs), key=_REDACTION.__getitem__, default=Redaction.STANDARD)
