"""When a Schedule fires, and what follows from the fires that are due: which missions are made, which fires are
skipped, which missions make place. CronJob's words; ``catchUp`` says what becomes of fires that nobody saw to.

Times of the schedule's clock follow Debian's cron where clocks change: a fire that falls into the missing hour comes
right after it, one in the doubled hour comes once, and a fire of every hour or minute comes in each of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from schemas.cron import expand
from schemas.schedule import CatchUp, ConcurrencyPolicy, ScheduleSpec

SHOWN = 5
"""Fires that are told in advance."""
ON_TIME = timedelta(seconds=60)
"""A fire that is seen to within this was not missed."""
MOST_AT_ONCE = 100
"""So many missed fires are made up for at most, the latest ones."""
MOST_COUNTED = 1_000
"""So many missed fires are counted one by one; of what lies before them nothing is known but that it was missed."""
_LAST_YEAR = timedelta(days=4 * 366)


def fires(schedule: str, zone: str, after: datetime) -> Iterator[datetime]:
    """Fire times later than ``after``, in UTC, oldest first; ends when there is none within fifty years. ``schedule``
    is a valid one (``schemas.cron``)."""
    from cronsim import CronSim  # lazy: most engines and plans hold no schedule

    return (fire.astimezone(UTC) for fire in CronSim(expand(schedule), after.astimezone(ZoneInfo(zone))))


def next_fires(schedule: str, zone: str, now: datetime, count: int) -> Sequence[datetime]:
    """The next fire times after ``now``, at most ``count``, within four years; empty when it never fires."""
    return [time for time in _coming(schedule, zone, now, count) if time - now <= _LAST_YEAR]


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Fires after ``since``, the first of which is ``times[0]``: the same from every moment between the two."""

    since: datetime
    times: tuple[datetime, ...]


_STRETCHES: dict[tuple[str, str], _Stretch] = {}
"""What was computed last of each schedule: its passes between two fires all ask the same. Nothing depends on it."""
_MOST_STRETCHES = 10_000


def _coming(schedule: str, zone: str, now: datetime, count: int) -> tuple[datetime, ...]:
    """The next ``count`` fires after ``now``; fewer where there are no more."""
    known = _STRETCHES.get((schedule, zone))
    if known is not None and len(known.times) >= count > 0 and known.since <= now < known.times[0]:
        return known.times[:count]
    times = tuple(islice(fires(schedule, zone, now), max(count, SHOWN)))
    if len(_STRETCHES) >= _MOST_STRETCHES:
        _STRETCHES.clear()
    _STRETCHES[schedule, zone] = _Stretch(now, times)
    return times[:count]


def due_fires(schedule: str, zone: str, after: datetime, now: datetime) -> tuple[list[datetime], int]:
    """Fires in (after, now], oldest first, and how many before them were left out: of very many only the last
    ``MOST_COUNTED`` are kept, and no more than ten times as many are counted."""
    known = _STRETCHES.get((schedule, zone))
    if known is not None and known.times and known.since <= after <= now < known.times[0]:
        return [], 0
    found: list[datetime] = []
    counted = 0
    for time in fires(schedule, zone, max(after, now - _reach(schedule, zone, now))):
        if time > now or counted >= 10 * MOST_COUNTED:
            break
        counted += 1
        found.append(time)
    return found[-MOST_COUNTED:], max(0, counted - MOST_COUNTED)


def _reach(schedule: str, zone: str, now: datetime) -> timedelta:
    """How far back to look at most, so that no more than ``10 * MOST_COUNTED`` fires are walked over."""
    first = _coming(schedule, zone, now, 2)
    apart = first[1] - first[0] if len(first) == 2 else _LAST_YEAR
    return max(timedelta(days=2), min(apart * 10 * MOST_COUNTED, timedelta(days=50 * 366)))


@dataclass(frozen=True, slots=True)
class ScheduleFacts:
    """What is known of a schedule. ``handled_until``: every fire up to then has been seen to. ``active``: names of its
    missions that have not ended. ``stands``: nothing new may be made, because it is suspended or held."""

    spec: ScheduleSpec
    handled_until: datetime
    active: tuple[str, ...]
    stands: bool


@dataclass(frozen=True, slots=True)
class Skipped:
    """A fire that no mission is made for; ``why`` is one word."""

    fire: datetime
    why: str


@dataclass(frozen=True, slots=True)
class ScheduleDecision:
    """What follows. ``make``: fires to make missions for, in this order; ``replace``: missions to cancel before;
    ``skipped``: fires that are left out, ``uncounted`` more than those; ``handled_until``: as in the facts, from now
    on. ``waits``: fires are due that wait for a mission to end."""

    make: tuple[datetime, ...] = ()
    replace: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    uncounted: int = 0
    handled_until: datetime | None = None
    waits: bool = False


def decide(facts: ScheduleFacts, now: datetime) -> ScheduleDecision:
    """What becomes of the fires that are due at ``now``. While it stands still nothing does: they are looked at when it
    goes on."""
    spec = facts.spec
    if facts.stands:
        return ScheduleDecision()
    due, uncounted = due_fires(spec.schedule, spec.time_zone, facts.handled_until, now)
    if not due:
        return ScheduleDecision()
    wanted, skipped = _wanted(spec, due, now)
    forbids = spec.concurrency_policy is ConcurrencyPolicy.FORBID
    if forbids and wanted and (facts.active or len(wanted) > 1):
        return _one_at_a_time(facts, wanted, skipped, uncounted, due[-1])
    if spec.concurrency_policy is ConcurrencyPolicy.REPLACE and len(wanted) > 1:
        skipped += [Skipped(fire, "Replaced") for fire in wanted[:-1]]
        wanted = wanted[-1:]
    replaces = spec.concurrency_policy is ConcurrencyPolicy.REPLACE and bool(wanted)
    return ScheduleDecision(
        make=tuple(wanted),
        replace=facts.active if replaces else (),
        skipped=tuple(sorted(skipped, key=lambda s: s.fire)),
        uncounted=uncounted,
        handled_until=due[-1],
    )


def _wanted(spec: ScheduleSpec, due: list[datetime], now: datetime) -> tuple[list[datetime], list[Skipped]]:
    """(fires to make missions for, the others)."""
    skipped: list[Skipped] = []
    in_time = due
    if spec.starting_deadline_seconds is not None:
        earliest = now - timedelta(seconds=spec.starting_deadline_seconds)
        in_time = [fire for fire in due if fire >= earliest]
        skipped += [Skipped(fire, "TooLate") for fire in due if fire < earliest]
    late = [fire for fire in in_time if now - fire > ON_TIME]
    on_time = [fire for fire in in_time if now - fire <= ON_TIME]
    match spec.catch_up:
        case CatchUp.SKIP:
            kept: list[datetime] = []
        case CatchUp.LAST:
            # The fire that is on time is the last one: nothing else is made up for.
            kept = [] if on_time else late[-1:]
        case CatchUp.ALL:
            kept = late[-MOST_AT_ONCE:]
    skipped += [Skipped(fire, "Missed") for fire in late if fire not in kept]
    return kept + on_time, skipped


def _one_at_a_time(
    facts: ScheduleFacts, wanted: list[datetime], skipped: list[Skipped], uncounted: int, last: datetime
) -> ScheduleDecision:
    """Forbid: with ``catchUp: All`` the others wait for their turn, otherwise they are skipped."""
    if facts.spec.catch_up is CatchUp.ALL:
        make = () if facts.active else (wanted[0],)
        before = [s for s in skipped if s.fire < wanted[0]]
        until = make[0] if make else (before[-1].fire if before else None)
        return ScheduleDecision(make, (), tuple(before), uncounted if before else 0, until, waits=True)
    if not facts.active:
        skipped += [Skipped(fire, "Missed") for fire in wanted[:-1]]
        make = (wanted[-1],)
    else:
        skipped += [Skipped(fire, "StillActive") for fire in wanted]
        make = ()
    return ScheduleDecision(make, (), tuple(sorted(skipped, key=lambda s: s.fire)), uncounted, last)


def mission_name(schedule: str, fire: datetime) -> str:
    """Name of the mission of a fire: the minute in UTC is part of it, so that no fire is seen to twice."""
    return f"{schedule}-{fire.astimezone(UTC):%Y%m%d%H%M}"
