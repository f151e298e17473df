"""What verbs do and refuse: apply, wait, revert, sync, doctor, cancel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli import settling
from cli.verbs import sync
from schemas.resource import RETRY_REQUESTED_AT
from tests.fakes.shell import Shell, configure
from tests.fakes.world import World, agent, executor, mission


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    for name in ("REMIT_NAMESPACE", "REMIT_STORE", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    world = World(tmp_path)
    configure(tmp_path)
    world.commit({"fleet.yaml": executor() + "---\n" + agent(), "a.yaml": mission("a", review="Human")})
    world.sync()
    world.finish("a-1")
    yield Shell(world, capsys)
    world.close()


# apply.


def test_apply_puts_documents_without_a_namespace_into_the_given_one(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "b.yaml").write_text(mission("b", agent=None))
    (tmp_path / "c.yaml").write_text(mission("c", agent=None))
    shell("apply", "-f", str(folder), "-f", str(tmp_path / "c.yaml"), "-n", "docs")
    assert shell("get", "missions", "-n", "docs", "-o", "name").split() == ["mission/b", "mission/c"]
    assert shell("get", "missions", "-o", "name").split() == ["mission/a"]


def test_apply_refuses_a_document_that_names_another_namespace_and_tells_the_place(
    shell: Shell, tmp_path: Path
) -> None:
    file = tmp_path / "d.yaml"
    file.write_text("# a line\n" + mission("d", agent=None).replace("name: d}", "name: d, namespace: other}"))
    said = shell("apply", "-f", str(file), "-n", "docs", code=2)
    assert f"{file}:2" in said
    assert "names the namespace other" in said
    shell("apply", "-f", str(file))
    assert shell("get", "missions", "-n", "other", "-o", "name").split() == ["mission/d"]


def test_apply_to_fields_of_git_is_refused_with_the_line_of_each_and_its_commit(shell: Shell, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(mission("a", review="None", title="mine"))
    text = shell("apply", "-f", str(file), code=3)
    commit = f"main@sha1:{shell.world.repo.head}"
    for field, line in (("spec.title", 5), ("spec.review", 6)):
        assert f"{field} of mission/a is owned by git/default, declared at a.yaml:{line} at {commit}" in text
    assert "spec.agentRef" not in text
    assert shell.world.get("Mission", "a").spec["title"] == "do a"


# wait.


def test_wait_does_not_take_the_state_from_before_an_answer_for_the_one_after_it(shell: Shell) -> None:
    shell("wait", "mission/a", "--for", "state=Review", "--timeout", "60s")
    shell("deny", "mission/a", "--changes", "--reason", "again", "--no-wait")
    said = shell("wait", "mission/a", "--for", "state=Review", "--timeout", "50ms", code=1)
    assert "an answer waits to be handled" in said
    shell.world.settle()
    shell.world.finish("a-2")
    shell.world.settle()
    assert "mission/a state=Review" in shell("wait", "mission/a", "--for", "state=Review", "--timeout", "60s")


def test_wait_does_not_take_the_state_from_before_a_retry_for_the_one_after_it(shell: Shell) -> None:
    world = shell.world
    shell("approve", "mission/a", "--no-wait")
    world.settle()
    shell("wait", "mission/a", "--for", "state=Done", "--timeout", "60s")
    resource = world.get("Mission", "a")
    with world.store.snapshot() as snapshot:
        assert settling.unhandled(snapshot, resource) == ""
        asked = replace(resource, annotations={**resource.annotations, RETRY_REQUESTED_AT: "now"})
        assert settling.unhandled(snapshot, asked) == "a request waits to be handled"
        edited = replace(resource, generation=resource.generation + 1)
        assert settling.unhandled(snapshot, edited) == "a change of its spec waits to be handled"


# revert.


def test_a_second_revert_without_a_commit_is_refused_and_says_what_to_name(shell: Shell) -> None:
    world = shell.world
    bad = world.commit({"a.yaml": mission("a", review="Human", priority=99)})
    world.sync()
    shell("revert")
    assert "undone already" in shell("revert")
    world.sync()
    head = world.repo.head
    said = shell("revert", code=3)
    assert f"undid {bad[:12]} already" in said
    assert f"revert {head[:12]}\n" in said
    assert world.repo.head == head
    shell("revert", head)
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 99


# Signed sources.


def test_a_cancel_in_a_source_of_signed_commits_is_refused_without_a_key(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "signers").write_text("")
    configure(tmp_path, verify="{allowedSigners: signers}")
    head = shell.world.repo.head
    said = shell("cancel", "mission/a", code=3)
    assert "user.signingKey" in said
    assert "spec.desiredState in a.yaml" in said
    assert shell.world.repo.head == head


# sync.


def test_sync_tells_an_error_once(capsys: pytest.CaptureFixture[str]) -> None:

    error = "missions/a.yaml:3:1: spec.titel: unknown field"
    unit = {"path": ".", "reason": "InvalidSpec", "objects": 3, "errors": [error], "message": f"1 error(s): {error}"}
    ready = {"type": "Ready", "status": "False", "reason": "InvalidSpec", "message": f"everything: 1 error(s): {error}"}
    assert sync.say({"revision": "main@sha1:1", "units": [unit], "conditions": [ready]}) == 1
    said = capsys.readouterr().out
    assert said.count(error) == 1


# doctor.


def test_doctor_says_what_is_wrong_with_keys_and_signatures_and_what_to_do(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / ".remit" / "keys"
    keys.mkdir(parents=True, mode=0o700)
    (keys / "run.key").write_bytes(b"0" * 32)
    (keys / "run.key").chmod(0o644)
    configure(tmp_path, verify="{allowedSigners: signers, gpgKeyring: ring}")
    (tmp_path / "remit.yaml").write_text((tmp_path / "remit.yaml").read_text() + "agentListen: 127.0.0.1:0\n")
    said = shell("doctor", code=1)
    assert f"BAD  key run.key: others can reach it: chmod 600 {keys / 'run.key'}" in said
    assert "BAD  verify.allowedSigners" in said
    assert "write the keys that are trusted there" in said
    monkeypatch.setenv("PATH", str(tmp_path))
    bare = shell("doctor", code=1)
    assert "BAD  git: install it" in bare
    assert "BAD  ssh-keygen (verify): install it (Debian: apt-get install openssh-client)" in bare
    assert "BAD  gpg (verify): install it (Debian: apt-get install gnupg)" in bare


def test_doctor_goes_on_where_it_may_not_look(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = shell.world.folder / ".remit" / "keys"
    keys.mkdir(parents=True, exist_ok=True)

    def refuse(path: Path) -> Iterator[Path]:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    said = shell("doctor", code=1)
    assert f"BAD  folder of keys: {keys}: permission denied: run the engine and this command as one user" in said
    assert "ok   store" in said


def test_doctor_names_the_python_that_is_too_old() -> None:
    from cli import health

    assert not health.python((3, 10, 4)).ok
    assert health.python((3, 11, 0)).ok
