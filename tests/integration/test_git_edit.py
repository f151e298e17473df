"""Commits made for a person: in the work tree where the branch is checked out, by plumbing elsewhere."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controllers.sources import git_edit, git_worktree
from controllers.sources.git import GitReader
from schemas.errors import Refused, SourceUnreadable
from tests.fakes.repos import Repo

ADA = git_edit.Author("Ada", "ada@example.org")
WHEN = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    repo = Repo(tmp_path / "r")
    repo.commit({"a.yaml": "a: 1\n", "sub/b.yaml": "b: 1\n"})
    return repo


def edit(repo: Repo | Path, path: str = "a.yaml", text: str = "a: 2\n", **options: object) -> str:
    where = repo.path if isinstance(repo, Repo) else repo
    options = {"ref": "main", "message": "Change it", "author": ADA, "when": WHEN, **options}
    return git_edit.commit_file(where, options.pop("ref"), path, text, options.pop("message"), **options)  # type: ignore[arg-type]


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.reason, str(caught.value)


def status(repo: Repo) -> str:
    return repo.git("status", "--porcelain")


def test_an_edit_in_a_work_tree_commits_that_file_and_nothing_else(repo: Repo) -> None:
    old = repo.head
    repo.write("staged.yaml", "mine\n")
    repo.git("add", "staged.yaml")
    repo.write("sub/b.yaml", "being edited\n")
    repo.write("untracked.txt", "mine\n")
    before = status(repo)
    commit = edit(repo)
    assert repo.head == commit
    assert repo.git("diff", "--name-only", old, commit).split() == ["a.yaml"]
    assert (repo.path / "a.yaml").read_text() == "a: 2\n"
    assert status(repo) == before
    assert repo.git("log", "-1", "--format=%an <%ae> %cn %ct %B").split("\n")[0] == (
        f"Ada <ada@example.org> Ada {int(WHEN.timestamp())} Change it"
    )
    assert repo.git("rev-parse", "main^").strip() == old
    assert "remit: Change it" in repo.git("reflog", "main")
    repo.git("fsck", "--strict")


def test_a_new_file_in_a_new_folder_is_committed(repo: Repo) -> None:
    edit(repo, "decisions/2026/über.yaml", "ok: true\n")
    assert repo.git("show", "main:decisions/2026/über.yaml") == "ok: true\n"
    assert (repo.path / "decisions/2026/über.yaml").read_text() == "ok: true\n"
    assert status(repo) == ""


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_a_bare_repository_is_committed_to_by_plumbing(tmp_path: Path, object_format: str) -> None:
    repo = Repo(tmp_path / "b.git", bare=True, object_format=object_format)
    old = repo.commit({"a.yaml": "a: 1\n", "sub/b.yaml": "b: 1\n"})
    edit(repo, "sub/c.yaml", "c: 1\n")
    assert repo.git("diff", "--name-status", old, "main") == "A\tsub/c.yaml\n"
    edit(repo, "sub/b.yaml", "b: 2\n")
    assert repo.git("show", "main:sub/b.yaml") == "b: 2\n"
    repo.git("fsck", "--strict")


def test_the_first_commit_of_an_empty_repository_can_be_made(tmp_path: Path) -> None:
    for bare in (True, False):
        repo = Repo(tmp_path / f"r{bare}", bare=bare)
        commit = edit(repo)
        assert repo.git("log", "--format=%H %P").split() == [commit]
        assert bare or status(repo) == ""


def test_a_branch_that_is_not_checked_out_leaves_the_work_tree_alone(repo: Repo) -> None:
    repo.git("branch", "side")
    repo.write("a.yaml", "being edited\n")
    before = status(repo)
    commit = edit(repo, ref="side")
    assert repo.git("rev-parse", "side").strip() == commit
    assert (repo.path / "a.yaml").read_text() == "being edited\n"
    assert status(repo) == before


def test_a_branch_checked_out_in_a_linked_work_tree_is_updated_there(repo: Repo, tmp_path: Path) -> None:
    linked = tmp_path / "linked"
    repo.git("worktree", "add", "-q", "-b", "side", str(linked))
    edit(repo, ref="side")
    assert (linked / "a.yaml").read_text() == "a: 2\n"
    assert repo.git("-C", str(linked), "status", "--porcelain") == ""
    edit(linked, ref="main", text="a: 3\n")
    assert (repo.path / "a.yaml").read_text() == "a: 3\n"
    assert status(repo) == ""
    (linked / "a.yaml").write_text("mine\n")
    assert refusal(lambda: edit(repo, ref="side", text="a: 4\n"))[0] == git_worktree.LOCAL_CHANGES


def test_a_repository_with_a_separate_git_folder_is_updated_in_its_work_tree(repo: Repo, tmp_path: Path) -> None:
    repo.git("init", "-q", "--template=", f"--separate-git-dir={tmp_path / 'apart.git'}")
    edit(repo)
    assert (repo.path / "a.yaml").read_text() == "a: 2\n"
    assert status(repo) == ""
    reason, message = refusal(lambda: edit(tmp_path / "apart.git", text="a: 3\n"))
    assert reason == git_worktree.PATH_REFUSED
    assert "name the work tree" in message


@pytest.mark.parametrize("how", ["edited", "staged", "deleted", "staged and reverted", "removed from the index"])
def test_a_file_with_changes_of_its_own_is_refused_and_untouched(repo: Repo, how: str) -> None:
    if how == "deleted":
        (repo.path / "a.yaml").unlink()
    elif how == "removed from the index":
        repo.git("rm", "-q", "--cached", "a.yaml")
    else:
        repo.write("a.yaml", "mine\n")
        if how != "edited":
            repo.git("add", "a.yaml")
        if how == "staged and reverted":
            repo.write("a.yaml", "a: 1\n")
    before, head = status(repo), repo.head
    reason, message = refusal(lambda: edit(repo))
    assert reason == git_worktree.LOCAL_CHANGES
    assert "a.yaml" in message
    assert "commit, stash or undo" in message
    assert (status(repo), repo.head) == (before, head)


def test_an_untracked_file_in_the_way_is_refused(repo: Repo) -> None:
    repo.write("new.yaml", "mine\n")
    assert refusal(lambda: edit(repo, "new.yaml"))[0] == git_worktree.LOCAL_CHANGES
    assert (repo.path / "new.yaml").read_text() == "mine\n"


def test_a_file_in_conflict_and_a_merge_in_progress_are_refused(repo: Repo) -> None:
    repo.git("branch", "side")
    repo.commit({"a.yaml": "theirs\n"}, branch="side")
    repo.commit({"a.yaml": "ours\n"})
    with pytest.raises(subprocess.CalledProcessError):
        repo.git("merge", "side")
    reason, message = refusal(lambda: edit(repo, "other.yaml"))
    assert reason == git_worktree.REPOSITORY_BUSY
    assert "merge is in progress" in message


def test_saying_the_same_again_makes_no_commit(repo: Repo) -> None:
    commit = edit(repo)
    assert edit(repo) == commit
    assert edit(repo, expected_text="something else") == commit
    assert repo.head == commit


def test_a_change_based_on_another_text_is_refused(repo: Repo) -> None:
    assert refusal(lambda: edit(repo, expected_text="a: 0\n"))[0] == git_edit.FILE_CHANGED
    assert refusal(lambda: edit(repo, "none.yaml", expected_text="a: 0\n"))[0] == git_edit.FILE_CHANGED
    edit(repo, expected_text="a: 1\n")


def test_modes_and_line_ends_of_the_file_are_kept(repo: Repo) -> None:
    repo.commit({"run.yaml": "x: 1\n", "dos.yaml": "x: 1\n", "crlf.yaml": "x: 1\r\n"}, modes={"run.yaml": "100755"})
    repo.write("dos.yaml", "x: 1\r\n")  # as core.autocrlf checks it out
    edit(repo, "run.yaml", "x: 2\n")
    edit(repo, "dos.yaml", "x: 2\n")
    edit(repo, "crlf.yaml", "x: 2\r\n")
    assert (repo.path / "run.yaml").stat().st_mode & stat.S_IXUSR
    assert repo.git("ls-tree", "main", "run.yaml").startswith("100755")
    assert (repo.path / "dos.yaml").read_bytes() == b"x: 2\r\n"
    assert repo.git("show", "main:dos.yaml") == "x: 2\n"
    assert (repo.path / "crlf.yaml").read_bytes() == b"x: 2\r\n"


@pytest.mark.parametrize(
    "path",
    [
        *("../x.yaml", "/etc/x.yaml", "a/../../x", "", ".", ".git/config", "sub/.GIT/hooks/pre-commit", "git~1/x"),
        *("sub", "a.yaml/x.yaml", "link/x.yaml", "out/x.yaml", "link.yaml", "a\nb", "x" * 2000),
    ],
)
def test_a_path_that_leads_elsewhere_is_refused_and_nothing_is_written(repo: Repo, tmp_path: Path, path: str) -> None:
    (tmp_path / "outside").mkdir()
    repo.commit(
        {"link": "sub", "out": str(tmp_path / "outside"), "link.yaml": "a.yaml"},
        modes=dict.fromkeys(("link", "out", "link.yaml"), "120000"),
    )
    head, before = repo.head, status(repo)
    refusal(lambda: edit(repo, path))
    assert (repo.head, status(repo)) == (head, before)
    assert list((tmp_path / "outside").iterdir()) == []
    assert (repo.path / "a.yaml").read_text() == "a: 1\n"


@pytest.mark.parametrize("ref", ["gone", "HEAD", "refs/tags/v1", "1" * 40])
def test_only_an_existing_branch_is_committed_to(repo: Repo, ref: str) -> None:
    assert refusal(lambda: edit(repo, ref=ref))[0] == git_edit.BRANCH_NOT_FOUND


@pytest.mark.parametrize("ref", ["-x", "a b", "main~1", ""])
def test_text_that_is_no_ref_is_refused(repo: Repo, ref: str) -> None:
    with pytest.raises(SourceUnreadable):
        edit(repo, ref=ref)


def test_a_commit_that_others_race_loses_nothing(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r.git", bare=True)
    repo.commit({"seed.yaml": "x"})
    failures: list[BaseException] = []
    reasons: set[str] = set()

    def work(number: int) -> None:
        try:
            for step in range(6):
                while True:
                    try:
                        edit(repo, f"f{number}.yaml", f"step: {step}\n")
                        break
                    except Refused as error:
                        reasons.add(error.reason)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert reasons <= {git_worktree.REPOSITORY_BUSY}
    assert len(repo.git("rev-list", "main").split()) == 1 + 3 * 6
    assert {repo.git("show", f"main:f{n}.yaml") for n in range(3)} == {"step: 5\n"}


def test_a_locked_branch_is_refused_and_the_work_tree_is_as_before(repo: Repo) -> None:
    lock = repo.git_dir / "refs/heads/main.lock"
    lock.write_text("")
    reason, message = refusal(lambda: edit(repo))
    assert reason == git_worktree.REPOSITORY_BUSY
    assert "main.lock" in message
    assert (repo.path / "a.yaml").read_text() == "a: 1\n"
    assert status(repo) == ""
    lock.unlink()
    edit(repo)


def test_a_locked_index_is_refused_and_the_work_tree_is_as_before(repo: Repo) -> None:
    (repo.git_dir / "index.lock").write_text("")
    reason, message = refusal(lambda: edit(repo))
    assert reason == git_worktree.REPOSITORY_BUSY
    assert "index.lock" in message
    (repo.git_dir / "index.lock").unlink()
    assert status(repo) == ""
    assert repo.git("rev-list", "--count", "main").strip() == "1"


def test_a_kill_at_any_step_leaves_a_state_that_a_second_try_completes(repo: Repo) -> None:
    """The program dies before its n-th git command; what is left is committed or an ordinary local change."""
    program = """
        import os, sys
        from datetime import UTC, datetime
        from pathlib import Path
        from controllers.sources import git_edit, git_process
        left = int(sys.argv[2])
        real = git_process.run
        def counted(*arguments, **options):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), 9)
            return real(*arguments, **options)
        git_process.run = counted
        git_edit.commit_file(Path(sys.argv[1]), "main", "a.yaml", sys.argv[3], "x", git_edit.Author("A", "a@b"))
    """
    root = Path(__file__).parents[2]
    for step in range(30):
        text = f"step: {step}\n"
        argv = [sys.executable, "-c", textwrap.dedent(program), str(repo.path), str(step), text]
        ended = subprocess.run(argv, cwd=root, check=False).returncode
        committed = repo.git("show", "main:a.yaml") == text
        assert status(repo) == "" if committed else status(repo) in ("", " M a.yaml\n", "M  a.yaml\n")
        edit(repo, text=text)
        assert repo.git("show", "main:a.yaml") == text
        assert status(repo) == ""
        if ended == 0:
            break
    assert ended == 0
    assert step > 5


def test_an_identity_is_found_on_any_machine(repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    edit(repo, author=None)
    name, email = repo.git("log", "-1", "--format=%an|%ae").strip().split("|")
    assert name
    assert email.endswith("@localhost")
    (tmp_path / ".gitconfig").write_text("[user]\n\tname = Grace\n\temail = grace@example.org\n")
    edit(repo, text="a: 3\n", author=None)
    assert repo.git("log", "-1", "--format=%an|%ae").strip() == "Grace|grace@example.org"
    repo.git("config", "user.name", "Local")
    edit(repo, text="a: 4\n", author=None)
    assert repo.git("log", "-1", "--format=%an").strip() == "Local"
    edit(repo, text="a: 5\n", author=git_edit.Author("Eve\n<x>", "<\0>"))
    assert repo.git("log", "-1", "--format=%an|%ae").strip() == "Eve x|remit@localhost"


def test_a_message_is_taken_as_it_is(repo: Repo) -> None:
    edit(repo, message="--amend\n\n# not a comment\nApproved-by: Ada\n")
    assert repo.git("log", "-1", "--format=%B").strip() == "--amend\n\n# not a comment\nApproved-by: Ada"


def test_a_new_repository_holds_its_files_and_leaves_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    where = tmp_path / "deep" / "specs"
    where.mkdir(parents=True)
    (where / "mine.txt").write_text("mine\n")
    (where / ".gitattributes").write_text("* text eol=crlf\n")
    files = {"agents/a.yaml": b"a: 1\nb: 2\n", "ü.yaml": b"x"}
    commit = git_edit.init_repository(where, files, "Start", when=WHEN)
    reader = GitReader(str(where))
    assert reader.head() == f"main@sha1:{commit}"
    assert {e.path: data for e, data in reader.read_blobs(reader.read_tree().entries)} == files
    reader.close()
    assert (where / "agents/a.yaml").read_bytes() == files["agents/a.yaml"]
    done = subprocess.run(["git", "status", "--porcelain"], cwd=where, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["?? .gitattributes", "?? mine.txt", ""]
    assert refusal(lambda: git_edit.init_repository(where, files, "Again"))[0] == git_edit.ALREADY_A_REPOSITORY
    assert os.listdir(where / ".git/hooks") == [] if (where / ".git/hooks").exists() else True


def test_a_file_in_the_way_of_a_new_repository_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("mine")
    reason, _ = refusal(lambda: git_edit.init_repository(tmp_path, {"a.yaml": b"1", "b.yaml": b"2"}, "Start"))
    assert reason == git_edit.FILE_CHANGED
    assert not (tmp_path / "a.yaml").exists()


def test_an_init_that_was_cut_short_is_taken_up(tmp_path: Path) -> None:
    repo = Repo(tmp_path)
    repo.write("a.yaml", "1")
    commit = git_edit.init_repository(tmp_path, {"a.yaml": b"1", "b.yaml": b"2"}, "Start", author=ADA)
    assert repo.head == commit
    assert status(repo) == ""


@pytest.mark.parametrize("name", ["../x", "/x", ".git/config", "a\nb", ""])
def test_a_new_repository_refuses_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    assert (
        refusal(lambda: git_edit.init_repository(tmp_path / "r", {name: b""}, "Start"))[0] == git_worktree.PATH_REFUSED
    )
    assert not (tmp_path / "r").exists()
