"""Policy and Waiver under the engine: compiled, counted, over, and held back from deletion while they are named."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from decisions.finalizers import finalizers
from schemas.base import Key
from schemas.resource import SYSTEM
from tests.fakes.world import World, agent, executor

POLICY = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house-rules}
spec:
  selector: {matchLabels: {team: docs}}
  rules:
    - name: no-force-push
      match: {tools: [git_push], when: "args.force == true"}
      verdict: Deny
"""
WAIVER = """\
apiVersion: remit.dev/v1alpha1
kind: Waiver
metadata: {name: morning}
spec:
  policyRef: {name: house-rules}
  match: {tools: [send_email]}
  owner: docs team
  reason: nobody is up
  expires: "%s"
"""


def labelled(name: str) -> str:
    return agent(name).replace(f"{{name: {name}}}", f"{{name: {name}, labels: {{team: docs}}}}", 1)


def ready(world: World, kind: str, name: str) -> str:
    return world.reason(kind, name, "Ready")


def test_a_policy_is_in_force_and_counts_its_agents(world: World) -> None:
    world.commit({"p.yaml": POLICY})
    world.sync()
    assert ready(world, "Policy", "house-rules") == "True/MatchesNobody"
    world.commit({"fleet.yaml": executor() + "---\n" + labelled("a") + "---\n" + agent("b")})
    world.sync()
    assert ready(world, "Policy", "house-rules") == "True/Reconciled"
    assert world.get("Policy", "house-rules").status["agents"] == 1
    world.commit({"fleet.yaml": executor() + "---\n" + labelled("a") + "---\n" + labelled("b")})
    world.sync()
    assert world.get("Policy", "house-rules").status["agents"] == 2
    world.check()


def test_a_broken_expression_stops_the_unit_and_names_its_place(world: World) -> None:
    world.commit({"p.yaml": POLICY})
    world.sync()
    world.commit({"p.yaml": POLICY.replace("args.force == true", "arg.force")})
    errors = [e for unit in world.sync().units for e in unit.errors]
    assert len(errors) == 1
    assert "p.yaml:8:34" in str(errors[0])
    assert "there is no variable arg" in str(errors[0])
    assert world.get("Policy", "house-rules").generation == 1  # the last good one stays in force


def test_what_was_stored_and_does_not_compile_is_not_ready_and_says_where(world: World) -> None:
    world.act("Policy", "loose", {"rules": [{"name": "r", "match": {"when": "arg.x"}, "verdict": "Deny"}]})
    assert ready(world, "Policy", "loose") == "False/ExpressionInvalid"
    message = world.get("Policy", "loose").status["conditions"][0]["message"]
    assert message == "spec.rules[0].match.when: it does not compile: there is no variable arg"
    world.check()


def test_a_waiver_is_in_force_until_it_expires(world: World) -> None:
    end = (world.now.replace(microsecond=0).isoformat()).replace("+00:00", "Z")
    later = f"{world.now.year + 1}{end[4:]}"
    world.commit({"w.yaml": WAIVER % later})
    world.sync()
    assert ready(world, "Waiver", "morning") == "False/ReferenceNotFound"
    world.commit({"p.yaml": POLICY})
    world.sync()
    assert ready(world, "Waiver", "morning") == "True/InForce"
    world.advance(366 * 24 * 3600)
    assert ready(world, "Waiver", "morning") == "False/Expired"
    world.check()


def test_the_end_of_a_waiver_is_announced_once_and_a_later_end_again(world: World) -> None:
    def waive(days: int) -> None:
        end = (world.now + timedelta(days=days)).replace(microsecond=0).isoformat().replace("+00:00", "Z")
        world.commit({"w.yaml": WAIVER % end, "p.yaml": POLICY})
        world.sync()

    def announced() -> int:
        return len(world.events("WaiverEnding"))

    day = 24 * 3600.0
    waive(10)
    world.advance(8.9 * day)
    assert announced() == 0
    world.advance(0.2 * day)
    world.restart()
    assert announced() == 1
    (event,) = world.events("WaiverEnding")
    assert event.data["owner"]
    assert ready(world, "Waiver", "morning") == "True/InForce"
    waive(10)
    assert announced() == 1
    world.advance(9.5 * day)
    assert announced() == 2
    world.advance(day)
    assert ready(world, "Waiver", "morning") == "False/Expired"
    assert announced() == 2
    world.check()


def test_a_policy_that_is_named_waits_with_its_deletion(world: World) -> None:
    spec: dict[str, Any] = {"rules": []}
    world.act("Policy", "house-rules", spec)
    world.act("Waiver", "morning", {
        "policyRef": {"name": "house-rules"}, "match": {"tools": ["send_email"]}, "owner": "docs", "reason": "r",
        "expires": "2999-01-01T00:00:00Z"})  # fmt: skip
    with world.store.transaction(SYSTEM) as tx:
        policy = tx.get(Key("Policy", "default", "house-rules"))
        assert policy is not None
        policy = tx.put_finalizers(policy, finalizers("Policy"))
        tx.request_deletion(policy)
    world.settle()
    assert ready(world, "Policy", "house-rules") == "False/InUse"
    assert ready(world, "Waiver", "morning") == "False/ReferenceNotFound"
    world.remove("Waiver", "morning")
    assert world.find("Policy", "house-rules") is None
    world.check()
