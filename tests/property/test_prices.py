"""Prices: which one counts, what it comes to, and that no sum is ever short of what was declared."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from decisions.prices import MOST_MICROS, Listed, Tokens, cost, price_of, priced
from schemas.base import Key
from schemas.provider import Price, ProviderSpec

NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)
LAB = Key("Provider", "default", "lab")


def price(model: str, usd: str = "1", *, since: datetime | None = None, **more: str) -> Price:
    wire = {"model": model, "inputPerMillion": usd, "outputPerMillion": usd, **more}
    if since is not None:
        wire["effectiveFrom"] = since.isoformat()
    return Price.model_validate(wire)


def listed(*prices: Price, provider: Key = LAB) -> list[Listed]:
    return [Listed(provider, 3, entry) for entry in prices]


def chosen(prices: list[Listed], model: str, at: datetime = NOW) -> str:
    found = price_of(prices, model, at)
    return "" if found is None else found.version


def test_the_longest_name_that_fits_counts_and_a_whole_name_before_an_open_one() -> None:
    prices = listed(price("*"), price("big-*"), price("big-2*"), price("big-2"))
    assert chosen(prices, "big-2") == "default/lab@3 big-2"
    assert chosen(prices, "big-21") == "default/lab@3 big-2*"
    assert chosen(prices, "big-1") == "default/lab@3 big-*"
    assert chosen(prices, "small") == "default/lab@3 *"
    assert chosen(listed(price("big-2")), "big-21") == ""


def test_a_price_holds_from_its_date_until_the_next_one() -> None:
    prices = listed(price("m"), price("m", since=NOW), price("m", since=NOW + timedelta(days=9)))
    assert chosen(prices, "m", NOW - timedelta(seconds=1)) == "default/lab@3 m"
    assert chosen(prices, "m", NOW) == "default/lab@3 m since 2026-11-21T09:00:00.000Z"
    assert chosen(prices, "m", NOW + timedelta(days=10)).endswith("since 2026-11-30T09:00:00.000Z")


def test_a_name_that_fits_only_later_hides_no_shorter_one() -> None:
    assert chosen(listed(price("m*"), price("model", since=NOW + timedelta(days=1))), "model") == "default/lab@3 m*"


def test_of_two_providers_with_the_same_name_the_dearer_counts() -> None:
    other = Key("Provider", "default", "another")
    found = price_of([*listed(price("m", "2")), *listed(price("m", "3"), provider=other)], "m", NOW)
    assert found is not None
    assert found.provider == other


def test_what_a_cache_took_part_in_has_its_own_price() -> None:
    declared = price("m", "3", cacheReadPerMillion="0.3", cacheWritePerMillion="3.75")
    assert cost(declared, Tokens(1_000_000, 0, 400_000, 100_000)) == 1_500_000 + 120_000 + 375_000
    assert cost(price("m", "3"), Tokens(1_000_000, 0, 400_000, 100_000)) == 3_000_000


def test_a_model_that_was_not_named_counts_as_the_dearest_of_those_it_may_have_been() -> None:
    prices = listed(price("small", "1"), price("big", "9"))
    found = priced(prices, ["small", "big"], Tokens(1_000_000), NOW)
    assert found is not None
    assert (found.micros, found.listed.price.model) == (9_000_000, "big")
    assert priced(prices, ["small", "unheard-of"], Tokens(1), NOW) is None
    assert priced(prices, [], Tokens(1), NOW) is None


def test_the_same_model_and_date_twice_is_refused() -> None:
    with pytest.raises(ValidationError, match="must be unique"):
        ProviderSpec(prices=(price("m"), price("m", "2")))
    ProviderSpec(prices=(price("m"), price("m", "2", since=NOW)))


counts = st.integers(0, 10**12)
money = st.decimals(0, 10**6, places=6, allow_nan=False)


@given(counts, counts, counts, counts, st.tuples(money, money, money, money))
def test_costs_are_exact_rounded_up_to_a_millionth_and_bounded(
    fresh: int, read: int, written: int, output: int, each: tuple[Decimal, Decimal, Decimal, Decimal]
) -> None:
    declared = Price.model_validate(
        {"model": "m", "inputPerMillion": each[0], "outputPerMillion": each[1],
         "cacheReadPerMillion": each[2], "cacheWritePerMillion": each[3]}
    )  # fmt: skip
    exact = sum(
        (Fraction(p) * n for p, n in zip(each, (fresh, output, read, written), strict=True)), Fraction(0)
    )  # millionths of a USD: a price for a million tokens times tokens
    found = cost(declared, Tokens(fresh + read + written, output, read, written))
    assert found == MOST_MICROS or 0 <= found - exact < 1
    assert found <= MOST_MICROS
    assert found < MOST_MICROS or exact > MOST_MICROS - 1


@given(st.lists(st.tuples(counts, counts), min_size=1, max_size=5))
def test_a_price_for_parts_is_never_less_than_for_the_whole(parts: list[tuple[int, int]]) -> None:
    declared = price("m", "0.123457")
    whole = cost(declared, Tokens(sum(i for i, _ in parts), sum(o for _, o in parts)))
    assert whole <= sum(cost(declared, Tokens(i, o)) for i, o in parts) < whole + len(parts)
