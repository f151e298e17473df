"""Budgets: what is limited, what happens at a limit, and that nothing is ever spent beyond it unseen."""

from __future__ import annotations

from decimal import Decimal

import pytest

from controllers.runs import reports
from controllers.runs.once import Once
from schemas.mission import MissionState, Spend
from schemas.resource import SYSTEM
from schemas.run import RunState
from tests.fakes.world import World, agent, executor, mission

MODEL = "{providerRef: {name: some}, primary: some-model}"

POOL = """\
apiVersion: remit.dev/v1alpha1
kind: Provider
metadata: {name: some}
spec: {maxConcurrency: 100}
"""


def budget(
    name: str, scope: str, *, window: str = "Day", breach: str = "Throttle", limits: str = "usd: 1", **more: object
) -> str:
    """The manifest of a Budget."""
    fields = "".join(f"  {k}: {v}\n" for k, v in more.items())
    return (
        f"apiVersion: remit.dev/v1alpha1\nkind: Budget\nmetadata: {{name: {name}}}\nspec:\n  scope: {scope}\n"
        f"  window: {window}\n  limits: {{{limits}}}\n  onBreach: {breach}\n{fields}"
    )


def fleet(world: World, count: int, *, extra: str = "", places: int = 5, **spec: object) -> None:
    """An agent with a model (an Intern: 0.25 USD a run, 2 USD a day by itself) and so many missions."""
    text = "---\n".join(
        [executor(), POOL, agent(model=MODEL, maxConcurrentMissions=places), *([extra] if extra else [])]
    )
    missions = {f"m{n}.yaml": mission(f"m{n}", priority=90 - n, **spec) for n in range(count)}
    world.commit({"fleet.yaml": text, **missions})
    world.sync()


def waits(world: World, name: str) -> tuple[str, str]:
    """(reason of Admitted, what it waits for)."""
    found = world.status(name)
    condition = next(c for c in found.conditions if c.type == "Admitted")
    return condition.reason, ", ".join(f"{b.type} {b.ref}" for b in found.blocked_on)


def within(world: World, name: str) -> str:
    return world.reason("Budget", name, "WithinBudget")


def finish(world: World, run: str, usd: str) -> None:
    world.finish(run, spend=Spend(usd=Decimal(usd), source="Reported"))


def test_no_more_runs_start_than_the_limit_has_room_for_at_worst(world: World) -> None:
    fleet(world, 5, extra=budget("daily", "{tenant: true}", limits="usd: 0.60"))
    assert world.started == ["m0-1", "m1-1"]
    assert waits(world, "m2") == ("BudgetExceeded", "Budget budget/daily")
    status = world.get("Budget", "daily").status
    assert (status["reserved"]["usd"], status["remaining"]["usd"]) == ("0.5", "0.1")
    # What a run did not use is there for the next one.
    finish(world, "m0-1", "0.02")
    assert world.started == ["m0-1", "m1-1", "m2-1"]
    finish(world, "m1-1", "0.25")
    assert waits(world, "m3")[0] == "BudgetExceeded"
    finish(world, "m2-1", "0.25")
    assert world.started == ["m0-1", "m1-1", "m2-1"], "0.52 of 0.60 is spent: no room for 0.25"
    assert within(world, "daily") == "True/Warning"


def test_who_finds_no_room_says_so_before_the_limit_is_near(world: World) -> None:
    """Half of it is reserved: nobody is warned yet, and still the next run does not fit."""
    fleet(world, 3, extra=budget("daily", "{tenant: true}", limits="usd: 0.45"))
    assert world.started == ["m0-1"]
    assert within(world, "daily") == "True/WithinLimits"
    assert [waits(world, name)[0] for name in ("m1", "m2")] == ["BudgetExceeded"] * 2
    finish(world, "m0-1", "0.10")
    assert world.started == ["m0-1", "m1-1"]


def test_the_next_day_has_room_again(world: World) -> None:
    fleet(world, 2, extra=budget("daily", "{agentRef: {name: worker}}", limits="usd: 0.25"))
    finish(world, "m0-1", "0.25")
    assert within(world, "daily") == "False/Exceeded"
    assert waits(world, "m1")[0] == "BudgetExceeded"
    until = world.status("m1").blocked_on[0].until
    assert until is not None
    assert until.isoformat() == "2026-11-22T00:00:00+00:00"
    world.advance((until - world.now).total_seconds() - 1)
    assert world.started == ["m0-1"]
    world.advance(1)
    assert world.started == ["m0-1", "m1-1"]
    assert within(world, "daily") == "False/Exceeded", "all of it is reserved"


def test_usage_that_nobody_knows_counts_as_the_worst_case(world: World) -> None:
    fleet(world, 3, extra=budget("daily", "{tenant: true}", limits="usd: 0.50"))
    world.finish("m0-1")
    world.finish("m1-1")
    assert world.get("Budget", "daily").status["spent"]["usd"] == "0.5"
    assert world.started == ["m0-1", "m1-1"]


def test_without_a_budget_the_built_in_limits_hold(world: World) -> None:
    fleet(world, 12, places=20)
    assert len(world.started) == 8, "an Intern has 2 USD a day, 0.25 for each run"
    assert "the built-in limit of 2 USD a day" in world.status("m8").blocked_on[0].hint
    for number in range(8):
        finish(world, f"m{number}-1", "0.01")
    assert len(world.started) == 12


def test_a_tenant_may_refuse_what_no_budget_covers(world: World) -> None:
    tenant = (
        "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: default}\n"
        "spec: {displayName: D, defaults: {builtInBudgets: false}}\n"
    )
    fleet(world, 1, extra=tenant)
    assert world.started == []
    budgets = [
        budget("day", "{agentSelector: {}}"),
        budget("run", "{agentSelector: {}}", window="Run", limits="usd: 0.10"),
        budget("life", "{missionSelector: {}}", window="Total"),
    ]
    world.commit({"b.yaml": "---\n".join(budgets)})
    world.sync()
    assert world.started == ["m0-1"]


def test_programs_without_a_model_are_not_kept_by_money_but_by_a_limit_of_nothing(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(maxConcurrentMissions=50),
                  **{f"m{n}.yaml": mission(f"m{n}") for n in range(12)}})  # fmt: skip
    world.sync()
    assert len(world.started) == 12
    world.commit({"b.yaml": budget("none", "{tenant: true}", limits="usd: 0"), "n.yaml": mission("late")})
    world.sync()
    assert "late-1" not in world.started


def test_a_mission_has_its_own_limit_over_its_attempts(world: World) -> None:
    fleet(world, 1, budget="{usd: 0.30}", retry="{maxAttempts: 5, backoff: {initial: 1s}}")
    world.finish("m0-1", state=RunState.FAILED, spend=Spend(usd=Decimal("0.20"), source="Reported"))
    world.advance(60)
    assert world.started == ["m0-1"], "0.20 of 0.30 is spent, and a run may take 0.25"
    assert world.state("m0") is MissionState.BLOCKED
    assert world.status("m0").blocked_on[0].ref == "spec.budget"
    world.commit(
        {"m0.yaml": mission("m0", priority=90, budget="{usd: 1}", retry="{maxAttempts: 5, backoff: {initial: 1s}}")}
    )
    world.sync()
    assert world.started == ["m0-1", "m0-2"]


def test_at_a_limit_that_blocks_the_mission_is_blocked_until_there_is_room(world: World) -> None:
    fleet(world, 2, extra=budget("daily", "{tenant: true}", limits="usd: 0.30", breach="BlockMission"))
    assert world.state("m1") is MissionState.BLOCKED
    assert world.status("m1").transitions[-1].reason == "BudgetExceeded"
    assert world.status("m1").review_request is None
    finish(world, "m0-1", "0.01")
    assert world.started == ["m0-1", "m1-1"]
    assert world.state("m1") is MissionState.IN_PROGRESS


def test_a_person_is_asked_for_more_and_what_they_grant_counts_once(world: World) -> None:
    fleet(world, 3, extra=budget("daily", "{tenant: true}", limits="usd: 0.30", breach="RequireApproval"))
    assert world.started == ["m0-1"]
    assert [world.state(m) for m in ("m1", "m2")] == [MissionState.BLOCKED] * 2
    request = world.get("ApprovalRequest", str(world.status("m1").review_request))
    assert request.spec["type"] == "Budget"
    assert request.spec["action"]["usdMicros"] == 200_000, "0.25 for the run, 0.05 are left"
    world.answer("m1")
    assert world.started == ["m0-1", "m1-1"]
    assert world.state("m2") is MissionState.BLOCKED
    assert world.get("Budget", "daily").status["granted"]["usd"] == "0.2"
    world.restart()
    world.settle()
    assert world.get("Budget", "daily").status["granted"]["usd"] == "0.2"
    assert len(world.events("BudgetExtended")) == 1


def test_who_is_denied_more_waits_for_the_next_window_and_is_not_asked_again(world: World) -> None:
    fleet(world, 2, extra=budget("daily", "{tenant: true}", limits="usd: 0.30", breach="RequireApproval"))
    world.answer("m1", "Deny", reason="not today")
    asked = len([r for r in world.everything() if r.kind == "ApprovalRequest"])
    world.advance(3600)
    assert world.state("m1") is MissionState.BLOCKED
    assert len([r for r in world.everything() if r.kind == "ApprovalRequest"]) == asked
    world.advance(24 * 3600)
    assert "m1-1" in world.started


def test_a_limit_that_only_warns_stops_nothing(world: World) -> None:
    fleet(world, 4, extra=budget("daily", "{tenant: true}", limits="usd: 0.30", breach="Warn"))
    assert len(world.started) == 4
    assert within(world, "daily") == "False/Exceeded"


def test_a_deleted_limit_waits_for_its_confirmation_and_holds_until_then(world: World) -> None:
    fleet(world, 8, extra=budget("daily", "{tenant: true}", limits="usd: 0.30"))
    world.commit({"fleet.yaml": executor() + "---\n" + agent(model=MODEL, maxConcurrentMissions=5)})
    unit = world.sync().units[0]
    assert world.started == ["m0-1"]
    world.act("Confirmation", "yes", {"planDigest": unit.pending[0].digest})
    assert len(world.started) == 5


def test_a_run_that_reports_more_than_was_reserved_is_stopped(world: World) -> None:
    fleet(world, 1)
    run = world.get("Run", "m0-1")
    with world.store.transaction(SYSTEM) as tx:
        reports.usage(tx, run.uid, Spend(usd=Decimal("0.20"), source="Reported"), once=Once("a", "1"))
    world.settle()
    assert world.canceled == []
    with world.store.transaction(SYSTEM) as tx:
        reports.usage(tx, run.uid, Spend(usd=Decimal("0.20"), source="Reported"), once=Once("b", "2"))
    world.settle()
    assert world.canceled == ["m0-1"]
    world.finish("m0-1", state=RunState.CANCELED)
    assert world.state("m0") is MissionState.BLOCKED
    assert world.status("m0").transitions[-1].reason == "RunOverBudget"


@pytest.mark.parametrize("together", [False, True])
def test_several_agents_count_each_or_together(world: World, together: bool) -> None:
    shared = budget("team", "{agentSelector: {}}", limits="usd: 0.25", counting="Together" if together else "Each")
    world.commit(
        {
            "fleet.yaml": "---\n".join([executor(), agent(model=MODEL), agent("other", model=MODEL), shared]),
            "a.yaml": mission("a"),
            "b.yaml": mission("b", agent="other"),
        }
    )
    world.sync()
    assert len(world.started) == (1 if together else 2)


def test_a_day_begins_where_the_budget_says(world: World) -> None:
    # The clock stands at 09:00 UTC: 18:00 in Tokyo, whose day ends at 15:00 UTC.
    fleet(world, 2, extra=budget("daily", "{tenant: true}", limits="usd: 0.25", timeZone="Asia/Tokyo"))
    finish(world, "m0-1", "0.25")
    until = world.status("m1").blocked_on[0].until
    assert until is not None
    assert f"{until:%H:%M}" == "15:00"
    world.advance((until - world.now).total_seconds())
    assert world.started == ["m0-1", "m1-1"]


def test_a_run_may_take_no_longer_than_its_budget_of_time(world: World) -> None:
    fleet(world, 1, extra=budget("runs", "{tenant: true}", window="Run", limits="wallTime: 90s"))
    assert world.get("Run", "m0-1").spec["timeout"] == "1m30s"


def test_the_pace_tells_when_the_limit_will_be_reached(world: World) -> None:
    fleet(world, 9, extra=budget("daily", "{tenant: true}", limits="usd: 1"))
    for number in range(2):
        finish(world, f"m{number}-1", "0.25")
    # Half of it in nine hours: the other half is gone after nine more.
    assert world.get("Budget", "daily").status["forecastBreachTime"].startswith("2026-11-21T18:00")
