"""Budget windows follow each other without a gap or an overlap, in every time zone, whatever the clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions.windows import span
from schemas.budget import Window

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Asia/Beirut", "Australia/Lord_Howe",
         "Africa/Cairo", "Pacific/Apia", "Asia/Kathmandu", "America/Havana"]  # fmt: skip
MOMENTS = st.datetimes(datetime(2001, 1, 1), datetime(2037, 12, 31)).map(lambda d: d.replace(tzinfo=UTC))


@given(st.sampled_from([Window.DAY, Window.MONTH]), st.sampled_from(ZONES), MOMENTS)
def test_a_moment_lies_in_its_window_and_the_next_begins_where_it_ends(
    window: Window, zone: str, now: datetime
) -> None:
    found = span(window, zone, now)
    assert found.start is not None
    assert found.end is not None
    assert found.start <= now < found.end
    assert span(window, zone, found.start) == found
    assert span(window, zone, found.end - timedelta(microseconds=1)) == found
    following = span(window, zone, found.end)
    assert following.start == found.end
    assert following.name != found.name


@given(st.sampled_from(ZONES), MOMENTS)
def test_the_name_is_the_local_date(zone: str, now: datetime) -> None:
    assert span(Window.DAY, zone, now).name.endswith(f"{now.astimezone(ZoneInfo(zone)):%Y-%m-%d}")


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 12, tzinfo=UTC), 23),
        ("Europe/Berlin", datetime(2026, 10, 25, 12, tzinfo=UTC), 25),
        ("America/Sao_Paulo", datetime(2018, 11, 4, 15, tzinfo=UTC), 23),  # midnight did not happen
        ("America/Havana", datetime(2025, 11, 2, 15, tzinfo=UTC), 25),  # midnight happened twice
        ("UTC", datetime(2026, 3, 29, tzinfo=UTC), 24),
    ],
)
def test_a_day_has_as_many_hours_as_it_has(zone: str, day: datetime, hours: int) -> None:
    found = span(Window.DAY, zone, day)
    assert found.start is not None
    assert found.end is not None
    assert found.end - found.start == timedelta(hours=hours)


def test_a_run_and_all_time_have_no_bounds() -> None:
    now = datetime(2026, 11, 21, tzinfo=UTC)
    assert [span(w, "UTC", now) for w in (Window.RUN, Window.TOTAL)] == [
        span(Window.RUN, "UTC", now),
        span(Window.TOTAL, "UTC", now),
    ]
    assert span(Window.TOTAL, "UTC", now).name == "total"
    assert span(Window.TOTAL, "UTC", now).end is None
