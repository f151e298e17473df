"""The digest agent on real repositories, good and hostile."""

from __future__ import annotations

import os
import stat
import subprocess
import time
from pathlib import Path

import pytest
from remit_client import Canceled, Failure
from remit_client.agents import git_log
from remit_client.agents.digest import choose_range, group, render
from remit_client.agents.git_log import Commit, Git, is_ref

from tests.fakes.repos import Repo


def git(path: Path) -> Git:
    return Git(path, lambda: None)


def digest(path: Path, *, start: str = "", end: str = "", last: int = 50, by: str = "Folder") -> str:
    reader = git(path)
    repository = reader.open()
    assert repository is not None
    chosen = choose_range(reader, repository.head or "", start=start, end=end, last=last)
    commits = reader.log(chosen.start, chosen.end, chosen.most)
    total = reader.count(chosen.start, chosen.end)
    return render(chosen, commits, total, group(commits, by), shallow=repository.shallow, names=True)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "repo")
    repo.commit({"a.txt": "1"}, message="Begin")
    repo.commit({"docs/a.md": "1", "docs/b.md": "1", "src/x.py": "1"}, message="Write the docs")
    repo.commit({"src/x.py": "2"}, message="fix(src)!: mend x")
    return repo


def test_without_a_tag_the_last_commits_are_told(repo: Repo) -> None:
    text = digest(repo.path)
    assert "**3 commits by 1 author, the last commits up to HEAD.**" in text
    assert "## docs/\n\n1 commit, 3 files." in text
    assert f"- Begin (`{repo.git('rev-parse', 'HEAD~2')[:10]}`)" in text
    assert "2 commits by" in digest(repo.path, last=2)


def test_after_a_tag_only_what_came_since_is_told(repo: Repo) -> None:
    repo.git("tag", "v1.0", "HEAD~1")
    text = digest(repo.path)
    assert "**1 commit by 1 author, from v1.0 to HEAD.**" in text
    assert "Begin" not in text


def test_on_a_tag_the_release_itself_is_told(repo: Repo) -> None:
    repo.git("tag", "v1.0", "HEAD~2")
    repo.git("tag", "-a", "-m", "two", "v2.0")
    assert "**2 commits by 1 author, from v1.0 to v2.0.**" in digest(repo.path)
    repo.git("tag", "-d", "v1.0")
    assert "the last commits up to v2.0" in digest(repo.path)


def test_a_range_of_tags_branches_and_commits_can_be_named(repo: Repo) -> None:
    repo.git("tag", "v1.0", "HEAD~2")
    assert "1 commit by" in digest(repo.path, start="v1.0", end=repo.git("rev-parse", "HEAD~1").strip())
    assert "2 commits by" in digest(repo.path, start="v1.0", end="main")
    assert "**No commit from main to HEAD.**" in digest(repo.path, start="main")


def test_commits_can_be_grouped_by_the_verb_of_their_subject(repo: Repo) -> None:
    text = digest(repo.path, by="Verb")
    assert [line for line in text.split("\n") if line.startswith("## ")] == [
        "## Begin", "## Fix", "## Write", "## Authors",
    ]  # fmt: skip


def test_merges_are_counted_and_stand_in_no_group(repo: Repo) -> None:
    repo.git("checkout", "-q", "-b", "side", "HEAD~1")
    repo.commit({"side.txt": "1"}, message="Side work", branch="side")
    repo.git("checkout", "-q", "main")
    repo.git("merge", "-q", "--no-ff", "-m", "Merge side", "side")
    text = digest(repo.path)
    assert "| of these merges | 1 |" in text
    assert "- Merge side" not in text
    assert "- Side work" in text


def test_a_commit_without_files_is_told_too(repo: Repo) -> None:
    repo.git("commit", "-q", "--allow-empty", "-m", "Nothing at all")
    assert "## (no file)\n\n1 commit, 0 files.\n\n- Nothing at all" in digest(repo.path).replace("\\", "")


def test_a_shallow_clone_says_so(repo: Repo, tmp_path: Path) -> None:
    repo.git("clone", "-q", "--depth", "2", f"file://{repo.path}", str(tmp_path / "shallow"))
    text = digest(tmp_path / "shallow")
    assert "The clone is shallow" in text
    assert "2 commits by" in text


def test_a_bare_repository_can_be_told(repo: Repo, tmp_path: Path) -> None:
    repo.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    assert "3 commits by" in digest(tmp_path / "bare.git")


def test_in_a_subdirectory_only_what_concerns_it_is_told(repo: Repo) -> None:
    text = digest(repo.path / "src")
    assert "2 commits by" in text
    assert "| files touched | 1 |" in text


def test_a_repository_of_the_newer_object_format_can_be_told(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "sha256", object_format="sha256")
    repo.commit({"a": "1"}, message="Begin")
    assert "1 commit by" in digest(repo.path)


def test_a_directory_without_repository_and_a_repository_without_commit_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    assert git(tmp_path / "plain").open() is None
    empty = git(Repo(tmp_path / "empty").path).open()
    assert empty is not None
    assert empty.head is None


@pytest.mark.parametrize(
    "ref",
    ["--all", "-n1", "a..b", "HEAD@{1}", "HEAD^", "HEAD~1", "a b", "a:b", "", "a.lock", "a/", "a//b", "/a", "@", "a\n",
     "$(x)", "*", "x" * 201, "a/.b", "\u00e9"],
)  # fmt: skip
def test_hostile_refs_are_refused_before_git_sees_them(tmp_path: Path, ref: str) -> None:
    assert not is_ref(ref)
    with pytest.raises(Failure, match="is not a name"):
        Git(tmp_path, lambda: None, program="/nonexistent").resolve(ref)


@pytest.mark.parametrize("ref", ["main", "v1.0.0-rc.1", "release/2026", "a+b", "0f3a", "x_y"])
def test_ordinary_refs_are_fine(ref: str) -> None:
    assert is_ref(ref)


def test_a_ref_that_is_not_there_is_told(repo: Repo) -> None:
    with pytest.raises(Failure, match=r"UnknownRevision: input\.from: the repository has no gone"):
        digest(repo.path, start="gone")


def test_a_ref_that_names_no_commit_is_told(repo: Repo) -> None:
    repo.git("tag", "blob", repo.blob("a.txt"))
    with pytest.raises(Failure, match="UnknownRevision"):
        digest(repo.path, start="blob")


def test_subjects_names_and_paths_cannot_forge_the_digest(repo: Repo) -> None:
    env = {"GIT_AUTHOR_NAME": "Eve | **x** <b>"}
    repo.write("weird\n\x01name|`.txt", "1")
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "Add # | `x` <script> [a](b) \x1b[31m", env=env)
    (commit,) = git(repo.path).log(repo.git("rev-parse", "HEAD~1").strip(), repo.head, 10)
    assert commit.paths == ("weird\n\x01name|`.txt",)
    text = digest(repo.path)
    assert "<script>" not in text.replace("\\<", "")
    assert "\x1b" not in text
    assert "| Eve \\| \\*\\*x" in text


def test_a_file_named_like_a_commit_is_still_a_file(repo: Repo) -> None:
    name = "a" * 40
    repo.commit({name: "1", "b" * 40: "2"}, message="c" * 40)
    (commit,) = git(repo.path).log(repo.git("rev-parse", "HEAD~1").strip(), repo.head, 10)
    assert commit == Commit(repo.head, 1, "Ada", "c" * 40, (name, "b" * 40))


def test_an_author_that_is_no_utf8_is_shown(repo: Repo) -> None:
    repo.git("-c", "i18n.commitEncoding=bogus", "commit", "-q", "--allow-empty", "-F", "-", stdin=b"caf\xe9")
    digest(repo.path).encode()


def test_settings_of_the_repository_start_no_program(repo: Repo, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(trap.stat().st_mode | stat.S_IXUSR)
    for setting in ("core.fsmonitor", "core.pager", "gpg.program", "diff.external", "core.sshCommand", "core.editor",
                    "diff.x.textconv", "diff.x.command", "filter.x.smudge", "log.showSignature"):  # fmt: skip
        repo.git("config", setting, "true" if setting == "log.showSignature" else str(trap))
    repo.git("config", "core.hooksPath", str(tmp_path))
    repo.commit({".gitattributes": "* diff=x filter=x\n"}, checkout=False)
    digest(repo.path)
    assert not (tmp_path / "sprung").exists()


def test_variables_of_the_caller_do_not_point_git_elsewhere(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG_PARAMETERS"):
        monkeypatch.setenv(name, "/nonexistent")
    assert "3 commits" in digest(repo.path)


def script(tmp_path: Path, text: str) -> str:
    path = tmp_path / "git"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_without_git_the_failure_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"GitMissing.*install git"):
        Git(tmp_path, lambda: None, program="no-such-git").open()


def test_a_git_that_hangs_is_killed_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_log, "COMMAND_TIMEOUT_S", 0.3)
    program = script(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    began = time.monotonic()
    with pytest.raises(Failure, match="GitTimeout") as caught:
        Git(tmp_path, lambda: None, program=program).open()
    assert caught.value.retryable
    assert time.monotonic() - began < 20
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_git_that_never_stops_talking_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_log, "MAX_OUTPUT_BYTES", 100_000)
    with pytest.raises(Failure, match="TooMuchHistory"):
        Git(tmp_path, lambda: None, program=script(tmp_path, "exec yes")).open()


def test_a_cancel_stops_git(tmp_path: Path) -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise Canceled

    with pytest.raises(Canceled):
        Git(tmp_path, check, program=script(tmp_path, "exec sleep 60")).open()


def test_a_repository_that_git_refuses_is_told_with_its_words(tmp_path: Path) -> None:
    words = "fatal: detected dubious ownership in repository"
    with pytest.raises(Failure, match=r"RepositoryRefused.*dubious.*safe\.directory"):
        Git(tmp_path, lambda: None, program=script(tmp_path, f"echo '{words}' >&2; exit 128")).open()


def test_the_pager_and_the_terminal_are_never_asked(repo: Repo) -> None:
    done = subprocess.run(
        ["git", "-C", str(repo.path), "config", "credential.helper", "!exit 1"], check=False, capture_output=True
    )
    assert done.returncode == 0
    assert "3 commits" in digest(repo.path)
