"""Status in git with real engines: what a person sees with git alone."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from controllers.sources.watch import repository_places
from tests.fakes.engine_process import Engine, Project, free_port, until
from tests.fakes.secrets import private
from tests.fakes.world import agent, executor, mission

FLEET = {"fleet.yaml": "---\n".join([executor().replace('"true"', '"echo done"'), agent(), mission("audit")])}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    made = Project(tmp_path)
    try:
        yield made
    finally:
        made.close()


def shown(project: Project, path: str) -> str:
    """A file of the status branch; "" while it is not there."""
    try:
        return project.repo.git("show", f"remit/status:{path}")
    except Exception:
        return ""


def moved(project: Project, heads: str, engine: Engine) -> bool:
    """Whether the branch is elsewhere by now."""
    assert engine.alive, engine.err
    return project.repo.git("for-each-ref", "refs/heads/remit/status") != heads


def test_the_end_of_a_mission_can_be_read_with_git(project: Project) -> None:
    project.commit(FLEET)
    engine = project.engine()
    until(lambda: "state: Done" in shown(project, "default/mission/audit.yaml"), "the mission to be Done in git")
    engine.stop()
    assert project.repo.git("status", "--porcelain") == ""
    tip = project.repo.git("rev-parse", "remit/status")
    again = project.engine()
    until(lambda: len(project.events("EngineStarted")) == 2, "the second start")
    again.stop()
    assert project.repo.git("rev-parse", "remit/status") == tip, "a restart is no news"


def test_status_that_an_engine_could_not_write_is_written_by_the_next(project: Project) -> None:
    project.commit(FLEET)
    engine = project.engine()
    project.comes_to("audit", "Done")
    engine.kill()
    project.engine()
    until(lambda: "state: Done" in shown(project, "default/mission/audit.yaml"), "the mission to be Done in git")
    project.repo.git("fsck", "--strict")


def test_engines_killed_while_they_write_leave_a_sound_branch(project: Project) -> None:
    files = {f"m{n:02}.yaml": mission(f"m{n:02}", agent=None) for n in range(30)}
    project.commit({**FLEET, **files})
    for round_ in range(4):
        heads = project.repo.git("for-each-ref", "refs/heads/remit/status")
        engine = project.engine(ready=False)
        project.commit({f"m{n:02}.yaml": mission(f"m{n:02}", agent=None, title=f"do {round_}") for n in range(30)})
        until(functools.partial(moved, project, heads, engine), "a status commit")
        os.kill(engine.pid, signal.SIGKILL)
        engine.process.wait()
        project.repo.git("fsck", "--strict", "--no-dangling")
    last = project.engine()
    project.applied(project.repo.head)
    text = f"generation: {project.get('Mission', 'm29').generation}\n"
    until(lambda: text in shown(project, "default/mission/m29.yaml"), "the last edit in git")
    project.comes_to("audit", "Done")
    project.settles()
    last.stop()
    project.repo.git("fsck", "--strict", "--no-dangling")
    assert project.repo.git("log", "--format=%s", "remit/status").count("\n") < 30
    project.is_sound()


def test_a_hook_makes_a_remote_source_be_looked_at_now(project: Project) -> None:
    origin = project.repo.path / ".git"
    port = free_port()
    private(project.root / "secret", "of some length\n")
    (project.root / "remit.yaml").write_text(
        f"source:\n  git:\n    url: file://{origin}\n    interval: 1h\n"
        "    webhook: {type: GitLab, secret: {file: secret}}\n"
        f"agentListen: 127.0.0.1:{project.port}\nhookListen: 127.0.0.1:{port}\n"
    )
    project.commit(FLEET)
    project.engine()
    project.comes_to("audit", "Done")
    head = project.commit({"more.yaml": mission("more", agent=None)})
    url = f"http://127.0.0.1:{port}/hooks/default"
    with httpx2.Client(trust_env=False, timeout=60) as client:
        assert client.post(url, headers={"X-Gitlab-Token": "false"}).status_code == 401
        assert client.post(url, headers={"X-Gitlab-Token": "of some length"}, content=b"{}").status_code == 202
    project.applied(head)
    assert project.repo.git("for-each-ref", "refs/heads/remit") == "", "nothing is pushed unless it is asked for"


def test_no_hook_is_heard_unless_it_is_configured(project: Project) -> None:
    project.commit(FLEET)
    project.engine()
    answer = httpx2.post(f"http://127.0.0.1:{project.port}/hooks/default", trust_env=False, timeout=60)
    assert answer.status_code == 404


def test_writing_status_wakes_no_watcher(project: Project) -> None:
    """Conformance scenario 26: the watcher of a local repository leaves the status branch out."""
    project.commit(FLEET)
    places = repository_places(project.repo.path, without="remit/status")
    heads = project.repo.git_dir / "refs" / "heads"
    assert {str(heads / "remit" / "status"), str(heads / "remit" / "status.lock")} <= places.ignored
    assert str(heads / "main") not in places.ignored
