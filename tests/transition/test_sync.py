"""The sync pipeline: guards, drift, units, prompts, quarantine, suspension."""

from __future__ import annotations

import pytest

from schemas.resource import Declared
from schemas.source import PruneMode, SourceReason, WideningMode
from tests.fakes.world import ALICE, World, agent, executor, mission

POLICY = """\
apiVersion: remit.dev/v1alpha1
kind: Policy
metadata: {name: house}
spec:
  selector: {}
  risk: {read_file: Green}
"""
BUDGET = """\
apiVersion: remit.dev/v1alpha1
kind: Budget
metadata: {name: daily}
spec:
  scope: {agentSelector: {matchLabels: {team: x}}}
  window: Day
  limits: {usd: %s}
"""


def fillers(count: int) -> dict[str, str]:
    return {f"f{i}.yaml": mission(f"f{i}", agent=None) for i in range(count)}


def test_a_deleted_limit_stays_in_force_until_confirmed(world: World) -> None:
    world.commit({"p.yaml": POLICY, **fillers(10)})
    world.sync()
    world.commit({"extra.yaml": mission("extra", agent=None)}, delete=("p.yaml", "f0.yaml"))
    unit = world.sync().units[0]
    assert unit.reason is SourceReason.WIDENING_PENDING
    assert world.find("Policy", "house") is not None
    assert world.find("Mission", "extra") is not None
    assert world.find("Mission", "f0") is None
    world.act("Confirmation", "yes", {"planDigest": unit.pending[0].digest})
    assert world.find("Policy", "house") is None


def test_an_emptied_policy_file_deletes_nothing_by_itself(world: World) -> None:
    world.commit({"p.yaml": POLICY, **fillers(10)})
    world.sync()
    world.commit({"p.yaml": "# nothing here\n"})
    assert world.sync().units[0].reason is SourceReason.WIDENING_PENDING
    assert world.find("Policy", "house") is not None


def test_a_loosened_limit_applies_and_is_said(world: World) -> None:
    world.commit({"b.yaml": BUDGET % 2})
    world.sync()
    world.commit({"b.yaml": BUDGET % 20})
    world.sync()
    assert world.get("Budget", "daily").spec["limits"]["usd"] == "20"
    (event,) = world.events("Widened")
    assert "limits.usd: 2 -> 20" in event.message


def test_a_loosened_limit_waits_where_the_source_says_so(world: World) -> None:
    world.spec = world.spec.model_copy(update={"widening": WideningMode.CONFIRM})
    world.restart()
    world.commit({"b.yaml": BUDGET % 5})
    world.sync()
    world.commit({"b.yaml": BUDGET % 2})
    assert world.sync().units[0].reason is SourceReason.SYNCED, "tightening applies at once"
    world.commit({"b.yaml": BUDGET % 20})
    unit = world.sync().units[0]
    assert unit.reason is SourceReason.WIDENING_PENDING
    assert world.get("Budget", "daily").spec["limits"]["usd"] == "2"
    world.act("Confirmation", "yes", {"planDigest": unit.pending[0].digest})
    assert world.get("Budget", "daily").spec["limits"]["usd"] == "20"


def test_a_field_that_somebody_changed_is_put_back(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    with world.store.transaction(ALICE) as tx:
        current = tx.get(world.get("Mission", "a").key)
        assert current is not None
        changed = {**current.spec, "priority": 99}
        tx.put_spec(current, Declared("Mission", "default", "a", changed, provenance=current.provenance))
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 50
    (event,) = world.events("DriftCorrected")
    assert "spec.priority" in event.message
    assert world.source.units[0].drift_corrected == 1


def test_a_declared_object_that_was_deleted_by_hand_comes_back(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    world.remove("Mission", "a")
    world.sync()
    assert world.find("Mission", "a") is not None


def test_drift_is_found_without_a_request_within_the_recheck(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    world.remove("Mission", "a")
    world.clock.tick(601)
    world.sync_now(world.get("Source", "default").key)
    assert world.find("Mission", "a") is not None


def test_pruning_can_be_switched_off(world: World) -> None:
    world.spec = world.spec.model_copy(update={"prune": PruneMode.NEVER})
    world.restart()
    world.commit(fillers(10))
    world.sync()
    world.commit(delete=("f0.yaml",))
    assert world.sync().units[0].reason is SourceReason.SYNCED
    assert world.find("Mission", "f0") is not None


def test_every_deletion_can_be_made_to_wait(world: World) -> None:
    world.spec = world.spec.model_copy(update={"prune": PruneMode.CONFIRM})
    world.restart()
    world.commit(fillers(10))
    world.sync()
    world.commit(delete=("f0.yaml",))
    assert world.sync().units[0].reason is SourceReason.PRUNE_BLOCKED


def test_a_prompt_is_a_part_of_the_spec_and_versioned_with_it(world: World) -> None:
    text = executor() + "---\n" + agent(systemPromptFrom="{path: souls/w.md}")
    world.commit({"fleet.yaml": text, "souls/w.md": "Be exact.\n"})
    world.sync()
    assert world.get("Agent", "worker").spec["systemPrompt"] == "Be exact.\n"
    world.commit({"souls/w.md": "Be brief.\n"})
    world.sync()
    assert (world.get("Agent", "worker").generation, world.get("Agent", "worker").spec["systemPrompt"]) == (
        2,
        "Be brief.\n",
    )
    world.commit({}, delete=("souls/w.md",))
    unit = world.sync().units[0]
    assert unit.reason is SourceReason.INVALID_SPEC
    assert "souls/w.md" in unit.errors[0]
    assert world.get("Agent", "worker").generation == 2


def test_an_object_that_moves_into_a_broken_unit_is_not_deleted(world: World) -> None:
    tenant = "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: acme}\nspec: {displayName: Acme}\n"
    world.commit({"m.yaml": mission("wanderer", agent=None), "acme/tenant.yaml": tenant, **fillers(10)})
    world.sync()
    uid = world.get("Mission", "wanderer").uid
    world.commit({"acme/m.yaml": mission("wanderer", agent=None), "acme/bad.yaml": "a: [\n"}, delete=("m.yaml",))
    world.sync()
    assert world.get("Mission", "wanderer").uid == uid
    world.commit(delete=("acme/bad.yaml",))
    world.sync()
    moved = world.get("Mission", "wanderer")
    assert (moved.uid, moved.unit) == (uid, "default:acme")


def test_a_quarantined_commit_is_never_applied(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    bad = world.commit({"m.yaml": mission("a", agent=None, priority=99)})
    world.spec = world.spec.model_copy(update={"quarantine": (bad[:12],)})
    world.restart()
    world.sync()
    assert world.reason("Source", "default", "Ready") == "False/Quarantined"
    assert world.get("Mission", "a").spec["priority"] == 50


def test_signatures_that_cannot_be_checked_apply_nothing(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    from schemas.source import Verify

    world.spec = world.spec.model_copy(update={"verify": Verify(allowed_signers="/nowhere")})
    world.restart()
    world.sync()
    assert world.reason("Source", "default", "Ready") == "False/AllowedSignersRefused"
    assert world.find("Mission", "a") is None


def test_an_unrelated_history_is_not_taken_for_the_next_commit(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    world.repo.git("checkout", "-q", "--orphan", "other")
    world.commit({"n.yaml": mission("n", agent=None)}, delete=("m.yaml",))
    world.repo.git("branch", "-f", "main", "other")
    world.sync()
    assert world.reason("Source", "default", "Ready") == "False/HistoryRewritten"
    assert world.find("Mission", "a") is not None


def test_a_decision_from_a_file_proves_nobody(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    request = world.get("ApprovalRequest", str(world.get("Mission", "a").status["reviewRequest"]))
    text = (
        "apiVersion: remit.dev/v1alpha1\nkind: ApprovalDecision\nmetadata: {name: forged}\nspec:\n"
        f"  requestRef: {{name: {request.name}, uid: {request.uid}}}\n"
        f"  actionDigest: {request.spec['actionDigest']}\n  verdict: Approve\n"
    )
    world.commit({"forged.yaml": text})
    world.sync()
    assert world.reason("ApprovalDecision", "forged", "Succeeded") == "False/IdentityUnproven"
    assert world.state("a") == "Review"


def test_an_answer_to_another_deliverable_has_no_effect(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    decision = world.answer("a", actionDigest="sha256:" + "0" * 64)
    condition = next(c for c in decision.status["conditions"] if c["type"] == "Succeeded")
    assert (condition["status"], condition["reason"]) == ("False", "StaleDecision")
    assert world.state("a") == "Review"


@pytest.mark.parametrize("first", ["Approve", "Deny"])
def test_the_first_answer_wins(world: World, first: str) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    name = str(world.get("Mission", "a").status["reviewRequest"])
    request = world.get("ApprovalRequest", name)
    world.answer("a", first)
    second = "Deny" if first == "Approve" else "Approve"
    late = world.act(
        "ApprovalDecision",
        "late",
        {
            "requestRef": {"name": name, "uid": request.uid},
            "actionDigest": request.spec["actionDigest"],
            "verdict": second,
        },
        {"subject": "user:bob", "transport": "Store"},
    )
    condition = next(c for c in late.status["conditions"] if c["type"] == "Succeeded")
    assert condition["reason"] == "AlreadyDecided"
    assert world.get("ApprovalRequest", name).status["decidedBy"] == "user:alice"


def test_an_unchanged_revision_costs_no_write(world: World) -> None:
    world.commit(fillers(3))
    world.sync()
    with world.store.snapshot() as snapshot:
        version = snapshot.latest_version()
    for _ in range(5):
        world.clock.tick(60)
        world.sync_now(world.get("Source", "default").key)
    with world.store.snapshot() as snapshot:
        assert snapshot.latest_version() == version


def test_who_names_a_renamed_mission_by_its_old_name_is_looked_at_again(world: World) -> None:
    world.commit({"a.yaml": mission("old", agent=None), "b.yaml": mission("b", agent=None, dependsOn="[{name: old}]")})
    world.sync()
    assert "is Inbox" in world.status("b").blocked_on[1].hint
    world.commit({"a.yaml": mission("new", agent=None, annotations="remit.dev/renamed-from: old")})
    world.sync()
    assert "there is no mission/old" in world.status("b").blocked_on[1].hint
