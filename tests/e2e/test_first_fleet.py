"""What a newcomer does in the first minutes, with real processes: the demo, an answer, a commit, a mistake, a guard."""

from __future__ import annotations

import functools
import re
import shlex
import signal
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tests.fakes.engine_process import Engine, Project, until
from tests.fakes.repos import ENVIRONMENT

ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(tmp_path: Path) -> Project:
    """A copy of this repository, as a clone has it."""
    project = Project(tmp_path, make=False)
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in files.decode().split("\0"):
        source = ROOT / name
        if name and source.is_file():
            target = project.root / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "-m", "clone"]):
        subprocess.run(["git", *command], cwd=project.root, env=ENVIRONMENT, check=True)
    return project


def start(project: Project) -> Engine:
    return project.engine("--demo", "--agent-listen", f"127.0.0.1:{project.port}")


def specs(project: Project) -> Path:
    return project.root / ".remit" / "demo"


def commit(project: Project, message: str = "change") -> None:
    for command in (["add", "-A"], ["commit", "-q", "-m", message]):
        subprocess.run(["git", *command], cwd=specs(project), env=ENVIRONMENT, check=True)


def test_the_demo_runs_asks_and_continues_where_it_stopped(demo: Project) -> None:
    demo.plain = True
    try:
        engine = start(demo)
        _two_turns(demo, engine)
        line, allow = _answers(engine)
        _only_this_tag_once(demo, allow)
        demo.settles()
        assert engine.stop() == 0
        demo.nothing_is_left()
        ended = len(demo.events("RunFinished"))

        engine = start(demo)
        engine.says("YOUR TURN   Accept")
        words = shlex.split(line)
        assert words[1] == "approve"
        demo.good(*words[1:])
        demo.comes_to("release-report", "Done")
        assert len(demo.events("RunFinished")) == ended, "nothing ran again"
        _an_answer_is_quick(demo)
        demo.good("audit", "verify")
        assert engine.stop(signal.SIGTERM) == 0
        demo.nothing_is_left()
    finally:
        demo.close()


def _two_turns(demo: Project, engine: Engine) -> None:
    """Wait until the demo has done what it can, and asks for the rest."""
    engine.says("YOUR TURN   Accept")
    engine.says("YOUR TURN   tagger")
    wanted = {"Done": 4, "Review": 1, "NeedsApproval": 1}
    until(lambda: demo.states() == wanted, lambda: f"two turns: {demo.states()}")


def _an_answer_is_quick(demo: Project) -> None:
    """From the answer to what follows from it: the best of several, by the clock of who wrote it down."""
    waits = []
    for _ in range(5):
        given = [e for e in demo.events("Created") if e.subject.name.startswith("release-report-review")][-1]
        done = [e for e in demo.events("Transitioned") if e.data.get("to") == "Done" and e.reason == "Approved"][-1]
        waits.append(done.at - given.at)
        if waits[-1] < timedelta(seconds=1):
            return
        demo.good("retry", "release-report", "-r", "once more")
        demo.comes_to("release-report", "Review")
        demo.good("approve", "mission/release-report")
        demo.comes_to("release-report", "Done")
    raise AssertionError(f"answers take effect too late: {waits}")


def _answers(engine: Engine) -> tuple[str, str]:
    """The commands that the engine printed for the review and for the action."""
    found = functools.partial(re.findall, r"answer: +(.*)\n")
    lines = until(lambda: len(found(engine.out)) > 1 and found(engine.out), "both answers")
    assert len(lines) == 2
    (allow,) = [line for line in lines if "tag-release-action" in line]
    (review,) = [line for line in lines if line != allow]
    return review, allow


def _only_this_tag_once(demo: Project, allow: str) -> None:
    """The agent stands still until exactly its action is allowed, and needs another leave for another one."""
    tags = demo.root / ".remit/agents/tags/releases.git/refs/tags"
    assert list(tags.iterdir()) == []
    words = shlex.split(allow)
    assert words[1] == "approve"
    demo.good(*words[1:])
    demo.comes_to("tag-release", "Done")
    assert [path.name for path in tags.iterdir()] == ["v0.1.0"]
    (asked,) = [r for r in demo.objects("ApprovalRequest") if r.spec["type"] == "Action"]
    assert asked.status["consumedAt"]
    assert demo.remit(*words[1:]).code == 3, "a leave that was used cannot be given again"
    file = specs(demo) / "missions" / "tag-release.yaml"
    file.write_text(file.read_text().replace("v0.1.0", "v0.2.0"))
    commit(demo)
    until(lambda: demo.get("Mission", "tag-release").generation == 2, "the commit to be applied")
    demo.good("retry", "tag-release", "-r", "the next one")
    demo.comes_to("tag-release", "NeedsApproval")
    assert [path.name for path in tags.iterdir()] == ["v0.1.0"]
    (asked,) = [r for r in demo.objects("ApprovalRequest") if r.spec["type"] == "Action" and r.state == "Pending"]
    assert asked.spec["action"]["args"]["tag"] == "v0.2.0"
    demo.good("deny", f"approval/{asked.name}", "-r", "not yet")
    demo.comes_to("tag-release", "Failed")
    assert [path.name for path in tags.iterdir()] == ["v0.1.0"]


def test_a_commit_touches_only_what_it_changes_and_a_broken_one_changes_nothing(demo: Project) -> None:
    try:
        engine = start(demo)
        _two_turns(demo, engine)
        before = {m.name: (m.uid, m.generation) for m in demo.objects("Mission")}
        updates = len(demo.events("Created", "Updated", "Moved", "DeletionRequested"))
        file = specs(demo) / "missions" / "check-links.yaml"
        good = file.read_text()
        file.write_text(re.sub(r"priority: .*", "priority: 77", good))
        commit(demo)
        until(lambda: demo.get("Mission", "check-links").generation == 2, "the commit to be applied")
        after = {m.name: (m.uid, m.generation) for m in demo.objects("Mission")}
        assert len(demo.events("Created", "Updated", "Moved", "DeletionRequested")) == updates + 1
        assert {n for n in before if before[n] != after[n]} == {"check-links"}

        file.write_text(good.replace("title:", "titel:"))
        commit(demo)
        until(lambda: demo.ready()[1] == "InvalidSpec", "the mistake to be found")
        shown = demo.remit("sync")
        assert shown.code == 1
        assert re.search(r"missions/check-links\.yaml:\d+:\d+: .*titel.*title", shown.out), shown.out
        assert demo.get("Mission", "check-links").generation == 2

        file.write_text(re.sub(r"priority: .*", "priority: 78", good))
        commit(demo)
        until(lambda: demo.get("Mission", "check-links").generation == 3, "the fix to be applied")
        until(lambda: demo.ready()[:2] == ("True", "Synced"), "the source to say so")
        assert engine.stop() == 0
    finally:
        demo.close()


def test_a_commit_that_deletes_most_files_waits_for_its_own_confirmation(demo: Project) -> None:
    try:
        engine = start(demo)
        engine.says("YOUR TURN")
        for file in (specs(demo) / "missions").glob("*.yaml"):
            file.unlink()
        for file in (specs(demo) / "agents").glob("*.yaml"):
            file.unlink()
        commit(demo)
        until(lambda: demo.ready()[1] == "PruneBlocked", "the guard")
        assert len(demo.objects("Mission")) == 6
        refused = demo.remit("confirm", "sha256:" + "0" * 64)
        assert refused.code == 3, refused
        pending = demo.source()["units"][0]["pending"]
        demo.good("confirm", pending[0]["digest"])
        until(lambda: not demo.objects("Mission") and not demo.objects("Agent"), "the confirmed deletion")
        assert engine.stop() == 0
    finally:
        demo.close()


def test_the_second_engine_on_a_store_is_refused_and_told_who_holds_it(project: Project) -> None:
    first = project.engine()
    second = project.engine(ready=False)
    assert second.ends() == 2
    assert str(first.pid) in second.err
    assert "Traceback" not in second.err
    first.kill()
    third = project.engine()
    assert third.stop() == 0


def test_a_taken_port_is_named(project: Project, tmp_path: Path) -> None:
    first = project.engine()
    other = Project(tmp_path / "other")
    try:
        clash = other.engine("--agent-listen", f"127.0.0.1:{project.port}", ready=False)
        assert clash.ends() == 2
        assert f"127.0.0.1:{project.port}" in clash.err
        assert "Traceback" not in clash.err
    finally:
        other.close()
    assert first.stop() == 0


def test_a_verb_on_a_held_object_is_recorded_and_exits_with_3(project: Project) -> None:
    project.commit(
        {
            "fleet.yaml": (
                "apiVersion: remit.dev/v1alpha1\nkind: Executor\nmetadata: {name: local}\n"
                "spec:\n  type: Command\n  command: {argv: [sh, -c, 'echo done'], outputFormat: Text}\n---\n"
                "apiVersion: remit.dev/v1alpha1\nkind: Agent\nmetadata: {name: worker}\n"
                "spec: {executorRef: {name: local}}\n---\n"
                "apiVersion: remit.dev/v1alpha1\nkind: Mission\nmetadata: {name: a}\n"
                "spec: {title: do it, agentRef: {name: worker}, review: None}\n"
            )
        }
    )
    engine = project.engine()
    project.comes_to("a", "Done")
    project.good("hold", "mission/a", "-r", "look first")
    held = project.remit("retry", "a", "-r", "again")
    assert held.code == 3, held
    assert "is held" in held.err
    until(lambda: project.state("a") == "Assigned", "the retry to be taken up")
    project.good("release", project.objects("Hold")[0].name)
    until(lambda: project.state("a") == "Done" and len(project.events("RunFinished")) == 2, "the second run")
    assert engine.stop() == 0
