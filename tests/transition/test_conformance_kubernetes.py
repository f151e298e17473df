"""The conformance scenarios with the specs in a cluster: the same tests over another source, and in their place, where
files or commits are what a scenario is about, what a cluster has instead."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.web.kubernetes import ClusterFault
from schemas.mission import MissionState
from schemas.run import RunState
from schemas.source import SourceReason
from tests.fakes.cluster_world import ClusterWorld
from tests.fakes.world import agent, executor, mission
from tests.transition.test_conformance import (  # noqa: F401  collected here once more, over the world below
    fleet,
    test_01_a_change_taken_back_between_two_looks_has_no_effect,
    test_02_a_reformatted_reordered_commented_file_is_no_update,
    test_03_a_declared_rename_keeps_uid_history_and_usage,
    test_06_a_few_deletions_need_no_confirmation,
    test_06_a_mass_deletion_waits_for_its_own_confirmation,
    test_06_deleting_what_is_at_work_waits,
    test_08_a_prune_that_fails_midway_leaves_no_orphan,
    test_09_an_effect_that_was_claimed_by_a_dead_engine_follows_at_once,
    test_09_an_effect_that_was_not_carried_out_follows_after_a_restart_once,
    test_10_a_retry_token_supersedes_the_backoff,
    test_11_the_last_of_two_tokens_is_handled_whatever_came_between,
    test_12_a_retry_of_a_held_mission_is_recorded_and_waits_for_the_hold,
    test_13_a_stop_hold_cancels_and_its_release_resumes,
    test_13_no_sync_heals_a_hold_away_and_its_end_resumes,
    test_20_a_deleted_agent_drains_first,
    test_20_an_agent_in_use_waits_and_says_who_uses_it,
    test_20_an_unreachable_worker_cannot_hold_the_deletion_for_ever,
    test_23_an_edit_of_a_finished_mission_makes_it_outdated_and_runs_nothing,
    test_23_it_runs_again_when_its_policy_says_so,
    test_26_a_pass_over_unchanged_objects_writes_nothing,
)
from tests.transition.test_conformance_approvals import (  # noqa: F401
    desk,
    test_16_a_leave_for_args_x_allows_nothing_with_args_y,
    test_16_an_answer_with_the_digest_of_another_action_has_no_effect,
    test_18_of_two_answers_at_once_the_first_counts_and_nothing_is_lost,
    test_18_one_leave_is_used_by_one_of_many_calls_at_once,
)
from tests.transition.test_conformance_engine import (  # noqa: F401
    test_11_tokens_that_come_during_a_pass_are_both_handled,
    test_20_the_key_of_a_deleted_agents_run_is_dead_also_when_its_worker_is_away,
)
from tests.transition.test_conformance_guardrails import (  # noqa: F401
    test_07_a_guardrail_that_is_deleted_holds_until_its_own_plan_is_confirmed,
    test_07_a_loosened_rule_holds_until_it_is_confirmed_where_the_source_says_so,
    test_07_a_loosened_rule_is_told_where_no_word_is_needed,
    test_07_an_agent_that_loses_the_label_by_which_it_is_held_is_a_widening,
    test_07_what_was_confirmed_is_off,
)

pytestmark = pytest.mark.parametrize("backend", ["sqlite"])


@pytest.fixture
def world(tmp_path: Path, backend: str) -> Iterator[ClusterWorld]:
    made = ClusterWorld(tmp_path, backend=backend)
    try:
        yield made
        made.settle()
        made.check()
        made.write_status()
    finally:
        made.close()


def refuse(world: ClusterWorld, status: int, where: str = "") -> None:
    """From now on the API server answers so, about paths with ``where`` in them."""

    def fault(method: str, path: str) -> None:
        if where in path:
            raise ClusterFault(f"{method} {path}: HTTP {status}", status=status)

    world.api.faults.append(fault)


# 4 and 10 What is wrong stays out by itself: the last good of it stays in force, and everything else goes on.


def test_04_an_object_that_is_wrong_keeps_no_other_from_its_place(world: ClusterWorld) -> None:
    world.commit({"a.yaml": mission("a", agent=None), "b.yaml": mission("b", agent=None)})
    world.sync()
    wrong = mission("a", agent=None, deadline="yesterday")
    world.commit({"a.yaml": wrong, "c.yaml": mission("c", agent=None), "n.yaml": mission("n", nonsense="1")})
    world.sync()
    assert world.find("Mission", "c") is not None
    assert world.find("Mission", "n") is None
    assert "deadline" not in world.get("Mission", "a").spec, "the last good one stays in force"
    (unit,) = world.source.units
    assert unit.reason is SourceReason.INVALID_SPEC
    assert any(error.startswith("default/mission/a:") and "deadline" in error for error in unit.errors)
    world.write_status()
    assert world.condition("Mission", "a", "Accepted") == ("False", "InvalidSpec")
    assert world.condition("Mission", "n", "Succeeded") == ("False", "InvalidSpec")
    shown = world.shown("Mission", "a")
    assert shown["status"]["observedGeneration"] < shown["metadata"]["generation"]
    world.commit({"a.yaml": mission("a", agent=None, deadline="1h"), "n.yaml": mission("n", agent=None)})
    world.sync()
    world.write_status()
    assert world.source.units[0].reason is SourceReason.SYNCED
    assert world.condition("Mission", "a", "Accepted") != ("False", "InvalidSpec")
    shown = world.shown("Mission", "a")
    assert shown["status"]["observedGeneration"] == shown["metadata"]["generation"]


def test_04_what_cannot_be_changed_stays_out_by_itself(world: ClusterWorld) -> None:
    hold = "apiVersion: remit.dev/v1alpha1\nkind: Hold\nmetadata: {name: h}\nspec: {scope: Tenant, mode: %s}\n"
    world.commit({"h.yaml": hold % "Drain"})
    world.sync()
    world.commit({"h.yaml": hold % "Stop", "b.yaml": mission("b", agent=None)})
    world.sync()
    assert world.find("Mission", "b") is not None


# 5 A cluster that cannot be read changes nothing.


@pytest.mark.parametrize(
    ("status", "where", "reason"),
    [
        (0, "", SourceReason.REPOSITORY_UNREACHABLE),
        (500, "/missions", SourceReason.REPOSITORY_UNREACHABLE),
        (403, "/policies", SourceReason.AUTHENTICATION_FAILED),
        (404, "/missions", SourceReason.PATH_NOT_FOUND),
    ],
)
def test_05_a_cluster_that_cannot_be_listed_changes_nothing(
    world: ClusterWorld, status: int, where: str, reason: SourceReason
) -> None:
    fleet(3, world)
    refuse(world, status, where)
    world.api.objects.clear()
    world.reader.doubt()
    for _ in range(2):
        world.sync()
        assert world.reason("Source", "default", "Ready") == f"False/{reason}"
    assert len(world.everything()) > 5
    assert world.find("Mission", "m0") is not None
    world.api.faults.clear()
    world.sync()
    assert world.source.units[0].reason is SourceReason.PRUNE_BLOCKED, "gone at once is still a mass deletion"


def test_05_a_change_that_cannot_be_read_yet_is_read_later(world: ClusterWorld) -> None:
    fleet(1, world)
    refuse(world, 503, "/missions/m0")
    world.commit({"m0.yaml": mission("m0", priority=90), "m9.yaml": mission("m9", agent=None)})
    world.sync()
    assert world.get("Mission", "m0").generation == 1
    world.api.faults.clear()
    world.sync()
    assert world.get("Mission", "m0").generation == 2
    assert world.find("Mission", "m9") is not None


# 21 A cycle is an error that names it, and no other object waits for it.


def test_21_a_cycle_is_named_on_its_objects(world: ClusterWorld) -> None:
    world.commit(
        {
            "a.yaml": mission("a", agent=None, dependsOn="[{name: b}]"),
            "b.yaml": mission("b", agent=None, dependsOn="[{name: a}]"),
            "c.yaml": mission("c", agent=None),
        }
    )
    world.sync()
    assert world.find("Mission", "c") is not None
    assert any("cycle" in error for error in world.source.units[0].errors)


# 26 Nothing changed: nothing is written. A change is at most two writes, and what others wrote stays.


def test_26_the_cluster_is_written_to_when_something_changed_only(world: ClusterWorld) -> None:
    fleet(2, world)
    world.write_status()
    assert world.condition("Mission", "m0", "Accepted")[0] == "True"
    before = len(world.api.writes())
    world.sync()
    world.advance(60)
    world.write_status()
    world.restart()
    world.write_status()
    assert [write for write in world.api.writes()[before:] if "/sources/" not in write[1]] == []
    before = len(world.api.writes())
    world.commit({"m1.yaml": mission("m1", priority=90)})
    world.sync()
    world.write_status()
    assert len([write for write in world.api.writes()[before:] if "/missions/m1" in write[1]]) <= 2


def test_26_the_source_is_not_looked_at_because_status_was_written(world: ClusterWorld) -> None:
    fleet(2, world)
    world.write_status()
    head = world.reader.head()
    assert not world.reader.is_due
    world.sync()
    assert world.reader.head() == head


# 28 A dead watch is made up for by the next listing; what others keep on objects survives.


def test_28_what_the_watch_did_not_tell_is_found_by_the_next_listing(world: ClusterWorld) -> None:
    fleet(2, world)
    world.deaf = True
    world.commit({"m1.yaml": mission("m1", priority=90), "new.yaml": mission("new", agent=None)}, delete=("m0.yaml",))
    world.sync()
    assert world.find("Mission", "new") is None
    world.elapsed_s += 301
    world.sync()
    assert world.find("Mission", "new") is not None
    assert world.find("Mission", "m0") is None
    assert world.get("Mission", "m1").generation == 2


def test_28_what_others_keep_on_an_object_survives(world: ClusterWorld) -> None:
    fleet(1, world)
    world.write_status()
    theirs = {
        "labels": {"team": "a"},
        "annotations": {"argocd.argoproj.io/tracking-id": "x"},
        "finalizers": ["example.org/theirs"],
    }
    world.deaf = True  # so the first attempt at a finalizer meets a version that it does not know
    world.api.edit(("missions", "default", "m0"), theirs)
    world.deaf = False
    world.commit({"fleet.yaml": executor() + "---\n" + agent()})
    world.sync()
    world.write_status()
    assert world.state("m0") is MissionState.IN_PROGRESS
    meta = world.shown("Mission", "m0")["metadata"]
    assert meta["finalizers"] == ["example.org/theirs", "remit.dev/drain"]
    world.finish("m0-1")
    world.write_status()
    meta = world.shown("Mission", "m0")["metadata"]
    assert meta["finalizers"] == ["example.org/theirs"]
    assert meta["labels"] == {"team": "a"}
    assert meta["annotations"] == {"argocd.argoproj.io/tracking-id": "x"}


def test_a_mission_that_is_deleted_at_work_stays_until_its_run_has_ended(world: ClusterWorld) -> None:
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "m.yaml": mission("a")})
    world.sync()
    world.write_status()
    (run,) = [each for each in world.api.objects.values() if each["kind"] == "Run"]
    assert run["metadata"]["ownerReferences"][0]["uid"] == world.shown("Mission", "a")["metadata"]["uid"]
    world.commit(delete=("m.yaml",))
    assert world.shown("Mission", "a")["metadata"]["deletionTimestamp"]
    (unit,) = world.sync().units
    world.write_status()
    assert "at work" in unit.pending[0].message
    world.act("Confirmation", "yes", {"planDigest": unit.pending[0].digest})
    world.write_status()
    assert world.canceled == ["a-1"]
    world.finish("a-1", state=RunState.CANCELED)
    world.write_status()
    assert world.find("Mission", "a") is None
    assert world.api.find("Mission", "a") is None
    assert not [each for each in world.api.objects.values() if each["kind"] == "Run"]


def test_storms_of_conflicts_and_refusals_end_with_what_is_true(world: ClusterWorld) -> None:
    left = iter([409, 429, 503, 409, 500, 409, 429, 504, 409, 503] * 3)

    def fault(method: str, path: str) -> None:
        if method != "GET" and (status := next(left, 0)):
            raise ClusterFault(f"{method} {path}: HTTP {status}", status=status, after=0.5 if status == 429 else None)

    world.api.faults.append(fault)
    fleet(5, world)
    for _ in range(40):
        world.write_status(30.0)
    assert next(left, 0) == 0
    for number in range(5):
        assert world.shown("Mission", f"m{number}")["status"]["state"] == "Assigned"
    assert world.reason("Source", "default", "StatusWritten") == "True/StatusWritten"
