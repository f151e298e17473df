"""Tenants: their limits, their ceiling of waiting missions, and their end."""

from __future__ import annotations

import pytest

from controllers.reconcilers import tenancy
from schemas.errors import OverLimit
from schemas.event import EventType
from schemas.mission import MissionState
from schemas.run import RunState
from tests.fakes.world import ALICE, World, agent, executor, mission

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])


def tenant(name: str = "default", **spec: object) -> str:
    lines = "".join(f"  {key}: {value}\n" for key, value in spec.items()) or "  displayName: some\n"
    return f"apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec:\n{lines}"


def fleet(world: World, agents: int = 3, **spec: object) -> None:
    """So many agents, each with one mission, and their tenant."""
    docs = [executor(), *(agent(f"a{n}") for n in range(agents))]
    docs += [mission(f"m{n}", agent=f"a{n}") for n in range(agents)]
    world.commit({"fleet.yaml": "---\n".join(docs), "tenant.yaml": tenant(**spec)})
    world.sync()


def running(world: World) -> list[str]:
    with world.store.snapshot() as snapshot:
        return [run.name for run in snapshot.objects("Run", states=("Pending", "Running"))]


def declare(world: World, **spec: object) -> None:
    world.commit({"tenant.yaml": tenant(**spec)})
    world.sync()


def test_a_tenant_says_how_much_of_it_works(world: World) -> None:
    fleet(world, 2)
    found = world.get("Tenant", "default", "")
    assert found.status["activeAgents"] == 2
    assert found.status["conditions"][0]["reason"] == "Reconciled"
    world.finish("m0-1")
    assert world.get("Tenant", "default", "").status["activeAgents"] == 1


def test_no_more_agents_work_at_a_time_than_the_tenant_allows(world: World) -> None:
    fleet(world, 4, limits="{maxActiveAgents: 2}")
    for _ in range(4):
        open_now = running(world)
        assert 0 < len(open_now) <= 2
        world.finish(open_now[0])
    assert len(set(world.started)) == 4
    declare(world, limits="{maxActiveAgents: 0}")
    world.commit({"n.yaml": mission("new", agent="a0")})
    world.sync()
    assert running(world) == []
    declare(world, limits="{maxActiveAgents: 1}")
    assert running(world) == ["new-1"]


def test_a_suspended_tenant_starts_nothing_says_why_and_goes_on_when_it_is_active(world: World) -> None:
    fleet(world, 1, lifecycle="Suspended")
    assert running(world) == []
    (blocked,) = world.status("m0").blocked_on[:1]
    assert (blocked.type, blocked.ref) == ("Tenant", "Tenant/default")
    assert "set spec.lifecycle of tenant/default to Active" in blocked.hint
    assert world.reason("Mission", "m0", "Admitted") == "False/TenantSuspended"
    declare(world, lifecycle="Active")
    assert running(world) == ["m0-1"]
    assert world.find("Hold", "tenant-lifecycle") is None


def test_nobody_releases_a_suspended_tenant_by_hand(world: World) -> None:
    fleet(world, 1, lifecycle="Suspended")
    world.remove("Hold", "tenant-lifecycle")
    assert world.find("Hold", "tenant-lifecycle") is not None
    assert running(world) == []


def test_runs_of_a_suspended_tenant_go_on_and_nothing_follows(world: World) -> None:
    fleet(world, 1)
    world.commit({"more.yaml": mission("next", agent="a0")})
    world.sync()
    declare(world, lifecycle="Suspended")
    assert len(running(world)) == 1
    world.finish(running(world)[0])
    assert running(world) == []
    assert world.canceled == []


def test_a_tenant_that_is_to_go_stays_for_its_grace_period_and_comes_back_within_it(world: World) -> None:
    fleet(world, 1, lifecycle="PendingDeletion", deletionGracePeriod="1h")
    found = world.get("Tenant", "default", "")
    assert found.status["conditions"][0]["reason"] == "PendingDeletion"
    assert running(world) == []
    world.advance(3500)
    declare(world, lifecycle="Active")
    assert running(world) == ["m0-1"]
    assert "removalTime" not in world.get("Tenant", "default", "").status


def test_after_the_grace_period_what_the_engine_made_goes_and_what_is_declared_stays_refused(world: World) -> None:
    fleet(world, 2)
    world.act("Mission", "by-hand", {"title": "by hand", "review": "None", "agentRef": {"name": "a0"}})
    assert "m0-1" in running(world)
    declare(world, lifecycle="PendingDeletion", deletionGracePeriod="1h")
    world.advance(3601)
    assert set(world.canceled) == {"m0-1", "m1-1"}
    for run in running(world):
        world.finish(run, state=RunState.CANCELED)
    world.advance(60)
    assert world.find("Mission", "by-hand") is None
    assert world.find("Mission", "m0") is not None
    assert running(world) == []
    found = world.get("Tenant", "default", "")
    assert found.status["conditions"][0]["reason"] == "Removed"
    assert len(world.events(EventType.TENANT_REMOVED)) == 1
    remaining = found.status["remaining"]
    assert remaining >= 5
    world.commit(delete=("fleet.yaml",))
    world.sync()


def test_above_the_ceiling_missions_wait_as_not_accepted_and_are_taken_in_as_room_is_made(world: World) -> None:
    docs = [executor(), agent("one")]
    world.commit({"f.yaml": "---\n".join(docs), "tenant.yaml": tenant(limits="{maxWaitingMissions: 2}")})
    world.sync()
    world.commit({"m.yaml": "---\n".join(mission(f"m{n}", agent="one") for n in range(6))})
    world.sync()

    def parked() -> list[str]:
        return [f"m{n}" for n in range(6) if world.reason("Mission", f"m{n}", "Accepted") == "False/QueueFull"]

    over = parked()
    assert len(over) == 3, [world.status(f"m{n}").blocked_on for n in range(6)]
    assert "2 missions of tenant/default wait already" in world.status(over[0]).blocked_on[0].hint
    for left in (2, 1, 0, 0, 0, 0):
        world.finish(running(world)[0])
        assert len(parked()) == left
    assert all(world.state(f"m{n}") is MissionState.DONE for n in range(6))


def test_a_higher_ceiling_takes_in_who_waited(world: World) -> None:
    docs = [executor(), agent("one"), *(mission(f"m{n}", agent="one") for n in range(4))]
    world.commit({"f.yaml": "---\n".join(docs), "tenant.yaml": tenant(limits="{maxWaitingMissions: 0}")})
    world.sync()
    assert running(world) == []
    declare(world, limits="{maxWaitingMissions: 10}")
    assert len(running(world)) == 1
    assert world.reason("Mission", "m0", "Accepted") == "True/Accepted"


def test_an_agent_is_refused_where_its_mission_would_not_be_taken_in(world: World) -> None:
    fleet(world, 1, limits="{maxWaitingMissions: 0}")
    with world.store.transaction(ALICE) as tx, pytest.raises(OverLimit) as refused:
        tenancy.require_room(tx, "default")
    assert (refused.value.reason, refused.value.after) == ("QueueFull", tenancy.AFTER_S)
    declare(world, limits="{maxWaitingMissions: 5}")
    with world.store.transaction(ALICE) as tx:
        tenancy.require_room(tx, "default")
