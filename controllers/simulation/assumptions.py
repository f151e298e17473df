"""What is assumed of work that is only simulated: how long it takes, what it costs, how often it fails, when people
answer.

The assumptions of one run are drawn from the seed and the run's name alone, so that a change of the specs moves only
what it concerns. An Agent, or a Mission (template), may declare its own in annotations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from random import Random

from schemas.errors import Refused
from schemas.quantities import parse_duration
from schemas.resource import SIMULATED_COST, SIMULATED_DURATION, SIMULATED_FAILURES, Resource

DURATION, COST, FAILURES = SIMULATED_DURATION, SIMULATED_COST, SIMULATED_FAILURES
"""Annotations: median duration of a run, median cost in USD, share of runs that fail."""
_CENT = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class Assumptions:
    """``duration`` and ``cost_usd`` are medians of log-normal distributions whose logarithm deviates by ``spread``.
    ``failures`` is the share of runs that fail, 0..1. People answer every question with yes after ``answer_after``,
    and never for None."""

    duration: timedelta = timedelta(minutes=5)
    cost_usd: Decimal = Decimal("0.10")
    spread: float = 0.5
    failures: float = 0.05
    answer_after: timedelta | None = timedelta(hours=1)

    def declared(self, *resources: Resource | None) -> Assumptions:
        """With what the annotations of these say, the last one first. Raises Refused."""
        made = self
        for resource in resources:
            if resource is not None:
                made = _with(made, resource.annotations, resource)
        return made


@dataclass(frozen=True, slots=True)
class Drawn:
    """One run: how long it would take, what it would cost, whether it would fail."""

    duration: timedelta
    cost_usd: Decimal
    fails: bool


def draw(seed: int, run: str, assumed: Assumptions) -> Drawn:
    """The run's share of chance; the same for the same seed and name."""
    random = Random(f"{seed}/{run}")  # noqa: S311  a forecast, no secret
    took, paid = (math.exp(assumed.spread * random.gauss(0.0, 1.0)) for _ in range(2))
    cost = (assumed.cost_usd * Decimal(repr(paid))).quantize(_CENT)
    seconds = max(1.0, round(assumed.duration.total_seconds() * took, 3))
    return Drawn(timedelta(seconds=seconds), cost, random.random() < assumed.failures)


def _with(assumed: Assumptions, notes: Mapping[str, str], resource: Resource) -> Assumptions:
    try:
        if DURATION in notes:
            assumed = replace(assumed, duration=parse_duration(notes[DURATION]))
        if COST in notes:
            assumed = replace(assumed, cost_usd=_amount(notes[COST]))
        if FAILURES in notes:
            assumed = replace(assumed, failures=float(_amount(notes[FAILURES], most=1)))
    except ValueError as error:
        text = f"{resource.key.short}: an annotation remit.dev/simulate-...: {error}"
        raise Refused(text, reason="AnnotationInvalid") from None
    return assumed


def _amount(text: str, most: int = 10**6) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text[:50]!r} is no number") from None
    if not 0 <= value <= most:
        raise ValueError(f"{text[:50]!r} is not between 0 and {most}")
    return value
