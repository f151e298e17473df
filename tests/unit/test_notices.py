"""What is news, how it reads, and when it is quiet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions import notices, visible
from decisions.notices import About, Happened
from decisions.quiet_hours import following, latest, quiet_until
from schemas.alert import Severity
from schemas.base import Key
from schemas.channel import ChannelSpec, Notification, QuietHours

AT = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
DIGEST = "sha256:" + "3f" * 32

PRODUCERS: list[tuple[Notification, str, str, str, dict[str, Any]]] = [
    (Notification.APPROVAL_REQUIRED, "ApprovalRequested", "ApprovalRequest", "Review", {}),
    (Notification.APPROVAL_REMINDER, "ApprovalRequested", "ApprovalRequest", "Reminder", {}),
    (Notification.APPROVAL_EXPIRED, "ApprovalExpired", "ApprovalRequest", "Park", {}),
    (Notification.ASSISTANCE_REQUIRED, "Transitioned", "Mission", "AttemptsExhausted", {"to": "Blocked"}),
    (Notification.MISSION_FAILED, "Transitioned", "Mission", "AttemptsExhausted", {"to": "Failed"}),
    (Notification.MISSION_COMPLETED, "Transitioned", "Mission", "Accepted", {"to": "Done"}),
    (Notification.TODO_ASSIGNED, "Created", "Todo", "Declared", {}),
    (Notification.TODO_ASSIGNED, "Updated", "Todo", "Declared", {"changes": [{"field": "spec.assignee"}]}),
    (Notification.BUDGET_WARNING, "AlertRaised", "Alert", "BudgetWarning", {"severity": "Low"}),
    (Notification.BUDGET_EXCEEDED, "AlertRaised", "Alert", "BudgetExceeded", {"severity": "High"}),
    (Notification.AGENT_UNHEALTHY, "ConditionChanged", "Agent", "HeartbeatStale", {"condition": "Reachable"}),
    (Notification.AGENT_UNHEALTHY, "ConditionChanged", "Agent", "ErrorStreak", {"condition": "Ready"}),
    (Notification.LOOP_DETECTED, "AlertRaised", "Alert", "LoopDetected", {"severity": "High"}),
    (Notification.SECURITY_VIOLATION, "AlertRaised", "Alert", "ToolsQuarantined", {"severity": "High"}),
    (Notification.SECURITY_VIOLATION, "DecisionRefused", "ApprovalDecision", "SelfApproval", {}),
    (Notification.SECURITY_VIOLATION, "SyncFailed", "Source", "SignatureUntrusted", {}),
    (Notification.SECURITY_VIOLATION, "HistoryRewritten", "Source", "ForcePush", {}),
    (Notification.CONFIRMATION_REQUIRED, "GuardRaised", "Source", "PruneBlocked", {"planDigest": DIGEST}),
    (Notification.SYNC_FAILED, "SyncFailed", "Source", "InvalidSpec", {}),
    (Notification.HOLD_PLACED, "HoldPlaced", "Hold", "Hold", {}),
    (Notification.HOLD_RELEASED, "HoldReleased", "Hold", "Expired", {}),
    (Notification.MESSAGE, "MessageEnded", "Message", "Delivered", {}),
]
ABOUT = About(
    spec={"assignee": "user:alice", "title": "a title", "type": "Review", "requester": "agent:default/w",
          "expiresAt": "2026-11-22T09:00:00Z", "text": "hello", "author": "agent:default/w"},
    channels=frozenset({"ops"}), mission="m",
)  # fmt: skip


def happened(type_: str, kind: str, reason: str, data: dict[str, Any], name: str = "thing") -> Happened:
    return Happened(7, AT, type_, Key(kind, "default", name), "uid", "user:alice", reason, "words", data)


@pytest.mark.parametrize(("event", "type_", "kind", "reason", "data"), PRODUCERS)
def test_each_of_these_is_news_in_words_of_its_own(
    event: Notification, type_: str, kind: str, reason: str, data: dict[str, Any]
) -> None:
    row = happened(type_, kind, reason, data)
    assert type_ in notices.READ
    assert notices.kind_of(row) is event
    told = notices.compose(event, row, ABOUT)
    assert told is not None
    assert told.title
    assert told.command.startswith("remit ")
    assert f"Do: {told.command}" in told.text


def test_everything_that_a_route_can_name_is_made_somewhere() -> None:
    made = {event for event, *_ in PRODUCERS} | {Notification.DAILY_SUMMARY}
    assert made == set(Notification)


@pytest.mark.parametrize(
    ("type_", "kind", "reason", "data"),
    [
        ("Transitioned", "Mission", "Stopped", {"to": "Blocked"}),
        ("Transitioned", "Mission", "Started", {"to": "InProgress"}),
        ("ApprovalRequested", "ApprovalRequest", "Unblock", {}),
        ("Updated", "Todo", "Declared", {"changes": [{"field": "spec.title"}]}),
        ("Created", "Mission", "Declared", {}),
        ("AlertRaised", "Alert", "ToolsQuarantined", {"severity": "Low"}),
        ("AlertRaised", "Alert", "SomethingNew", {}),
        ("ConditionChanged", "Agent", "Reconciled", {"condition": "Ready", "status": "True"}),
        ("DecisionRefused", "ApprovalDecision", "AlreadyDecided", {}),
        ("MessagePosted", "Message", "Inbound", {}),
        ("MessagePosted", "Message", "Outbound", {}),
        ("MessageEnded", "Message", "PersonSpoke", {}),
    ],
)
def test_these_are_no_news(type_: str, kind: str, reason: str, data: dict[str, Any]) -> None:
    assert notices.kind_of(happened(type_, kind, reason, data)) is None


def test_a_task_of_an_agent_and_an_answered_request_are_told_to_nobody() -> None:
    todo = happened("Created", "Todo", "Declared", {})
    assert notices.compose(Notification.TODO_ASSIGNED, todo, About(spec={"assignee": "agent:default/w"})) is None
    expired = happened("ApprovalExpired", "ApprovalRequest", "Park", {})
    assert notices.compose(Notification.APPROVAL_EXPIRED, expired, About(status={"decidedBy": "user:a"})) is None


def test_a_name_that_is_none_makes_no_command() -> None:
    row = happened("Transitioned", "Mission", "X", {"to": "Failed"}, name="a; rm -rf ~")
    told = notices.compose(Notification.MISSION_FAILED, row, About())
    assert told is not None
    assert told.command == ""
    guard = happened("GuardRaised", "Source", "PruneBlocked", {"planDigest": "$(reboot)"})
    told = notices.compose(Notification.CONFIRMATION_REQUIRED, guard, About())
    assert told is not None
    assert told.command == "remit diff"


def test_what_is_red_or_stops_everything_is_critical() -> None:
    asked = happened("ApprovalRequested", "ApprovalRequest", "Action", {})
    red = notices.compose(Notification.APPROVAL_REQUIRED, asked, About(spec={**ABOUT.spec, "risk": "Red"}))
    held = notices.compose(Notification.HOLD_PLACED, happened("HoldPlaced", "Hold", "Stop", {"estop": True}), About())
    assert red is not None
    assert held is not None
    assert red.severity is held.severity is Severity.CRITICAL
    assert held.command == "remit estop release --reason WHY"


@given(st.text(max_size=400), st.integers(min_value=2, max_value=100))
def test_a_line_holds_nothing_that_acts(text: str, limit: int) -> None:
    line = visible.line(text, limit)
    assert len(line) <= limit
    assert all(ch.isprintable() or ch in "…" for ch in line if ch.isascii())
    assert visible.line(line, limit) == line
    assert not set(line) & set("\r\n\x1b\u202e\u200b\u2066")


def quiet(start: str, end: str, zone: str = "UTC") -> QuietHours:
    return QuietHours(start=start, end=end, time_zone=zone)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("hours", "now", "until"),
    [
        (quiet("22:00", "07:00"), "2026-11-21 21:59", None),
        (quiet("22:00", "07:00"), "2026-11-21 22:00", "2026-11-22 07:00"),
        (quiet("22:00", "07:00"), "2026-11-22 06:59", "2026-11-22 07:00"),
        (quiet("22:00", "07:00"), "2026-11-22 07:00", None),
        (quiet("12:00", "13:00"), "2026-11-21 12:30", "2026-11-21 13:00"),
        (quiet("22:00", "07:00", "Europe/Berlin"), "2026-11-21 21:00", "2026-11-22 06:00"),
        # Clocks go forward in the night of 28 to 29 March 2026, and back in that of 24 to 25 October.
        (quiet("22:00", "07:00", "Europe/Berlin"), "2026-03-28 21:00", "2026-03-29 05:00"),
        (quiet("22:00", "07:00", "Europe/Berlin"), "2026-10-24 20:00", "2026-10-25 06:00"),
        (quiet("02:30", "04:00", "Europe/Berlin"), "2026-03-29 01:29", None),
        (quiet("02:30", "04:00", "Europe/Berlin"), "2026-03-29 01:30", "2026-03-29 02:00"),
        (quiet("01:00", "02:30", "Europe/Berlin"), "2026-10-25 00:29", "2026-10-25 00:30"),
        (quiet("01:00", "02:30", "Europe/Berlin"), "2026-10-25 00:31", None),
    ],
)
def test_quiet_hours_follow_the_clock_of_their_place(hours: QuietHours, now: str, until: str | None) -> None:
    assert quiet_until(hours, utc(now)) == (None if until is None else utc(until))


ZONES = (
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Africa/Casablanca",
    "Pacific/Apia",
)
MOMENTS = st.datetimes(min_value=datetime(2025, 1, 1), max_value=datetime(2028, 1, 1))


@given(MOMENTS, st.sampled_from(ZONES))
def test_the_daily_time_comes_once_between_its_last_and_its_next(now: datetime, zone: str) -> None:
    moment = now.replace(tzinfo=UTC)
    last, soon = latest("09:00", zone, moment), following("09:00", zone, moment)
    assert last <= moment < soon
    assert timedelta(hours=22) <= soon - last <= timedelta(hours=26)
    assert following("09:00", zone, last) == soon
    assert latest("09:00", zone, soon) == soon


def test_routes_of_a_channel_that_declares_none_are_the_default() -> None:
    spec = ChannelSpec.model_validate({"type": "Dashboard"})
    assert notices.wants(spec, Notification.MISSION_FAILED)
    assert not notices.wants(spec, Notification.MISSION_COMPLETED)
