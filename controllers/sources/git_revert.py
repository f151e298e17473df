"""Undoes a commit by another commit: on the branch itself where the repository is local, on a new branch else.

Rolling back is a change like any other, made in git, so that what is declared and what is in force stay the same
thing. The order makes a crash harmless, as in `git_edit`: objects first, then files and index, the ref last.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from controllers.sources import (
    git_address,
    git_away,
    git_bringer,
    git_commit,
    git_objects,
    git_place,
    git_process,
    git_repository,
    git_signed,
    git_signing,
    git_tree,
    git_undo,
    git_worktree,
    tree,
)
from schemas.errors import Refused, SourceUnreadable

BRANCH_EXISTS: Final = "BranchExists"
COMMIT_NOT_FOUND: Final = "CommitNotFound"
PUSH_REFUSED: Final = git_away.PUSH_REFUSED

_ATTEMPTS: Final = 5
_UNDOES = re.compile(rb"^This reverts commit ([0-9a-f]{40}|[0-9a-f]{64})\b", re.MULTILINE)
_SHORT = re.compile(r"[0-9a-f]{4,64}")
_STEPS: Final = re.compile(r"(?P<start>[^~^]+)(?P<steps>(?:~[0-9]{0,6}|\^[0-9]?){1,20})")


@dataclass(frozen=True, slots=True)
class Order:
    """What to undo, and how the commit is made.

    ``commit`` is a full id. ``mainline`` counts the parents of a merge from 1. ``signing`` None leaves it unsigned.
    ``accept`` sees the new commit before anything moves and may raise Refused. ``author`` None takes git's configured
    identity, ``when`` None is now.
    """

    commit: str
    reason: str = ""
    mainline: int | None = None
    signing: git_signing.Signing | None = None
    accept: Callable[[git_signed.Signed], None] | None = None
    author: git_commit.Author | None = None
    when: datetime | None = None


@dataclass(frozen=True, slots=True)
class Reverted:
    """The commit that was made. ``branch`` is the full name of where it stands; ``pushed_to`` the repository that took
    it, "" where it was made in place. ``changes`` are the files it changes, sorted by path."""

    commit: str
    undone: str
    subject: str
    branch: str
    changes: tuple[tree.Change, ...]
    pushed_to: str = ""


def find_commit(repository: git_repository.Repository, text: str) -> str:
    """The full id of the commit that a person wrote: ``main@sha1:...``, an id or its start, a branch or a tag, each of
    them also with steps back, as ``HEAD~1`` or ``main^``.

    Raises Refused with CommitNotFound.
    """
    stepped = _STEPS.fullmatch(text)
    if stepped is not None:
        start = find_commit(repository, stepped["start"])
        asked = ("rev-parse", "--verify", "--quiet", f"{start}{stepped['steps']}^{{commit}}")
        found = git_process.run(asked, git_dir=repository.layout.git_dir)
        commit = found.stdout.decode("ascii", "replace").strip()
        if found.status or not git_address.is_commit(commit):
            shown = tree.printable(text)[:80]
            raise Refused(f"{repository.path} has no commit {shown}: history ends before it", reason=COMMIT_NOT_FOUND)
        return commit
    with contextlib.suppress(SourceUnreadable):
        text = git_address.parse_revision(text)
    if _SHORT.fullmatch(text):
        asked = ("rev-parse", "--verify", "--quiet", f"{text}^{{commit}}")
        found = git_process.run(asked, git_dir=repository.layout.git_dir)
        commit = found.stdout.decode("ascii", "replace").strip()
        if found.status == 0 and git_address.is_commit(commit):
            return commit
    try:
        return repository.commit_of(git_address.candidates(git_address.parse_ref(text)), text)
    except SourceUnreadable as error:
        if error.reason not in (tree.REF_NOT_FOUND, tree.OBJECT_MISSING, tree.ADDRESS_REFUSED, tree.REF_DAMAGED):
            raise
        raise Refused(
            f"{repository.path} has no commit {tree.printable(text)[:80]}, or more than one: give its id",
            reason=COMMIT_NOT_FOUND,
        ) from error


def undone_by(repository: git_repository.Repository, commit: str) -> str | None:
    """The commit that ``commit`` says it undoes, as `remit revert` and ``git revert`` write it; None when it says so
    of none. Whoever wrote the commit wrote the words: they are a reason to ask, never to trust."""
    body = git_bringer.signed_commit(repository, commit).data.partition(b"\n\n")[2]
    found = _UNDOES.search(body)
    return found.group(1).decode("ascii") if found else None


def revert(path: Path, ref: str, order: Order) -> Reverted | None:
    """Put the undoing commit on a branch of a local repository; None when the change is undone already.

    Where the branch is checked out its files follow, and must be as committed; others may be edited or staged. Raises
    Refused, as the modules that take part say; then nothing has changed.
    """
    branch = git_commit.branch_name(ref)
    with git_away.opened(path) as repository:
        for _ in range(_ATTEMPTS):
            head = _tip(repository, branch)
            made = _make(repository, head, order)
            if made is None:
                return None
            if _place(repository, branch, head, made, order):
                return _reverted(repository, head, made, order, branch)
    raise Refused(f"{branch} of {path} kept moving; try again", reason=git_worktree.REPOSITORY_BUSY)


def revert_beside(path: Path, ref: str, name: str, order: Order) -> Reverted | None:
    """Put the undoing commit of ``ref`` on the new branch ``name`` of a local repository; no file changes."""
    branch = git_away.new_branch(name)
    with git_away.opened(path) as repository:
        head = _tip(repository, git_commit.branch_name(ref))
        made = _make(repository, head, order)
        if made is None:
            return None
        identity = git_commit.identity_of(repository.layout.git_dir, order.author, order.when)
        git_dir = repository.layout.git_dir
        if not git_commit.move_branch(repository, branch, made.commit, "", _log(order), identity, git_dir=git_dir):
            raise _exists(name, path)
        return _reverted(repository, head, made, order, branch)


def revert_and_push(
    path: Path, head: str, name: str, address: git_address.Address, order: Order, *, expected: str = ""
) -> Reverted | None:
    """Push the undoing commit of ``head`` to the branch ``name`` of another repository.

    ``path`` is the local repository or mirror that holds the history; nothing is written to it. ``expected`` is the
    commit at which the branch has to be, "" for a branch that must not exist: nobody's work is overwritten. Raises
    Refused with PushRefused, SourceUnreadable when the other repository cannot be reached.
    """
    branch = git_away.new_branch(name)
    with git_away.opened(path) as source, git_away.borrowing(source) as repository:
        made = _make(repository, head, order)
        if made is None:
            return None
        git_away.push(repository, address, branch, made.commit, expected)
        return _reverted(repository, head, made, order, branch, str(address))


# Making the commit.


@dataclass(frozen=True, slots=True)
class _Made:
    commit: str
    tree: str
    subject: str


def _make(repository: git_repository.Repository, head: str, order: Order) -> _Made | None:
    """Store the commit; no branch moves. None when it would change nothing."""
    old = repository.objects.commit_tree(head, f"commit {head[:12]}")
    new = git_undo.tree_without(repository, order.commit, head, order.mainline)
    if new == old:
        return None
    git_dir = repository.layout.git_dir
    subject = _subject(repository, order.commit)
    identity = git_commit.identity_of(git_dir, order.author, order.when)
    message = _message(subject, order)
    commit = git_commit.commit_tree(git_dir, new, head, message, identity, signing=order.signing)
    if order.accept is not None:
        order.accept(git_bringer.signed_commit(repository, commit))
    return _Made(commit, new, subject)


def _log(order: Order) -> str:
    return f"revert {order.commit[:12]}"


def _message(subject: str, order: Order) -> str:
    side = f", as seen from its parent {order.mainline}" if order.mainline is not None else ""
    parts = [f'Revert "{subject}"', order.reason.strip(), f"This reverts commit {order.commit}{side}."]
    return "\n\n".join(part for part in parts if part)


def _subject(repository: git_repository.Repository, commit: str) -> str:
    body = git_bringer.signed_commit(repository, commit).data.partition(b"\n\n")[2]
    first = body.strip().partition(b"\n")[0].decode("utf-8", "replace")
    return tree.printable(first)[:200].strip() or commit[:12]


def _reverted(
    repository: git_repository.Repository, head: str, made: _Made, order: Order, branch: str, pushed_to: str = ""
) -> Reverted:
    old = repository.objects.commit_tree(head, f"commit {head[:12]}")
    changes = tuple(repository.changed(old, made.tree))
    return Reverted(made.commit, order.commit, made.subject, branch, changes, pushed_to)


# Putting it somewhere.


def _place(repository: git_repository.Repository, branch: str, head: str, made: _Made, order: Order) -> bool:
    """Move the branch and what is checked out of it; False when the branch moved meanwhile."""
    layout = repository.layout
    identity = git_commit.identity_of(layout.git_dir, order.author, order.when)
    checkout = git_worktree.checked_out(repository.path, layout, branch)
    if checkout is None:
        return git_commit.move_branch(
            repository, branch, made.commit, head, _log(order), identity, git_dir=layout.git_dir
        )
    git_worktree.require_idle(checkout)
    with git_place.replaced(checkout, _edits(repository, head, made)) as keep:
        moved = git_commit.move_branch(
            repository, branch, made.commit, head, _log(order), identity, git_dir=checkout.git_dir
        )
        if moved:
            keep()
        return moved


def _edits(repository: git_repository.Repository, head: str, made: _Made) -> list[git_place.Edit]:
    """What has to change in a work tree."""
    old = repository.objects.commit_tree(head, f"commit {head[:12]}")
    sides = (git_tree.Place(repository.objects, old), git_tree.Place(repository.objects, made.tree))
    edits = []
    for change in repository.changed(old, made.tree):
        path = git_commit.checked_path(change.path)
        before, after = (_file(repository.objects, side, path) for side in sides)
        edits.append(git_place.Edit(path, before, after))
    return edits


def _file(objects: git_objects.ObjectReader, side: git_tree.Place, path: str) -> git_place.File | None:
    row = side.row(path)
    if row is None or row.mode == b"40000":
        return None
    mode = row.mode.decode("ascii", "replace")
    if mode not in ("100644", "100755"):
        raise Refused(
            f"{path} is a symlink or a submodule, which is not changed in a work tree; use 'git revert' there",
            reason=git_worktree.PATH_REFUSED,
        )
    content = objects.content(git_objects.Wanted(row.oid, "blob", path, git_process.MAX_OUTPUT))
    return git_place.File(mode, row.oid, content)


# Repositories.


def _tip(repository: git_repository.Repository, branch: str) -> str:
    try:
        return repository.commit_of((branch,), branch)
    except SourceUnreadable as error:
        if error.reason in (tree.REF_NOT_FOUND, tree.EMPTY_REPOSITORY):
            raise Refused(f"{repository.path} has no branch {branch}", reason=git_commit.BRANCH_NOT_FOUND) from error
        raise


def _exists(name: str, where: Path) -> Refused:
    return Refused(f"{where} has a branch {name} already; choose another name", reason=BRANCH_EXISTS)


def push_url(path: Path, ref: str) -> str:
    """Where a local repository pushes a branch to, by its own configuration; "" when it has no remote. Nobody has
    judged it yet."""
    with git_away.opened(path) as repository:
        short = git_commit.branch_name(ref).removeprefix("refs/heads/")
        pattern = r"^(branch\..*\.remote|remote\..*\.(url|pushurl))$"
        known = git_signing.settings(repository.layout.git_dir, pattern, ("--local",))
    remote = known.get(f"branch.{short}.remote", "origin")
    return known.get(f"remote.{remote}.pushurl") or known.get(f"remote.{remote}.url", "")
