"""What a run used, as its program reported it: tokens per model, and money where the program knows it.

A report without money keeps its tokens per model, so that a price table can turn it into ``Priced`` later; until then
its source is ``Unknown`` and the reservation is settled at its worst case.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from decimal import Decimal
from enum import StrEnum


class UsageSource(StrEnum):
    """Where a figure comes from, best first."""

    REPORTED = "Reported"  # the program said what it cost
    PRICED = "Priced"  # reported tokens times a price table
    ESTIMATED = "Estimated"  # reported, but it may count more than this run
    UNKNOWN = "Unknown"  # nobody said; settle at the worst case


class UsageScope(StrEnum):
    """What a figure covers when a session goes on over several runs."""

    RUN = "Run"  # this run alone
    SESSION = "Session"  # every run of the session so far
    UNCLEAR = "Unclear"  # depends on the program's version, which it did not say


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts. ``input`` is what is billed in full: cached input is counted apart. ``output`` includes
    ``reasoning``, which is also given apart where the program tells."""

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        """All tokens, each once."""
        return self.input + self.output + self.cache_read + self.cache_write

    def plus(self, other: Tokens) -> Tokens:
        """Sum, field by field."""
        return Tokens(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def minus(self, other: Tokens) -> Tokens:
        """Difference, field by field, never below 0."""
        return Tokens(*(max(0, getattr(self, f.name) - getattr(other, f.name)) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """The share of one model. ``model`` is "" when the program does not name it."""

    model: str
    tokens: Tokens
    usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class UsageReport:
    """What a program reported. ``usd`` None means that it named no price. ``models`` adds up to ``tokens`` and is
    sorted by model. ``version`` is that of the program, "" when it did not say."""

    usd: Decimal | None
    tokens: Tokens
    source: UsageSource
    scope: UsageScope = UsageScope.RUN
    models: tuple[ModelUsage, ...] = ()
    version: str = ""


def since(report: UsageReport, earlier: UsageReport | None) -> UsageReport:
    """The part of ``report`` that ``earlier``, the last report of the same session, does not hold yet.

    Never too little: a total that fell means that the counter began anew, so all of it is new; where the scope is
    unclear all of it is taken too, and called Estimated.
    """
    if earlier is None or report.scope is UsageScope.RUN:
        return report
    fell = report.tokens.total < earlier.tokens.total or (report.usd or Decimal(0)) < (earlier.usd or Decimal(0))
    if fell:
        return replace(report, scope=UsageScope.RUN)
    if report.scope is UsageScope.UNCLEAR:
        source = UsageSource.ESTIMATED if report.source is UsageSource.REPORTED else report.source
        return replace(report, source=source)
    before = {share.model: share for share in earlier.models}
    return replace(
        report,
        usd=_difference(report.usd, earlier.usd),
        tokens=report.tokens.minus(earlier.tokens),
        scope=UsageScope.RUN,
        models=tuple(_share_since(share, before.get(share.model)) for share in report.models),
    )


def _share_since(share: ModelUsage, earlier: ModelUsage | None) -> ModelUsage:
    if earlier is None:
        return share
    return replace(share, tokens=share.tokens.minus(earlier.tokens), usd=_difference(share.usd, earlier.usd))


def _difference(amount: Decimal | None, earlier: Decimal | None) -> Decimal | None:
    return amount if amount is None or earlier is None else max(Decimal(0), amount - earlier)
