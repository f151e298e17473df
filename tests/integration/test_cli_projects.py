"""The command in a project: exit codes, places in messages, edits by commit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import run
from schemas.source import ForgeType
from tests.fakes.forges import REPOSITORY, TOKEN, serving
from tests.fakes.world import World, agent, executor, mission


class Shell:
    """Runs commands in this process."""

    def __init__(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command that has to end with ``code``; its output, errors included."""
        self._capsys.readouterr()
        ended = run(["-C", str(self.world.folder), *arguments], now=self.world.clock)
        shown = self._capsys.readouterr()
        text = shown.out + shown.err
        assert ended == code, text
        assert "Traceback" not in text
        return text


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Shell]:
    world = World(tmp_path)
    database = next(tmp_path.rglob("*.db"))
    (tmp_path / "remit.yaml").write_text(f"source: {{git: {{url: specs}}}}\nstore: sqlite:///{database}\n")
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "a.yaml": "# keep me\n" + mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    try:
        yield Shell(world, capsys)
    finally:
        world.close()


def test_a_list_in_json_holds_whole_objects_with_status(shell: Shell) -> None:
    found = json.loads(shell("get", "missions,agents", "-o", "json"))
    assert (found["apiVersion"], found["kind"]) == ("remit.dev/v1alpha1", "List")
    assert {item["kind"] for item in found["items"]} == {"Mission", "Agent"}
    assert all("status" in item and "spec" in item for item in found["items"])


def test_tables_names_and_wide_columns(shell: Shell) -> None:
    assert shell("get", "mi", "-o", "name").strip() == "mission/a"
    assert "Review" in shell("get", "missions")
    assert "do a" in shell("get", "missions", "-o", "wide")


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("get", "misions"), 2, "did you mean Mission?"),
        (("get", "mission", "nobody"), 2, "nobody"),
        (("describe", "mission/nobody"), 2, "nobody"),
        (("approve", "mission/a", "--digest", "0123456789ab"), 3, "digest"),
        (("confirm", "sha256:" + "0" * 64), 3, ""),
        (("explain", "mission.spec.retri"), 2, "retry"),
        (("nonsense",), 2, ""),
        (("get", "--nonsense"), 2, ""),
        (("wait", "mission/a", "--for", "state=Done", "--timeout", "50ms"), 1, "Review"),
    ],
)
def test_exit_codes_and_what_is_said(shell: Shell, arguments: tuple[str, ...], code: int, text: str) -> None:
    assert text in shell(*arguments, code=code)


def test_an_unknown_key_of_the_configuration_is_named_with_its_place(shell: Shell) -> None:
    path = shell.world.folder / "remit.yaml"
    path.write_text(path.read_text() + "agentListn: 127.0.0.1:1\n")
    text = shell("get", "missions", code=2)
    assert "remit.yaml:3:1" in text
    assert "agentListen" in text


def test_an_answer_is_recorded_with_who_gave_it(shell: Shell) -> None:
    shell("approve", "mission/a", "--no-wait", "-r", "fine")
    shell.world.settle()
    assert shell.world.state("a") == "Done"
    review = shell.world.status("a").review
    assert review is not None
    assert review.actor.startswith("user:")
    assert "answered already" in shell("approve", "mission/a", code=3) or shell.world.state("a") == "Done"


def test_a_cancel_is_a_one_line_commit_that_keeps_comments(shell: Shell) -> None:
    shell("cancel", "mission/a", "-r", "no longer needed")
    repo = shell.world.repo
    assert "# keep me" in (repo.path / "a.yaml").read_text()
    stat = repo.git("show", "--numstat", "--format=%s", "HEAD")
    assert "a.yaml" in stat
    added, removed = next(line.split()[:2] for line in stat.splitlines() if line.endswith("a.yaml"))
    assert (added, removed) == ("1", "0")
    shell.world.sync()
    assert shell.world.state("a") == "Canceled"


def test_a_dirty_file_is_not_committed_over(shell: Shell) -> None:
    file = shell.world.repo.path / "a.yaml"
    file.write_text(file.read_text() + "# mine\n")
    shell("retry", "mission/a", code=3)
    assert file.read_text().endswith("# mine\n")


def test_an_override_is_recorded_shown_and_ended_by_writing_the_declared_value(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(mission("a", review="Human", title="taken", priority=99))
    assert "needs --reason and --ttl" in shell("apply", "-f", str(file), "--override", code=2)
    assert "--ttl needs --override" in shell("apply", "-f", str(file), "--ttl", "1h", code=2)
    arguments = ("apply", "-f", str(file), "--override", "--reason", "incident 7", "--ttl", "1h")
    assert "configured (dry run)" in shell(*arguments, "--dry-run")
    assert "overridden" in shell(*arguments)
    assert shell.world.get("Mission", "a").spec["priority"] == 99
    told = shell("describe", "mission/a")
    assert "spec.title = taken instead of do a until 20" in told
    assert "incident 7" in told
    assert "FieldsOverridden" in told
    diff = shell("diff")
    assert "override: spec.title of mission/a by cli/" in diff
    [entry] = [e for e in json.loads(shell("get", "mission", "a", "-o", "json"))["metadata"]["managedFields"]
               if e["operation"] == "Override"]  # fmt: skip
    assert (entry["reason"], entry["fieldsV1"]) == ("incident 7", {"f:spec": {"f:title": {}}})
    file.write_text(mission("a", review="Human"))
    assert "configured" in shell("apply", "-f", str(file))
    current = shell.world.get("Mission", "a")
    assert (current.spec["title"], current.spec["priority"], current.ownership.claims) == ("do a", 50, ())
    types = [e.type for e in shell.world.events("Overridden", "OverrideEnded")]
    assert types == ["Overridden", "OverrideEnded"]


def test_apply_refuses_what_git_owns_and_names_the_place(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(mission("a", priority=99))
    text = shell("apply", "-f", str(file), code=3)
    assert "spec.priority of mission/a is owned by git/default" not in text, "it may be set: nobody declares it"
    assert "spec.review of mission/a is owned by git/default, declared at a.yaml:" in text
    assert "--override --reason TEXT --ttl 1h" in text
    assert "main@sha1:" in text
    file.write_text(mission("mine", agent=None))
    assert "created" in shell("apply", "-f", str(file))
    assert "unchanged" in shell("apply", "-f", str(file))


def test_diff_tells_nothing_then_changes_then_a_guard(shell: Shell) -> None:
    world = shell.world
    shell("diff")
    (world.repo.path / "b.yaml").write_text(mission("b"))
    first = shell("diff", code=1)
    assert "mission/b" in first
    assert shell("diff", code=1) == first, "the digest is stable"
    for name in ("fleet.yaml", "a.yaml", "b.yaml"):
        (world.repo.path / name).unlink()
    assert "PruneBlocked" in shell("diff", code=3)
    found = json.loads(shell("diff", "-o", "json", code=3))
    assert found[0]["guards"][0]["reason"] == "PruneBlocked"
    assert "Remit plan" in shell("diff", "--markdown", code=3)


def test_diff_works_offline_between_two_folders(shell: Shell, tmp_path: Path) -> None:
    for name, text in (("old", mission("x", agent=None)), ("new", mission("x", agent=None, priority=80))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.yaml").write_text(text)
    text = shell("diff", "--base", str(tmp_path / "old"), "--head", str(tmp_path / "new"), code=1)
    assert "spec.priority: 50 -> 80" in text


def test_a_plan_is_kept_as_one_comment(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(ForgeType.GITEA) as forge:
        monkeypatch.setenv("CI_TOKEN", TOKEN)
        where = ("--forge", "Gitea", "--forge-url", forge.url, "--repository", REPOSITORY, "--token-env", "CI_TOKEN")
        for name in ("b", "c"):
            shell.world.repo.write(f"{name}.yaml", mission(name))
            shell("diff", "--markdown", "--comment", "7", *where, code=1)
        (body,) = forge.bodies
        assert body.startswith("<!-- remit:plan:default -->")
        assert "mission/c" in body
        shell("diff", "--comment", "7", "--comment-key", "other", *where, code=1)
        assert len(forge.bodies) == 2
        monkeypatch.setenv("CI_TOKEN", "false")
        text = shell("diff", "--comment", "7", *where, code=2)
        assert "token is not accepted" in text
        monkeypatch.delenv("CI_TOKEN")
        assert "CI_TOKEN" in shell("diff", "--comment", "7", *where, code=2)
        assert "--repository" in shell("diff", "--comment", "7", "--token-env", "CI_TOKEN", code=2)


def test_a_tampered_log_is_named(shell: Shell) -> None:
    import sqlite3

    shell("audit", "verify")
    database = next(shell.world.folder.rglob("*.db"))
    with sqlite3.connect(database) as raw:
        for (name,) in raw.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            raw.execute(f'DROP TRIGGER "{name}"')
        raw.execute("UPDATE events SET message = 'nothing happened' WHERE seq = 3")
    raw.close()
    assert "3" in shell("audit", "verify", code=2)


def test_timeline_tree_events_and_describe_tell_the_story(shell: Shell) -> None:
    assert "waits" in shell("describe", "mission/a").lower()
    assert "run/a-1" in shell("tree")
    assert "Dispatched" in shell("events")
    told = shell("timeline", "a")
    assert "cost:" in told
    assert "next:" in told
