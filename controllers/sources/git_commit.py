"""How commits are made here: blobs, a tree and a commit by plumbing, then the branch by compare-and-swap.

No hook, filter or editor of the repository runs, and no program that its configuration names.
"""

from __future__ import annotations

import getpass
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from controllers.sources import (
    git_address,
    git_environment,
    git_process,
    git_repository,
    git_signing,
    git_worktree,
    tree,
)
from schemas.errors import Diagnostic, Refused, SourceUnreadable

BRANCH_NOT_FOUND: Final = "BranchNotFound"
NOT_SIGNED: Final = "NotSigned"

_UNFIT: Final = re.compile(r"[\x00-\x1f\x7f<>]+")


@dataclass(frozen=True, slots=True)
class Author:
    """Whom a commit names as author and committer."""

    name: str
    email: str


def silent(path: Path) -> SourceUnreadable:
    """What to raise when git gave no answer."""
    return SourceUnreadable(f"git did not answer in time for {path}", reason=tree.REPOSITORY_UNREACHABLE)


def branch_name(ref: str) -> str:
    """The full name of a branch. Raises Refused with BranchNotFound for anything else."""
    checked = git_address.parse_ref(ref)
    if git_address.is_commit(checked) or checked == "HEAD":
        raise Refused(f"{ref} is no branch; name the branch to commit to", reason=BRANCH_NOT_FOUND)
    if checked.startswith("refs/") and not checked.startswith("refs/heads/"):
        raise Refused(f"{ref} is no branch; name the branch to commit to", reason=BRANCH_NOT_FOUND)
    return checked if checked.startswith("refs/heads/") else f"refs/heads/{checked}"


def checked_path(path: str) -> str:
    """A path that may be written to in a work tree. Raises Refused with PathRefused."""
    found = tree.check_path(path.encode("utf-8", "surrogateescape"))
    if isinstance(found, Diagnostic):
        raise Refused(str(found), reason=git_worktree.PATH_REFUSED)
    if any(re.fullmatch(r"\.git|git~\d", part, re.IGNORECASE) for part in found.split("/")):
        raise Refused(f"{path} leads into git's own files", reason=git_worktree.PATH_REFUSED)
    return found


def store_blob(git_dir: Path, content: bytes) -> str:
    """Store a file's content; its id."""
    return must(("hash-object", "-w", "--no-filters", "--stdin"), git_dir, stdin=content).decode().strip()


def content(tree_id: str, parent: str, message: str, author: Author, when: datetime) -> bytes:
    """A commit of a tree on top of ``parent`` ("" for none) as git keeps it, unsigned."""
    who = (
        f"{_UNFIT.sub(' ', author.name).strip()} <{_UNFIT.sub('', author.email).strip()}> {int(when.timestamp())} +0000"
    )
    lines = [f"tree {tree_id}", *([f"parent {parent}"] if parent else []), f"author {who}", f"committer {who}", ""]
    return "\n".join([*lines, message.replace("\0", "").strip(), ""]).encode()


def commit_tree(
    git_dir: Path,
    new: str,
    parent: str,
    message: str,
    identity: Mapping[str, str],
    *,
    signing: git_signing.Signing | None = None,
) -> str:
    """Store a commit of the tree ``new`` on top of ``parent`` ("" for none); its id. No branch moves.

    Raises Refused with NotSigned when it could not be signed with the user's key.
    """
    parents = ("-p", parent) if parent else ()
    text = message.replace("\0", "").strip().encode() + b"\n"
    config = ("-c", "i18n.commitEncoding=UTF-8")
    if signing is None:
        command = (*config, "commit-tree", new, *parents, "-F", "-")
        return must(command, git_dir, environment=identity, stdin=text).decode().strip()
    done = git_process.run(
        (*config, *signing.options, "commit-tree", "-S", new, *parents, "-F", "-"),
        git_dir=git_dir,
        environment={**identity, **signing.environment},
        stdin=text,
    )
    if done.status:
        raise Refused(
            f"the commit could not be signed: {done.last_words}; unlock the key (ssh-add, or gpg once by hand),"
            " or make the commit yourself",
            reason=NOT_SIGNED,
        )
    return done.stdout.decode().strip()


def move_branch(
    repository: git_repository.Repository,
    branch: str,
    commit: str,
    old: str,
    message: str,
    identity: Mapping[str, str],
    *,
    git_dir: Path,
) -> bool:
    """Put a branch on ``commit`` if it is still at ``old`` ("" for no branch); whether it was."""
    reason = _UNFIT.sub(" ", message)[:200]
    done = git_process.run(
        ("update-ref", "-m", f"remit: {reason}", branch, commit, old or "0" * len(commit)),
        git_dir=git_dir,
        environment=identity,
    )
    if done.status and "File exists" in done.stderr:
        raise Refused(
            f"{branch} of {repository.path} is locked by another git process; try again,"
            f" or remove {repository.layout.common_dir}/{branch}.lock when none is at work",
            reason=git_worktree.REPOSITORY_BUSY,
        )
    if done.status and not re.search(r"but expected|reference already exists|unable to resolve", done.stderr):
        raise Refused(
            f"{branch} of {repository.path} cannot be moved: {done.last_words}", reason=git_worktree.REPOSITORY_BUSY
        )
    return done.status == 0


def must(
    command: Sequence[str], git_dir: Path, *, environment: Mapping[str, str] | None = None, stdin: bytes = b""
) -> bytes:
    """Run a git command that has to succeed; its stdout. Raises Refused with PathRefused."""
    done = git_process.run(command, git_dir=git_dir, environment=environment, stdin=stdin)
    if done.status:
        raise Refused(f"git could not write to {git_dir}: {done.last_words}", reason=git_worktree.PATH_REFUSED)
    return done.stdout


def identity_of(git_dir: Path, author: Author | None, when: datetime | None) -> dict[str, str]:
    """The environment for commands that name a person. ``author`` None takes git's configured identity, or a fallback;
    ``when`` None is now."""
    environment = git_environment.local()
    person = author or _configured(git_dir)
    for role in ("AUTHOR", "COMMITTER"):
        environment[f"GIT_{role}_NAME"] = _UNFIT.sub(" ", person.name).strip() or "remit"
        environment[f"GIT_{role}_EMAIL"] = _UNFIT.sub("", person.email).strip() or "remit@localhost"
        if when is not None:
            environment[f"GIT_{role}_DATE"] = f"{int(when.timestamp())} +0000"
    return environment


def _configured(git_dir: Path) -> Author:
    """The identity of git's configuration, the user's own included; on a bare machine, who runs us."""
    values = git_signing.settings(git_dir, r"^user\.(name|email)$")
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "remit"  # a container's user without a name
    return Author(values.get("user.name", user), values.get("user.email", f"{user}@localhost"))
