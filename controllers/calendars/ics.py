"""The feed as iCalendar (RFC 5545), for calendars that subscribe to it, and busy times out of calendars of others."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from decisions.feed import Entry, Sort
from schemas.base import Key
from schemas.visible import visible

if TYPE_CHECKING:
    from icalendar import Component, Event

_PRODUCT = "-//Remit//Schedule feed//EN"
_LONGEST = 200
_MARK = "X-REMIT-DIGEST"
_DOMAIN = "@remit.invalid"
_SHORTEST = timedelta(minutes=1)


def uid(entry: Entry) -> str:
    """The same for the same entry in every feed, so that a calendar moves nothing and doubles nothing. A fire is named
    by its minute, everything else by what it is."""
    start = f"{entry.start:%Y%m%dT%H%M%SZ}-" if entry.sort in (Sort.FIRE, Sort.BUSY) else ""
    key = entry.subject
    return f"{start}{entry.sort.value.lower()}.{key.kind.lower()}.{key.name}.{key.namespace or 'cluster'}{_DOMAIN}"


def render(entries: Iterable[Entry], name: str, now: datetime) -> bytes:
    """An iCalendar file with one event for each entry but signs of life and looks at goals, which are no appointments.
    Titles are shown without characters that could act on what displays them."""
    from icalendar import Calendar  # lazy: half a second

    calendar = Calendar()
    calendar.add("prodid", _PRODUCT)
    calendar.add("version", "2.0")
    calendar.add("method", "PUBLISH")
    calendar.add("x-wr-calname", visible(name)[:_LONGEST])
    calendar.add("refresh-interval", timedelta(minutes=15), parameters={"VALUE": "DURATION"})
    for entry in entries:
        if entry.sort not in (Sort.HEARTBEAT, Sort.LOOK, Sort.BUSY):
            calendar.add_component(event(entry, now))
    return bytes(calendar.to_ical())


def event(entry: Entry, now: datetime) -> Event:
    """One VEVENT."""
    from icalendar import Event

    made = Event()
    made.add("uid", uid(entry))
    made.add("dtstamp", now.astimezone(UTC))
    if entry.all_day:
        made.add("dtstart", entry.start.date())
        made.add("dtend", (entry.start + timedelta(days=1)).date())
    else:
        made.add("dtstart", entry.start.astimezone(UTC))
        made.add("dtend", max(entry.end or entry.start, entry.start + _SHORTEST).astimezone(UTC))
    made.add("summary", title(entry))
    made.add("description", about(entry))
    made.add("categories", [entry.sort.value])
    made.add("transp", "TRANSPARENT")
    return made


def title(entry: Entry) -> str:
    """One line for people."""
    return visible(entry.title)[:_LONGEST]


def about(entry: Entry) -> str:
    """What it is, in a few lines."""
    lines = [_WORDS[entry.sort], entry.subject.short]
    lines += [f"agent {entry.agent.short}"] if entry.agent is not None else []
    lines += [visible(entry.note)[:_LONGEST]] if entry.note else []
    lines += ["its end is expected from the past"] if entry.expected else []
    return "\n".join(lines)


def digest(entry: Entry) -> str:
    """Of what a calendar shows of it: a new one is a reason to write it anew."""
    shown = f"{entry.start.isoformat()} {entry.end.isoformat() if entry.end else ''} {entry.all_day}"
    return hashlib.sha256(f"{shown}\n{title(entry)}\n{about(entry)}".encode()).hexdigest()[:32]


def single(entry: Entry, mark: str, now: datetime) -> bytes:
    """An iCalendar file with the one entry, marked as Remit's by its digest."""
    from icalendar import Calendar

    calendar = Calendar()
    calendar.add("prodid", _PRODUCT)
    calendar.add("version", "2.0")
    made = event(entry, now)
    made.add(_MARK, mark)
    calendar.add_component(made)
    return bytes(calendar.to_ical())


def marked(data: bytes) -> tuple[str, str] | None:
    """(uid, digest) of a file that ``single`` made; None for any other."""
    if _MARK.encode() not in data:
        return None
    from icalendar import Calendar

    try:
        parsed = Calendar.from_ical(data.decode("utf-8"))
        for found in parsed.walk("VEVENT"):
            name, mark = str(found.get("UID", "")), str(found.get(_MARK, ""))
            if name.endswith(_DOMAIN) and mark:
                return name, mark
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError):
        return None
    return None


_WORDS = {
    Sort.FIRE: "A schedule makes a mission",
    Sort.RUN: "A mission is being worked on",
    Sort.DEADLINE: "To be finished",
    Sort.TODO: "Last day of a to-do",
    Sort.LOOK: "A goal is looked at",
    Sort.HEARTBEAT: "A sign of life is expected",
    Sort.BUSY: "Busy",
}


class NotACalendar(Exception):
    """What was read is no iCalendar file that can be understood; the text says what is wrong."""


def busy(data: bytes, calendar: Key, begin: datetime, end: datetime, most: int) -> tuple[list[Entry], bool]:
    """Times in [begin, end) at which events of an iCalendar file say busy, repeating ones unfolded, by start; and
    whether there were more than ``most``. Raises NotACalendar."""
    import recurring_ical_events
    from icalendar import Calendar

    try:
        parsed = Calendar.from_ical(data.decode("utf-8"))
        if parsed.name != "VCALENDAR":
            raise NotACalendar("it holds no VCALENDAR")
        parsed.subcomponents = [each for each in parsed.subcomponents if not _too_often(each)]
        found = recurring_ical_events.of(parsed, skip_bad_series=True).after(begin)
        in_time = itertools.takewhile(lambda each: _moment(each.start) < end, found)
        entries = [e for e in (_busy(each, calendar) for each in itertools.islice(in_time, 20 * most)) if e is not None]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, UnicodeDecodeError, OverflowError) as error:
        raise NotACalendar(f"it is not iCalendar ({type(error).__name__})") from error
    entries.sort(key=lambda e: (e.start, e.title))
    return entries[:most], len(entries) > most


def _too_often(component: Component) -> bool:
    """Whether it repeats every minute or second: no appointment does, and unfolding it would take for ever."""
    rules = component.get("RRULE", ())
    words = " ".join(str(rule.get("FREQ", "")) for rule in (rules if isinstance(rules, list) else [rules]) if rule)
    return "SECONDLY" in words or "MINUTELY" in words


def _busy(event: Event, calendar: Key) -> Entry | None:
    if str(event.get("TRANSP", "")).upper() == "TRANSPARENT" or str(event.get("STATUS", "")).upper() == "CANCELLED":
        return None
    start, ends = _moment(event.start), _moment(event.end)
    shown = visible(str(event.get("SUMMARY", "busy")))[:_LONGEST] or "busy"
    return Entry(start, max(ends, start + _SHORTEST), Sort.BUSY, calendar, shown)


def _moment(value: date) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    return value.astimezone(UTC) if value.tzinfo is not None else value.replace(tzinfo=UTC)
