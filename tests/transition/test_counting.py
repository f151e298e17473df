"""A limit that is declared or changed in the middle of its window counts what was spent before."""

from __future__ import annotations

from decimal import Decimal

import pytest

from schemas.mission import Spend
from tests.fakes.world import World, agent, executor, mission
from tests.transition.test_budgets import MODEL, budget, finish


def fleet(world: World, *extra: str, missions: int = 3, **spec: object) -> None:
    text = "---\n".join([executor(), agent(model=MODEL, maxConcurrentMissions=10), *extra])
    work = {f"m{n}.yaml": mission(f"m{n}", priority=90 - n, **spec) for n in range(missions)}
    world.commit({"fleet.yaml": text, **work})
    world.sync()


def declare(world: World, text: str) -> None:
    world.commit({"b.yaml": text})
    world.sync()


def figures(world: World, name: str = "b") -> tuple[str, str]:
    """(spent, reserved) of a Budget."""
    status = world.get("Budget", name).status
    return status["spent"]["usd"], status["reserved"]["usd"]


PROJECT = "apiVersion: remit.dev/v1alpha1\nkind: Project\nmetadata: {name: site}\nspec: {displayName: Site}\n"
SCOPES = {
    "tenant": ("{tenant: true}", "Each"),
    "agent": ("{agentRef: {name: worker}}", "Each"),
    "project": ("{projectRef: {name: site}}", "Each"),
    "agents together": ("{agentSelector: {}}", "Together"),
    "missions together": ("{missionSelector: {}}", "Together"),
    "missions of a type together": ("{missionType: Docs}", "Together"),
}


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("window", ["Day", "Month", "Total"])
def test_a_budget_that_comes_later_counts_what_was_spent_and_is_reserved(world: World, scope: str, window: str) -> None:
    fleet(world, PROJECT, projectRef="{name: site}", type="Docs")
    finish(world, "m0-1", "0.10")
    finish(world, "m1-1", "0.05")
    which, counting = SCOPES[scope]
    zone = "Asia/Kathmandu" if window != "Total" else "UTC"
    declare(world, budget("b", which, window=window, counting=counting, timeZone=zone, limits="usd: 0.45"))
    assert figures(world) == ("0.15", "0.25")
    world.commit({"late.yaml": mission("late", projectRef="{name: site}", type="Docs")})
    world.sync()
    assert "late-1" not in world.started, "0.15 spent, 0.25 reserved: no room for 0.25 in 0.45"
    finish(world, "m2-1", "0.01")
    assert figures(world) == ("0.16", "0.25"), "what was reserved is settled in the new limit too"
    assert "late-1" in world.started
    world.restart()
    world.settle()
    assert figures(world) == ("0.16", "0.25")
    world.check()


def test_a_month_counts_the_days_before(world: World) -> None:
    fleet(world, missions=1)
    finish(world, "m0-1", "0.10")
    world.advance(3 * 24 * 3600)
    world.commit({"next.yaml": mission("next")})
    world.sync()
    finish(world, "next-1", "0.07")
    declare(world, budget("b", "{agentRef: {name: worker}}", window="Month", limits="usd: 5"))
    assert figures(world) == ("0.17", "0")
    world.advance(11 * 24 * 3600)
    assert figures(world) == ("0", "0"), "December"


def test_only_what_lies_in_the_window_is_counted(world: World) -> None:
    # It is 09:00 UTC. In Auckland (UTC+13) the day began at 11:00 UTC yesterday.
    fleet(world, missions=1)
    finish(world, "m0-1", "0.10")
    world.advance(3 * 3600)  # 12:00 UTC: the 22nd in Auckland
    world.commit({"next.yaml": mission("next")})
    world.sync()
    finish(world, "next-1", "0.07")
    declare(world, budget("b", "{tenant: true}", timeZone="Pacific/Auckland"))
    assert figures(world) == ("0.07", "0")


def test_a_changed_time_zone_never_starts_at_nothing(world: World) -> None:
    fleet(world, budget("b", "{tenant: true}", limits="usd: 0.30"), missions=2)
    finish(world, "m0-1", "0.20")
    assert world.started == ["m0-1"]
    for zone in ("Europe/Berlin", "Asia/Kolkata", "UTC", "America/St_Johns"):
        fleet(world, budget("b", "{tenant: true}", limits="usd: 0.30", timeZone=zone), missions=2)
        assert figures(world) == ("0.2", "0"), zone
    assert world.started == ["m0-1"]


def test_a_wider_selector_counts_what_the_others_spent(world: World) -> None:
    def declared(selector: str) -> str:
        limit = budget("b", f"{{agentSelector: {selector}}}", counting="Together", limits="usd: 5")
        first = agent(model=MODEL).replace("name: worker", "name: worker, labels: {team: a}", 1)
        return "---\n".join([executor(), first, agent("other", model=MODEL), limit])

    world.commit({"a.yaml": mission("a"), "o.yaml": mission("o", agent="other")})
    world.commit({"fleet.yaml": declared("{matchLabels: {team: a}}")})
    world.sync()
    finish(world, "a-1", "0.10")
    finish(world, "o-1", "0.05")
    assert figures(world) == ("0.1", "0")
    world.commit({"fleet.yaml": declared("{}")})
    world.sync()
    assert figures(world) == ("0.15", "0")


def test_a_budget_that_was_taken_away_and_comes_back_counts_what_was_spent_meanwhile(world: World) -> None:
    text = budget("b", "{projectRef: {name: site}}", window="Month", limits="usd: 5")
    fleet(world, PROJECT, text, missions=1, projectRef="{name: site}")
    finish(world, "m0-1", "0.10")
    world.remove("Budget", "b")
    world.commit({"next.yaml": mission("next", projectRef="{name: site}")})
    world.sync()
    finish(world, "next-1", "0.05")
    declare(world, text.replace("name: b}", "name: again}"))
    assert figures(world, "again") == ("0.15", "0")


def test_work_that_is_gone_is_counted_all_the_same(world: World) -> None:
    fleet(world, missions=1, type="Docs")
    finish(world, "m0-1", "0.10")
    world.commit({}, delete=("m0.yaml",))
    world.sync()
    source = world.source
    for unit in source.units:
        for pending in unit.pending:
            world.act("Confirmation", f"yes-{pending.digest[-8:]}", {"planDigest": pending.digest})
    assert world.find("Mission", "m0") is None
    declare(world, budget("b", "{missionType: Docs}", counting="Together", limits="usd: 5"))
    assert figures(world) == ("0.1", "0")


def test_an_unknown_cost_counts_as_its_worst_case_also_later(world: World) -> None:
    fleet(world, missions=1)
    world.finish("m0-1", spend=Spend(usd=Decimal("0.01"), source="Unknown"))
    declare(world, budget("b", "{agentRef: {name: worker}}", window="Month", limits="usd: 5"))
    assert figures(world) == ("0.25", "0")
