"""The status branch of one repository on this machine: files go in as a commit, by plumbing.

No work tree and no index is touched. The order makes a crash harmless: objects first, unreachable until the last step
moves the branch by compare-and-swap. The branch is the only memory: whoever comes next reads from it what is there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from controllers.sources import (
    git_address,
    git_commit,
    git_folder,
    git_objects,
    git_process,
    git_refs,
    git_repository,
    git_signing,
    git_worktree,
    tree,
)
from schemas.errors import Refused, SourceUnreadable
from schemas.source import OWN_PREFIX, SourceReason

MARKER: Final = "README.md"
"""The file that says whose branch it is: what does not hold it was not written here."""
AUTHOR: Final = git_commit.Author("Remit", "remit@localhost")

_UNPACK: Final = 100  # so many objects are stored loose, more as a pack, as git does with what it fetches
_DAMAGE: Final = (tree.OBJECT_DAMAGED, tree.OBJECT_MISSING)


class Moved(Exception):
    """The branch is not where it was read: look at all of it again."""


class StatusBranch:
    """One branch, opened for writing. ``marker`` is the content of MARKER. Not thread-safe; close it."""

    def __init__(self, repository: Path, branch: str, *, marker: bytes, sign: bool = False) -> None:
        self._path = repository
        self.ref = git_commit.branch_name(branch)
        self._marker = marker
        self._sign = sign
        self._repository: git_repository.Repository | None = None
        self._folder: git_folder.Folder | None = None
        self._whole = ""  # the tip that was read or written, and not found to be damaged
        self.tip = ""

    def close(self) -> None:
        """Let go of the repository, and forget what was read."""
        repository, self._repository, self._folder, self._whole = self._repository, None, None, ""
        if repository is not None:
            repository.close()

    @property
    def is_current(self) -> bool:
        """Whether the branch is still where ``read`` or ``commit`` left it. Reads a file or two."""
        if self._repository is None or self._folder is None or not self._repository.is_current:
            return False
        return self._held(self._repository) == self.tip

    def read(self) -> Mapping[str, str]:
        """What the branch holds now: blob ids by path, without the marker.

        Raises Refused: BranchTaken, NotWritable. Raises SourceUnreadable when the repository cannot be used.
        """
        repository = self._open()
        self.tip = self._held(repository)
        digits = 40 if repository.layout.algorithm == "sha1" else 64
        self._folder = git_folder.Folder(digits)
        self._whole = ""
        if self.tip:
            with contextlib.suppress(_Unusable):
                self._folder = self._load(repository)
                self._whole = self.tip
            repository.objects.close()
            self._require_ours(repository)
        return {path: blob for path, blob in self._folder.paths() if path != MARKER}

    def holds(self, path: str, content: bytes) -> bool:
        """Whether that file stands in the branch as it was read."""
        assert self._folder is not None
        found = self._folder.get(path)
        return found is not None and found == git_objects.object_id("blob", content, len(found))

    def commit(self, files: Mapping[str, bytes | None], message: str, now: datetime) -> str | None:
        """Put files (None removes one) on the branch as one commit; its id, None when nothing differs.

        Call after ``read``. Raises Moved, with nothing changed, when the branch is elsewhere by now; Refused:
        BranchCheckedOut, RepositoryBusy, NotSigned, NotWritable; SourceUnreadable.
        """
        repository, folder = self._repository, self._folder
        assert repository is not None
        assert folder is not None
        digits = 40 if repository.layout.algorithm == "sha1" else 64
        new: dict[str, bytes] = {}
        changed = False
        for path, content in {MARKER: self._marker, **files}.items():
            git_commit.checked_path(path)
            if content is None:
                changed = changed or folder.get(path) is not None
                continue
            blob = git_objects.object_id("blob", content, digits)
            if folder.get(path) != blob:
                new[path], changed = content, True
        if not changed:
            return None
        # From here on what is in memory runs ahead of the branch: a fault has to forget it.
        self._folder = None
        for path, content in files.items():
            if content is None:
                folder.remove(path)
        for path, content in new.items():
            folder.put(path, git_objects.object_id("blob", content, digits))
        try:
            trees = list(folder.objects())
            objects = [*(("blob", data) for data in new.values()), *(("tree", data) for _, data in trees)]
            tip = self._store(repository, objects, trees[-1][0], message, now)
        except git_process.GitSilent as error:
            raise git_commit.silent(self._path) from error
        finally:
            repository.objects.close()
        self._folder, self._whole, self.tip = folder, tip, tip
        return tip

    def adopt(self, ref: str) -> bool:
        """Put the branch on what another ref of the repository holds, unless it is there or ahead of that; whether it
        was moved. For a copy of a remote one that somebody else wrote to. Raises Moved."""
        repository = self._open()
        theirs = _read(repository, ref)
        ours = self._held(repository)
        if theirs is None or theirs == ours or (ours and repository.is_ancestor(theirs, ours)):
            return False
        git_dir = repository.layout.git_dir
        try:
            identity = git_commit.identity_of(git_dir, AUTHOR, None)
            news = "taken over from the remote"
            moved = git_commit.move_branch(repository, self.ref, theirs, ours, news, identity, git_dir=git_dir)
        except git_process.GitSilent as error:
            raise git_commit.silent(self._path) from error
        if not moved:
            raise Moved
        self._folder = None
        return True

    def _open(self) -> git_repository.Repository:
        if self._repository is not None and not self._repository.is_current:
            self.close()
        if self._repository is None:
            self._repository = git_repository.Repository(self._path)
        objects = self._repository.layout.common_dir / "objects"
        if not os.access(objects, os.W_OK):
            raise Refused(
                f"{self._path} may not be written to by this user, so status stays in the store only;"
                " set statusWriteback.mode to Never, or give the user leave",
                reason=SourceReason.NOT_WRITABLE,
            )
        return self._repository

    def _held(self, repository: git_repository.Repository) -> str:
        return _read(repository, self.ref) or ""

    def _load(self, repository: git_repository.Repository) -> git_folder.Folder:
        """What the tip holds. Raises _Unusable when its objects are damaged: then everything is written anew."""
        try:
            root = repository.objects.commit_tree(self.tip, f"commit {self.tip[:12]}")
            return git_folder.read(repository.objects, root)
        except SourceUnreadable as error:
            if error.reason in _DAMAGE:
                raise _Unusable from error
            raise

    def _require_ours(self, repository: git_repository.Repository) -> None:
        """A branch of a name that others may use has to be one that was written here."""
        assert self._folder is not None
        if self.ref.removeprefix("refs/heads/").startswith(OWN_PREFIX):
            return
        if not self.holds(MARKER, self._marker):
            self._folder = None
            raise Refused(
                f"{self.ref} of {self._path} holds something else than status; name another branch in"
                " statusWriteback.branch, or delete this one",
                reason=SourceReason.BRANCH_TAKEN,
            )

    def _store(
        self, repository: git_repository.Repository, objects: list[tuple[str, bytes]], root: str, message: str,
        now: datetime,
    ) -> str:  # fmt: skip
        """Store the objects and a commit of the tree ``root``, and put the branch on it; its id."""
        git_dir = repository.layout.git_dir
        if git_worktree.checked_out(repository.path, repository.layout, self.ref) is not None:
            raise Refused(
                f"{self.ref} is checked out in a work tree of {self._path}, which would be left behind;"
                " check out another branch there",
                reason=SourceReason.BRANCH_CHECKED_OUT,
            )
        identity = git_commit.identity_of(git_dir, AUTHOR, now)
        signing = git_signing.configured(git_dir) if self._sign else None
        if self._sign and signing is None:
            raise Refused(
                f"statusWriteback.sign is set, and git has no key to sign with in {self._path};"
                " set user.signingKey there",
                reason=SourceReason.NOT_SIGNED,
            )
        parent = self.tip if self.tip and self._is_commit(repository) else ""
        if signing is None:  # goes with the rest: one process of git less
            content = git_commit.content(root, parent, message, AUTHOR, now)
            commit = git_objects.object_id("commit", content, len(root))
            self._put(repository, [*objects, ("commit", content)], len(root))
        else:
            self._put(repository, objects, len(root))
            commit = git_commit.commit_tree(git_dir, root, parent, message, identity, signing=signing)
        if not git_commit.move_branch(repository, self.ref, commit, self.tip, "status", identity, git_dir=git_dir):
            raise Moved
        return commit

    def _put(self, repository: git_repository.Repository, objects: list[tuple[str, bytes]], digits: int) -> None:
        small = len(objects) <= _UNPACK
        command = ("unpack-objects", "-q") if small else ("index-pack", "--stdin")
        done = git_process.run(
            command, git_dir=repository.layout.git_dir, stdin=git_folder.pack(objects, digits), deadline_s=120.0
        )
        if done.status:
            raise Refused(
                f"status cannot be written to {self._path}: {done.last_words}; is there room on its disk?",
                reason=SourceReason.NOT_WRITABLE,
            )

    def _is_commit(self, repository: git_repository.Repository) -> bool:
        """Whether the tip can be a parent; a damaged one is left behind."""
        if self.tip == self._whole:
            return True
        try:
            repository.objects.commit_tree(self.tip, f"commit {self.tip[:12]}")
        except SourceUnreadable:
            return False
        return True


class _Unusable(Exception):
    """The objects of the tip are damaged."""


def _read(repository: git_repository.Repository, ref: str) -> str | None:
    layout = repository.layout
    return git_refs.RefReader(layout.git_dir, layout.common_dir).read(ref)


@contextlib.contextmanager
def opened(repository: Path, branch: str, *, marker: bytes) -> Iterator[StatusBranch]:
    """A branch for the length of a block."""
    found = StatusBranch(repository, branch, marker=marker)
    try:
        yield found
    finally:
        found.close()


def local_path(url: str) -> Path | None:
    """The folder of a repository that is read in place; None for one that is fetched."""
    return git_address.parse_address(url).local
