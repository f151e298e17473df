"""What is due when: the fires of schedules, work under way, deadlines, to-dos, looks at goals, signs of life, and busy
times, as one list; and what stands against giving a schedule another time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

from decisions.schedules import fires
from schemas.base import Key
from schemas.cron import expand
from schemas.schedule import ConcurrencyPolicy, ScheduleSpec

MOST_FIRES = 500
"""Fires of one schedule in a feed, at most; the feed says where more were left out."""
_POINT = timedelta(minutes=1)
"""How long something lasts of which nothing is known."""


class Sort(StrEnum):
    """What an entry is."""

    FIRE = "Fire"  # a schedule makes a mission
    RUN = "Run"  # a mission is being worked on
    DEADLINE = "Deadline"  # a mission or a goal is to be finished
    TODO = "Todo"  # the last day of a to-do
    LOOK = "Look"  # a goal is looked at
    HEARTBEAT = "Heartbeat"  # a sign of life is expected
    BUSY = "Busy"  # a calendar that is followed has something there


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the feed. ``end`` is None for a moment, and for what nobody knows the end of. ``expected`` tells that
    the end is a guess from the past. ``all_day``: ``start`` is midnight in UTC and only the day counts."""

    start: datetime
    end: datetime | None
    sort: Sort
    subject: Key
    title: str
    agent: Key | None = None
    note: str = ""
    expected: bool = False
    all_day: bool = False


@dataclass(frozen=True, slots=True)
class Planned:
    """A schedule that fires. ``lasts`` is how long its missions took lately, None where none has ended yet; ``stands``
    says why it makes nothing now, "" when it does."""

    key: Key
    title: str
    spec: ScheduleSpec
    agent: Key | None = None
    lasts: timedelta | None = None
    stands: str = ""


@dataclass(frozen=True, slots=True)
class Feed:
    """Entries by start. ``cut`` names schedules with more fires than are shown, and the first that is not."""

    entries: tuple[Entry, ...]
    cut: Mapping[Key, datetime] = field(default_factory=dict)


def feed(planned: Iterable[Planned], others: Iterable[Entry], begin: datetime, end: datetime) -> Feed:
    """Everything that begins in [begin, end) or goes on then."""
    found = [entry for entry in others if entry.start < end and (entry.end or entry.start) >= begin]
    cut: dict[Key, datetime] = {}
    for schedule in planned:
        if schedule.stands:
            continue
        times = list(islice(_between(schedule, begin, end), MOST_FIRES + 1))
        if len(times) > MOST_FIRES:
            cut[schedule.key] = times.pop()
        found += [_fire(schedule, time) for time in times]
    return Feed(tuple(sorted(found, key=_order)), cut)


def _order(entry: Entry) -> tuple[datetime, str, Key]:
    return entry.start, entry.sort.value, entry.subject


def _between(schedule: Planned, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Fires in [begin, end)."""
    for time in fires(schedule.spec.schedule, schedule.spec.time_zone, begin - timedelta(seconds=1)):
        if time >= end:
            return
        yield time


def _fire(schedule: Planned, time: datetime) -> Entry:
    ends = time + schedule.lasts if schedule.lasts is not None else None
    return Entry(
        time, ends, Sort.FIRE, schedule.key, schedule.title, schedule.agent, expected=schedule.lasts is not None
    )


class Against(StrEnum):
    """Why a time does not suit."""

    NEVER = "Never"  # it does not fire in the time that was looked at
    AGENT_BUSY = "AgentBusy"  # its agent works on more at that time than it takes at once
    OVERLAPS_ITSELF = "OverlapsItself"  # it fires again before its mission has ended
    BUSY = "Busy"  # a calendar that is followed has something there
    CLOCK_CHANGE = "ClockChange"  # the hour is missing or doubled on that day


@dataclass(frozen=True, slots=True)
class Conflict:
    """Something that stands against a time: ``first`` of ``count`` times, and what it is about."""

    why: Against
    first: datetime
    count: int
    message: str


def conflicts(
    moved: Planned,
    others: Sequence[Planned],
    entries: Iterable[Entry],
    places: int,
    begin: datetime,
    end: datetime,
) -> list[Conflict]:
    """What stands against ``moved`` firing as its spec says, in [begin, end), most pressing first. ``others`` are the
    other schedules, ``entries`` whatever else takes the agent's time or is busy, ``places`` how many missions its agent
    takes at once. Lengths that nobody knows count as a minute."""
    times = list(islice(_between(moved, begin, end), MOST_FIRES))
    if not times:
        return [Conflict(Against.NEVER, begin, 1, "it does not fire in this time")]
    known = list(entries)
    found = [
        *_with_itself(moved, times),
        *_with_work(moved, times, others, known, places, begin, end),
        *_with_busy(moved, times, known),
        *_with_clocks(moved, times),
    ]
    return sorted(found, key=lambda c: (c.first, c.why.value, c.message))


def _with_itself(moved: Planned, times: list[datetime]) -> Iterator[Conflict]:
    lasts = moved.lasts
    if lasts is None:
        return
    short = [a for a, b in pairwise(times) if b - a < lasts]
    if not short:
        return
    then = {
        ConcurrencyPolicy.ALLOW: "they run beside each other (concurrencyPolicy Allow)",
        ConcurrencyPolicy.FORBID: "the next fire is skipped (concurrencyPolicy Forbid)",
        ConcurrencyPolicy.REPLACE: "the mission is canceled before it ends (concurrencyPolicy Replace)",
    }[moved.spec.concurrency_policy]
    yield Conflict(Against.OVERLAPS_ITSELF, short[0], len(short), f"its missions took {_span(lasts)} lately: {then}")


def _with_work(
    moved: Planned,
    times: list[datetime],
    others: Sequence[Planned],
    entries: list[Entry],
    places: int,
    begin: datetime,
    end: datetime,
) -> Iterator[Conflict]:
    """Work of the same agent at the same time, beyond what it takes at once."""
    if moved.agent is None:
        return
    taken: list[tuple[datetime, datetime, Key]] = []
    for other in others:
        if other.agent == moved.agent and other.key != moved.key and not other.stands:
            lasts = other.lasts or _POINT
            taken += [
                (t, t + lasts, other.key) for t in islice(_between(other, begin - lasts, end), MOST_FIRES)
            ]  # fmt: skip
    taken += [
        (entry.start, entry.end, entry.subject)
        for entry in entries
        if entry.sort is Sort.RUN and entry.agent == moved.agent and entry.end is not None
    ]
    taken.sort()
    lasts = moved.lasts or _POINT
    beside: dict[Key, list[datetime]] = {}
    for time, at_once in _overlaps(times, lasts, taken):
        if len(at_once) >= places:
            for key in sorted(set(at_once)):
                beside.setdefault(key, []).append(time)
    for key, at in sorted(beside.items()):
        message = f"{moved.agent.short} takes {_missions(places)} at once and then works on {key.short}: one waits"
        yield Conflict(Against.AGENT_BUSY, at[0], len(at), message)


def _overlaps(
    times: list[datetime], lasts: timedelta, taken: list[tuple[datetime, datetime, Key]]
) -> Iterator[tuple[datetime, list[Key]]]:
    """For each time, the keys of what goes on at some moment of [time, time + lasts). ``taken`` is sorted by start."""
    open_: list[tuple[datetime, datetime, Key]] = []
    position = 0
    for time in times:
        while position < len(taken) and taken[position][0] < time + lasts:
            open_.append(taken[position])
            position += 1
        open_ = [each for each in open_ if each[1] > time]
        if open_:
            yield time, [key for _, _, key in open_]


def _with_busy(moved: Planned, times: list[datetime], entries: list[Entry]) -> Iterator[Conflict]:
    lasts = moved.lasts or _POINT
    busy = sorted(
        (entry for entry in entries if entry.sort is Sort.BUSY and entry.end is not None), key=lambda e: e.start
    )
    met: dict[tuple[Key, str], list[datetime]] = {}
    for time in times:
        for entry in busy:
            if entry.start >= time + lasts:
                break
            if entry.end is not None and entry.end > time:
                met.setdefault((entry.subject, entry.title), []).append(time)
    for (key, title), at in sorted(met.items()):
        yield Conflict(Against.BUSY, at[0], len(at), f"{key.short} is busy: {title}")


def _with_clocks(moved: Planned, times: list[datetime]) -> Iterator[Conflict]:
    """Days on which a fixed time of day does not exist, or exists twice."""
    minute, hour, *_ = expand(moved.spec.schedule).split()
    if not (minute.isdigit() and hour.isdigit()):
        return
    zone = ZoneInfo(moved.spec.time_zone)
    wanted = (int(hour), int(minute))
    missing = [time for time in times if _local(time, zone) != wanted]
    if missing:
        shown = "{:02}:{:02}".format(*_local(missing[0], zone))
        text = f"{int(hour):02}:{int(minute):02} does not exist on that day in {zone.key}: it fires at {shown}"
        yield Conflict(Against.CLOCK_CHANGE, missing[0], len(missing), text)


def _local(time: datetime, zone: ZoneInfo) -> tuple[int, int]:
    there = time.astimezone(zone)
    return there.hour, there.minute


def _missions(count: int) -> str:
    return "one mission" if count == 1 else f"{count} missions"


def _span(value: timedelta) -> str:
    minutes = max(1, round(value.total_seconds() / 60))
    hours, rest = divmod(minutes, 60)
    return f"{hours}h{rest:02}m" if hours else f"{minutes} min"
