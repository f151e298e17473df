"""Undoing a commit: what the branch holds afterwards, what is refused, and that nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from controllers.sources import git_address, git_commit, git_repository, git_revert, git_undo, git_worktree
from controllers.sources.git_revert import Order
from controllers.sources.git_signed import Signed
from schemas.errors import Refused, SourceUnreadable
from tests.fakes.repos import Repo

ADA = git_commit.Author("Ada", "ada@example.org")
WHEN = datetime(2026, 11, 21, tzinfo=UTC)
LINES = "".join(f"line {n}\n" for n in range(20))


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "specs")
    made.commit({"a.yaml": LINES, "keep.yaml": "k: 1\n"})
    return made


def order(commit: str, **options: object) -> Order:
    return replace(Order(commit, author=ADA, when=WHEN), **options)  # type: ignore[arg-type]


def undo(repo: Repo, commit: str, **options: object) -> git_revert.Reverted:
    done = git_revert.revert(repo.path, "main", order(commit, **options))
    assert done is not None
    assert done.commit == repo.head
    return done


def refusal(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.reason, str(caught.value)


def status(repo: Repo) -> str:
    return repo.git("status", "--porcelain", "--ignored")


def show(repo: Repo, path: str) -> str:
    return repo.git("show", f"main:{path}")


def test_one_commit_is_undone_and_what_came_later_stays(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": LINES.replace("line 3\n", "line three\n")}, message="Change three\n\nBecause.\n")
    repo.commit({"a.yaml": LINES.replace("line 3\n", "line three\n").replace("line 15\n", "line fifteen\n")})
    later = repo.commit({"keep.yaml": "k: 2\n"})
    done = undo(repo, bad, reason="It was four.")
    assert show(repo, "a.yaml") == LINES.replace("line 15\n", "line fifteen\n")
    assert show(repo, "keep.yaml") == "k: 2\n"
    assert (repo.path / "a.yaml").read_text() == show(repo, "a.yaml")
    assert status(repo) == ""
    assert repo.git("rev-parse", "main^").strip() == later
    assert (done.undone, done.subject, done.branch, done.pushed_to) == (bad, "Change three", "refs/heads/main", "")
    assert [change.path for change in done.changes] == ["a.yaml"]
    message = repo.git("log", "-1", "--format=%an <%ae> %ct%n%B").strip()
    assert message == (
        f'Ada <ada@example.org> {int(WHEN.timestamp())}\nRevert "Change three"\n\nIt was four.\n\n'
        f"This reverts commit {bad}."
    )


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("bare", [False, True])
def test_every_kind_of_change_is_undone(tmp_path: Path, bare: bool, object_format: str) -> None:
    repo = Repo(tmp_path / "r", bare=bare, object_format=object_format)
    first = repo.commit(
        {"edited.yaml": "1\n", "gone/deep/er.yaml": "1\n", "moved.yaml": "1\n2\n3\n", "run.sh": "#!/bin/sh\n"}
    )
    bad = repo.commit(
        {
            "edited.yaml": "2\n", "gone/deep/er.yaml": None, "moved.yaml": None, "there/now.yaml": "1\n2\n3\n",
            "new/file.yaml": "n\n", "run.sh": "#!/bin/sh\n", "grüße & co.yaml": "x\n",
        },
        modes={"run.sh": "100755"},
    )  # fmt: skip
    undo(repo, bad)
    assert repo.git("rev-parse", "main^{tree}") == repo.git("rev-parse", f"{first}^{{tree}}")
    if not bare:
        assert status(repo) == ""
        assert sorted(p.name for p in repo.path.iterdir()) == [".git", "edited.yaml", "gone", "moved.yaml", "run.sh"]
        assert not os.access(repo.path / "run.sh", os.X_OK)
    repo.git("fsck", "--strict")


def test_the_first_commit_of_all_can_be_undone(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "r")
    first = repo.commit({"a.yaml": "1\n"})
    repo.commit({"b.yaml": "1\n"})
    undo(repo, first)
    assert repo.git("ls-tree", "-r", "--name-only", "main").split() == ["b.yaml"]


def test_undoing_twice_changes_nothing_and_undoing_the_undoing_brings_it_back(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": "other\n"})
    done = undo(repo, bad)
    assert git_revert.revert(repo.path, "main", order(bad)) is None
    assert repo.head == done.commit
    undo(repo, done.commit)
    assert show(repo, "a.yaml") == "other\n"


@pytest.mark.parametrize(
    "later",
    [
        {"a.yaml": LINES.replace("line 3\n", "line 3c\n")},
        {"a.yaml": None},
        {"a.yaml": "binary \0\n"},
    ],
)
def test_a_conflict_names_the_files_and_changes_nothing(
    repo: Repo, later: dict[str | bytes, str | bytes | None]
) -> None:
    bad = repo.commit({"a.yaml": LINES.replace("line 3\n", "line 3b\n"), "keep.yaml": "k: 2\n"})
    head = repo.commit(later)
    index = repo.git("ls-files", "--stage")
    reason, message = refusal(lambda: undo(repo, bad))
    assert reason == git_undo.REVERT_CONFLICT
    assert "a.yaml" in message
    assert "keep.yaml" not in message
    assert (repo.head, repo.git("ls-files", "--stage"), status(repo)) == (head, index, "")


def test_what_was_added_and_changed_since_is_a_conflict(repo: Repo) -> None:
    bad = repo.commit({"new.yaml": "1\n"})
    repo.commit({"new.yaml": "2\n"})
    assert refusal(lambda: undo(repo, bad))[0] == git_undo.REVERT_CONFLICT


def test_a_file_that_made_room_for_a_folder_is_a_conflict(repo: Repo) -> None:
    bad = repo.commit({"keep.yaml": None})
    repo.commit({"keep.yaml/inside.yaml": "1\n"})
    assert refusal(lambda: undo(repo, bad))[0] == git_undo.REVERT_CONFLICT
    assert status(repo) == ""


def merge(repo: Repo) -> str:
    """A merge whose first parent added main.yaml and whose second added topic.yaml."""
    repo.git("checkout", "-q", "-b", "topic")
    repo.write("topic.yaml", "t\n")
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "topic")
    repo.git("checkout", "-q", "main")
    repo.write("main.yaml", "m\n")
    repo.git("add", "-A")
    repo.git("commit", "-q", "-m", "main")
    repo.git("merge", "-q", "--no-ff", "-m", "Merge topic", "topic")
    return repo.head


def test_a_merge_needs_to_know_which_side_stays(repo: Repo) -> None:
    merged = merge(repo)
    reason, message = refusal(lambda: undo(repo, merged))
    assert reason == git_undo.NEEDS_MAINLINE
    assert "--mainline 1" in message
    assert refusal(lambda: undo(repo, merged, mainline=3))[0] == git_undo.NEEDS_MAINLINE
    plain = repo.git("rev-parse", "main^").strip()
    assert refusal(lambda: undo(repo, plain, mainline=1))[0] == git_undo.NEEDS_MAINLINE
    undo(repo, merged, mainline=1)
    assert repo.git("ls-tree", "--name-only", "main").split() == ["a.yaml", "keep.yaml", "main.yaml"]
    assert "parent 1" in repo.git("log", "-1", "--format=%B")


def test_the_other_side_of_a_merge_may_stay(repo: Repo) -> None:
    undo(repo, merge(repo), mainline=2)
    assert repo.git("ls-tree", "--name-only", "main").split() == ["a.yaml", "keep.yaml", "topic.yaml"]


def test_only_commits_of_the_branch_are_undone(repo: Repo) -> None:
    repo.git("branch", "side")
    side = repo.commit({"a.yaml": "side\n"}, branch="side", checkout=False)
    assert refusal(lambda: undo(repo, side))[0] == git_undo.NOT_ON_BRANCH


def test_a_commit_is_found_by_what_people_write(repo: Repo) -> None:
    head = repo.head
    repo.git("tag", "-a", "-m", "x", "v1")
    opened = git_repository.Repository(repo.path)
    for text in (head, head[:7], f"main@sha1:{head}", "main", "refs/heads/main", "v1"):
        assert git_revert.find_commit(opened, text) == head, text
    for text in ("nope", "1" * 40, "-x", "main~1", "main; rm", "HEAD^{tree}", "", ":/Merge", repo.blob("a.yaml")[:8]):
        assert refusal(lambda text=text: git_revert.find_commit(opened, text))[0] == git_revert.COMMIT_NOT_FOUND, text
    opened.close()


def test_what_lies_behind_a_shallow_clone_cannot_be_undone(repo: Repo, tmp_path: Path) -> None:
    repo.commit({"a.yaml": "2\n"})
    shallow = Repo(tmp_path / "shallow", bare=True)
    shallow.git("fetch", "-q", "--depth=1", f"file://{repo.path}", "main:main")
    reason, message = refusal(lambda: undo(shallow, shallow.head))
    assert reason == git_undo.SHALLOW_CLONE
    assert "--unshallow" in message


# The work tree.


def test_what_else_is_staged_or_edited_stays(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    repo.write("keep.yaml", "edited\n")
    repo.write("staged.yaml", "staged\n")
    repo.write("untracked.txt", "mine\n")
    repo.git("add", "staged.yaml")
    before = status(repo)
    undo(repo, bad)
    assert status(repo) == before
    assert (repo.path / "keep.yaml").read_text() == "edited\n"
    assert repo.git("ls-tree", "--name-only", "main").split() == ["a.yaml", "keep.yaml"]


@pytest.mark.parametrize("staged", [False, True])
def test_edits_of_the_files_themselves_are_refused(repo: Repo, staged: bool) -> None:
    bad = repo.commit({"a.yaml": "bad\n", "keep.yaml": "bad\n"})
    repo.write("keep.yaml", "mine\n")
    if staged:
        repo.git("add", "-A")
    before = status(repo)
    reason, message = refusal(lambda: undo(repo, bad))
    assert reason == git_worktree.LOCAL_CHANGES
    assert "keep.yaml" in message
    assert (repo.head, status(repo)) == (bad, before)
    assert (repo.path / "a.yaml").read_text() == "bad\n"


def test_an_edit_that_is_only_staged_is_refused(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    repo.write("a.yaml", "staged\n")
    repo.git("add", "a.yaml")
    repo.write("a.yaml", "bad\n")
    before = status(repo)
    assert refusal(lambda: undo(repo, bad))[0] == git_worktree.LOCAL_CHANGES
    assert (repo.head, status(repo)) == (bad, before)


def test_a_strangers_file_in_the_way_is_refused(repo: Repo) -> None:
    bad = repo.commit({"keep.yaml": None})
    repo.write("keep.yaml", "not yours\n")
    assert refusal(lambda: undo(repo, bad))[0] == git_worktree.LOCAL_CHANGES
    assert (repo.path / "keep.yaml").read_text() == "not yours\n"


def test_a_link_in_the_work_tree_is_not_followed(repo: Repo, tmp_path: Path) -> None:
    bad = repo.commit({"deep/x.yaml": None, "keep.yaml": "2\n", "a.yaml": "2\n"})
    second = repo.commit({"deep/x.yaml": "1\n"})
    undo(repo, second)
    outside = tmp_path / "outside"
    outside.mkdir()
    (repo.path / "deep").symlink_to(outside)
    third = repo.head
    assert refusal(lambda: undo(repo, third))[0] == git_worktree.PATH_REFUSED
    assert list(outside.iterdir()) == []
    assert bad != third


def test_symlinks_are_left_to_git_in_a_work_tree_and_undone_without_one(repo: Repo, tmp_path: Path) -> None:
    bad = repo.commit({"link.yaml": "a.yaml"}, modes={"link.yaml": "120000"})
    reason, message = refusal(lambda: undo(repo, bad))
    assert reason == git_worktree.PATH_REFUSED
    assert "link.yaml" in message
    bare = Repo(tmp_path / "bare", bare=True)
    bare.git("fetch", "-q", str(repo.path), "main:main")
    undo(bare, bad)
    assert bare.git("ls-tree", "--name-only", "main").split() == ["a.yaml", "keep.yaml"]


def test_line_ends_of_the_work_tree_are_kept(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": LINES.replace("line 3", "line three")})
    (repo.path / "a.yaml").write_bytes((repo.path / "a.yaml").read_bytes().replace(b"\n", b"\r\n"))
    undo(repo, bad)
    assert (repo.path / "a.yaml").read_bytes() == LINES.replace("\n", "\r\n").encode()
    assert show(repo, "a.yaml") == LINES


def test_a_branch_that_is_checked_out_elsewhere_is_followed_there(repo: Repo, tmp_path: Path) -> None:
    repo.git("checkout", "-q", "-b", "other")
    repo.git("worktree", "add", "-q", str(tmp_path / "linked"), "main")
    bad = repo.commit({"a.yaml": "bad\n"}, checkout=False)
    subprocess.run(("git", "reset", "-q", "--hard"), cwd=tmp_path / "linked", check=True)
    undo(repo, bad)
    assert (tmp_path / "linked" / "a.yaml").read_text() == LINES
    assert (repo.path / "a.yaml").read_text() == LINES
    assert status(repo) == ""


@pytest.mark.parametrize("lock", ["index.lock", "refs/heads/main.lock"])
def test_a_lock_of_another_git_leaves_everything_as_it_was(repo: Repo, lock: str) -> None:
    bad = repo.commit({"a.yaml": "bad\n", "new/x.yaml": "x\n"})
    (repo.git_dir / lock).write_text("")
    assert refusal(lambda: undo(repo, bad))[0] == git_worktree.REPOSITORY_BUSY
    (repo.git_dir / lock).unlink()
    assert (repo.head, status(repo)) == (bad, "")
    undo(repo, bad)


def test_a_merge_in_progress_is_not_disturbed(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    (repo.git_dir / "MERGE_HEAD").write_text(bad + "\n")
    assert refusal(lambda: undo(repo, bad))[0] == git_worktree.REPOSITORY_BUSY


def test_a_branch_that_moves_meanwhile_is_tried_again(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    moved: list[str] = []

    def accept(signed: Signed) -> None:
        if not moved:
            moved.append(repo.commit({"keep.yaml": "k: 9\n"}))

    undo(repo, bad, accept=accept)
    assert repo.git("rev-parse", "main^").strip() == moved[0]
    assert (show(repo, "a.yaml"), show(repo, "keep.yaml")) == (LINES, "k: 9\n")
    assert status(repo) == ""


def test_a_commit_that_is_not_accepted_goes_nowhere(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})

    def accept(signed: Signed) -> None:
        assert signed.kind == "commit"
        raise Refused("no", reason="No")

    assert refusal(lambda: undo(repo, bad, accept=accept))[0] == "No"
    assert (repo.head, status(repo)) == (bad, "")


def test_nothing_that_the_repository_names_is_run(repo: Repo, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {marker}\nexit 0\n")
    program.chmod(0o755)
    bad = repo.commit({"a.yaml": LINES.replace("line 3", "line three")})
    repo.commit({"a.yaml": LINES.replace("line 3", "line three").replace("line 9", "nine"), ".gitattributes":
                 "*.yaml merge=mine filter=mine diff=mine\n"})  # fmt: skip
    for key in ("merge.mine.driver", "filter.mine.clean", "filter.mine.smudge", "diff.mine.command", "gpg.program",
                "gpg.ssh.program", "core.fsmonitor", "core.editor", "sequence.editor"):  # fmt: skip
        repo.git("config", key, str(program))
    repo.git("config", "commit.gpgSign", "true")
    hooks = repo.git_dir / "hooks"
    hooks.mkdir(exist_ok=True)
    for hook in ("pre-commit", "commit-msg", "prepare-commit-msg", "post-commit", "reference-transaction",
                 "post-index-change", "pre-push"):  # fmt: skip
        (hooks / hook).symlink_to(program)
    undo(repo, bad)
    assert show(repo, "a.yaml") == LINES.replace("line 9", "nine")
    assert not marker.exists()


def test_a_kill_at_any_step_leaves_a_state_that_a_second_try_completes(tmp_path: Path) -> None:
    """The program dies before its n-th git command or file; what is left is undone, or ordinary local changes."""
    program = """
        import os, sys
        from datetime import UTC, datetime
        from pathlib import Path
        from controllers.sources import git_commit, git_process, git_revert, git_worktree
        left = int(sys.argv[3])
        def counted(real):
            def call(*arguments, **options):
                global left
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), 9)
                return real(*arguments, **options)
            return call
        git_process.run = counted(git_process.run)
        git_worktree.write_file = counted(git_worktree.write_file)
        order = git_revert.Order(sys.argv[2], author=git_commit.Author("A", "a@b"))
        git_revert.revert(Path(sys.argv[1]), "main", order)
    """
    root = Path(__file__).parents[2]
    for step in range(60):
        repo = Repo(tmp_path / f"r{step}")
        good = repo.commit({"a.yaml": "1\n", "b/c.yaml": "1\n", "keep.yaml": "1\n"})
        bad = repo.commit({"a.yaml": "2\n", "b/c.yaml": None, "d/e.yaml": "new\n"})
        repo.write("keep.yaml", "mine\n")
        argv = [sys.executable, "-c", textwrap.dedent(program), str(repo.path), bad, str(step)]
        ended = subprocess.run(argv, cwd=root, check=False).returncode
        assert repo.head == bad or ended == 0
        git_revert.revert(repo.path, "main", order(bad))
        assert repo.git("rev-parse", "main^{tree}") == repo.git("rev-parse", f"{good}^{{tree}}")
        assert repo.git("rev-parse", "main^").strip() == bad
        assert status(repo) == " M keep.yaml\n"
        if ended == 0:
            break
    assert ended == 0
    assert step > 10


# Beside, and to somewhere else.


def test_a_new_branch_of_the_repository_leaves_the_work_tree_alone(repo: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    repo.write("a.yaml", "mine\n")
    done = git_revert.revert_beside(repo.path, "main", "undo/it", order(bad))
    assert done is not None
    assert repo.git("rev-parse", "undo/it").strip() == done.commit
    assert repo.git("show", "undo/it:a.yaml") == LINES
    assert repo.head == bad
    assert (repo.path / "a.yaml").read_text() == "mine\n"
    later = replace(order(bad), when=datetime(2026, 11, 22, tzinfo=UTC))
    reason, message = refusal(lambda: git_revert.revert_beside(repo.path, "main", "undo/it", later))
    assert reason == git_revert.BRANCH_EXISTS
    assert "undo/it" in message
    assert repo.git("rev-parse", "undo/it").strip() == done.commit


@pytest.mark.parametrize("name", ["", "-x", "a..b", "refs/tags/x", "HEAD", "1" * 40, "a b", "x.lock"])
def test_what_is_no_branch_name_is_refused(repo: Repo, name: str) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    assert refusal(lambda: git_revert.revert_beside(repo.path, "main", name, order(bad)))[0] == (
        git_commit.BRANCH_NOT_FOUND
    )


@pytest.fixture
def remote(repo: Repo, tmp_path: Path) -> Repo:
    made = Repo(tmp_path / "remote.git", bare=True)
    repo.git("push", "-q", str(made.path), "main:main")
    return made


def push(repo: Repo, remote: Repo, name: str, commit: str, **options: str) -> git_revert.Reverted | None:
    address = git_address.parse_address(f"file://{remote.path}")
    return git_revert.revert_and_push(repo.path, repo.head, name, address, order(commit), **options)


def test_a_branch_is_pushed_and_nothing_is_left_in_the_repository(repo: Repo, remote: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    repo.git("push", "-q", str(remote.path), "main:main")
    before = repo.git("count-objects", "-v"), repo.git("for-each-ref")
    done = push(repo, remote, "undo", bad)
    assert done is not None
    assert done.pushed_to == f"file://{remote.path}"
    assert remote.git("rev-parse", "undo", "undo^").split() == [done.commit, bad]
    assert remote.git("show", "undo:a.yaml") == LINES
    assert (repo.git("count-objects", "-v"), repo.git("for-each-ref")) == before
    remote.git("fsck", "--strict")


def test_a_push_overwrites_nobody(repo: Repo, remote: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    theirs = remote.commit({"x.yaml": "1\n"}, branch="undo", orphan=True)
    ahead = remote.commit({"y.yaml": "1\n"})
    for name, expected in (("undo", ""), ("main", ""), ("main", bad)):
        reason, message = refusal(lambda n=name, e=expected: push(repo, remote, n, bad, expected=e))
        assert reason == git_revert.PUSH_REFUSED
        assert name in message
    assert remote.git("rev-parse", "undo", "main").split() == [theirs, ahead]


def test_the_branch_itself_may_be_pushed_to_when_it_is_where_it_was(repo: Repo, remote: Repo) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    repo.git("push", "-q", str(remote.path), "main:main")
    done = push(repo, remote, "main", bad, expected=bad)
    assert done is not None
    assert remote.head == done.commit


def test_a_shallow_clone_can_push_what_it_can_undo(repo: Repo, remote: Repo, tmp_path: Path) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    repo.git("push", "-q", str(remote.path), "main:main")
    shallow = Repo(tmp_path / "shallow", bare=True)
    shallow.git("fetch", "-q", "--depth=2", f"file://{remote.path}", "main:main")
    done = push(shallow, remote, "undo", bad)
    assert done is not None
    assert remote.git("show", "undo:a.yaml") == LINES


def test_a_remote_that_is_not_there_is_said(repo: Repo, tmp_path: Path) -> None:
    bad = repo.commit({"a.yaml": "bad\n"})
    address = git_address.parse_address(f"file://{tmp_path}/nowhere")
    with pytest.raises(SourceUnreadable, match="cannot be pushed to"):
        git_revert.revert_and_push(repo.path, bad, "undo", address, order(bad))


def test_where_a_repository_pushes_to_is_read_and_not_believed(repo: Repo, remote: Repo) -> None:
    assert git_revert.push_url(repo.path, "main") == ""
    repo.git("remote", "add", "origin", str(remote.path))
    assert git_revert.push_url(repo.path, "main") == str(remote.path)
    repo.git("remote", "add", "fork", "ext::sh -c true")
    repo.git("config", "branch.main.remote", "fork")
    with pytest.raises(SourceUnreadable):
        git_address.parse_address(git_revert.push_url(repo.path, "main"))
    repo.git("config", "remote.fork.pushurl", "https://git.example.org/x")
    assert git_revert.push_url(repo.path, "main") == "https://git.example.org/x"
