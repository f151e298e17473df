"""The circuit breaker: whatever happens, it opens in time, leaves the worker alone, and tries one run at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from decisions import circuit as circuits
from schemas.executor import Circuit, CircuitBreaker, CircuitState

NOW = datetime(2026, 11, 21, tzinfo=UTC)
LIMITS = CircuitBreaker(failure_threshold=5, open_for=timedelta(seconds=30))
TRIAL = timedelta(seconds=60)
STEPS = st.lists(
    st.tuples(st.integers(0, 40), st.sampled_from(["a", "b", "c"]), st.sampled_from(["ask", "fail", "answer"])),
    max_size=60,
)


@given(STEPS)
def test_no_run_is_sent_while_it_is_open_and_one_at_a_time_while_it_is_half_open(
    steps: list[tuple[int, str, str]],
) -> None:
    known, now, failures = Circuit(), NOW, 0
    for seconds, run, act in steps:
        now += timedelta(seconds=seconds)
        if act == "ask":
            opened_until, trial, trial_until = known.open_until, known.trial, known.trial_until
            was = known.state
            known, wait = circuits.admit(known, run, now, TRIAL)
            if was is CircuitState.OPEN:
                assert opened_until is not None
                assert (wait is None) == (now >= opened_until)
            if was is CircuitState.HALF_OPEN and trial not in ("", run) and trial_until is not None:
                assert (wait is None) == (now >= trial_until)
            if wait is not None:
                assert wait > now
        elif act == "fail":
            known = circuits.failed(known, LIMITS, now, "why")
            failures += 1
            if failures >= LIMITS.failure_threshold:
                assert known.state is not CircuitState.CLOSED
        else:
            known, failures = circuits.answered(known), 0
            assert (known.state, known.failures) == (CircuitState.CLOSED, 0)
        assert known.failures == failures


@given(st.integers(1, 20))
def test_it_opens_with_exactly_the_failure_that_reaches_the_threshold(threshold: int) -> None:
    limits = CircuitBreaker(failure_threshold=threshold)
    known = Circuit()
    for number in range(1, threshold + 1):
        assert known.state is CircuitState.CLOSED
        known = circuits.failed(known, limits, NOW, "why")
        assert (known.state is CircuitState.OPEN) == (number == threshold)
    assert known.open_until == NOW + limits.open_for
