"""Alerts that follow from facts: raised once, settled when the fact is over, in the hands of a person meanwhile."""

from __future__ import annotations

import pytest

from controllers.reconcilers import alerts, source_alarms
from controllers.term import DEFAULT_SOURCE
from schemas.mission import MissionState
from schemas.resource import Resource
from schemas.run import RunState
from tests.fakes.endings import again, hands_in
from tests.fakes.world import ALICE, World, agent, executor, mission

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])


def fleet(world: World, count: int = 1, **fields: object) -> None:
    worker = agent(maxConcurrentMissions="9", heartbeat="{interval: 10s, staleAfter: 1m}")
    world.commit({"fleet.yaml": executor().replace("Text", "Remit") + "---\n" + worker}
                 | {f"m{n}.yaml": mission(f"m{n}", **fields) for n in range(count)})  # fmt: skip
    world.sync()


def found(world: World) -> dict[str, Resource]:
    with world.store.snapshot() as snapshot:
        return {str(alert.spec["type"]): alert for alert in snapshot.objects("Alert")}


def settle(world: World, type_: str) -> None:
    """A person settles it."""
    with world.store.transaction(ALICE) as tx:
        alerts.resolve(tx, found(world)[type_], "seen")


def fails(world: World, run: str) -> None:
    world.finish(run, state=RunState.FAILED, retryable=False, message="it broke")


def test_a_mission_that_fails_is_an_alert_until_a_new_round_begins(world: World) -> None:
    fleet(world)
    fails(world, "m0-1")
    alert = found(world)["MissionFailed"]
    assert (alert.state, alert.spec["subject"], alert.status["count"]) == ("Open", "Mission/default/m0", 1)
    assert "it broke" in alert.spec["message"]
    assert "remit retry mission/m0" in alert.spec["message"]
    for _ in range(2):
        world.restart()
        world.advance(3600)
    assert found(world)["MissionFailed"].status["count"] == 1
    again(world, "m0")
    assert found(world)["MissionFailed"].state == "Resolved"
    fails(world, "m0-2")
    assert (found(world)["MissionFailed"].state, found(world)["MissionFailed"].status["count"]) == ("Open", 2)
    assert len(world.events("AlertRaised")) == 2
    world.check()


def test_runs_that_keep_failing_are_one_alert_until_one_is_good(world: World) -> None:
    fleet(world, 7)
    for number in range(6):
        fails(world, f"m{number}-1")
    assert found(world)["AgentErrorStreak"].status["count"] == 1
    settle(world, "AgentErrorStreak")
    world.advance(5)
    world.restart()
    assert found(world)["AgentErrorStreak"].state == "Resolved", "what a person settled stays so"
    assert world.get("Agent", "worker").status["alerts"] == ["AgentErrorStreak"]
    hands_in(world, "m6-1")
    assert world.state("m6") is MissionState.DONE
    assert world.get("Agent", "worker").status["alerts"] == []


def test_an_agent_that_gives_no_sign_of_life_is_an_alert_until_it_does_or_its_run_ends(world: World) -> None:
    fleet(world)
    assert found(world) == {}
    world.advance(61)
    alert = found(world)["AgentStale"]
    assert (alert.state, alert.spec["subject"]) == ("Open", "Agent/default/worker")
    with world.store.transaction(ALICE) as tx:
        alerts.acknowledge(tx, alert, "I look")
    world.advance(600)
    assert found(world)["AgentStale"].state == "Acknowledged"
    fails(world, "m0-1")
    assert found(world)["AgentStale"].state == "Resolved"
    assert len([e for e in world.events("AlertRaised") if e.reason == "AgentStale"]) == 1


def test_a_source_that_cannot_be_applied_is_an_alert_until_it_can(world: World) -> None:
    fleet(world)
    world.commit({"bad.yaml": "kind: Nonsense\n"})
    world.sync()
    assert source_alarms.report(world.store, DEFAULT_SOURCE)
    alert = found(world)["SyncFailed"]
    assert (alert.state, alert.spec["details"]["reason"]) == ("Open", "InvalidSpec")
    assert not source_alarms.report(world.store, DEFAULT_SOURCE)
    settle(world, "SyncFailed")
    world.advance(60)
    assert not source_alarms.report(world.store, DEFAULT_SOURCE), "what a person settled stays so"
    world.commit(delete=("bad.yaml",))
    world.sync()
    assert not source_alarms.report(world.store, DEFAULT_SOURCE)
    world.commit({"bad.yaml": "kind: Nonsense\n"})
    world.advance(1)
    world.sync()
    assert source_alarms.report(world.store, DEFAULT_SOURCE)
    assert (found(world)["SyncFailed"].state, found(world)["SyncFailed"].status["count"]) == ("Open", 2)
    world.commit(delete=("bad.yaml",))
    world.sync()
    assert source_alarms.report(world.store, DEFAULT_SOURCE)
    assert found(world)["SyncFailed"].state == "Resolved"


@pytest.mark.parametrize(("namespace", "says"), [("default", ""), ("acme", "counts in the namespace default only")])
def test_a_channel_of_a_tenant_says_that_it_reaches_no_private_address(world: World, namespace: str, says: str) -> None:
    text = (
        "apiVersion: remit.dev/v1alpha1\nkind: Channel\n"
        f"metadata: {{name: hook, namespace: {namespace}}}\n"
        'spec: {type: Webhook, webhook: {url: "https://hooks.example", allowPrivate: true}}\n'
    )
    world.commit({"c.yaml": text})
    world.sync()
    [ready] = world.get("Channel", "hook", namespace).status["conditions"]
    assert ready["status"] == "True"
    assert says in ready.get("message", "")
    assert bool(ready.get("message")) is bool(says)
