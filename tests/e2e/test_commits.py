"""Commits under a running engine: what changed is touched and nothing else, mistakes are told with their place, and a
local repository is followed within a moment, not within a poll."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from schemas.event import EventType
from store.contract import Event
from tests.e2e.fleet import mission, workers
from tests.fakes.engine_process import Engine, Project, until

COUNT = 12


@pytest.fixture
def engine(project: Project) -> Engine:
    """An engine at rest: twelve missions are done."""
    project.commit({"fleet.yaml": workers(places=4), **{f"m{n}.yaml": declared(project, n) for n in range(COUNT)}})
    made = project.engine()
    until(lambda: project.states() == {"Done": COUNT}, lambda: f"the end of {project.states()}")
    project.settles()
    return made


def declared(project: Project, number: int, **spec: object) -> str:
    return mission(f"m{number}", "worker", project.effects, **spec)  # type: ignore[arg-type]


def generations(project: Project) -> dict[str, tuple[str, int]]:
    """Of everything that is declared: uid, generation."""
    return {name: (uid, generation) for name, (uid, generation, _) in versions(project).items()}


def versions(project: Project) -> dict[str, tuple[str, int, int]]:
    """The same with the resource version, which also counts passes that found news: an agent's go on for a while."""
    kinds = ("Executor", "Agent", "Mission")
    return {r.key.short: (r.uid, r.generation, r.resource_version) for k in kinds for r in project.objects(k)}


def since(project: Project, seq: int) -> list[Event]:
    return [e for e in project.events() if e.seq > seq and e.type != EventType.CONDITION_CHANGED]


def last(project: Project) -> int:
    return project.events()[-1].seq


def test_a_commit_touches_what_it_changes_and_nothing_else(project: Project, engine: Engine) -> None:
    before, seq = versions(project), last(project)
    # One object changes, one file is reformatted, one moves, one is new.
    text = declared(project, 2)
    project.commit(
        {
            "m1.yaml": declared(project, 1, priority=77),
            "m2.yaml": "# a remark\n" + text.replace('"', "'"),
            "moved/m3.yaml": declared(project, 3),
            "new.yaml": mission("new", "worker", project.effects),
        },
        delete=("m3.yaml",),
    )
    project.comes_to("new", "Done")
    project.settles()
    after = versions(project)
    assert {name for name in before if before[name][:2] != after[name][:2]} == {"mission/m1"}
    assert (after["mission/m1"][0], after["mission/m1"][1]) == (before["mission/m1"][0], 2)
    told = [(e.type, e.subject.name) for e in since(project, seq) if e.subject.name in {f"m{n}" for n in range(COUNT)}]
    assert sorted(told) == [("Moved", "m3"), ("Updated", "m1")]
    (synced,) = [e for e in since(project, seq) if e.type == "Synced"]
    assert synced.message.endswith("1 created, 1 updated")
    # Who did not change was not looked at twice either: apart from where they stand now, their records are the same.
    still = set(before) - {f"mission/m{n}" for n in (1, 2, 3)} - {"agent/worker", "agent/reporter"}
    assert {name for name in still if before[name] != after[name]} == set()
    assert len(project.events("Dispatched")) == COUNT + 1
    project.ends_well()


def test_an_empty_commit_and_a_commit_with_its_revert_change_nothing(project: Project, engine: Engine) -> None:
    before, seq = generations(project), last(project)
    project.applied(project.commit())
    project.commit({"m1.yaml": declared(project, 1, priority=1)})
    project.commit({"m1.yaml": declared(project, 1)})
    project.applied(project.repo.head)
    after = generations(project)
    assert {name for name in before if before[name][1] != after[name][1]} <= {"mission/m1"}
    assert project.get("Mission", "m1").spec["priority"] == 50
    # The watcher may have seen the state between the two commits, or not; nothing else was touched, nothing ran.
    assert {(e.type, e.subject.name) for e in since(project, seq)} <= {("Updated", "m1"), ("Synced", "default")}
    assert engine.stop() == 0


def test_a_broken_commit_is_told_with_its_place_and_the_fix_applies_within_a_moment(
    project: Project, engine: Engine
) -> None:
    before = generations(project)
    good = declared(project, 1, priority=60)
    line = next(n for n, text in enumerate(good.splitlines(), 1) if text.startswith("  priority"))
    bad = good.replace("  priority", "  priorty")
    project.commit({"sub/m1.yaml": bad, "m2.yaml": declared(project, 2, priority=9)}, delete=("m1.yaml",))
    until(lambda: project.ready()[1] == "InvalidSpec", "the mistake to be found")
    place = f"sub/m1.yaml:{line}:3"
    assert place in project.ready()[2]
    for arguments, code in ((("sync",), 1), (("describe", "source/default"), 0), (("get", "source", "-o", "yaml"), 0)):
        shown = project.remit(*arguments)
        assert shown.code == code, shown
        assert place in shown.out, shown.out
        assert "priority" in shown.out, "what was probably meant"
    assert "stays in force" in project.remit("describe", "source/default").out
    assert generations(project) == before
    assert engine.alive
    assert f"{place}" in engine.says("not applied")

    waits = []
    tries = range(61, 71)  # the best of them counts: the machine may be busy with others
    for priority in tries:
        commit = project.commit({"sub/m1.yaml": declared(project, 1, priority=priority)})
        made = datetime.now(UTC)  # noqa: TID251 - against the clock that the engine reads too
        project.applied(commit)
        synced = [e for e in project.events("Synced") if str(e.data.get("revision", "")).endswith(commit)]
        waits.append(synced[0].at - made)
        if waits[-1] < timedelta(seconds=2):
            break
    assert min(waits) < timedelta(seconds=2), f"the watcher told too late: {waits}"
    until(lambda: project.ready()[:2] == ("True", "Synced"), "the source to say so")
    assert project.get("Mission", "m1").spec["priority"] in tries
    assert project.get("Mission", "m2").spec["priority"] == 9
    project.ends_well()


def waiting(project: Project) -> str:
    """The digest of the plan that waits, as a person reads it."""
    shown = set(re.findall(r"remit confirm (sha256:[0-9a-f]{64})", project.good("describe", "source/default")))
    assert len(shown) == 1, shown
    return shown.pop()


def test_the_deletion_of_most_files_waits_for_its_own_confirmation(project: Project, engine: Engine) -> None:
    before = generations(project)
    project.commit({"m0.yaml": declared(project, 0, priority=5)}, delete=tuple(f"m{n}.yaml" for n in range(1, COUNT)))
    until(lambda: project.ready()[1] == "PruneBlocked", "the guard")
    assert set(generations(project)) == set(before)
    assert project.get("Mission", "m0").spec["priority"] == 5, "the rest of the commit is in force"
    digest = waiting(project)
    for wrong in ("sha256:" + "0" * 64, digest[:-1] + ("0" if digest[-1] != "0" else "1"), digest[:12]):
        refused = project.remit("confirm", wrong)
        assert refused.code == 3, refused
        assert digest[:19] in refused.err
    # Another commit makes another plan: what was confirmed for the old one does not hold for it.
    commit = project.commit(delete=("m0.yaml",))
    project.applied(commit)
    refused = project.remit("confirm", digest)
    assert refused.code == 3, refused
    assert len(project.objects("Mission")) == COUNT
    digest = waiting(project)
    assert "confirmed" in project.good("confirm", digest)
    until(lambda: not project.objects("Mission"), "the confirmed deletion")
    until(lambda: project.ready()[:2] == ("True", "Synced"), "the source to say so")
    used = project.remit("confirm", digest)
    assert used.code == 3, used
    project.ends_well()


def test_a_branch_that_is_rewritten_is_refused_and_followed_again_once_it_is_back(
    project: Project, engine: Engine
) -> None:
    good, before = project.repo.head, generations(project)
    project.repo.commit({"only.yaml": mission("only", "worker", project.effects)}, orphan=True)
    until(lambda: project.ready()[1] == "HistoryRewritten", "the refusal")
    assert generations(project) == before
    project.repo.git("reset", "-q", "--hard", good)
    project.commit({"new.yaml": mission("new", "worker", project.effects)})
    project.comes_to("new", "Done")
    until(lambda: project.ready()[:2] == ("True", "Synced"), "the source to say so")
    assert engine.stop() == 0


def test_a_repository_that_appears_after_the_engine_is_followed(project: Project) -> None:
    project.repo.path.rename(project.root / "later")
    engine = project.engine()
    until(lambda: project.ready()[1] == "RepositoryUnreachable", "the missing repository to be named")
    (project.root / "later").rename(project.repo.path)
    project.commit({"fleet.yaml": workers(), "m.yaml": mission("m", "worker", project.effects)})
    project.comes_to("m", "Done")
    # From here on it is watched as any other.
    commit = project.commit({"n.yaml": mission("n", "worker", project.effects)})
    project.applied(commit)
    assert engine.stop() == 0
