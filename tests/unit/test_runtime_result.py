"""The class of an error decides what happens to its key."""

from __future__ import annotations

import asyncio
from datetime import datetime

import pytest

from controllers.runtime.result import RequeueAfter, RequeueAt, Verdict, verdict_of
from schemas import errors


def every_error(base: type[errors.RemitError] = errors.RemitError) -> set[type[errors.RemitError]]:
    found = {base}
    for child in base.__subclasses__():
        if child.__module__ == errors.__name__:
            found |= every_error(child)
    return found


def make(kind: type[errors.RemitError]) -> errors.RemitError:
    if kind is errors.InvalidSpec:
        return errors.InvalidSpec([errors.Diagnostic("a.yaml", 1, 1, "spec", "wrong")])
    if kind is errors.TransitionRefused:
        return errors.TransitionRefused("no", reason="No", legal=["Done"])
    if kind in (errors.Refused, errors.Stalled, errors.SourceUnreadable):
        return kind("no", reason="No")  # type: ignore[call-arg]
    if kind is errors.OverLimit:
        return errors.OverLimit("no", reason="No", after=1.0)
    if kind is errors.Waiting:
        return errors.Waiting("waits", on="mission/other")
    return kind("no")


EXPECTED = {
    errors.Waiting: Verdict.WAITING,
    errors.Stalled: Verdict.PARKED,
    errors.Terminal: Verdict.PARKED,
    errors.InvalidSpec: Verdict.PARKED,
    errors.Conflict: Verdict.CONFLICT,
    errors.AlreadyExists: Verdict.CONFLICT,
}


@pytest.mark.parametrize("kind", sorted(every_error(), key=lambda kind: kind.__name__))
def test_each_error_of_ours_has_its_verdict_and_none_is_a_panic(kind: type[errors.RemitError]) -> None:
    assert verdict_of(make(kind)) is EXPECTED.get(kind, Verdict.RETRY)


@pytest.mark.parametrize("error", [KeyError("x"), TimeoutError(), ExceptionGroup("g", [ValueError()]), MemoryError()])
def test_a_foreign_error_is_a_panic(error: Exception) -> None:
    assert verdict_of(error) is Verdict.PANIC
    assert verdict_of(asyncio.CancelledError()) is Verdict.PANIC


@pytest.mark.parametrize("seconds", [-0.1, float("nan"), float("inf")])
def test_a_wait_that_is_no_length_of_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="finite number of seconds"):
        RequeueAfter(seconds)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="with a zone"):
        RequeueAt(datetime(2026, 1, 5))
