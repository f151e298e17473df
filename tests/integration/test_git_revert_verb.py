"""`remit revert`: which commit it takes, where the new one goes, and that the engine follows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.main import run
from schemas.source import Verify
from tests.fakes.repos import Repo
from tests.fakes.signing import Signer, allowed, needs_ssh, sign_with, ssh_signer
from tests.fakes.world import World, mission


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name in ("REMIT_STORE", "REMIT_SOURCE_GIT_URL", "GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    made = World(tmp_path)
    configure(made)
    yield made
    made.settle()
    made.check()
    made.close()


def configure(world: World, **git: str) -> None:
    """Write remit.yaml and make the engine's source agree."""
    values = {"url": "specs", **git}
    fields = ", ".join(f"{key}: {value}" for key, value in values.items())
    (world.folder / "remit.yaml").write_text(f"source: {{git: {{{fields}}}}}\nstore: sqlite:///state.db\n")


def revert(world: World, *arguments: str) -> int:
    return run(["-C", str(world.folder), "revert", *arguments])


def text(priority: int) -> dict[str, str]:
    return {"m.yaml": mission("a", agent=None, priority=priority)}


def test_the_commit_that_was_applied_last_is_undone_and_the_engine_follows(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.commit(text(50))
    world.sync()
    bad = world.commit(text(99), message="Raise it")
    world.sync()
    world.commit({"README.md": "not applied yet\n"})
    assert revert(world, "--reason", "too much") == 0
    shown = capsys.readouterr().out
    assert f'reverted {bad[:12]} "Raise it" on main: {world.repo.head}' in shown
    assert "~ m.yaml" in shown
    assert "remit sync" in shown
    assert "too much" in world.repo.git("log", "-1", "--format=%B")
    assert world.repo.git("status", "--porcelain") == ""
    world.sync()
    assert world.get("Mission", "a").spec["priority"] == 50
    assert world.events("HistoryRewritten") == []


def test_any_commit_can_be_named_and_twice_is_harmless(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.commit(text(50))
    bad = world.commit(text(99))
    world.commit({"b.yaml": mission("b", agent=None)})
    assert revert(world, bad[:8]) == 0
    head = world.repo.head
    assert revert(world, f"main@sha1:{bad}") == 0
    assert "undone already" in capsys.readouterr().out
    assert world.repo.head == head


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "name the commit"),
        (("nope",), 3, "no commit nope"),
        (("HEAD", "--mainline", "1"), 3, "no merge"),
        (("HEAD", "--push", "main"), 3, "is the branch of the source"),
        (("HEAD", "--push", "a..b"), 3, "no branch"),
    ],
)
def test_what_cannot_be_done_is_said(
    world: World, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, words: str
) -> None:
    head = world.commit(text(50))
    assert revert(world, *arguments) == code
    assert words in capsys.readouterr().err
    assert world.repo.head == head


def test_a_conflict_is_refused_with_the_files(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.commit(text(50))
    bad = world.commit(text(60))
    head = world.commit(text(70))
    assert revert(world, bad) == 3
    assert "m.yaml" in capsys.readouterr().err
    assert world.repo.head == head


def test_a_directory_has_nothing_to_undo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "remit.yaml").write_text("source: {directory: {path: specs}}\n")
    assert run(["-C", str(tmp_path), "revert", "HEAD"]) == 2
    assert "no git repository" in capsys.readouterr().err


def test_before_anything_ran_the_commit_has_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Repo(tmp_path / "specs").commit({"a.yaml": "1\n"})
    (tmp_path / "remit.yaml").write_text("source: {git: {url: specs}}\n")
    assert run(["-C", str(tmp_path), "revert"]) == 2
    assert "revert COMMIT" in capsys.readouterr().err


def test_a_branch_without_a_remote_stays_here(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.commit(text(50))
    bad = world.commit(text(99))
    assert revert(world, bad, "--push", "undo") == 0
    shown = capsys.readouterr().out
    assert "merge undo into main" in shown
    assert world.repo.head == bad
    assert "priority: 50" in world.repo.git("show", "undo:m.yaml")
    world.sync()
    assert run(["-C", str(world.folder), "diff", "--head", "undo"]) == 1
    assert "99 -> 50" in capsys.readouterr().out


def test_a_branch_goes_to_the_remote_of_the_repository(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    forge = Repo(world.folder / "forge.git", bare=True)
    world.commit(text(50))
    bad = world.commit(text(99))
    world.repo.git("remote", "add", "origin", "../forge.git")
    world.repo.git("push", "-q", "origin", "main")
    assert revert(world, bad, "--push", "undo") == 0
    assert "open a pull request from undo to main" in capsys.readouterr().out
    assert "priority: 50" in forge.git("show", "undo:m.yaml")
    assert world.repo.git("for-each-ref", "refs/heads").count("\n") == 1


def test_a_remote_source_takes_a_branch_and_nothing_else(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    forge = Repo(world.folder / "forge.git", bare=True)
    world.commit(text(50))
    bad = world.commit(text(99))
    world.repo.git("push", "-q", str(forge.path), "main")
    configure(world, url=f"file://{forge.path}")
    assert revert(world, bad) == 3
    assert "--push" in capsys.readouterr().err
    assert revert(world, bad, "--push", "undo") == 0
    assert forge.git("rev-parse", "undo^", "main").split() == [bad, bad]
    assert revert(world, bad, "--push", "undo", "--reason", "another commit") == 3
    assert revert(world, bad, "--push", "main") == 0
    assert "priority: 50" in forge.git("show", "main:m.yaml")


# Where signatures are asked for.


@pytest.fixture
def ada(world: World) -> Signer:
    """The one who may sign; the source asks for it."""
    keys = world.folder / "keys"
    keys.mkdir()
    signer = ssh_signer(keys, "ada")
    (world.folder / "signers").write_text(allowed(("ada", signer)))
    configure(world, verify="{allowedSigners: signers}")
    world.spec = world.spec.model_copy(update={"verify": Verify(allowed_signers="signers")})
    world.restart()
    return signer


@needs_ssh
def test_without_a_key_nothing_is_committed_that_would_not_be_applied(
    world: World, ada: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_with(world.repo, ada)
    world.commit(text(50))
    bad = world.commit(text(99))
    world.repo.git("config", "--remove-section", "commit")
    world.repo.git("config", "--unset", "user.signingKey")
    assert revert(world, bad) == 3
    assert "user.signingKey" in capsys.readouterr().err
    assert world.repo.head == bad
    assert revert(world, bad, "--push", "undo") == 0
    assert "not signed" in capsys.readouterr().out


@needs_ssh
def test_the_users_key_signs_and_the_engine_applies_it(world: World, ada: Signer) -> None:
    sign_with(world.repo, ada)
    world.commit(text(50))
    world.sync()
    world.commit(text(99))
    world.sync()
    sign_with(world.repo, None)
    (world.folder / "home" / ".gitconfig").write_text(
        f"[user]\n\tsigningKey = {ada.settings['user.signingKey']}\n[gpg]\n\tformat = ssh\n"
    )
    assert revert(world) == 0
    status = world.sync()
    assert (world.reason("Source", "default", "Ready"), status.signer) == ("True/Synced", "ada")
    assert world.get("Mission", "a").spec["priority"] == 50


@needs_ssh
def test_a_key_that_does_not_count_is_refused_before_anything_moves(
    world: World, ada: Signer, capsys: pytest.CaptureFixture[str]
) -> None:
    sign_with(world.repo, ada)
    world.commit(text(50))
    bad = world.commit(text(99))
    sign_with(world.repo, ssh_signer(world.folder / "keys", "eve"))
    assert revert(world, bad) == 3
    assert "would not apply" in capsys.readouterr().err
    assert world.repo.head == bad
    assert world.repo.git("status", "--porcelain") == ""


@needs_ssh
def test_a_program_that_the_repository_names_signs_nothing(
    world: World, ada: Signer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {marker}\nexit 1\n")
    program.chmod(0o755)
    sign_with(world.repo, ada)
    world.commit(text(50))
    bad = world.commit(text(99))
    world.repo.git("config", "gpg.ssh.program", str(program))
    world.repo.git("config", "gpg.ssh.defaultKeyCommand", str(program))
    assert revert(world, bad) == 0
    assert not marker.exists()
    (world.folder / "keys" / "ada").unlink()
    assert revert(world, "HEAD") == 3
    assert "could not be signed" in capsys.readouterr().err
