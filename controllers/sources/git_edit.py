"""Commits that the CLI makes for a person: one changed file, or the first commit of a new repository.

Everything is done by plumbing, so no hook, filter, editor or signing program of the repository runs. The order makes
a crash harmless: objects first, then the file and the index, the ref last and by compare-and-swap. Cut short, it
leaves at most an uncommitted change that a second try takes up.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from controllers.sources import (
    git_address,
    git_commit,
    git_environment,
    git_objects,
    git_process,
    git_repository,
    git_signing,
    git_tree,
    git_worktree,
    tree,
)
from schemas.errors import Refused, SourceUnreadable

Author = git_commit.Author
BRANCH_NOT_FOUND: Final = git_commit.BRANCH_NOT_FOUND
FILE_CHANGED: Final = "FileChanged"
ALREADY_A_REPOSITORY: Final = "AlreadyARepository"

_ATTEMPTS: Final = 5


def commit_file(
    repository: Path,
    ref: str,
    file_path: str,
    new_text: str,
    message: str,
    author: Author | None = None,
    *,
    expected_text: str | None = None,
    when: datetime | None = None,
    signing: git_signing.Signing | None = None,
) -> str:
    """Commit one file's new text on a branch; the id of the branch's commit that holds it.

    ``repository`` is a work tree or a bare repository, ``file_path`` is relative to its root. Where the branch is
    checked out, the file is replaced there too; everything else staged or edited stays untouched. Nothing is committed
    when the file holds ``new_text`` already, so a repeated call is harmless. ``expected_text`` is what the caller
    started from. ``author`` None takes git's configured identity, or a fallback; ``when`` None is now; ``signing``
    None leaves the commit unsigned, which a source with ``verify`` does not apply.

    Raises Refused: NotSigned, LocalChanges (the file has edits that are not committed), FileChanged (not
    ``expected_text`` any more), RepositoryBusy (another git operation), BranchNotFound, PathRefused. Raises
    SourceUnreadable when the repository cannot be read.
    """
    repository = repository.absolute()
    branch = git_commit.branch_name(ref)
    path = git_commit.checked_path(file_path)
    content = new_text.encode()
    try:
        with contextlib.closing(git_repository.Repository(repository)) as opened:
            identity = git_commit.identity_of(opened.layout.git_dir, author, when)
            for _ in range(_ATTEMPTS):
                edit = _Edit(opened, branch, path, content, identity, signing)
                if edit.old is not None and edit.old[2] == content:
                    return edit.head
                if expected_text is not None and (edit.old is None or edit.old[2] != expected_text.encode()):
                    raise Refused(
                        f"{path} on {ref} is no longer what this change started from; look at it again",
                        reason=FILE_CHANGED,
                    )
                commit = edit.commit(message)
                if commit is not None:
                    return commit
    except git_process.GitSilent as error:
        raise git_commit.silent(repository) from error
    raise Refused(
        f"{ref} of {repository} kept moving while {path} was committed; try again", reason=git_worktree.REPOSITORY_BUSY
    )


def init_repository(
    path: Path,
    files: Mapping[str, bytes],
    message: str,
    *,
    author: Author | None = None,
    branch: str = "main",
    when: datetime | None = None,
) -> str:
    """Make ``path`` a git repository with a work tree whose first commit holds ``files``; the commit's id.

    A folder that exists is taken as it is: other files in it stay uncommitted. A run that was cut short is taken up.
    Raises Refused: AlreadyARepository when there are commits, FileChanged when a file exists with other content,
    PathRefused.
    """
    path = path.absolute()
    git_dir = path / ".git"
    names = {git_commit.checked_path(name): content for name, content in files.items()}
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.path.lexists(git_dir):
            options = ("--quiet", "--template=", f"--initial-branch={git_address.parse_ref(branch)}")
            git_commit.must((f"--work-tree={path}", "init", *options), git_dir)
        layout = git_repository.find_layout(path)
        head = git_commit.must(("symbolic-ref", "HEAD"), layout.git_dir).decode().strip()
        if git_process.run(("rev-parse", "-q", "--verify", "HEAD"), git_dir=layout.git_dir).status == 0:
            raise Refused(f"{path} is a git repository with commits already", reason=ALREADY_A_REPOSITORY)
        for name, content in names.items():
            if git_worktree.read_file(path, name) not in (None, content):
                raise Refused(f"{path / name} exists with other content; move it away", reason=FILE_CHANGED)
        for name, content in names.items():
            git_worktree.write_file(path, name, content)
        rows = [f"100644 {git_commit.store_blob(layout.git_dir, content)}\t{name}\0" for name, content in names.items()]
        index_info = ("update-index", "-z", "--index-info")
        with tempfile.TemporaryDirectory(prefix="remit-index-") as folder:
            apart = {**git_environment.local(), "GIT_INDEX_FILE": f"{folder}/index"}
            git_commit.must(index_info, layout.git_dir, environment=apart, stdin="".join(rows).encode())
            first = git_commit.must(("write-tree",), layout.git_dir, environment=apart).decode().strip()
        git_commit.must(index_info, layout.git_dir, stdin="".join(rows).encode())
        identity = git_commit.identity_of(layout.git_dir, author, when)
        commit = git_commit.commit_tree(layout.git_dir, first, "", message, identity)
        git_commit.must(("update-ref", head, commit, "0" * len(commit)), layout.git_dir, environment=identity)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}", reason=git_worktree.PATH_REFUSED) from error
    except git_process.GitSilent as error:
        raise git_commit.silent(path) from error
    return commit


class _Edit:
    """One attempt to put one file on top of a branch as it is now. ``old`` is (mode, blob, content) of the file."""

    def __init__(
        self,
        repository: git_repository.Repository,
        branch: str,
        path: str,
        content: bytes,
        identity: Mapping[str, str],
        signing: git_signing.Signing | None,
    ) -> None:
        self._repository = repository
        self._layout = repository.layout
        self._branch = branch
        self._path = path
        self._content = content
        self._identity = identity
        self._signing = signing
        self.head = self._current()
        self.old = self._old()

    def commit(self, message: str) -> str | None:
        """Make the commit; None when the branch moved meanwhile and nothing was changed."""
        mode = self.old[0] if self.old is not None else "100644"
        checkout = git_worktree.checked_out(self._repository.path, self._layout, self._branch)
        before = self._require_untouched(checkout) if checkout is not None else None
        blob = git_commit.store_blob(self._layout.git_dir, self._content)
        new = self._tree_with((mode, blob))
        commit = git_commit.commit_tree(
            self._layout.git_dir, new, self.head, message, self._identity, signing=self._signing
        )
        if checkout is None:
            return commit if self._move(commit, message, self._layout.git_dir) else None
        # The place before the ref: a crash in between leaves an ordinary uncommitted change, never a branch whose
        # checkout looks as if somebody had undone its last commit.
        git_worktree.write_file(checkout.path, self._path, self._in_place(before), mode)
        moved = False
        try:
            git_worktree.stage(checkout, self._path, (mode, blob))
            try:
                moved = self._move(commit, message, checkout.git_dir)
            finally:
                if not moved:
                    git_worktree.stage(checkout, self._path, self.old[:2] if self.old is not None else None)
        finally:
            if not moved:
                git_worktree.write_file(checkout.path, self._path, before, mode)
        return commit

    def _current(self) -> str:
        try:
            return self._repository.commit_of((self._branch,), self._branch)
        except SourceUnreadable as error:
            if error.reason == tree.EMPTY_REPOSITORY:
                return ""
            if error.reason == tree.REF_NOT_FOUND:
                raise Refused(
                    f"{self._repository.path} has no branch {self._branch}; create it first", reason=BRANCH_NOT_FOUND
                ) from error
            raise

    def _old(self) -> tuple[str, str, bytes] | None:
        if not self.head:
            return None
        objects = self._repository.objects
        row = git_tree.Place(objects, objects.commit_tree(self.head, f"commit {self.head[:12]}")).row(self._path)
        if row is None:
            return None
        mode = row.mode.decode("ascii", "replace")
        if mode not in ("100644", "100755"):
            raise Refused(f"{self._path} is not a regular file on {self._branch}", reason=git_worktree.PATH_REFUSED)
        wanted = git_objects.Wanted(row.oid, "blob", self._path, git_process.MAX_OUTPUT)
        return mode, row.oid, objects.content(wanted)

    def _require_untouched(self, checkout: git_worktree.WorkTree) -> bytes | None:
        """What the file of the work tree holds; Refused unless it is as committed, or already as wanted."""
        git_worktree.require_idle(checkout)
        found = git_worktree.read_file(checkout.path, self._path)
        digits = len(self.head) or (40 if self._layout.algorithm == "sha1" else 64)
        new = git_objects.object_id("blob", self._content, digits)
        staged = git_worktree.staged(checkout, self._path)
        old_blob, old = (self.old[1], self.old[2]) if self.old is not None else (None, None)
        as_committed = found == old or (found is not None and found.replace(b"\r\n", b"\n") == old)
        if (staged[1] if staged is not None else None) not in (old_blob, new) or not (
            as_committed or found == self._content
        ):
            raise Refused(
                f"{checkout.path / self._path} has changes that are not committed; commit, stash or undo them first",
                reason=git_worktree.LOCAL_CHANGES,
            )
        return found

    def _in_place(self, before: bytes | None) -> bytes:
        """The new content as the work tree holds it: with CRLF where the file had it and the commit has not."""
        old = self.old[2] if self.old is not None else None
        if before is not None and before != old and before != self._content:
            return self._content.replace(b"\n", b"\r\n")
        return self._content

    def _tree_with(self, entry: tuple[str, str]) -> str:
        """The id of the branch's tree with the file set, made in an index of its own."""
        with tempfile.TemporaryDirectory(prefix="remit-index-") as folder:
            environment = {**git_environment.local(), "GIT_INDEX_FILE": f"{folder}/index"}
            git_dir = self._layout.git_dir
            git_commit.must(("read-tree", self.head or "--empty"), git_dir, environment=environment)
            cacheinfo = f"{entry[0]},{entry[1]},{self._path}"
            git_commit.must(("update-index", "--add", "--cacheinfo", cacheinfo), git_dir, environment=environment)
            return git_commit.must(("write-tree",), git_dir, environment=environment).decode().strip()

    def _move(self, commit: str, message: str, git_dir: Path) -> bool:
        """Put the branch on ``commit`` if it is still where this attempt began."""
        return git_commit.move_branch(
            self._repository, self._branch, commit, self.head, message, self._identity, git_dir=git_dir
        )
