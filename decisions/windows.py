"""Windows of time over which spending is added up: which one it is now, and when it ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from schemas.budget import Window


@dataclass(frozen=True, slots=True)
class Span:
    """One window. ``name`` ends the ledger accounts that count in it; ``start`` and ``end`` (UTC, end exclusive) are
    None for a window without them."""

    name: str
    start: datetime | None = None
    end: datetime | None = None


def span(window: Window, zone: str, now: datetime) -> Span:
    """The window that ``now`` lies in. Days and months begin at midnight in ``zone``; where a clock change swallows
    midnight, at the first moment after it. Run and Total have no bounds."""
    if window is Window.RUN:
        return Span("run")
    if window is Window.TOTAL:
        return Span("total")
    return _span_of(window, zone, now.astimezone(ZoneInfo(zone)).date())


@lru_cache(maxsize=1024)
def _span_of(window: Window, zone: str, today: date) -> Span:
    place = "" if zone == "UTC" else f"{zone}/"
    if window is Window.DAY:
        return Span(f"day/{place}{today:%Y-%m-%d}", _midnight(today, zone), _midnight(today + timedelta(days=1), zone))
    first = today.replace(day=1)
    following = (first + timedelta(days=32)).replace(day=1)
    return Span(f"month/{place}{today:%Y-%m}", _midnight(first, zone), _midnight(following, zone))


def _midnight(day: date, zone: str) -> datetime:
    """The moment a local day begins. A midnight that happens twice is the first of the two; one that does not happen
    is read with the offset of before, which is the first moment that does."""
    return datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(zone)).astimezone(UTC)
