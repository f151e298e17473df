"""How many calls an agent may ask for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from decisions.call_limits import DEFAULT, KNOWN, Excess, count
from schemas.loop import Asked

PER_MINUTE, SAME_CALLS, SAME_MINUTES = DEFAULT.per_minute, DEFAULT.same_calls, DEFAULT.same_minutes
INSISTING, PER_RUN = DEFAULT.insisting, DEFAULT.per_run


def test_calls_within_a_minute_are_limited_and_the_next_minute_is_free() -> None:
    asked = Asked()
    for number in range(PER_MINUTE):
        result = count(asked, "a-1", f"s{number}", 100)
        assert result.excess is None
        asked = result.asked
    assert count(asked, "a-1", "other", 100).excess is Excess.RATE
    assert count(asked, "a-1", "other", 101).excess is None


def test_the_same_call_is_limited_in_its_window_and_insisting_is_noticed() -> None:
    asked, found = Asked(), []
    for number in range(INSISTING + 1):
        result = count(asked, "a-1", "same", 100 + number // 10)
        asked = result.asked
        found.append((result.excess, result.insisting))
    assert found[SAME_CALLS - 1] == (None, False)
    assert found[SAME_CALLS] == (Excess.SAME_CALL, False)
    assert found[INSISTING] == (Excess.SAME_CALL, True)
    assert count(asked, "a-1", "same", 100 + SAME_MINUTES).excess is None


def test_a_run_has_a_last_call_and_another_run_counts_anew() -> None:
    asked = Asked(run="a-1", calls=PER_RUN, minute=5)
    assert count(asked, "a-1", "x", 6).excess is Excess.RUN
    assert count(asked, "a-2", "x", 6).excess is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200)), max_size=300))
def test_no_order_of_calls_and_clock_gets_more_through_than_allowed(steps: list[tuple[int, int]]) -> None:
    asked, minute = Asked(), 1000
    allowed: dict[tuple[int, int], int] = {}
    in_minute: dict[int, int] = {}
    for jump, which in steps:
        minute += jump - 1  # the clock also goes back
        result = count(asked, "a-1", f"s{which % 40}", minute)
        asked = result.asked
        assert len(asked.same) <= KNOWN
        if result.excess is None:
            now = asked.minute
            in_minute[now] = in_minute.get(now, 0) + 1
            key = (which % 40, asked.same[f"s{which % 40}"][0])
            allowed[key] = allowed.get(key, 0) + 1
    assert all(times <= PER_MINUTE for times in in_minute.values())
    assert all(times <= SAME_CALLS for times in allowed.values())
