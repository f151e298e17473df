"""Loop detection: bounded, on the strict side, and blind to numbers that change."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from decisions import loops
from decisions.loops import PAIRS, TALLIES, CallFact, LoopLimits
from schemas.loop import LoopSignal, MissionLoop, SessionLoop
from schemas.policy import LoopDetection

START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
CALLS = st.lists(
    st.tuples(st.sampled_from(["grep", "ls"]), st.booleans(), st.integers(0, 5), st.integers(0, 90)), max_size=120
)


def fact(tool: str, ok: bool, what: int) -> CallFact:
    return CallFact(tool, ok, "" if ok else f"{'x' * what} failed", f"a{what}" if ok else "", f"o{what}" if ok else "")


@given(CALLS, st.integers(0, 6), st.integers(0, 6))
def test_what_repeats_is_found_exactly_when_its_limit_is_passed(
    calls: list[tuple[str, bool, int, int]], errors: int, outputs: int
) -> None:
    limits = LoopLimits(LoopDetection(same_error_retries=errors, same_output_repeats=outputs))
    loop, now = SessionLoop(), START
    seen: dict[tuple[str, bool, int], int] = {}
    for tool, ok, what, wait in calls:
        now += timedelta(seconds=wait)
        loop, finding = loops.observe_call(loop, fact(tool, ok, what), limits, now)
        seen[tool, ok, what] = seen.get((tool, ok, what), 0) + 1
        limit = outputs if ok else errors
        assert (finding is not None) == (seen[tool, ok, what] > limit)
        if finding is not None:
            assert finding.count == seen[tool, ok, what]
            assert finding.limit == limit


@given(st.lists(st.tuples(st.integers(0, 500), st.text(max_size=30)), max_size=200))
def test_however_many_different_things_are_reported_the_counts_stay_small(told: list[tuple[int, str]]) -> None:
    loop, mission = SessionLoop(), MissionLoop()
    for number, text in told:
        loop, _ = loops.observe_call(loop, CallFact(f"t{number}", False, text * 100), loops.DEFAULT, START)
        mission, _ = loops.observe_message(mission, f"agent:a/{number}", [f"user:{number}"], loops.DEFAULT, START)
    assert len(loop.tools) <= TALLIES
    assert len(mission.pairs) <= PAIRS
    assert all(len(t.what) < 500 and len(t.calls) <= loops.CALLS for t in (*loop.tools, *mission.pairs))


@given(st.lists(st.integers(-300, 900), max_size=120), st.integers(0, 10))
def test_no_window_of_half_an_hour_holds_more_messages_than_allowed(waits: list[int], limit: int) -> None:
    limits = LoopLimits(LoopDetection(messages_per_30_min=limit))
    loop, now = MissionLoop(), START
    times: list[datetime] = []
    for wait in waits:
        now += timedelta(seconds=wait)  # the clock also goes back
        loop, finding = loops.observe_message(loop, "agent:a/b", [], limits, now)
        times.append(now)
        inside = sum(t > now - timedelta(minutes=30) for t in times if t <= now)
        if all(earlier <= later for earlier, later in itertools.pairwise(times)) and inside > limit:
            assert finding is not None
        assert len(loop.messages) <= loops.MESSAGE_MINUTES + 1


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.uuids(), st.uuids())
def test_numbers_and_ids_do_not_make_two_failures_different(a: int, b: int, one: object, two: object) -> None:
    def said(number: int, name: object) -> str:
        return loops.error_signature("curl", f"Connection  to {number} failed\nrequest {name}, after {number} ms")

    assert said(a, one) == said(b, two)
    assert said(a, one) != loops.error_signature("curl", "no such host")
    assert said(a, one) != loops.error_signature("wget", f"Connection to {a} failed request {one}, after {a} ms")


@given(st.lists(st.sampled_from(["x", "y"]), max_size=40), st.integers(0, 5))
def test_runs_without_progress_are_those_in_a_row(states: list[str], limit: int) -> None:
    limits = LoopLimits(LoopDetection(no_progress_runs=limit))
    loop, row, before = MissionLoop(), 0, ""
    for number, state in enumerate(states):
        loop = loops.observe_run(loop, state, limits, START, run=f"m-{number}")
        row = row + 1 if state == before else 0
        before = state
        assert loop.unchanged_runs == row
        if row > limit:
            assert loop.finding is not None
            assert loop.finding.signal is LoopSignal.NO_PROGRESS
            return
        assert loop.finding is None
