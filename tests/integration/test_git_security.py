"""Nothing that a governed repository says is ever executed, and nothing in our environment steers git."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from controllers.sources import git_edit, git_environment, git_process, tree
from controllers.sources.git import GitReader
from schemas.errors import SourceUnreadable
from tests.fakes.repos import Repo

HOOKS = (
    *("applypatch-msg", "commit-msg", "fsmonitor-watchman", "post-checkout", "post-commit", "post-index-change"),
    *(
        "pre-commit",
        "prepare-commit-msg",
        "pre-auto-gc",
        "post-merge",
        "post-rewrite",
        "pre-push",
        "reference-transaction",
    ),
)


def everything(reader: GitReader) -> dict[str, bytes]:
    return {entry.path: data for entry, data in reader.read_blobs(reader.read_tree().entries)}


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a mark when anybody runs it, whatever its arguments."""
    program = tmp_path / "trap"
    program.write_text(f'#!/bin/sh\necho "$0 $*" >> {tmp_path}/sprung\nexit 0\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def arm(repo: Repo, trap: Path) -> None:
    """Configure everything that git runs programs for."""
    hooks = repo.git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in HOOKS:
        (hooks / hook).symlink_to(trap)
    for name in (
        *("core.fsmonitor", "core.sshCommand", "core.askPass", "core.editor", "core.pager", "core.gitProxy"),
        *("core.alternateRefsCommand", "sequence.editor", "gpg.program", "gpg.ssh.program", "diff.external"),
        *("filter.evil.clean", "filter.evil.smudge", "filter.evil.process", "diff.evil.textconv", "diff.evil.command"),
        *("merge.evil.driver", "credential.helper", "uploadpack.packObjectsHook", "interactive.diffFilter"),
        *("pager.diff-tree", "pager.cat-file", "alias.cat-file", "alias.rev-parse", "remote.origin.uploadpack"),
        *("trailer.x.command", "gc.recentObjectsHook", "browser.evil.cmd", "web.browser", "log.showSignature"),
    ):
        repo.git("config", name, str(trap) if name != "log.showSignature" else "true")
    repo.git("config", "core.hooksPath", str(hooks))
    repo.git("config", "commit.gpgSign", "true")
    repo.git("config", "filter.evil.required", "true")
    (repo.git_dir / "info").mkdir(exist_ok=True)
    (repo.git_dir / "info" / "attributes").write_text("* filter=evil diff=evil merge=evil\n")


def test_reading_and_committing_spring_no_trap(tmp_path: Path, trap: Path) -> None:
    repo = Repo(tmp_path / "r")
    first = repo.commit({"a.yaml": "1\n", "b.yaml": "1\n", ".gitattributes": "* filter=evil diff=evil\n"})
    arm(repo, trap)
    reader = GitReader(str(repo.path))
    assert everything(reader) == {"a.yaml": b"1\n", "b.yaml": b"1\n"}
    second = git_edit.commit_file(repo.path, "main", "a.yaml", "2\n", "edit")
    assert reader.head() == f"main@sha1:{second}"
    assert [change.path for change in reader.changed(first, second)] == ["a.yaml"]
    assert reader.is_ancestor(first, second)
    assert everything(reader)["a.yaml"] == b"2\n"
    reader.close()
    assert not (tmp_path / "sprung").exists()


def test_a_missing_object_is_not_fetched_from_where_the_repository_says(tmp_path: Path, trap: Path) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1\n"})
    repo.loosen()
    repo.remove_object(repo.blob("a.yaml"))
    repo.git("config", "core.repositoryFormatVersion", "1")
    repo.git("config", "extensions.partialClone", "origin")
    repo.git("config", "remote.origin.promisor", "true")
    repo.git("config", "protocol.allow", "always")
    for url in (f"ext::{trap}", str(repo.path), "ssh://localhost/x"):
        repo.git("config", "remote.origin.url", url)
        repo.git("config", "remote.origin.uploadpack", str(trap))
        repo.git("config", "core.sshCommand", str(trap))
        reader = GitReader(str(repo.path))
        with pytest.raises(SourceUnreadable) as caught:
            everything(reader)
        reader.close()
        assert caught.value.reason in (tree.OBJECT_MISSING, tree.OBJECT_DAMAGED)
    assert not (tmp_path / "sprung").exists()


def test_fetching_from_an_armed_repository_springs_no_trap(tmp_path: Path, trap: Path) -> None:
    repo = Repo(tmp_path / "r", bare=True)
    repo.commit({"a.yaml": "1\n"})
    arm(repo, trap)
    reader = GitReader(f"file://{repo.path}", cache=tmp_path / "cache")
    reader.fetch()
    assert everything(reader) == {"a.yaml": b"1\n"}
    reader.close()
    assert not (tmp_path / "sprung").exists()


def test_replacement_objects_grafts_and_filters_do_not_change_what_is_read(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    first = repo.commit({"a.yaml": "deny: all\n"})
    second = repo.commit({"b.yaml": "x"})
    allowed = repo.git("hash-object", "-w", "--stdin", stdin=b"allow: all\n").strip()
    repo.git("replace", repo.blob("a.yaml"), allowed)
    (repo.git_dir / "info").mkdir(exist_ok=True)
    (repo.git_dir / "info" / "grafts").write_text(f"{second}\n")
    (repo.git_dir / "info" / "attributes").write_text("* text eol=crlf ident\n")
    reader = GitReader(str(repo.path))
    assert everything(reader)["a.yaml"] == b"deny: all\n"
    assert reader.is_ancestor(first, second)
    reader.close()


@pytest.mark.parametrize(
    "name",
    [
        *("GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE"),
        *("GIT_CONFIG_GLOBAL", "GIT_CONFIG", "GIT_EXEC_PATH", "GIT_TRACE", "GIT_ALTERNATE_OBJECT_DIRECTORIES"),
    ],
)
def test_our_own_environment_does_not_steer_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    other = Repo(tmp_path / "other")
    other.commit({"wrong.yaml": "x"})
    repo = Repo(tmp_path / "r")
    repo.commit({"right.yaml": "x"})
    monkeypatch.setenv(name, str(other.git_dir))
    reader = GitReader(str(repo.path))
    assert list(everything(reader)) == ["right.yaml"]
    reader.close()
    git_edit.commit_file(repo.path, "main", "right.yaml", "y", "edit")
    monkeypatch.delenv(name)
    assert repo.git("show", "main:right.yaml") == "y"
    assert other.git("log", "--format=%s").split() == ["change"]


def test_the_environment_of_git_holds_only_what_is_listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("REMIT_TOKEN", "s3cret")
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    spy = Repo(tmp_path / "r")
    spy.git("config", "alias.spy", "!env")
    seen = git_process.run(("spy",), git_dir=spy.git_dir).stdout.decode()
    assert "GIT_ALLOW_PROTOCOL=none" in seen
    assert "HOME=/dev/null" in seen
    assert "s3cret" not in seen
    assert "GIT_CONFIG_COUNT" not in seen
    remote = git_process.run(("spy",), git_dir=spy.git_dir, environment=git_environment.remote("https"))
    assert "s3cret" not in remote.stdout.decode()
    assert "GIT_ALLOW_PROTOCOL=https" in remote.stdout.decode()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to give a file away")
def test_a_repository_of_another_user_is_read(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "1\n"})
    for folder, folders, files in os.walk(repo.path):
        for name in (*folders, *files, "."):
            os.chown(os.path.join(folder, name), 65534, 65534)
    reader = GitReader(str(repo.path))
    assert everything(reader) == {"a.yaml": b"1\n"}
    reader.close()


def test_a_command_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    repo.git("config", "alias.hang", f"!sh -c 'sleep 300 & echo $! > {tmp_path}/pid; wait'")
    with pytest.raises(git_process.GitSilent):
        git_process.run(("hang",), git_dir=repo.git_dir, deadline_s=0.5)
    pid = int((tmp_path / "pid").read_text())
    gives_up = time.monotonic() + 60
    while _alive(pid) and time.monotonic() < gives_up:
        threading.Event().wait(0.01)  # a signal was sent; the kernel delivers it in its own time
    assert not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_answer_without_end_is_cut_off(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    repo.git("config", "alias.flood", "!yes")
    with pytest.raises(SourceUnreadable) as caught:
        git_process.run(("flood",), git_dir=repo.git_dir, max_output=1_000_000)
    assert caught.value.reason == tree.LIMIT_EXCEEDED


def test_much_on_stderr_and_stdin_does_not_block_either_side(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    repo.git("config", "alias.noisy", "!sh -c 'head -c 3000000 /dev/zero >&2; cat'")
    done = git_process.run(("noisy",), git_dir=repo.git_dir, stdin=b"x" * 3_000_000)
    assert len(done.stdout) == 3_000_000
    assert len(done.stderr) <= 64 * 1024


def test_a_machine_without_git_says_so_and_still_reads_directories(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("x")
    program = """
        import sys
        from pathlib import Path
        from controllers.sources.directory import DirectoryReader
        from controllers.sources.git import GitReader
        from schemas.errors import SourceUnreadable
        assert len(DirectoryReader(Path(sys.argv[1])).read_tree().entries) == 1
        for _ in range(2):
            try:
                GitReader(sys.argv[1]).head()
            except SourceUnreadable as error:
                print(error.reason, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)],
        env={"PATH": str(tmp_path)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count(f"{tree.REPOSITORY_UNREACHABLE} git cannot be run on this machine; install git") == 2


def test_git_is_not_loaded_before_it_is_needed() -> None:
    program = "import sys; import controllers.sources.git; print('git' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
