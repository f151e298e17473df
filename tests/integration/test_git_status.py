"""The status branch at the level of git: compare-and-swap, crashes, objects, signatures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controllers.sources import git_worktree
from controllers.sources.git_status import MARKER, Moved, StatusBranch
from schemas.errors import Refused
from schemas.source import SourceReason
from tests.fakes.repos import Repo
from tests.fakes.signing import allowed, needs_ssh, ssh_signer
from tests.fakes.status import work_tree_state

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
PROGRAM = Path(__file__).parents[1] / "fakes" / "programs" / "status_writer.py"


@pytest.fixture(params=["sha1", "sha256"])
def repo(tmp_path: Path, request: pytest.FixtureRequest) -> Repo:
    made = Repo(tmp_path / "repo", object_format=request.param)
    made.commit({"specs.yaml": "a: b\n"})
    return made


@pytest.fixture
def branch(repo: Repo) -> Iterator[StatusBranch]:
    made = StatusBranch(repo.path, "remit/status", marker=b"# Status\n")
    yield made
    made.close()


def content(repo: Repo, revision: str = "remit/status") -> dict[str, str]:
    names = repo.git("ls-tree", "-r", "--name-only", revision).split()
    return {name: repo.git("show", f"{revision}:{name}") for name in names if name != MARKER}


def test_what_is_written_can_be_read(repo: Repo, branch: StatusBranch) -> None:
    assert branch.read() == {}
    files: dict[str, bytes | None] = {"a/b/c.yaml": b"1\n", "a/b.yaml": b"2\n", "a.yaml": b"3\n", "a-b/x.yaml": b""}
    commit = branch.commit(files, "first", NOW)
    assert commit == repo.git("rev-parse", "remit/status").strip()
    assert content(repo) == {name: text.decode() for name, text in files.items() if text is not None}
    repo.git("fsck", "--strict", "--no-dangling")
    other = StatusBranch(repo.path, "remit/status", marker=b"# Status\n")
    assert other.read().keys() == files.keys()
    assert other.commit(files, "again", NOW) is None
    other.close()


def test_many_files_become_one_pack(repo: Repo, branch: StatusBranch) -> None:
    branch.read()
    branch.commit({f"d{n % 7}/f{n}.yaml": b"%d\n" % n for n in range(500)}, "many", NOW)
    assert len(content(repo)) == 500
    assert len(list((repo.git_dir / "objects" / "pack").glob("*.pack"))) >= 1
    branch.commit({"d1/f1.yaml": b"news\n", "d2/f2.yaml": None}, "few", NOW)
    assert content(repo)["d1/f1.yaml"] == "news\n"
    assert len(content(repo)) == 499
    repo.git("fsck", "--strict", "--no-dangling")


def test_a_branch_that_moved_meanwhile_is_not_written(repo: Repo, branch: StatusBranch) -> None:
    branch.read()
    branch.commit({"a.yaml": b"1"}, "first", NOW)
    theirs = repo.commit({"b.yaml": "2"}, branch="remit/status", checkout=False)
    assert not branch.is_current
    with pytest.raises(Moved):
        branch.commit({"a.yaml": b"3"}, "second", NOW)
    assert repo.git("rev-parse", "remit/status").strip() == theirs
    assert branch.read().keys() == {"a.yaml", "b.yaml"}
    assert branch.commit({"a.yaml": b"3", "b.yaml": None}, "third", NOW)
    assert content(repo) == {"a.yaml": "3"}


def test_a_branch_that_appeared_meanwhile_is_not_written(repo: Repo, branch: StatusBranch) -> None:
    branch.read()
    repo.commit({"b.yaml": "2"}, branch="remit/status", orphan=True, checkout=False)
    with pytest.raises(Moved):
        branch.commit({"a.yaml": b"3"}, "first", NOW)


def test_a_file_and_a_folder_change_places(repo: Repo, branch: StatusBranch) -> None:
    branch.read()
    branch.commit({"a": b"1", "b/c": b"2"}, "first", NOW)
    branch.commit({"a": None, "a/x": b"3", "b/c": None, "b": b"4"}, "second", NOW)
    assert content(repo) == {"a/x": "3", "b": "4"}
    repo.git("fsck", "--strict", "--no-dangling")


@pytest.mark.parametrize("path", ["../x", "/x", ".git/config", "a/../../x", "a//b", "a/.GIT/x", "a\nb/\x00", "git~1/x"])
def test_a_path_that_leads_elsewhere_is_refused(branch: StatusBranch, path: str) -> None:
    branch.read()
    with pytest.raises(Refused):
        branch.commit({path: b"x"}, "m", NOW)
    assert branch.tip == ""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", [0, 1])
def test_kill_9_around_each_git_command_leaves_nothing_wrong(tmp_path: Path, number: int, when: str) -> None:
    repo = Repo(tmp_path / "repo")
    repo.commit({"specs.yaml": "a: b\n"})
    before = work_tree_state(repo.path)
    first = StatusBranch(repo.path, "remit/status", marker=b"# Status\n")
    first.read()
    old = first.commit({"a.yaml": b"old"}, "first", NOW)
    first.close()
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(repo.path), "a.yaml", "new", str(number), when],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done
    repo.git("fsck", "--strict", "--no-dangling")
    assert work_tree_state(repo.path) == before
    tip = repo.git("rev-parse", "remit/status").strip()
    moved = number == 1 and when == "after"
    assert (tip != old) == moved
    assert content(repo) == {"a.yaml": "new" if moved else "old"}
    again = StatusBranch(repo.path, "remit/status", marker=b"# Status\n")
    again.read()
    commit = again.commit({"a.yaml": b"new"}, "second", NOW)
    again.close()
    assert (commit is None) == moved
    assert content(repo) == {"a.yaml": "new"}
    assert repo.git("rev-list", "--count", "remit/status").strip() == "2"


def test_a_branch_with_damaged_objects_is_begun_anew(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    branch = StatusBranch(repo.path, "remit/status", marker=b"# Status\n")
    branch.read()
    commit = branch.commit({"x/a.yaml": b"1", "b.yaml": b"2"}, "first", NOW)
    branch.close()
    assert commit is not None
    repo.remove_object(repo.git("rev-parse", f"{commit}:x").strip())
    assert branch.read() == {}
    branch.commit({"x/a.yaml": b"1", "b.yaml": b"3"}, "second", NOW)
    branch.close()
    assert content(repo) == {"x/a.yaml": "1", "b.yaml": "3"}


def test_a_locked_branch_is_waited_for(repo: Repo, branch: StatusBranch) -> None:
    branch.read()
    lock = repo.git_dir / "refs" / "heads" / "remit" / "status.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    with pytest.raises(Refused, match="locked") as caught:
        branch.commit({"a": b"1"}, "m", NOW)
    assert caught.value.reason == git_worktree.REPOSITORY_BUSY
    lock.unlink()
    branch.read()
    assert branch.commit({"a": b"1"}, "m", NOW)


def test_a_signature_that_was_asked_for_and_cannot_be_made_is_a_refusal(repo: Repo) -> None:
    branch = StatusBranch(repo.path, "remit/status", marker=b"# Status\n", sign=True)
    branch.read()
    with pytest.raises(Refused, match="no key") as caught:
        branch.commit({"a": b"1"}, "m", NOW)
    branch.close()
    assert caught.value.reason == SourceReason.NOT_SIGNED
    assert repo.git("for-each-ref", "refs/heads/remit") == ""


def test_a_hook_of_the_repository_does_not_run(repo: Repo, branch: StatusBranch, tmp_path: Path) -> None:
    hooks = repo.git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("reference-transaction", "pre-commit", "post-commit", "post-update"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
        (hooks / name).chmod(0o755)
    branch.read()
    branch.commit({"a": b"1"}, "m", NOW)
    assert not (tmp_path / "ran").exists()


def test_the_commits_are_those_of_the_engine_at_its_time(repo: Repo, branch: StatusBranch) -> None:
    branch.read()
    branch.commit({"a": b"1"}, "Status: a\n\nbody", NOW)
    shown = repo.git("log", "-1", "--format=%an %ae %at %B", "remit/status").strip()
    assert shown == f"Remit remit@localhost {int(NOW.timestamp())} Status: a\n\nbody"


@needs_ssh
def test_commits_are_signed_where_that_is_asked_for(repo: Repo, tmp_path: Path) -> None:
    signer = ssh_signer(tmp_path, "engine")
    for name, value in signer.settings.items():
        repo.git("config", name, value)
    branch = StatusBranch(repo.path, "remit/status", marker=b"# Status\n", sign=True)
    branch.read()
    branch.commit({"a": b"1"}, "m", NOW)
    branch.close()
    signers = tmp_path / "signers"
    signers.write_text(allowed(("engine", signer)))
    repo.git("-c", f"gpg.ssh.allowedSignersFile={signers}", "verify-commit", "remit/status")
