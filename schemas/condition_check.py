"""The condition checker: what is wrong with the status of a stored object. Tests run it over every object they leave
behind (conformance scenario 27); it never runs in the engine."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from schemas import registry
from schemas.base import StatusModel
from schemas.conditions import ABNORMAL_TRUE, BlockedOn, CommonReason, Condition, ConditionStatus, find
from schemas.errors import UnknownName
from schemas.kind import KindInfo
from schemas.mission import TERMINAL_STATES, MissionState
from schemas.resource import Resource
from schemas.run import ENDED, RunState

ANY_KIND = (*ABNORMAL_TRUE, "Suspended")
"""Condition types that every kind may carry beside those it declares."""

# A moment or a time of day: whatever may make a message differ from one pass to the next. Dates alone stand in names.
_TIMESTAMP = re.compile(r"\b\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}|\b\d{1,2}:\d{2}:\d{2}\b")

_T, _F, _U = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN
_MISSION_SUCCEEDED = {MissionState.DONE: _T, MissionState.FAILED: _F, MissionState.CANCELED: _F}
_RUN_SUCCEEDED = dict.fromkeys(ENDED, _F) | {RunState.SUCCEEDED: _T, RunState.UNKNOWN: _U}
# What Succeeded must say in a state; a state that is not listed is active, and then it is Unknown.
_SUCCEEDED: Mapping[str, Mapping[str, ConditionStatus]] = MappingProxyType(
    {
        "Mission": {str(state): status for state, status in _MISSION_SUCCEEDED.items()},
        "Run": {str(state): status for state, status in _RUN_SUCCEEDED.items()},
    }
)


def problems(resource: Resource) -> list[str]:
    """What is wrong with the status of an object, as lines ``Kind/namespace/name: ...``; empty when all is well. An
    object that no controller has looked at yet has an empty status, and that is well."""
    try:
        info = registry.by_kind(resource.kind)
    except UnknownName as error:
        return [f"{resource.key}: {error}"]
    found = [] if not resource.status else [*_status(resource, info)]
    return [f"{resource.key}: {text}" for text in found]


def all_problems(resources: Iterable[Resource]) -> list[str]:
    """The problems of many objects, in their order."""
    return [line for resource in resources for line in problems(resource)]


def _status(resource: Resource, info: KindInfo) -> Iterable[str]:
    try:
        status = info.status.model_validate(resource.status, extra="forbid", by_alias=True, by_name=False)
    except ValidationError as error:
        for fault in error.errors(include_url=False, include_input=False):
            yield f"status.{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
        return
    conditions: tuple[Condition, ...] = getattr(status, "conditions", ())
    yield from _list(conditions, info)
    for condition in conditions:
        yield from _condition(condition, resource, info)
    observed = getattr(status, "observed_generation", 0)
    if observed > resource.generation:
        yield f"status.observedGeneration is {observed}, the object's generation {resource.generation}"
    yield from _outcome(resource, conditions)
    yield from _waits(resource, status)


def _list(conditions: tuple[Condition, ...], info: KindInfo) -> Iterable[str]:
    types = [condition.type for condition in conditions]
    if types != sorted(set(types)):
        yield f"conditions are not sorted by type without repetition: {', '.join(types)}"
    main = "Succeeded" if info.bounded else "Ready"
    if main in info.condition_types and main not in types:
        yield f"there is a status but no condition {main}"


def _condition(condition: Condition, resource: Resource, info: KindInfo) -> Iterable[str]:
    name = f"condition {condition.type}"
    if condition.type not in info.condition_types and condition.type not in ANY_KIND:
        yield f"{name} is none of the kind's: {', '.join(info.condition_types)}"
    if condition.type in ABNORMAL_TRUE and condition.status is not _T:
        yield f"{name} exists only while it is True, not {condition.status}"
    allowed = {str(reason) for reason in (*info.reasons, *CommonReason)}
    if condition.reason not in allowed:
        yield f"{name} has reason {condition.reason!r}, which is not among those of {info.kind}"
    if _TIMESTAMP.search(condition.message):
        yield f"{name} has a time in its message, so it would change without a change: {condition.message!r}"
    if condition.observed_generation > resource.generation:
        yield f"{name} speaks of generation {condition.observed_generation}, the object has {resource.generation}"
    if condition.last_transition_time < resource.created_at.replace(microsecond=0):
        yield f"{name} changed before the object was made"


def _outcome(resource: Resource, conditions: tuple[Condition, ...]) -> Iterable[str]:
    """Succeeded and the state speak of the same thing."""
    expected = _SUCCEEDED.get(resource.kind)
    condition = find(conditions, "Succeeded")
    if expected is None or condition is None:
        return
    wanted = expected.get(resource.state, _U)
    if condition.status is not wanted:
        yield f"condition Succeeded is {condition.status} in state {resource.state}, where it is {wanted}"


def _waits(resource: Resource, status: StatusModel) -> Iterable[str]:
    """An object that does not move names what it waits for; one that moves, or has ended, waits for nothing."""
    blocked: tuple[BlockedOn, ...] | None = getattr(status, "blocked_on", None)
    if blocked is None:
        return
    for index, wait in enumerate(blocked):
        if not wait.type or not (wait.ref or wait.hint):
            yield f"status.blockedOn[{index}] names neither what it waits for nor what a person can do"
        if wait.until is not None and wait.until < wait.since:
            yield f"status.blockedOn[{index}] ends before it began"
    if resource.kind != "Mission" or resource.deletion_at is not None:
        return
    if MissionState(resource.state) in TERMINAL_STATES:
        if blocked:
            yield f"it is {resource.state} and still waits for something"
    elif not blocked and _without_run(resource.status):
        yield f"it is {resource.state} without a run and does not say what it waits for"


def _without_run(status: Mapping[str, Any]) -> bool:
    return not status.get("currentRun")
