"""A repository on this machine, opened for reading: its folders, refs, history, and what changed between commits."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controllers.sources import git_address, git_objects, git_process, git_refs, tree
from schemas.errors import SourceUnreadable

_NEAR: Final = 8
"""How many commits are read to find one that comes before another, until git is asked."""
_EMPTY_TREES: Final = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a repository keeps its things. ``git_dir`` is that of one work tree, ``common_dir`` what all share.
    ``algorithm`` is ``sha1`` or ``sha256``."""

    git_dir: Path
    common_dir: Path
    algorithm: str
    bare: bool


def find_layout(path: Path, *, deadline_s: float = git_process.DEFAULT_DEADLINE_S) -> Layout:
    """Look at the repository whose work tree, ``.git`` or bare folder is ``path``; parents are not searched.

    Raises SourceUnreadable with RepositoryUnreachable when there is none, or git cannot use it.
    """
    dot_git = path / ".git"
    # Given with --git-dir, a repository of another user is read like any other. What its owner could make git run
    # is switched off by git_process, and the operator named this path.
    git_dir = dot_git if os.path.lexists(dot_git) else path
    if not path.is_dir():
        raise _unreachable(path, "there is no such folder")
    asked = ("--absolute-git-dir", "--git-common-dir", "--show-object-format", "--is-bare-repository")
    try:
        found = git_process.run(("rev-parse", *asked), git_dir=git_dir, deadline_s=deadline_s)
    except git_process.GitSilent as error:
        raise _unreachable(path, f"git did not answer within {deadline_s:g} s") from error
    if found.status:
        words = found.last_words
        if "not a git repository" in words:
            words = "it is not a git repository (for a folder inside one, give the repository and set the path)"
        raise _unreachable(path, words)
    lines = os.fsdecode(found.stdout).splitlines()
    if len(lines) != 4 or lines[2] not in _EMPTY_TREES:
        raise _unreachable(path, "git described it in a way that is not understood")
    absolute = Path(lines[0])
    # Git answers relative to its working directory, which is "/".
    return Layout(absolute, Path("/") / lines[1], lines[2], lines[3] == "true")


class Repository:
    """One repository, open for reading. Keeps up to three git processes; not thread-safe; close it."""

    def __init__(self, path: Path, *, deadline_s: float = git_process.DEFAULT_DEADLINE_S) -> None:
        self.path = path
        self.layout = find_layout(path, deadline_s=deadline_s)
        self._deadline_s = deadline_s
        self._identity = _identity(self.layout.git_dir)
        self.objects = git_objects.ObjectReader(self.layout.git_dir, deadline_s=deadline_s)
        self._refs = git_refs.RefReader(self.layout.git_dir, self.layout.common_dir)
        self._differ = git_process.Dialogue(
            ("diff-tree", "--stdin", "-r", "-z", "--no-renames"), self.layout.git_dir, deadline_s=deadline_s
        )
        self._peeled: tuple[str, str] = ("", "")

    @property
    def is_current(self) -> bool:
        """False once the folder was removed or replaced: open it anew."""
        return _identity(self.layout.git_dir) == self._identity

    @property
    def pids(self) -> tuple[int, ...]:
        """Ids of the open git processes."""
        return self.objects.pids + (() if self._differ.pid is None else (self._differ.pid,))

    def close(self) -> None:
        """End the git processes."""
        self.objects.close()
        self._differ.stop()

    def commit_of(self, names: Sequence[str], shown: str) -> str:
        """The commit that the first existing one of ``names`` leads to; ``shown`` is what the operator wrote."""
        if git_address.is_commit(shown):
            return self.objects.peel(shown, f"commit {shown}")
        for name in names:
            oid = self._refs.read(name)
            if oid is not None:
                if self._peeled[0] != oid:
                    self._peeled = (oid, self.objects.peel(oid, f"ref {name}"))
                return self._peeled[1]
        if not self._has_refs():
            raise SourceUnreadable(
                f"the repository {self.path} has no commit yet; commit and push the specs first",
                reason=tree.EMPTY_REPOSITORY,
            )
        raise SourceUnreadable(
            f"the repository {self.path} has no branch or tag {shown}; name an existing one, or push it again",
            reason=tree.REF_NOT_FOUND,
        )

    def object_of(self, names: Sequence[str], shown: str) -> str | None:
        """The id of the object that a ref holds, an annotated tag or a commit; see ``commit_of`` for the names."""
        if git_address.is_commit(shown):
            return shown
        return next((oid for name in names if (oid := self._refs.read(name)) is not None), None)

    @property
    def empty_tree(self) -> str:
        """The id of the tree that holds nothing."""
        return _EMPTY_TREES[self.layout.algorithm]

    @property
    def is_shallow(self) -> bool:
        """Whether it is a shallow clone: what lies behind its boundary cannot be seen."""
        return (self.layout.common_dir / "shallow").exists()

    def bringer(self, commit: str, path: str) -> str | None:
        """The commit that last changed a file, among ``commit`` and what comes before it; None when none did.

        Where branches were merged, the one that the content came from is followed. Nothing that was precomputed about
        the history is believed.
        """
        command = ("-c", "core.commitGraph=false", "rev-list", "-1", commit, "--", path)
        try:
            found = git_process.run(command, git_dir=self.layout.git_dir, deadline_s=self._deadline_s)
        except git_process.GitSilent as error:
            raise self._silent() from error
        if found.status:
            raise SourceUnreadable(
                f"the history of {path} in {self.path} cannot be followed: {found.last_words}",
                reason=tree.OBJECT_MISSING,
            )
        return found.stdout.decode("ascii", "replace").strip() or None

    def places(self) -> list[Path]:
        """The folders that it fills: its own, and the work trees that it knows of."""
        common = self.layout.common_dir
        places = [self.path, self.layout.git_dir, common]
        if common.name == ".git":
            places.append(common.parent)
        for pointer in sorted((common / "worktrees").glob("*/gitdir")):
            try:
                places.append(Path(os.fsdecode(pointer.read_bytes()).strip()).parent)
            except OSError:
                continue
        return places

    def is_ancestor(self, old: str, new: str) -> bool:
        """Whether ``old`` is ``new`` or comes before it: false after a force-push. Both are commit ids."""
        if git_address.is_commit(old) and git_address.is_commit(new) and self._just_before(old, new):
            return True
        return self._compare(("merge-base", "--is-ancestor", old, new), old, new)

    def has_common_history(self, old: str, new: str) -> bool:
        """Whether two commits share any ancestor: false after a push of an unrelated history, and when ``old`` is
        gone, so that nobody can tell."""
        return self._compare(("merge-base", old, new), old, new)

    def changed(self, old_tree: str | None, new_tree: str | None) -> list[tree.Change]:
        """The files that differ between two trees, sorted by path; None stands for no tree at all."""
        empty = self.empty_tree
        question = f"{old_tree or empty} {new_tree or empty}\nend\n".encode()
        for last_try in (False, True):
            try:
                self._differ.ask(question)
                return self._changes()
            except git_process.GitDied as died:
                self._differ.stop()
                if last_try:
                    raise SourceUnreadable(
                        f"the trees {old_tree} and {new_tree} of {self.path} cannot be compared: {died}",
                        reason=tree.OBJECT_MISSING if "unable to read" in died.stderr else tree.OBJECT_DAMAGED,
                    ) from died
            except git_process.GitSilent as error:
                self._differ.stop()
                raise self._silent() from error
        raise AssertionError("the loop returns or raises")

    def _changes(self) -> list[tree.Change]:
        """Read one answer: a line with both trees, records of two NUL-ended texts, and the line we ended with."""
        self._differ.line()
        changes = []
        # Each record starts with a colon; "end" is no object name, so git echoes it after it flushed the answer.
        while self._differ.take(1) == b":":
            _, _, old, new, _ = self._differ.line(b"\0").decode("ascii", "replace").split(" ")
            path = self._differ.line(b"\0").decode("utf-8", "surrogateescape")
            changes.append(tree.Change(path, old.strip("0") and old, new.strip("0") and new))
        self._differ.line()
        return changes

    def _just_before(self, old: str, new: str) -> bool:
        """Whether ``old`` is among the first few commits behind ``new``, as it nearly always is: no process is started
        for that. False where it is not known."""
        waiting, seen = [new], {new}
        for _ in range(_NEAR):
            if not waiting:
                return False
            commit = waiting.pop(0)
            if commit == old:
                return self.objects.exists(old)
            try:
                parents = self.objects.parents(commit, f"commit {commit[:12]}")
            except SourceUnreadable:
                return False  # git says more about it, or nothing where a shallow clone ends
            if old in parents:
                return self.objects.exists(old)
            waiting += [oid for oid in parents if oid not in seen]
            seen.update(parents)
        return False

    def _compare(self, command: Sequence[str], old: str, new: str) -> bool:
        for commit in (old, new):
            if not git_address.is_commit(commit):
                raise SourceUnreadable(f"{commit!r} is no commit id", reason=tree.ADDRESS_REFUSED)
        shallow = self.is_shallow
        if not shallow and not self.objects.exists(old):
            return False  # a whole repository holds every ancestor of what it holds
        try:
            found = git_process.run(command, git_dir=self.layout.git_dir, deadline_s=self._deadline_s)
        except git_process.GitSilent as error:
            raise self._silent() from error
        if found.status == 0:
            return True
        if found.status == 1 and not shallow:
            return False
        words = found.last_words or "it is a shallow clone; run 'git fetch --unshallow' there"
        raise SourceUnreadable(
            f"the history between {old} and {new} in {self.path} cannot be followed: {words}",
            reason=tree.OBJECT_MISSING,
        )

    def _has_refs(self) -> bool:
        try:
            found = git_process.run(
                ("for-each-ref", "--count=1"), git_dir=self.layout.git_dir, deadline_s=self._deadline_s
            )
        except git_process.GitSilent as error:
            raise self._silent() from error
        return bool(found.stdout.strip() or found.stderr.strip()) or self._refs.read("HEAD") is not None

    def _silent(self) -> SourceUnreadable:
        return _unreachable(self.path, f"git did not answer within {self._deadline_s:g} s; is its disk reachable?")


def _identity(git_dir: Path) -> tuple[int, int] | None:
    try:
        info = git_dir.stat()
    except OSError:
        return None
    return info.st_dev, info.st_ino


def _unreachable(path: Path, why: str) -> SourceUnreadable:
    return SourceUnreadable(f"the repository {path} cannot be opened: {why}", reason=tree.REPOSITORY_UNREACHABLE)
