"""Spans of time and time zones as people give them to verbs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cli import moment
from cli.failures import Failure
from schemas.quantities import parse_date, parse_duration, parse_time

LONGEST = timedelta(days=366)


def zone_of(text: str) -> ZoneInfo:
    """A time zone by its name. Raises Failure with the nearest one."""
    from schemas.time_zone import require_time_zone

    try:
        return ZoneInfo(require_time_zone(text))
    except ValueError as error:
        raise Failure(f"--time-zone {text[:60]!r}: {error}") from None


def window(since: str | None, length: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """Begin and end in UTC: a day begins at midnight of ``zone``. Raises Failure."""
    try:
        lasts = parse_duration(length)
    except ValueError as error:
        raise Failure(f"--for {length[:40]!r}: {error}") from None
    if not timedelta(0) < lasts <= LONGEST:
        raise Failure(f"--for {length[:40]!r}: longer than nothing, and at most {LONGEST.days} days")
    begin = _begin(since, zone)
    return begin, begin + lasts


def _begin(text: str | None, zone: ZoneInfo) -> datetime:
    if text is None:
        return moment.now()
    try:
        if "T" in text:
            at: datetime = parse_time(text)
            return at.astimezone(UTC)
        day = parse_date(text)
        return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Failure(f"--from {text[:40]!r}: {error}") from None
