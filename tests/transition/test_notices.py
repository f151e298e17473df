"""People are told once of what matters, through the channels that want it, whatever breaks meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controllers.notify import retention
from controllers.notify.notices import Notices
from controllers.reconcilers import alerts
from schemas.alert import AlertStatus, AlertType, Severity
from schemas.base import ObjectRef
from schemas.channel import ChannelStatus
from schemas.conditions import set_condition
from schemas.errors import Refused, Retry, Terminal
from schemas.message import Direction, MessageReason, MessageSpec, MessageState, MessageStatus
from schemas.resource import SYSTEM, Declared
from schemas.run import RunState
from store.contract import Event
from tests.fakes.told import ToldWorld, channel
from tests.fakes.world import ALICE, agent, executor, mission

ONE = pytest.mark.parametrize("backend", ["sqlite"])
"""For what does not depend on the database."""
EVERYTHING = "[{events: [MissionFailed, MissionCompleted, AssistanceRequired, ApprovalRequired, ApprovalReminder, \
ApprovalExpired, HoldPlaced, HoldReleased, TodoAssigned, SyncFailed, ConfirmationRequired]}]"


@pytest.fixture
def told(tmp_path: Path, backend: str) -> Iterator[ToldWorld]:
    made = ToldWorld(tmp_path, backend=backend)
    try:
        yield made
        made.settle()
        made.check()
    finally:
        made.close()


def begin(told: ToldWorld, *channels: str, missions: int = 1, **more: str) -> None:
    files = {"e.yaml": executor(), "a.yaml": agent(maxConcurrentMissions=50)}
    files |= {f"c{number}.yaml": text for number, text in enumerate(channels)}
    files |= {f"m{n}.yaml": mission(f"m{n}", labels="team: red", retry="{maxAttempts: 1}") for n in range(missions)}
    told.commit({**files, **more})
    told.sync()


def fail(told: ToldWorld, name: str = "m0-1", message: str = "it broke") -> None:
    told.finish(name, state=RunState.FAILED, retryable=False, message=message)


def status(told: ToldWorld, name: str = "ops") -> ChannelStatus:
    return ChannelStatus.model_validate(told.get("Channel", name).status)


@ONE
def test_a_failure_is_told_once_with_why_and_the_command_that_moves_it(told: ToldWorld) -> None:
    begin(told, channel(), missions=2)
    told.finish("m1-1")
    fail(told)
    (message,) = told.said()
    assert message.title == "mission/m0 failed: NonZeroExit"
    assert "it broke" in message.text
    assert message.text.endswith("Do: remit retry mission/m0")
    (notice,) = told.centre()
    assert told.deliveries_of(notice) == ["ops/Sent"]
    assert notice.state == "Sent"
    assert (status(told).delivered, status(told).waiting) == (1, 0)
    assert told.reason("Channel", "ops", "Ready") == "True/Reconciled"
    for _ in range(2):
        told.restart()
        told.advance(3600)
    assert len(told.said()) == 1, "a default route hears of no success, and of no failure twice"


@pytest.mark.parametrize("dies", ["before", "after"])
def test_a_kill_around_sending_loses_nothing_and_repeats_with_the_same_key_only(told: ToldWorld, dies: str) -> None:
    begin(told, channel())
    told.dies = dies
    fail(told)
    assert len({message.key for message in told.said()}) == 1
    assert len({(m.title, m.text) for m in told.said()}) == 1
    assert len(told.said()) == (2 if dies == "after" else 1)
    assert (status(told).delivered, status(told).waiting) == (1, 0)


@ONE
def test_what_happens_between_an_event_and_its_reading_is_told_after_the_restart(told: ToldWorld) -> None:
    begin(told, channel())
    told.finish("m0-1", state=RunState.FAILED, retryable=False, settle=False)
    told.notices.read()  # nothing yet: the mission has not been looked at
    told.restart()
    assert told.titles() == ["mission/m0 failed: NonZeroExit"]


@ONE
def test_history_is_no_news(told: ToldWorld) -> None:
    begin(told)
    fail(told)
    assert told.kinds() == ["MissionFailed"], "the notification centre keeps it without any channel"
    told.commit({"c.yaml": channel()})
    told.sync()
    told.restart()
    assert told.said() == []


def test_what_is_critical_comes_through_quiet_hours_and_the_rest_follows_at_their_end_as_one(told: ToldWorld) -> None:
    quiet = '  quietHours: {start: "08:00", end: "10:30", timeZone: UTC}\n'
    begin(told, channel(routes=EVERYTHING, more=quiet), missions=3)
    fail(told, "m0-1")
    fail(told, "m1-1")
    told.finish("m2-1")
    assert told.said() == []
    assert status(told).waiting == 3
    told.act("Hold", "all", {"scope": "Global", "mode": "Stop", "reason": "fire"})
    assert [m.severity for m in told.said()] == ["Critical"], "an e-stop wakes people"
    told.advance(3600)
    assert len(told.said()) == 1
    told.dies = "after"
    told.advance(1900)
    keys = {m.key for m in told.said()[1:]}
    digest = told.said()[1]
    assert len(keys) == 1
    assert digest.title.startswith("3 notifications: 2 MissionFailed, 1 MissionCompleted")
    assert "mission/m1 failed" in digest.text
    assert [n["name"] for n in digest.notices] == [n.name for n in told.centre()[:3]]
    assert (status(told).delivered, status(told).waiting, told.open_effects()) == (4, 0, 0)


@ONE
def test_what_could_not_go_out_before_quiet_hours_waits_for_their_end(told: ToldWorld) -> None:
    quiet = '  quietHours: {start: "10:00", end: "12:00", timeZone: UTC}\n'
    begin(told, channel(more=quiet), channel("mail", more=quiet), missions=2)
    told.broken["ops"] = Retry("no answer")
    fail(told)
    told.advance(3590)
    told.finish("m1-1", state=RunState.FAILED, retryable=False, settle=False)
    for key in list(told.pending):
        del told.pending[key]
    told.clock.tick(20)  # nobody is there until they have begun
    told.broken.clear()
    told.settle()
    told.advance(7100)
    assert [m.title[:17] for m in told.said("mail")] == ["mission/m0 failed"]
    assert told.said() == []
    told.advance(200)
    assert sorted(m.title[:17] for m in told.said()) == ["mission/m0 failed", "mission/m1 failed"]
    assert [m.title[:17] for m in told.said("mail")] == ["mission/m0 failed", "mission/m1 failed"]


@ONE
def test_an_effect_that_nobody_tried_before_quiet_hours_joins_what_they_keep(told: ToldWorld) -> None:
    quiet = '  quietHours: {start: "10:00", end: "12:00", timeZone: UTC}\n'
    begin(told, channel(more=quiet), missions=2)
    told.finish("m0-1", state=RunState.FAILED, retryable=False, settle=False)
    told.finish("m1-1", state=RunState.FAILED, retryable=False, settle=False)
    told.silent = True
    told.settle()
    assert told.open_effects() == 2
    told.clock.tick(4000)
    told.silent = False
    told.restart()
    assert told.said() == []
    told.advance(7200)
    assert [m.title[:15] for m in told.said()] == ["2 notifications"]
    assert (status(told).delivered, status(told).waiting, told.open_effects()) == (2, 0, 0)


@ONE
def test_history_costs_nothing(told: ToldWorld) -> None:
    begin(told, channel())
    with told.store.transaction(SYSTEM) as tx:
        for number in range(3_000):
            tx.event("Transitioned", told.get("Mission", "m0").key, reason="X", message="", data={"to": str(number)})
    told.act("Hold", "h", {"selector": {"names": ["nobody"]}, "reason": "x"})
    noted = [e for e in told.events("Notified") if e.reason == "Read"]
    assert len(noted) > 2, "how far it was read is noted now and then, without any news"
    asked: list[int] = []
    with told.store.snapshot() as snapshot:
        newest = snapshot.events(limit=1, newest_first=True)[0].seq
    real = type(snapshot).events

    def events(self: object, **given: Any) -> list[Event]:
        asked.append(int(given.get("after", newest)))
        found: list[Event] = real(self, **given)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(snapshot), "events", events)
        told.notices = Notices(told.store)
        told.notices.read()
    assert min(asked) >= newest - 1_100


@ONE
def test_quiet_hours_that_are_taken_away_let_go_of_what_they_kept(told: ToldWorld) -> None:
    quiet = '  quietHours: {start: "08:00", end: "20:00", timeZone: UTC}\n'
    begin(told, channel(more=quiet), missions=2)
    fail(told, "m0-1")
    told.commit({"c0.yaml": channel(more=quiet.replace("20:00", "12:00"))})
    told.sync()
    assert told.said() == []
    fail(told, "m1-1")
    told.commit({"c0.yaml": channel()})
    told.sync()
    assert [m.title[:15] for m in told.said()] == ["2 notifications"]
    told.advance(24 * 3600)
    assert len(told.said()) == 1
    assert status(told).waiting == 0


@ONE
def test_a_suspended_channel_carries_nothing_now_or_later(told: ToldWorld) -> None:
    begin(told, channel(more="  suspend: true\n"), channel("mail"), missions=2)
    fail(told, "m0-1")
    assert told.said() == []
    assert len(told.said("mail")) == 1
    told.broken["mail"] = Retry("no answer")
    fail(told, "m1-1")
    told.commit({"c0.yaml": channel(), "c1.yaml": channel("mail", more="  suspend: true\n")})
    told.sync()
    told.broken.clear()
    told.advance(3600)
    assert told.said() == []
    assert len(told.said("mail")) == 1, "what still waited is dropped"
    assert told.deliveries_of(told.centre()[-1]) == ["mail/Dropped"]
    assert told.reason("Channel", "mail", "Ready") == "False/Suspended"
    assert status(told, "mail").waiting == 0


@ONE
def test_a_service_that_fails_is_tried_again_ever_later_and_shows(told: ToldWorld) -> None:
    begin(told, channel(), missions=2)
    told.broken["ops"] = Retry("webhook answers 503")
    fail(told)
    told.advance(600)
    assert told.reason("Channel", "ops", "Ready") == "False/DeliveryFailed"
    assert (status(told).last_error, status(told).waiting) == ("webhook answers 503", 1)
    told.broken.clear()
    told.advance(3600)
    assert len(told.said()) == 1
    assert told.reason("Channel", "ops", "Ready") == "True/Reconciled"
    assert (status(told).last_error, status(told).waiting, status(told).delivered) == ("", 0, 1)
    told.broken["ops"] = Terminal("webhook answers 400")
    fail(told, "m1-1")
    notice = told.centre()[-1]
    assert (notice.state, told.deliveries_of(notice)) == ("Failed", ["ops/Failed"])
    assert notice.status["deliveries"][0]["error"] == "webhook answers 400"
    assert (status(told).last_error, status(told).waiting) == ("webhook answers 400", 0)
    told.commit({"c0.yaml": channel(more="  description: mended\n")})
    told.sync()
    assert told.reason("Channel", "ops", "Ready") == "True/Reconciled", "a new spec begins anew"


@ONE
def test_routes_pick_by_event_severity_and_labels(told: ToldWorld) -> None:
    red = "[{events: [MissionFailed], matchLabels: {team: red}}]"
    blue = "[{events: [MissionFailed], matchLabels: {team: blue}}]"
    high = "[{events: [MissionFailed], severity: High}]"
    begin(told, channel("red", routes=red), channel("blue", routes=blue), channel("high", routes=high),
          channel("none", routes="[]"))  # fmt: skip
    fail(told)
    assert {name for name, _ in told.outside} == {"red"}


@ONE
def test_a_project_sends_its_news_to_its_channel(told: ToldWorld) -> None:
    narrow = "[{events: [MissionFailed], matchLabels: {team: nobody}}]"
    project = "apiVersion: remit.dev/v1alpha1\nkind: Project\nmetadata: {name: site}\nspec: {channelRef: {name: ops}}\n"
    work = mission("m9", retry="{maxAttempts: 1}", projectRef="{name: site}")
    begin(told, channel(routes=narrow), **{"p.yaml": project, "m9.yaml": work})
    fail(told, "m0-1")
    fail(told, "m9-1")
    assert told.titles() == ["mission/m9 failed: NonZeroExit"]


@ONE
def test_a_storm_is_told_as_one_message_beside_the_first(told: ToldWorld) -> None:
    begin(told, channel(), missions=23)
    for number in range(23):
        told.finish(f"m{number}-1", state=RunState.FAILED, retryable=False, settle=False)
    told.settle()
    told.advance(5)
    assert len(told.said()) == 21
    assert told.titles()[-1].startswith("3 notifications")
    assert (status(told).delivered, status(told).waiting) == (23, 0)


@ONE
def test_an_approval_is_asked_for_reminded_of_once_and_its_end_is_told(told: ToldWorld) -> None:
    reviewed = mission("r", review="Human")
    begin(told, channel(routes=EVERYTHING), missions=0, **{"r.yaml": reviewed})
    told.finish("r-1")
    request = told.status("r").review_request
    (asked,) = told.said()
    digest = told.get("ApprovalRequest", str(request)).spec["actionDigest"]
    assert f"Do: remit approve {request} --digest {digest[7:19]}" in asked.text
    assert "Until: 2026-" in asked.text
    told.advance(9 * 24 * 3600)
    titles = [title.partition(":")[0] for title in told.titles()]
    assert titles[:3] == ["Approval required", "Still waits for an answer", "Nobody answered in time"]
    assert "mission/r is blocked and needs a person" in titles


@ONE
def test_holds_todos_and_sources_are_told_of(told: ToldWorld) -> None:
    todo = (
        "apiVersion: remit.dev/v1alpha1\nkind: Todo\nmetadata: {name: look}\n"
        "spec: {title: look at it, assignee: 'user:alice', dueDate: 2026-11-30}\n"
    )
    begin(told, channel(routes=EVERYTHING), **{"t.yaml": todo})
    told.act("Hold", "h1", {"selector": {"names": ["worker"]}, "reason": "wait a little"})
    told.remove("Hold", "h1")
    told.commit({"m0.yaml": mission("m0", bogus="1")})
    told.sync()
    assert told.kinds()[:3] == ["TodoAssigned", "HoldPlaced", "SyncFailed"]
    held = next(m for m in told.said() if m.title.startswith("Held"))
    assert "By: " in held.text
    assert "Do: remit release h1" in held.text


@ONE
def test_words_of_an_agent_stay_words(told: ToldWorld) -> None:
    begin(told, channel())
    evil = "done\r\nBcc: victim@example.com\x1b[2J \u202eabc ghp_0123456789abcdefghijABCDEFGHIJ012345 " + "x" * 9000
    fail(told, message=evil)
    (message,) = told.said()
    assert "\r" not in message.text
    assert "\x1b" not in message.text
    assert "\u202e" not in message.text
    assert "ghp_" not in message.text
    assert len(message.text) <= 3_000
    assert "\n" not in message.title


@ONE
def test_a_declared_centre_keeps_what_its_routes_say(told: ToldWorld) -> None:
    centre = (
        "apiVersion: remit.dev/v1alpha1\nkind: Channel\nmetadata: {name: centre}\n"
        "spec: {type: Dashboard, routes: [{events: [MissionCompleted]}]}\n"
    )
    begin(told, centre, missions=2)
    fail(told, "m0-1")
    told.finish("m1-1")
    assert told.kinds() == ["MissionCompleted"]
    (notice,) = told.centre()
    assert (notice.state, told.deliveries_of(notice)) == ("Shown", ["centre/Shown"])
    assert (status(told, "centre").delivered, told.open_effects()) == (1, 0)


@ONE
def test_a_channel_that_goes_away_takes_what_waited_with_it(told: ToldWorld) -> None:
    begin(told, channel())
    told.broken["ops"] = Retry("no answer")
    fail(told)
    told.commit(delete=("c0.yaml",))
    told.sync()
    assert told.find("Channel", "ops") is None
    told.advance(120)
    assert told.deliveries_of(told.centre()[0]) == ["ops/Dropped"]
    assert told.open_effects() == 0


def test_the_standup_comes_once_a_day_over_restarts_and_channels(told: ToldWorld) -> None:
    routes = "[{events: [DailySummary]}]"
    begin(told, channel(routes=routes), channel("mail", routes=routes), missions=2)
    assert told.said() == [], "nobody is told at once of a day that nobody asked about"
    told.finish("m0-1")
    fail(told, "m1-1")
    for _ in range(8):
        told.advance(6 * 3600)
        told.restart()
    assert [n.name for n in told.centre() if n.spec["event"] == "DailySummary"] == [
        "daily-2026-11-22", "daily-2026-11-23",
    ]  # fmt: skip
    assert len(told.said()) == len(told.said("mail")) == 2
    first, second = told.said()
    assert first.title == "Standup of default: 1 done, 1 failed, 0 to answer, 0 blocked"
    assert "- mission/m1: NotRetryable" in first.text or "- mission/m1: " in first.text
    assert second.title.startswith("Standup of default: 0 done, 0 failed")
    assert {m.key.rpartition("/")[2] for m in told.said()} == {"daily-2026-11-22", "daily-2026-11-23"}


@ONE
def test_the_standup_follows_the_clock_of_the_tenant_and_is_made_up_for_within_the_day(told: ToldWorld) -> None:
    tenant = (
        "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: default}\n"
        'spec: {standup: {at: "09:00", timeZone: America/New_York}}\n'
    )
    begin(told, channel(routes="[{events: [DailySummary]}]"), **{"t.yaml": tenant})
    told.advance(4.9 * 3600)
    assert told.said() == []
    told.advance(0.2 * 3600)
    assert len(told.said()) == 1, "09:00 in New York is 14:00 UTC"
    told.clock.tick(3 * 24 * 3600 + 3600)  # nobody is there for three days
    told.restart()
    assert len(told.said()) == 2, "one summary of all of it, not three"
    assert "Since 2026-11-21 14:00 UTC (73 h)" in told.said()[-1].text


@ONE
def test_an_alert_is_looked_after_settled_and_raised_anew(told: ToldWorld) -> None:
    begin(told, channel(routes="[{events: [LoopDetected]}]"))

    def happens() -> None:
        with told.store.transaction(SYSTEM) as tx:
            alerts.raise_alert(
                tx, AlertType.LOOP_DETECTED, told.get("Mission", "m0"), severity=Severity.HIGH, title="it goes around",
                message="look at it", details={},
            )  # fmt: skip
        told.settle()

    def say(resolve: bool) -> AlertStatus:
        with told.store.transaction(ALICE) as tx:
            (alert,) = tx.objects("Alert")
            (alerts.resolve if resolve else alerts.acknowledge)(tx, alert, "because")
        told.settle()
        return seen()

    def seen() -> AlertStatus:
        with told.store.snapshot() as snapshot:
            (alert,) = snapshot.objects("Alert")
        return AlertStatus.model_validate(alert.status)

    happens()
    (message,) = told.said()
    assert message.title == "LoopDetected: it goes around"
    assert "Do: remit ack loopdetected-" in message.text
    status = say(resolve=False)
    assert (status.state, status.acknowledged_by, status.conditions[0].message) == (
        "Acknowledged", "user:alice", "because",
    )  # fmt: skip
    with pytest.raises(Refused, match="user:alice looks after it"):
        say(resolve=False)
    happens()
    assert (seen().state, seen().count) == ("Acknowledged", 2)
    status = say(resolve=True)
    assert (status.state, status.resolved_by) == ("Resolved", "user:alice")
    with pytest.raises(Refused, match="was settled by user:alice"):
        say(resolve=True)
    happens()
    status = seen()
    assert (status.state, status.count, status.acknowledged_by, status.resolved_by) == ("Open", 3, "", "")
    assert [(e.type, str(e.actor)) for e in told.events("AlertAcknowledged", "AlertResolved")] == [
        ("AlertAcknowledged", "user:alice"), ("AlertResolved", "user:alice"),
    ]  # fmt: skip


@ONE
def test_what_was_told_long_ago_is_forgotten_and_what_waits_is_not(told: ToldWorld) -> None:
    begin(told, channel(), missions=3)
    fail(told, "m0-1")
    told.advance(29 * 24 * 3600)
    told.broken["ops"] = Retry("no answer")
    fail(told, "m1-1")
    told.clock.tick(2 * 24 * 3600)
    assert retention.prune(told.store, told.now) == 1
    assert [n.state for n in told.centre()] == ["Waiting"]


@ONE
@pytest.mark.parametrize("state", ["Pending", "Blocked"])
def test_what_an_agent_says_to_a_channel_goes_there_and_nowhere_else(told: ToldWorld, state: str) -> None:
    routes = "[{events: [Message]}]"
    begin(told, channel(routes=routes), channel("mail", routes=routes))
    spec = MessageSpec(
        direction=Direction.OUTBOUND, author="agent:default/worker", text="look <b>here</b>\u202e", idempotency_key="k",
        mission_ref=ObjectRef(name="m0"), channel_ref=ObjectRef(name="ops"),
    )  # fmt: skip
    with told.store.transaction(SYSTEM) as tx:
        conditions = set_condition((), "Succeeded", None, MessageReason.PENDING, now=tx.now, generation=1)
        status_ = MessageStatus(state=MessageState(state), conditions=conditions, observed_generation=1).to_wire()
        said = tx.create(Declared("Message", "default", "msg1", spec.to_wire()), manager="x", status=status_)
        tx.event("MessagePosted", said, reason="Outbound", message=spec.text)
    told.settle()
    assert told.said("mail") == []
    if state == "Blocked":
        assert told.said() == []
        return
    (message,) = told.said()
    assert message.title == "agent:default/worker writes"
    assert message.text == "look <b>here</b>\\u202e\nDo: remit say mission/m0"
    found = MessageStatus.model_validate(told.get("Message", "msg1").status)
    assert (found.state, found.conditions[0].reason) == ("Delivered", "Delivered")
