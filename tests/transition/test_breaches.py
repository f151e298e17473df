"""What happens at a limit, for each onBreach: event, condition and alert, once in each window, also over restarts."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from cli.main import run as command
from schemas.errors import StoreUnavailable
from schemas.mission import MissionState
from schemas.quantities import parse_time
from schemas.resource import SYSTEM, Resource
from store.contract import Balance
from store.ledger import LedgerWrites
from tests.fakes.shell import configure
from tests.fakes.world import World, mission
from tests.transition.test_budgets import budget, finish, fleet, waits, within

LIMIT = "usd: 0.30"


def alerts(world: World, type_: str = "") -> list[Resource]:
    return [r for r in world.everything() if r.kind == "Alert" and type_ in ("", r.spec["type"])]


def over(world: World, breach: str, **more: object) -> None:
    """Two missions under a daily limit that has room for one; the first has used it up."""
    fleet(world, 2, extra=budget("daily", "{tenant: true}", limits=LIMIT, breach=breach, **more))
    finish(world, "m0-1", "0.25")
    if "m1-1" in world.started:
        finish(world, "m1-1", "0.25")


@pytest.mark.parametrize(
    ("breach", "state", "starts"),
    [
        ("Warn", MissionState.DONE, True),
        ("Throttle", MissionState.ASSIGNED, False),
        ("PauseAgent", MissionState.ASSIGNED, False),
        ("BlockMission", MissionState.BLOCKED, False),
        ("RequireApproval", MissionState.BLOCKED, False),
    ],
)
def test_each_action_has_its_event_its_condition_and_one_alert(
    world: World, breach: str, state: MissionState, starts: bool
) -> None:
    over(world, breach)
    assert ("m1-1" in world.started) is starts
    assert world.state("m1") is state
    [alert] = alerts(world, "BudgetExceeded")
    assert (alert.spec["subject"], alert.status["state"]) == ("Budget/default/daily", "Open")
    assert alert.spec["severity"] == ("Medium" if starts else "High")
    [event] = world.events("BudgetExceeded")
    assert event.reason == breach
    assert event.data.get("mission") == (None if starts else "m1")
    assert [e.reason for e in world.events("AlertRaised") if e.reason == "BudgetExceeded"] == ["BudgetExceeded"]
    if not starts:
        assert within(world, "daily") == "True/Warning"
    for _ in range(2):
        world.restart()
        world.advance(3600)
    assert len(world.events("BudgetExceeded")) == 1
    world.advance((alert_end(world) - world.now).total_seconds() + 1)
    assert alerts(world, "BudgetExceeded")[0].status["state"] == "Resolved"
    assert "m1-1" in world.started


def alert_end(world: World) -> datetime:
    found: datetime = parse_time(alerts(world, "BudgetExceeded")[0].spec["details"]["until"])
    return found


def test_what_is_only_reserved_raises_no_alarm(world: World) -> None:
    fleet(world, 2, extra=budget("daily", "{tenant: true}", limits=LIMIT, breach="PauseAgent"))
    assert waits(world, "m1")[0] == "BudgetExceeded"
    assert alerts(world, "BudgetExceeded") == []
    assert [r for r in world.everything() if r.kind == "Hold"] == []
    finish(world, "m0-1", "0.01")
    assert world.started == ["m0-1", "m1-1"]


def test_a_paused_agent_does_nothing_until_its_window_is_over(world: World) -> None:
    scope = "{missionSelector: {matchLabels: {dear: 'yes'}}}"
    fleet(world, 2, labels="dear: 'yes'",
          extra=budget("dear", scope, limits=LIMIT, breach="PauseAgent", counting="Together"))  # fmt: skip
    finish(world, "m0-1", "0.25")
    [hold] = [r for r in world.everything() if r.kind == "Hold"]
    assert (hold.spec["selector"]["names"], hold.spec["until"]) == (["worker"], "2026-11-22T00:00:00.000Z")
    world.commit({"free.yaml": mission("free")})
    world.sync()
    assert waits(world, "free")[0] == "Held", "the whole agent is paused, also for work that the limit does not cover"
    world.advance(15 * 3600)
    assert {"free-1", "m1-1"} <= set(world.started)
    assert [r for r in world.everything() if r.kind == "Hold"] == []


def test_a_person_frees_a_paused_agent_and_it_is_not_paused_again(world: World) -> None:
    scope = "{missionSelector: {matchLabels: {dear: 'yes'}}}"
    fleet(world, 2, labels="dear: 'yes'",
          extra=budget("dear", scope, limits=LIMIT, breach="PauseAgent", counting="Together"))  # fmt: skip
    finish(world, "m0-1", "0.25")
    world.commit({"free.yaml": mission("free")})
    world.sync()
    [hold] = [r for r in world.everything() if r.kind == "Hold"]
    world.remove("Hold", hold.name)
    assert "free-1" in world.started
    world.restart()
    world.advance(60)
    assert [r for r in world.everything() if r.kind == "Hold"] == []
    assert waits(world, "m1")[0] == "BudgetExceeded", "the limit itself stands"


def test_people_are_told_at_each_declared_share_once(world: World) -> None:
    fleet(world, 6, places=1, extra=budget("daily", "{tenant: true}", alsoWarnAt="[0.25, 0.95]", warnAt="0.5"))
    told: list[list[float]] = []
    for number in range(4):
        told.append(sorted(a.spec["details"]["threshold"] for a in alerts(world, "BudgetWarning")))
        world.restart()
        finish(world, f"m{number}-1", "0.2")
    assert told == [[0.25], [0.25], [0.25, 0.5], [0.25, 0.5]]
    assert len(world.events("BudgetWarning")) == len(alerts(world, "BudgetWarning"))
    world.advance(24 * 3600)
    first = [a for a in alerts(world, "BudgetWarning") if a.spec["details"]["until"].startswith("2026-11-22")]
    assert {a.status["state"] for a in first} == {"Resolved"}
    assert len(alerts(world, "BudgetWarning")) > len(first), "a new window is told of anew"


def test_built_in_limits_warn_too(world: World) -> None:
    fleet(world, 12, places=1)
    for number in range(6):
        finish(world, f"m{number}-1", "0.25")
    [alert] = alerts(world, "BudgetWarning")
    assert alert.spec["subject"] == "Agent/default/worker"
    assert "of the built-in limit is spent or reserved" in alert.spec["title"]


def test_more_is_asked_for_and_after_a_grant_a_new_breach_is_told(world: World) -> None:
    fleet(world, 3, extra=budget("daily", "{tenant: true}", limits=LIMIT, breach="RequireApproval"))
    finish(world, "m0-1", "0.25")
    world.answer("m1")
    assert world.started == ["m0-1", "m1-1"]
    finish(world, "m1-1", "0.25")
    assert [e.reason for e in world.events("BudgetExceeded")] == ["RequireApproval"] * 2


def test_a_deleted_budget_leaves_no_open_alert(world: World) -> None:
    over(world, "Throttle")
    with world.store.transaction(SYSTEM) as tx:
        found = tx.get(world.get("Budget", "daily").key)
        assert found is not None
        tx.request_deletion(tx.put_finalizers(found, ["release-budget"]))
    world.settle()
    assert {a.status["state"] for a in alerts(world)} <= {"Resolved"}


@pytest.mark.parametrize("backend", ["sqlite"])  # the command reads a file
def test_describe_and_get_tell_the_pace_and_when_the_limit_is_reached(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    fleet(world, 9, extra=budget("daily", "{tenant: true}", limits="usd: 1"))
    for number in range(2):
        finish(world, f"m{number}-1", "0.25")
    configure(world.folder)
    command(["-C", str(world.folder), "describe", "budget/daily"], now=world.clock)
    shown = capsys.readouterr().out
    assert "Pace: 0.0556 USD an hour; at this pace it runs out at 2026-11-21T18:00:00.000Z (in 9h)" in shown
    assert "Window: Day from 2026-11-21T00:00:00.000Z" in shown
    command(["-C", str(world.folder), "get", "budgets", "-o", "wide"], now=world.clock)
    header, row = capsys.readouterr().out.splitlines()
    assert "BURN/H" in header
    assert "FORECAST" in header
    assert "0.0556" in row
    assert "in 9h" in row


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Balances of the accounts in this list cannot be read."""
    accounts: list[str] = []
    real = LedgerWrites.balance

    def balance(self: LedgerWrites, account: str) -> Balance:
        if any(account.startswith(start) for start in accounts):
            raise StoreUnavailable("the disk gave nothing back")
        return real(self, account)

    monkeypatch.setattr(LedgerWrites, "balance", balance)
    return accounts


def test_what_cannot_be_read_is_no_leave(world: World, unreadable: list[str]) -> None:
    fleet(world, 0, extra=budget("daily", "{tenant: true}", limits="usd: 100"))
    unreadable.append("tenant/")
    world.commit({"m.yaml": mission("m")})
    with pytest.raises(StoreUnavailable):
        world.sync()
    assert world.started == []
    assert [r for r in world.everything() if r.kind == "Run"] == []
    unreadable.clear()
    world.restart()
    assert world.started == ["m-1"]
    assert world.now - world.get("Run", "m-1").created_at < timedelta(seconds=1)
