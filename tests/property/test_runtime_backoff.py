"""The backoff stays within its bounds, grows, and spreads."""

from __future__ import annotations

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given

from controllers.runtime.backoff import Backoff

backoffs = st.builds(
    lambda initial, times, factor, jitter: Backoff(initial, initial * times, factor, jitter),
    st.floats(0.001, 100),
    st.floats(1, 1e6),
    st.floats(1, 100),
    st.floats(0, 1),
)
seeds = st.integers(0, 2**32)


@given(backoffs, st.integers(1, 100_000), seeds)
def test_every_delay_lies_between_the_first_and_the_last(backoff: Backoff, failures: int, seed: int) -> None:
    assert backoff.initial_s <= backoff.delay(failures, random.Random(seed)) <= backoff.maximum_s


@given(backoffs, st.integers(1, 50), seeds)
def test_under_the_same_luck_another_failure_never_waits_less(backoff: Backoff, failures: int, seed: int) -> None:
    assert backoff.delay(failures, random.Random(seed)) <= backoff.delay(failures + 1, random.Random(seed))


def test_the_defaults_reach_from_three_quarters_of_a_second_to_a_quarter_of_an_hour() -> None:
    first = [Backoff().delay(1, random.Random(seed)) for seed in range(200)]
    last = [Backoff().delay(60, random.Random(seed)) for seed in range(200)]
    assert min(first) >= 0.75
    assert max(first) <= 0.75 * 1.2
    assert max(last) <= 900
    assert max(last) - min(last) > 100, "at the cap a crowd would come back together"


def test_the_same_seed_gives_the_same_delays() -> None:
    def delays(chance: random.Random) -> list[float]:
        return [Backoff().delay(n, chance) for n in range(1, 20)]

    assert delays(random.Random(7)) == delays(random.Random(7))


@pytest.mark.parametrize(
    "bad",
    [
        {"initial_s": 0.0},
        {"initial_s": 5.0, "maximum_s": 4.0},
        {"maximum_s": float("inf")},
        {"initial_s": float("nan")},
        {"factor": 0.5},
        {"factor": float("nan")},
        {"jitter": 1.5},
        {"jitter": -0.1},
    ],
)
def test_bounds_that_make_no_sense_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="a backoff needs"):
        Backoff(**bad)


def test_failures_are_counted_from_one() -> None:
    with pytest.raises(ValueError, match="from 1"):
        Backoff().delay(0, random.Random(0))
