"""The conformance scenarios of the reconcile semantics, by number; those that need processes are in tests/e2e."""

from __future__ import annotations

import random
import shutil
from datetime import timedelta
from pathlib import Path

import pytest

from controllers.sources import apply as applying
from schemas.errors import StoreUnavailable
from schemas.mission import MissionState
from schemas.resource import RETRY_REQUESTED_AT, SYSTEM
from schemas.run import RunState
from schemas.source import SourceReason
from tests.fakes.stores import BACKENDS
from tests.fakes.world import World, agent, executor, mission

pytestmark = pytest.mark.parametrize("backend", sorted(BACKENDS))


def fleet(count: int, world: World) -> None:
    """An agent and ``count`` missions, one file each, applied."""
    files = {f"m{i}.yaml": mission(f"m{i}") for i in range(count)}
    world.commit({"fleet.yaml": executor() + "---\n" + agent(maxConcurrentMissions=0), **files})
    world.sync()
    assert world.source.units[0].reason is SourceReason.SYNCED


def touched(world: World) -> int:
    """How often an object's spec was written."""
    return len(world.events("Created", "Updated", "DeletionRequested", "Moved", "DriftCorrected"))


# 1 A->B->A between two polls: no effect.


def test_01_a_change_taken_back_between_two_looks_has_no_effect(world: World) -> None:
    fleet(1, world)
    before = touched(world)
    world.commit({"m0.yaml": mission("m0", priority=90)})
    world.commit({"m0.yaml": mission("m0")})
    world.sync()
    assert touched(world) == before
    assert world.get("Mission", "m0").generation == 1


# 2 Reformat-only commit: zero updates.


def test_02_a_reformatted_reordered_commented_file_is_no_update(world: World) -> None:
    world.commit({"m.yaml": mission("a", agent=None, deadline="1h", priority=50)})
    world.sync()
    before = touched(world)
    text = (
        "# a comment\nkind: Mission\nspec:\n    priority: Medium\n    review: None   # nobody\n    deadline: '60m'\n"
        '    title: "do a"\nmetadata:\n    name: a\napiVersion: remit.dev/v1alpha1\n'
    )
    world.commit({"m.yaml": text})
    world.sync()
    assert touched(world) == before
    assert world.get("Mission", "a").generation == 1


# 3 File moved: same uid; renamed-from: usage kept.


def test_03_a_moved_file_keeps_the_uid(world: World) -> None:
    fleet(1, world)
    uid = world.get("Mission", "m0").uid
    world.commit({"deep/er/x.yaml": mission("m0")}, delete=("m0.yaml",))
    world.sync()
    moved = world.get("Mission", "m0")
    assert (moved.uid, moved.generation) == (uid, 1)
    assert moved.provenance is not None
    assert moved.provenance.path == "deep/er/x.yaml"


def test_03_a_declared_rename_keeps_uid_history_and_usage(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("old")})
    world.sync()
    world.finish("old-1")
    before = world.get("Mission", "old")
    world.commit({"m.yaml": mission("new", annotations="remit.dev/renamed-from: old")})
    world.sync()
    after = world.get("Mission", "new")
    assert after.uid == before.uid
    assert world.find("Mission", "old") is None
    assert world.state("new") is MissionState.DONE
    assert world.status("new").spend == world.status("new").spend
    assert [e.subject_uid for e in world.events("RunFinished")] == [world.get("Run", "old-1").uid]


# 4 Same identity in two files: that unit fails, others sync, nothing pruned.


def test_04_an_identity_taken_twice_fails_its_unit_only(world: World) -> None:
    tenant = "apiVersion: remit.dev/v1alpha1\nkind: Tenant\nmetadata: {name: acme}\nspec: {displayName: Acme}\n"
    world.commit(
        {"a.yaml": mission("a", agent=None), "acme/tenant.yaml": tenant, "acme/b.yaml": mission("b", agent=None)}
    )
    world.sync()
    world.commit(
        {
            "acme/c.yaml": mission("c", agent=None),
            "acme/c2.yaml": mission("c", agent=None),
            "d.yaml": mission("d", agent=None),
        }
    )
    world.sync()
    units = {u.path: u for u in world.source.units}
    assert units["acme"].reason is SourceReason.INVALID_SPEC
    assert any("acme/c2.yaml:3" in e and "declared twice" in e for e in units["acme"].errors)
    assert units["."].reason is SourceReason.SYNCED
    assert world.find("Mission", "d") is not None
    assert world.find("Mission", "b") is not None
    assert world.find("Mission", "c") is None


# 5 Path removed, repository unreachable, ref gone: the last good revision stays, nothing is pruned (a bad signature:
# tests/transition/test_provenance).


@pytest.mark.parametrize("fault", ["repository gone", "ref gone", "path gone", "empty ref"])
def test_05_a_source_that_cannot_be_read_changes_nothing(world: World, fault: str) -> None:
    world.spec = world.spec.model_copy(update={"path": "specs"})
    world.restart()
    world.commit({"specs/a.yaml": mission("a", agent=None), "specs/b.yaml": mission("b", agent=None)})
    applied = world.sync().units[0].applied_revision
    git = world.repo.path / ".git"
    if fault == "repository gone":
        shutil.move(world.repo.path, world.folder / "away")
        reason = "False/RepositoryUnreachable"
    elif fault == "ref gone":
        world.repo.git("checkout", "-q", "--detach")
        world.repo.git("branch", "-D", "main")
        reason = "False/RefNotFound"
    elif fault == "path gone":
        world.commit({"other.txt": "x"}, delete=("specs/a.yaml", "specs/b.yaml"))
        reason = "False/PathNotFound"
    else:
        (git / "refs/heads/main").write_text("")
        reason = "False/RefDamaged"
    world.sync()
    assert world.reason("Source", "default", "Ready") == reason
    assert world.find("Mission", "a") is not None
    assert world.find("Mission", "b") is not None
    assert world.source.units[0].applied_revision == applied
    assert world.events("DeletionRequested") == []


# 6 Commit deleting all or > 20 %: PruneBlocked; confirmation of another digest has no effect.


@pytest.mark.parametrize(("count", "deleted"), [(3, 3), (20, 6), (1, 1)])
def test_06_a_mass_deletion_waits_for_its_own_confirmation(world: World, count: int, deleted: int) -> None:
    world.commit({f"m{i}.yaml": mission(f"m{i}", agent=None) for i in range(count)})
    world.sync()
    world.commit({"new.yaml": mission("new", agent=None)}, delete=tuple(f"m{i}.yaml" for i in range(deleted)))
    if deleted == count:
        world.commit(delete=("new.yaml",))
    for _ in range(2):  # the second look is a manual one of the same revision
        unit = world.sync().units[0]
        assert unit.reason is SourceReason.PRUNE_BLOCKED
    assert world.find("Mission", "m0") is not None
    if deleted != count:
        assert world.find("Mission", "new") is not None, "nothing else of the unit is blocked"
    (plan,) = unit.pending
    assert len(plan.deletes) == deleted
    world.act("Confirmation", "wrong", {"planDigest": "sha256:" + "0" * 64})
    assert world.find("Mission", "m0") is not None
    assert world.reason("Confirmation", "wrong", "Succeeded") == "False/DigestUnknown"
    world.act("Confirmation", "right", {"planDigest": plan.digest})
    assert world.find("Mission", "m0") is None
    assert world.reason("Confirmation", "right", "Succeeded") == "True/Used"
    assert all(unit.reason is SourceReason.SYNCED for unit in world.source.units)


def test_06_a_few_deletions_need_no_confirmation(world: World) -> None:
    world.commit({f"m{i}.yaml": mission(f"m{i}", agent=None) for i in range(20)})
    world.sync()
    world.commit(delete=("m0.yaml", "m1.yaml"))
    world.sync()
    assert world.find("Mission", "m0") is None
    assert world.source.units[0].reason is SourceReason.SYNCED


def test_06_deleting_what_is_at_work_waits(world: World) -> None:
    files = {f"m{i}.yaml": mission(f"m{i}", agent=None) for i in range(20)}
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "busy.yaml": mission("busy"), **files})
    world.sync()
    world.commit(delete=("busy.yaml",))
    unit = world.sync().units[0]
    assert unit.reason is SourceReason.PRUNE_BLOCKED
    assert "at work" in unit.pending[0].message


# 8 Prune fails midway: survivors stay in the inventory, no orphan after 3 passes.


def test_08_a_prune_that_fails_midway_leaves_no_orphan(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.commit({f"m{i}.yaml": mission(f"m{i}", agent=None) for i in range(30)})
    world.sync()
    world.commit(delete=("m0.yaml", "m1.yaml", "m2.yaml"))
    real, calls = applying._delete, []

    def failing(tx: object, current: object) -> None:
        calls.append(current)
        if len(calls) == 2:
            raise StoreUnavailable("the disk is full")
        real(tx, current)  # type: ignore[arg-type]

    monkeypatch.setattr(applying, "_delete", failing)
    with pytest.raises(StoreUnavailable):
        world.sync()
    monkeypatch.undo()
    with world.store.snapshot() as snapshot:
        assert len(snapshot.list_unit(f"default:{world.unit}")) == 30, "one transaction: all or nothing"
    for _ in range(3):
        world.pending.clear()
        world.sync()
    with world.store.snapshot() as snapshot:
        assert len(snapshot.list_unit(f"default:{world.unit}")) == 27
    assert all(world.find("Mission", f"m{i}") is None for i in range(3))


# 9 Crash between commit and effect: exactly one effect after restart (processes: tests/e2e).


def test_09_an_effect_that_was_not_carried_out_follows_after_a_restart_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(World, "_deliver", lambda self: False)
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    assert world.started == []
    monkeypatch.undo()
    world.restart()
    world.restart()
    assert world.started == ["a-1"]


def test_09_an_effect_that_was_claimed_by_a_dead_engine_follows_at_once(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(maxConcurrentMissions=0), "m.yaml": mission("a")})
    world.sync()
    with world.store.transaction(SYSTEM) as tx:
        tx.enqueue("StartRun", "start/x", world.get("Mission", "a").key, {"runUid": "nobody"})
        (effect,) = tx.claim_effects("dead", types=["StartRun"], limit=1, lease_s=3600)
    assert effect.tries == 1
    world.restart()
    with world.store.snapshot() as snapshot:
        found = snapshot.effect("start/x")
    assert found is not None
    assert (found.state, found.tries) == ("Done", 2)


# 10 Fix pushed while the old revision waits: it starts at once (the queue's race: tests/unit/test_runtime_supersede).


def test_10_the_fix_after_a_broken_commit_applies_at_once(world: World) -> None:
    fleet(2, world)
    world.commit({"m0.yaml": "kind: Mission\nspec: {titel: x}\n"})
    unit = world.sync().units[0]
    assert unit.reason is SourceReason.INVALID_SPEC
    assert unit.applied_revision != unit.revision
    world.commit({"m0.yaml": mission("m0", priority=99)})
    assert world.sync().units[0].reason is SourceReason.SYNCED
    assert world.get("Mission", "m0").spec["priority"] == 99


def test_10_a_retry_token_supersedes_the_backoff(world: World) -> None:
    retry = "{maxAttempts: 3, backoff: {initial: 1h, max: 1h, jitter: 0}}"
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", retry=retry)})
    world.sync()
    world.finish("a-1", state=RunState.FAILED)
    assert world.started == ["a-1"]
    world.commit({"m.yaml": mission("a", retry=retry, annotations=f"{RETRY_REQUESTED_AT}: now")})
    world.sync()
    assert world.started == ["a-1", "a-2"]


# 11 Two request tokens during one pass: both handled.


def test_11_the_last_of_two_tokens_is_handled_whatever_came_between(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    world.finish("a-1")
    for token in ("one", "two"):
        world.commit({"m.yaml": mission("a", annotations=f"{RETRY_REQUESTED_AT}: {token}")})
        world.sync_now(world.get("Source", "default").key)
    world.advance(61)
    world.sync()
    assert world.status("a").last_handled_retry == "two"
    assert world.started == ["a-1", "a-2"]


# 12 A verb on a held object: recorded (the exit code: tests/integration/test_cli_actions).


def test_12_a_retry_of_a_held_mission_is_recorded_and_waits_for_the_hold(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    world.finish("a-1")
    world.act("Hold", "stop", {"scope": "Tenant", "reason": "incident"})
    world.commit({"m.yaml": mission("a", annotations=f"{RETRY_REQUESTED_AT}: t")})
    world.sync()
    assert world.status("a").last_handled_retry == "t"
    assert world.state("a") is MissionState.ASSIGNED
    assert world.started == ["a-1"]
    world.remove("Hold", "stop")
    assert world.started == ["a-1", "a-2"]


# 13 Hold, then git sync: the hold stays; expiry resumes.


def test_13_no_sync_heals_a_hold_away_and_its_end_resumes(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    until = (world.now + timedelta(hours=2)).isoformat()
    world.act("Hold", "pause", {"selector": {"names": ["worker"]}, "reason": "look", "until": until})
    world.sync()
    world.commit({"m.yaml": mission("a", priority=99)})
    world.sync()
    assert world.started == []
    assert world.get("Hold", "pause").status["matched"] == 1
    assert world.reason("Agent", "worker", "Suspended") == "True/Held"
    blocker = world.status("a").blocked_on[0]
    assert (blocker.type, blocker.ref) == ("Hold", "Hold/default/pause")
    world.advance(2 * 3600 + 1)
    assert world.started == ["a-1"]
    assert world.find("Hold", "pause") is None


def test_13_a_stop_hold_cancels_and_its_release_resumes(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    world.act("Hold", "stop", {"scope": "Global", "mode": "Stop", "reason": "incident"})
    assert world.canceled == ["a-1"]
    world.finish("a-1", state=RunState.CANCELED)
    assert world.state("a") is MissionState.BLOCKED
    assert world.reason("Mission", "a", "Succeeded") == "Unknown/Stopped"
    world.remove("Hold", "stop")
    assert world.started == ["a-1", "a-2"]


# 20 Agent deleted with a live run: drained, keys revoked, an unreachable worker ends as MayStillBeRunning.


def test_20_a_deleted_agent_drains_first(world: World) -> None:
    world.commit(
        {"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a"), "x.yaml": mission("x", agent=None)}
    )
    world.sync()
    world.commit({"fleet.yaml": executor()}, delete=("m.yaml",))
    plan = world.sync().units[0].pending[0]
    world.act("Confirmation", "yes", {"planDigest": plan.digest})
    assert world.get("Agent", "worker").deletion_at is not None
    assert world.reason("Agent", "worker", "Ready") == "False/Deleting"
    assert world.canceled == ["a-1"], "the mission was deleted as well: its run is stopped"
    world.finish("a-1", state=RunState.CANCELED)
    assert world.find("Agent", "worker") is None
    assert world.find("Mission", "a") is None
    assert world.find("Run", "a-1") is None


def test_20_an_unreachable_worker_cannot_hold_the_deletion_for_ever(world: World) -> None:
    world.commit(
        {"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a"), "x.yaml": mission("x", agent=None)}
    )
    world.sync()
    uid = world.get("Run", "a-1").uid
    world.commit({"fleet.yaml": executor()}, delete=("m.yaml",))
    plan = world.sync().units[0].pending[0]
    world.act("Confirmation", "yes", {"planDigest": plan.digest})
    world.advance(600)
    assert world.find("Agent", "worker") is None
    (end,) = [e for e in world.events("RunFinished") if e.subject_uid == uid]
    assert end.reason == "MayStillBeRunning"


def test_20_an_agent_in_use_waits_and_says_who_uses_it(world: World) -> None:
    world.commit({"agent.yaml": executor() + "---\n" + agent(maxConcurrentMissions=0), "m.yaml": mission("a")})
    world.sync()
    world.commit({"agent.yaml": executor()})
    world.sync()
    assert world.find("Agent", "worker") is not None
    ready = next(c for c in world.get("Agent", "worker").status["conditions"] if c["type"] == "Ready")
    assert "mission/a" in ready["message"]
    world.commit({"m.yaml": mission("a", agent=None)})
    world.sync()
    assert world.find("Agent", "worker") is None


# 21 Dependency cycle: compile error naming the cycle.


def test_21_a_cycle_is_a_compile_error_that_names_it(world: World) -> None:
    fleet(1, world)
    files = {"a.yaml": mission("a", dependsOn="[{name: b}]"), "b.yaml": mission("b", dependsOn="[{name: c}]")}
    world.commit(files | {"c.yaml": mission("c", dependsOn="[{name: a}]")})
    unit = world.sync().units[0]
    assert unit.reason is SourceReason.INVALID_SPEC
    assert any("a -> b -> c -> a" in e and e.startswith("a.yaml:") for e in unit.errors)
    assert world.find("Mission", "a") is None


# 23 Edited finished mission: Outdated, no rerun.


def test_23_an_edit_of_a_finished_mission_makes_it_outdated_and_runs_nothing(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    world.finish("a-1")
    world.commit({"m.yaml": mission("a", title="do it differently")})
    world.sync()
    assert world.state("a") is MissionState.DONE
    assert world.reason("Mission", "a", "Outdated") == "True/Outdated"
    assert world.started == ["a-1"]


def test_23_it_runs_again_when_its_policy_says_so(world: World) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a", rerunPolicy="OnChange")})
    world.sync()
    world.finish("a-1")
    world.commit({"m.yaml": mission("a", rerunPolicy="OnChange", title="do it differently")})
    world.sync()
    assert world.started == ["a-1", "a-2"]


# 26 (store part) Nothing is written when nothing changed.


def test_26_a_pass_over_unchanged_objects_writes_nothing(world: World) -> None:
    fleet(5, world)
    with world.store.snapshot() as snapshot:
        version, last = snapshot.latest_version(), snapshot.events(limit=1, newest_first=True)[0].seq
    with world.store.snapshot() as snapshot:
        world.pending.update(dict(world.wakes.everything(snapshot, world._kinds())))
    world.settle()
    with world.store.snapshot() as snapshot:
        assert snapshot.latest_version() == version
        assert snapshot.events(limit=1, newest_first=True)[0].seq == last


# 27 Every object passes the condition checker: after every test of this folder (conftest), and on all kinds here.


def test_27_every_kind_is_acted_on_but_types_of_executors(world: World) -> None:
    examples = Path(__file__).parents[2] / "specs" / "examples"
    world.commit({f"x/{p.name}": p.read_text() for p in sorted(examples.glob("*.yaml"))})
    status = world.sync()
    assert [u.errors for u in status.units if u.errors] == []
    found = [(r.kind, c) for r in world.everything() for c in r.status.get("conditions", ())]
    assert {kind for kind, condition in found if condition["reason"] == "NotReconciledYet"} <= {"Executor"}
    assert {"Channel", "Provider", "Tenant"} <= {kind for kind, condition in found if condition["type"] == "Ready"}


# Seeded walks: any order of commits, answers, holds, ends and restarts leaves a sound world.


@pytest.mark.parametrize("seed", range(12))
def test_any_order_of_what_happens_leaves_a_sound_world(world: World, seed: int) -> None:
    chance = random.Random(seed)
    world.commit({"fleet.yaml": executor() + "---\n" + agent(maxConcurrentMissions=2)})
    for step in range(40):
        _happen(world, chance, step)
        if step % 10 == 9:
            world.check()
    world.advance(3600)


def _happen(world: World, chance: random.Random, step: int) -> None:
    resources = world.everything()
    runs = [r.name for r in resources if r.kind == "Run" and r.state == "Running"]
    waiting = [r.name for r in resources if r.kind == "Mission" and r.state in ("Review", "Blocked")]
    dice = chance.randrange(9)
    name = f"m{chance.randrange(6)}"
    if dice <= 2:
        review = chance.choice(["Human", "Auto", "None"])
        state = chance.choice(["Complete", "Complete", "Complete", "Canceled"])
        retry = f"{{maxAttempts: {chance.randint(1, 3)}}}"
        world.commit({f"{name}.yaml": mission(name, review=review, desiredState=state, retry=retry, priority=step)})
        world.sync()
    elif dice == 3 and runs:
        world.finish(chance.choice(runs), state=chance.choice([s for s in RunState if s not in ("Pending", "Running")]))
    elif dice <= 5 and runs:
        world.finish(chance.choice(runs))
    elif dice == 6 and waiting:
        target = chance.choice(waiting)
        if world.get("Mission", target).status.get("reviewRequest"):
            verdict = chance.choice(["Approve", "Deny"])
            world.answer(target, verdict, "because")
    elif dice == 7:
        if world.find("Hold", "h") is not None:
            world.remove("Hold", "h")
        else:
            mode = chance.choice(["Hold", "Drain", "Stop"])
            world.act("Hold", "h", {"scope": "Tenant", "mode": mode, "reason": "test"})
    else:
        world.restart()
        world.advance(chance.choice([1, 30, 600]))
