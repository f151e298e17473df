"""The feed of what is due, and what stands against a schedule's new time: pure decisions."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.calendars import ics
from decisions.feed import MOST_FIRES, Against, Conflict, Entry, Planned, Sort, conflicts, feed
from schemas.base import Key
from schemas.schedule import ScheduleSpec

AGENT = Key("Agent", "default", "worker")
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


BEGIN, END = at("2026-11-21T00:00"), at("2026-11-22T00:00")


def planned(
    name: str, schedule: str, *, lasts: int | None = None, stands: str = "", agent: Key | None = AGENT, **more: object
) -> Planned:
    values = {"schedule": schedule, "missionTemplate": {"spec": {"title": "t", "agentRef": {"name": "a"}}}, **more}
    length = None if lasts is None else lasts * MINUTE
    key = Key("Schedule", "default", name)
    return Planned(key, f"title of {name}", ScheduleSpec.model_validate(values), agent, length, stands)


def busy(start: str, end: str, title: str = "meeting") -> Entry:
    return Entry(at(start), at(end), Sort.BUSY, Key("Calendar", "default", "team"), title)


def against(moved: Planned, *others: Planned, entries: tuple[Entry, ...] = (), places: int = 1) -> list[Conflict]:
    return conflicts(moved, [moved, *others], entries, places, BEGIN, END)


def test_fires_and_what_goes_on_stand_in_order_with_the_length_that_the_past_suggests() -> None:
    mission = Key("Mission", "default", "long")
    running = Entry(at("2026-11-20T23:00"), at("2026-11-21T01:00"), Sort.RUN, mission, "long")
    over = Entry(at("2026-11-20T01:00"), at("2026-11-20T02:00"), Sort.RUN, mission, "over")
    found = feed([planned("six", "0 */6 * * *", lasts=20), planned("off", "* * * * *", stands="held")],
                 [over, running], BEGIN, END)  # fmt: skip
    assert [f"{entry.start:%d %H:%M} {entry.sort}" for entry in found.entries] == [
        "20 23:00 Run", "21 00:00 Fire", "21 06:00 Fire", "21 12:00 Fire", "21 18:00 Fire",
    ]  # fmt: skip
    assert found.entries[1].end == at("2026-11-21T00:20")
    assert found.entries[1].expected
    assert not found.cut


def test_a_schedule_of_every_minute_is_cut_and_the_feed_says_from_when() -> None:
    often = planned("often", "* * * * *")
    found = feed([often], [], BEGIN, END)
    assert len(found.entries) == MOST_FIRES
    assert found.cut == {often.key: BEGIN + MOST_FIRES * MINUTE}


def test_an_agent_that_is_at_work_on_something_else_stands_against_a_time() -> None:
    nightly, backup = planned("nightly", "30 3 * * *", lasts=10), planned("backup", "0 3 * * *", lasts=45)
    (conflict,) = against(nightly, backup)
    assert (conflict.why, conflict.first, conflict.count) == (Against.AGENT_BUSY, at("2026-11-21T03:30"), 1)
    assert "agent/worker takes one mission at once and then works on schedule/backup" in conflict.message
    assert against(nightly, backup, places=2) == []
    assert against(nightly, planned("backup", "0 3 * * *", lasts=30)) == []  # it ends as the other begins
    assert against(nightly, planned("backup", "0 3 * * *", lasts=45, agent=Key("Agent", "default", "other"))) == []
    assert against(nightly, planned("backup", "0 3 * * *", lasts=45, stands="suspended")) == []


def test_work_that_began_before_the_window_is_counted() -> None:
    early, long_one = planned("early", "5 0 * * *", lasts=5), planned("long", "50 23 * * *", lasts=60)
    assert [c.why for c in against(early, long_one)] == [Against.AGENT_BUSY]


def test_missions_longer_than_the_pause_between_them_say_what_happens_then() -> None:
    for policy, words in (("Allow", "beside each other"), ("Forbid", "is skipped"), ("Replace", "is canceled")):
        (conflict,) = against(planned("x", "*/30 * * * *", lasts=40, agent=None, concurrencyPolicy=policy))
        assert conflict.why is Against.OVERLAPS_ITSELF
        assert words in conflict.message
        assert conflict.count == 47


def test_busy_times_stand_against_a_time_only_while_they_last() -> None:
    entries = (busy("2026-11-21T09:00", "2026-11-21T10:00"),)
    (conflict,) = against(planned("x", "30 9 * * *"), entries=entries)
    assert (conflict.why, conflict.message) == (Against.BUSY, "calendar/team is busy: meeting")
    assert against(planned("x", "0 10 * * *"), entries=entries) == []
    assert [c.why for c in against(planned("x", "45 8 * * *", lasts=30), entries=entries)] == [Against.BUSY]


def test_an_hour_that_a_clock_change_skips_is_told() -> None:
    spring = planned("x", "30 2 * * *", timeZone="Europe/Berlin")
    found = conflicts(spring, [spring], [], 1, at("2027-03-27T00:00"), at("2027-03-30T00:00"))
    (conflict,) = found
    assert conflict.why is Against.CLOCK_CHANGE
    assert "02:30 does not exist on that day in Europe/Berlin: it fires at 03:" in conflict.message


def test_a_time_that_never_comes_in_the_window_is_told() -> None:
    (conflict,) = against(planned("x", "0 0 1 1 *"))
    assert conflict.why is Against.NEVER


def test_a_calendar_program_gets_appointments_that_stay_the_same_from_feed_to_feed() -> None:
    entries = feed([planned("six", "0 */6 * * *", lasts=20)], [
        Entry(BEGIN, BEGIN + timedelta(days=1), Sort.TODO, Key("Todo", "default", "tax"), "pay\r\nBEGIN:VEVENT\u202e",
              note="user:alice", all_day=True),
        Entry(BEGIN, None, Sort.HEARTBEAT, Key("Run", "default", "r-1"), "beat"),
    ], BEGIN, END).entries  # fmt: skip
    first = ics.render(entries, "Remit default", BEGIN)
    later = ics.render(entries, "Remit default", BEGIN + MINUTE)
    text = first.decode()
    assert text.count("BEGIN:VEVENT\r\n") == 5
    assert "UID:20261121T060000Z-fire.schedule.six.default@remit.invalid" in text
    assert "DTSTART;VALUE=DATE:20261121" in text
    assert "\\\\u202e" in text  # an escape to read, and no character that turns the line around
    assert "beat" not in text
    stamped = [line for line in first.splitlines() if not line.startswith(b"DTSTAMP")]
    assert stamped == [line for line in later.splitlines() if not line.startswith(b"DTSTAMP")]


def test_busy_times_are_read_with_repeats_and_without_what_is_free_or_called_off() -> None:
    data = b"""BEGIN:VCALENDAR
VERSION:2.0
PRODID:x
BEGIN:VEVENT
UID:1
SUMMARY:Daily
DTSTART;TZID=Europe/Berlin:20261120T090000
DTEND;TZID=Europe/Berlin:20261120T093000
RRULE:FREQ=DAILY;COUNT=5
EXDATE;TZID=Europe/Berlin:20261122T090000
END:VEVENT
BEGIN:VEVENT
UID:2
SUMMARY:Free
TRANSP:TRANSPARENT
DTSTART:20261121T100000Z
DTEND:20261121T110000Z
END:VEVENT
BEGIN:VEVENT
UID:3
STATUS:CANCELLED
DTSTART:20261121T100000Z
DTEND:20261121T110000Z
END:VEVENT
BEGIN:VEVENT
UID:4
SUMMARY:Holiday
DTSTART;VALUE=DATE:20261123
DTEND;VALUE=DATE:20261124
END:VEVENT
END:VCALENDAR
"""
    key = Key("Calendar", "default", "team")
    found, more = ics.busy(data, key, BEGIN, BEGIN + timedelta(days=7), 100)
    assert [(f"{e.start:%d %H:%M}", f"{e.end:%d %H:%M}" if e.end else "", e.title) for e in found] == [
        ("21 08:00", "21 08:30", "Daily"),
        ("23 00:00", "24 00:00", "Holiday"),
        ("23 08:00", "23 08:30", "Daily"),
        ("24 08:00", "24 08:30", "Daily"),
    ]
    assert not more
    assert ics.busy(data, key, BEGIN, BEGIN + timedelta(days=7), 2) == (found[:2], True)


@settings(max_examples=40)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.text(max_size=300).map(
            lambda t: f"BEGIN:VCALENDAR\nBEGIN:VEVENT\nDTSTART:{t}\nEND:VEVENT\nEND:VCALENDAR".encode(errors="replace")
        ),
    )
)
def test_whatever_a_server_answers_is_busy_times_or_a_refusal(data: bytes) -> None:  # fmt: skip
    with contextlib.suppress(ics.NotACalendar):
        found, _ = ics.busy(data, Key("Calendar", "default", "team"), BEGIN, END, 10)
        assert len(found) <= 10
