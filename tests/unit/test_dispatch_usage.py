"""What of a cumulative usage report is new."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from controllers.dispatch.usage import ModelUsage, Tokens, UsageReport, UsageScope, UsageSource, since


def report(usd: str | None, tokens: int, scope: UsageScope, models: bool = False) -> UsageReport:
    amount = None if usd is None else Decimal(usd)
    shares = (ModelUsage("m", Tokens(input=tokens), amount),) if models else ()
    source = UsageSource.UNKNOWN if usd is None else UsageSource.REPORTED
    return UsageReport(amount, Tokens(input=tokens), source, scope, shares)


def test_a_session_total_counts_what_was_added() -> None:
    first = report("0.25", 1000, UsageScope.SESSION, models=True)
    second = report("0.40", 1600, UsageScope.SESSION, models=True)
    new = since(second, first)
    assert (new.usd, new.tokens, new.source) == (Decimal("0.15"), Tokens(input=600), UsageSource.REPORTED)
    assert new.models == (ModelUsage("m", Tokens(input=600), Decimal("0.15")),)
    assert new.scope is UsageScope.RUN


def test_the_first_report_counts_whole() -> None:
    first = report("0.25", 1000, UsageScope.SESSION)
    assert since(first, None) is first


def test_figures_of_one_run_are_never_reduced() -> None:
    assert since(report("0.3", 500, UsageScope.RUN), report("0.2", 100, UsageScope.RUN)).usd == Decimal("0.3")


def test_a_total_that_fell_began_anew() -> None:
    for scope in (UsageScope.SESSION, UsageScope.UNCLEAR):
        new = since(report("0.02", 90, scope), report("0.25", 1000, scope))
        assert (new.usd, new.tokens, new.source) == (Decimal("0.02"), Tokens(input=90), UsageSource.REPORTED)


def test_an_unclear_total_counts_whole_and_is_called_an_estimate() -> None:
    new = since(report("0.40", 1600, UsageScope.UNCLEAR), report("0.25", 1000, UsageScope.UNCLEAR))
    assert (new.usd, new.tokens, new.source) == (Decimal("0.40"), Tokens(input=1600), UsageSource.ESTIMATED)


def test_tokens_without_money_are_reduced_too() -> None:
    new = since(report(None, 1600, UsageScope.SESSION), report(None, 1000, UsageScope.SESSION))
    assert (new.usd, new.tokens, new.source) == (None, Tokens(input=600), UsageSource.UNKNOWN)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=10))
def test_the_parts_of_a_growing_total_add_up_to_it(steps: list[int]) -> None:
    total, booked, earlier = 0, Tokens(), None
    for step in steps:
        total += step
        current = report(None, total, UsageScope.SESSION)
        booked = booked.plus(since(current, earlier).tokens)
        earlier = current
    assert booked == Tokens(input=total)
