"""Quiet hours: when only what is Critical goes out, on the clock of a place."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from schemas.channel import QuietHours


def quiet_until(hours: QuietHours | None, now: datetime) -> datetime | None:
    """The end, in UTC, of the quiet hours that ``now`` lies in; None outside of them. The beginning belongs to them,
    the end does not. A time that a change of clocks leaves out is taken as so much later, one that comes twice as its
    first."""
    if hours is None:
        return None
    zone = ZoneInfo(hours.time_zone)
    start, end = _time(hours.start), _time(hours.end)
    today = now.astimezone(zone).date()
    for day in (today - timedelta(days=1), today):
        begins = _moment(datetime.combine(day, start, zone))
        ends = _moment(datetime.combine(day + timedelta(days=end <= start), end, zone))
        if begins <= now < ends:
            return ends
    return None


def following(at: str, zone: str, after: datetime) -> datetime:
    """The first moment later than ``after`` at which a clock of the zone shows ``at`` (``09:00``), in UTC."""
    place = ZoneInfo(zone)
    day = after.astimezone(place).date()
    while True:
        moment = _moment(datetime.combine(day, _time(at), place))
        if moment > after:
            return moment
        day += timedelta(days=1)


def latest(at: str, zone: str, now: datetime) -> datetime:
    """The last moment up to ``now`` at which a clock of the zone showed ``at``, in UTC."""
    place = ZoneInfo(zone)
    day = now.astimezone(place).date()
    while True:
        moment = _moment(datetime.combine(day, _time(at), place))
        if moment <= now:
            return moment
        day -= timedelta(days=1)


def _time(text: str) -> time:
    return time.fromisoformat(text)


def _moment(local: datetime) -> datetime:
    return local.astimezone(UTC)
