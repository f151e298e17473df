"""Replaces several files of a work tree and their entries in the index, together with a ref that moves in between."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from controllers.sources import git_commit, git_process, git_worktree
from schemas.errors import Refused


@dataclass(frozen=True, slots=True)
class File:
    """A regular file as git holds it."""

    mode: str
    blob: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Edit:
    """One file before and after; None where it does not exist."""

    path: str
    before: File | None
    after: File | None


@contextlib.contextmanager
def replaced(checkout: git_worktree.WorkTree, edits: Sequence[Edit]) -> Iterator[Callable[[], None]]:
    """Bring the files and the index to their new state; they go back unless the block calls what it is given.

    Raises Refused with LocalChanges, before anything is touched, when a file has edits that are not committed. One
    that is as wanted already does not count: a run that was cut short is taken up.
    """
    found = {edit.path: _require_untouched(checkout, edit) for edit in edits}
    staged = _staged(checkout)
    for edit in edits:
        _require_unstaged(checkout, edit, staged.get(edit.path))
    digits = max(
        (len(file.blob) for edit in edits for file in (edit.before, edit.after) if file is not None), default=40
    )
    kept = False

    def keep() -> None:
        nonlocal kept
        kept = True

    try:
        for edit in sorted(edits, key=lambda each: each.after is not None):  # room first, then what takes it
            _write(checkout.path, edit.path, edit.after, _in_place(edit, found[edit.path]))
        _stage(checkout, [(edit.path, edit.after) for edit in edits], digits)
        yield keep
    finally:
        if not kept:
            for edit in sorted(edits, key=lambda each: each.before is not None):
                _write(checkout.path, edit.path, edit.before or edit.after, found[edit.path])
            _stage(checkout, [(edit.path, edit.before) for edit in edits], digits)


def _require_untouched(checkout: git_worktree.WorkTree, edit: Edit) -> bytes | None:
    """What the file of the work tree holds."""
    found = git_worktree.read_file(checkout.path, edit.path)
    old = edit.before.content if edit.before is not None else None
    new = edit.after.content if edit.after is not None else None
    if found not in (old, new) and not (found is not None and found.replace(b"\r\n", b"\n") == old):
        raise _local_changes(checkout, edit.path)
    return found


def _require_unstaged(checkout: git_worktree.WorkTree, edit: Edit, staged: str | None) -> None:
    if staged not in tuple(file.blob if file is not None else None for file in (edit.before, edit.after)):
        raise _local_changes(checkout, edit.path)


def _local_changes(checkout: git_worktree.WorkTree, path: str) -> Refused:
    return Refused(
        f"{checkout.path / path} has changes that are not committed; commit, stash or undo them first",
        reason=git_worktree.LOCAL_CHANGES,
    )


def _in_place(edit: Edit, found: bytes | None) -> bytes | None:
    """The new content as the work tree holds it: with CRLF where the file had it and the commit has not."""
    if edit.after is None or edit.before is None or found in (edit.before.content, edit.after.content):
        return edit.after.content if edit.after is not None else None
    return edit.after.content.replace(b"\n", b"\r\n")


def _write(root: Path, path: str, file: File | None, content: bytes | None) -> None:
    if content is None:
        if git_worktree.read_file(root, path) is not None:
            git_worktree.write_file(root, path, None)
        folder = os.path.dirname(path)
        with contextlib.suppress(OSError):  # the first one that is not empty ends it
            while folder:
                os.rmdir(root / folder)
                folder = os.path.dirname(folder)
        return
    git_worktree.write_file(root, path, content, file.mode if file is not None else "100644")


def _staged(checkout: git_worktree.WorkTree) -> dict[str, str]:
    """Blobs of the index by path; a path in conflict is refused later, having none."""
    listed = git_commit.must(("ls-files", "--stage", "-z"), checkout.git_dir)
    blobs = {}
    for row in os.fsdecode(listed).split("\0"):
        head, _, path = row.partition("\t")
        if head:
            _, blob, stage = head.split(" ")
            blobs[path] = blob if stage == "0" else "in conflict"
    return blobs


def _stage(checkout: git_worktree.WorkTree, files: Sequence[tuple[str, File | None]], digits: int) -> None:
    rows = []
    for path, file in files:
        entry = "0 " + "0" * digits if file is None else f"{file.mode} {file.blob}"
        rows.append(os.fsencode(f"{entry}\t{path}\0"))
    done = git_process.run(("update-index", "-z", "--index-info"), git_dir=checkout.git_dir, stdin=b"".join(rows))
    if done.status and "File exists" in done.stderr:
        raise Refused(
            f"another git process works in {checkout.path}; try again, or remove {checkout.git_dir}/index.lock"
            " when none does",
            reason=git_worktree.REPOSITORY_BUSY,
        )
    if done.status:
        raise Refused(f"the index of {checkout.path} cannot be written: {done.last_words}",
                      reason=git_worktree.PATH_REFUSED)  # fmt: skip
