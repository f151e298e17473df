"""When schedules fire, and what becomes of fires that are due: pure decisions, every policy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.schedules import (
    MOST_AT_ONCE,
    MOST_COUNTED,
    ScheduleDecision,
    ScheduleFacts,
    decide,
    due_fires,
    fires,
    mission_name,
    next_fires,
)
from schemas.schedule import ScheduleSpec


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def hours(found: list[datetime] | tuple[datetime, ...]) -> list[str]:
    return [f"{time:%d %H:%M}" for time in found]


def spec(schedule: str = "0 * * * *", **more: object) -> ScheduleSpec:
    values = {"schedule": schedule, "missionTemplate": {"spec": {"title": "t", "agentRef": {"name": "a"}}}, **more}
    return ScheduleSpec.model_validate(values)


def judged(
    now: str, since: str, *, active: tuple[str, ...] = (), stands: bool = False, **more: object
) -> ScheduleDecision:
    return decide(ScheduleFacts(spec(**more), at(since), active, stands), at(now))  # type: ignore[arg-type]


def test_times_hang_on_the_clock_of_the_zone() -> None:
    berlin = next_fires("0 9 * * *", "Europe/Berlin", at("2026-03-28T00:00"), 3)
    assert hours(tuple(berlin)) == ["28 08:00", "29 07:00", "30 07:00"], "nine o'clock before and after the change"


def test_a_fire_in_the_missing_hour_comes_right_after_it() -> None:
    found = next_fires("30 2 * * *", "Europe/Berlin", at("2026-03-28T12:00"), 2)
    assert hours(tuple(found)) == ["29 01:00", "30 00:30"], "02:30 is not there on the 29th: 03:00 is"


def test_a_fire_in_the_doubled_hour_comes_once_and_an_hourly_one_twice() -> None:
    once, _ = due_fires("30 2 * * *", "Europe/Berlin", at("2026-10-24T12:00"), at("2026-10-25T12:00"))
    assert hours(once) == ["25 00:30"]
    hourly, _ = due_fires("@hourly", "Europe/Berlin", at("2026-10-24T23:30"), at("2026-10-25T03:30"))
    assert hours(hourly) == ["25 00:00", "25 01:00", "25 02:00", "25 03:00"]


def test_a_day_that_is_rare_is_told_and_one_that_never_comes_again_is_not() -> None:
    assert hours(tuple(next_fires("0 0 29 2 *", "UTC", at("2026-01-01T00:00"), 5))) == ["29 00:00"]


@given(
    schedule=st.sampled_from(["* * * * *", "*/7 * * * *", "30 2 * * *", "@hourly", "0 9 * * MON-FRI", "@weekly"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    start=st.datetimes(min_value=datetime(2026, 1, 1), max_value=datetime(2027, 1, 1)),
    steps=st.lists(st.integers(min_value=1, max_value=5_000), max_size=8),
)
def test_looking_often_or_once_finds_the_same_fires(
    schedule: str, zone: str, start: datetime, steps: list[int]
) -> None:
    """However the time is cut into pieces, each fire is due in exactly one of them."""
    begin = start.replace(tzinfo=UTC, second=0, microsecond=0)
    now, found = begin, []
    for step in steps:
        after, now = now, now + timedelta(minutes=step)
        found += due_fires(schedule, zone, after, now)[0] if step <= MOST_COUNTED else _all(schedule, zone, after, now)
    assert found == _all(schedule, zone, begin, now)
    assert len(set(found)) == len(found)


def _all(schedule: str, zone: str, after: datetime, now: datetime) -> list[datetime]:
    found = []
    for time in fires(schedule, zone, after):
        if time > now:
            break
        found.append(time)
    return found


def test_a_year_of_minutes_costs_no_year() -> None:
    due, uncounted = due_fires("* * * * *", "UTC", at("2025-11-21T00:00"), at("2026-11-21T00:00"))
    assert len(due) == MOST_COUNTED
    assert due[-1] == at("2026-11-21T00:00")
    assert uncounted >= 8 * MOST_COUNTED


THREE_HOURS = ["21 10:00", "21 11:00", "21 12:00"]


@pytest.mark.parametrize(
    ("catch_up", "now", "made", "skipped"),
    [
        ("Skip", "2026-11-21T12:30", [], THREE_HOURS),
        ("Last", "2026-11-21T12:30", ["21 12:00"], THREE_HOURS[:2]),
        ("All", "2026-11-21T12:30", THREE_HOURS, []),
        ("Skip", "2026-11-21T12:00", ["21 12:00"], THREE_HOURS[:2]),
        ("Last", "2026-11-21T12:00", ["21 12:00"], THREE_HOURS[:2]),
        ("All", "2026-11-21T12:00", THREE_HOURS, []),
    ],
)
def test_missed_fires_are_made_up_for_as_declared(catch_up: str, now: str, made: list[str], skipped: list[str]) -> None:
    found = judged(now, "2026-11-21T09:30", catchUp=catch_up)
    assert hours(found.make) == made
    assert hours([s.fire for s in found.skipped]) == skipped
    assert {s.why for s in found.skipped} <= {"Missed"}
    assert found.handled_until == at("2026-11-21T12:00")


def test_a_fire_that_is_later_than_the_deadline_is_missed_for_good() -> None:
    found = judged("2026-11-21T12:30", "2026-11-21T09:30", catchUp="All", startingDeadlineSeconds=5400)
    assert hours(found.make) == ["21 11:00", "21 12:00"]
    assert [(s.why, f"{s.fire:%H}") for s in found.skipped] == [("TooLate", "10")]


def test_no_more_than_a_hundred_are_made_up_for() -> None:
    found = judged("2026-11-21T12:30", "2026-11-21T00:00", schedule="* * * * *", catchUp="All")
    assert len(found.make) == MOST_AT_ONCE + 2, "and the two that are on time"
    assert len(found.skipped) == 750 - len(found.make)


def test_forbid_skips_while_one_is_active() -> None:
    busy = judged("2026-11-21T12:00", "2026-11-21T11:30", concurrencyPolicy="Forbid", active=("m",))
    assert (busy.make, [s.why for s in busy.skipped]) == ((), ["StillActive"])
    free = judged("2026-11-21T12:00", "2026-11-21T11:30", concurrencyPolicy="Forbid")
    assert hours(free.make) == ["21 12:00"]


def test_forbid_with_all_makes_the_next_wait_for_its_turn() -> None:
    terms = {"concurrencyPolicy": "Forbid", "catchUp": "All"}
    first = judged("2026-11-21T12:30", "2026-11-21T09:30", **terms)
    assert (hours(first.make), first.waits) == (["21 10:00"], True)
    assert first.handled_until == at("2026-11-21T10:00")
    busy = judged("2026-11-21T12:30", "2026-11-21T10:00", active=("m",), **terms)
    assert (busy.make, busy.skipped, busy.handled_until, busy.waits) == ((), (), None, True)


def test_replace_cancels_what_is_active_and_makes_one() -> None:
    found = judged(
        "2026-11-21T12:30", "2026-11-21T09:30", concurrencyPolicy="Replace", catchUp="All", active=("a", "b")
    )
    assert (hours(found.make), found.replace) == (["21 12:00"], ("a", "b"))
    assert {s.why for s in found.skipped} == {"Replaced"}


def test_while_it_stands_still_nothing_is_seen_to() -> None:
    assert judged("2026-11-21T12:30", "2026-11-21T09:30", stands=True) == ScheduleDecision()


def test_the_name_tells_the_doubled_hour_apart() -> None:
    first, second = at("2026-10-25T00:30"), at("2026-10-25T01:30")
    assert mission_name("night", first) == "night-202610250030"
    assert mission_name("night", second) == "night-202610250130"
