"""Conformance scenario 7: a guardrail that is deleted, or loosened where that needs a word, stays in force until the
very plan that takes it away is confirmed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from schemas.source import SourceReason, UnitStatus, WideningMode
from tests.fakes.gates import Desk
from tests.fakes.stores import BACKENDS
from tests.fakes.world import World, agent, executor, mission

pytestmark = pytest.mark.parametrize("backend", sorted(BACKENDS))

HEAD = "apiVersion: remit.dev/v1alpha1\nkind: %s\nmetadata: {name: %s}\nspec: %s\n"
POLICY = HEAD % ("Policy", "house", "{rules: [{name: never, match: {tools: [read_file]}, verdict: Deny}]}")
BUDGET = HEAD % ("Budget", "none", "{scope: {agentSelector: {}}, window: Total, limits: {toolCalls: 0}}")
HOLD = HEAD % ("Hold", "freeze", "{scope: Tenant, mode: Stop, reason: release}")
TENANT = HEAD % ("Tenant", "default", "{defaults: {policyRefs: [{name: lab, namespace: other}]}}")
LAB = POLICY.replace("name: house}", "name: lab, namespace: other}")


def start(world: World) -> Desk:
    """An agent at work, whom nothing stops yet."""
    fleet = executor() + "---\n" + agent(tools="[{name: '*'}]")
    world.commit({"fleet.yaml": fleet, "m.yaml": mission("a"), "p.yaml": mission("plain", agent=None)})
    world.sync()
    return Desk(world)


def unit(world: World) -> UnitStatus:
    """The unit that waits for somebody; in git there is one, in a cluster one for each namespace."""
    units = world.sync().units
    return next((u for u in units if u.pending), units[0])


def denied(desk: Desk) -> bool:
    return desk.ask("a-1", "read_file", {"path": "x"}).decision == "deny"


def declare_policy(world: World) -> None:
    world.commit({"wall.yaml": POLICY})


def declare_budget(world: World) -> None:
    world.commit({"wall.yaml": BUDGET})


def declare_hold(world: World) -> None:
    world.commit({"wall.yaml": HOLD})


def declare_tenant(world: World) -> None:
    world.act("Policy", "unused", {})
    world.commit({"lab.yaml": LAB, "wall.yaml": TENANT})


@pytest.mark.parametrize("declare", [declare_policy, declare_budget, declare_hold, declare_tenant])
def test_07_a_guardrail_that_is_deleted_holds_until_its_own_plan_is_confirmed(
    world: World, declare: Callable[[World], None]
) -> None:
    desk = start(world)
    assert not denied(desk)
    declare(world)
    assert unit(world).reason is SourceReason.SYNCED, "a tightening applies at once"
    assert denied(desk)
    world.commit({"p.yaml": mission("plain", agent=None, priority=7)}, delete=("wall.yaml",))
    for _ in range(2):
        found = unit(world)
        assert found.reason is SourceReason.WIDENING_PENDING
        assert denied(desk), "the old limit is enforced meanwhile"
    assert world.get("Mission", "plain").spec["priority"] == 7, "nothing else of the unit waits"
    world.act("Confirmation", "wrong", {"planDigest": "sha256:" + "0" * 64})
    assert denied(desk)
    assert world.reason("Confirmation", "wrong", "Succeeded") == "False/DigestUnknown"
    world.act("Confirmation", "right", {"planDigest": found.pending[0].digest})
    assert unit(world).reason is SourceReason.SYNCED


def test_07_what_was_confirmed_is_off(world: World) -> None:
    desk = start(world)
    declare_policy(world)
    world.sync()
    world.commit(delete=("wall.yaml",))
    world.act("Confirmation", "right", {"planDigest": unit(world).pending[0].digest})
    assert world.find("Policy", "house") is None
    assert not denied(desk)


def test_07_a_loosened_rule_holds_until_it_is_confirmed_where_the_source_says_so(world: World) -> None:
    world.spec = world.spec.model_copy(update={"widening": WideningMode.CONFIRM})
    world.restart()
    desk = start(world)
    declare_policy(world)
    world.sync()
    world.commit({"wall.yaml": POLICY.replace("Deny", "Allow")})
    found = unit(world)
    assert found.reason is SourceReason.WIDENING_PENDING
    assert denied(desk)
    (event,) = [e for e in world.events("GuardRaised") if e.reason == "WideningPending"]
    assert "stay in force until confirmed" in event.message
    world.act("Confirmation", "right", {"planDigest": found.pending[0].digest})
    assert not denied(desk)


def test_07_a_loosened_rule_is_told_where_no_word_is_needed(world: World) -> None:
    desk = start(world)
    declare_policy(world)
    world.sync()
    world.commit({"wall.yaml": POLICY.replace("Deny", "Allow")})
    assert unit(world).reason is SourceReason.SYNCED
    (event,) = world.events("Widened")
    assert event.subject.name == "house"
    assert "rule never: Deny -> Allow" in event.message
    assert not denied(desk)


def test_07_an_agent_that_loses_the_label_by_which_it_is_held_is_a_widening(world: World) -> None:
    world.spec = world.spec.model_copy(update={"widening": WideningMode.CONFIRM})
    world.restart()
    labelled = agent(tools="[{name: '*'}]").replace("{name: worker}", "{name: worker, labels: {team: docs}}")
    only = POLICY.replace("{rules", "{selector: {matchLabels: {team: docs}}, rules")
    world.commit({"fleet.yaml": executor() + "---\n" + labelled, "wall.yaml": only, "m.yaml": mission("a")})
    world.sync()
    desk = Desk(world)
    assert denied(desk)
    world.commit({"fleet.yaml": executor() + "---\n" + labelled.replace("docs", "ops")})
    found = unit(world)
    assert found.reason is SourceReason.WIDENING_PENDING
    assert denied(desk)
    world.act("Confirmation", "right", {"planDigest": found.pending[0].digest})
    assert not denied(desk)
