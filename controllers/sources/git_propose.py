"""Branches that hold one proposed change: made, found again and cleared away by plumbing. No work tree is touched, and
nothing that the repository configures runs.

Everything that goes into the commit is given, its moment too, so that making it again makes the same commit: a crash in
between is taken up by doing it once more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from controllers.sources import (
    git_address,
    git_away,
    git_commit,
    git_environment,
    git_process,
    git_refs,
    git_repository,
    git_worktree,
    tree,
)
from schemas.errors import Refused, SourceUnreadable
from schemas.source import SourceReason

FOLDER: Final = "remit/proposals/"
"""Proposed changes are branches below it."""
_AWAY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """One file of one commit on top of ``base`` (a commit id). ``path`` is relative to the root of the repository."""

    branch: str
    base: str
    path: str
    text: str
    message: str
    author: git_commit.Author
    when: datetime


def open_here(repository: Path, change: Change) -> str:
    """Make the branch in a repository of this machine; its commit. A branch that holds the commit already stays as it
    is, also with more on top. Raises Refused (BranchTaken, PathRefused, RepositoryBusy), SourceUnreadable."""
    branch = git_commit.branch_name(change.branch)
    with git_away.opened(repository) as opened:
        commit = _commit(opened, change)
        held = _tip(opened, branch)
        if not held:
            identity = git_commit.identity_of(opened.layout.git_dir, change.author, change.when)
            subject = change.message.partition("\n")[0]
            moved = git_commit.move_branch(
                opened, branch, commit, "", subject, identity, git_dir=opened.layout.common_dir
            )
            held = commit if moved else _tip(opened, branch)
        if held != commit and not (held and opened.is_ancestor(commit, held)):
            raise _taken(change.branch)
        return commit


def open_there(mirror: Path, address: git_address.Address, change: Change) -> str:
    """Push the branch to another repository; its commit. ``mirror`` holds the history and is not written to. Raises
    Refused (PushRefused, BranchTaken), SourceUnreadable."""
    branch = git_commit.branch_name(change.branch)
    with git_away.opened(mirror) as source, git_away.borrowing(source) as repository:
        commit = _commit(repository, change)
        held = tips_there(address, (change.branch,)).get(change.branch, "")
        if held == commit:
            return commit
        if held:
            raise _taken(change.branch)
        git_away.push(repository, address, branch, commit, "")
        return commit


def tips_here(repository: Path, branches: Sequence[str]) -> dict[str, str]:
    """The commits that those of the branches hold that there are."""
    with git_away.opened(repository) as opened:
        found = {name: _tip(opened, git_commit.branch_name(name)) for name in branches}
    return {name: tip for name, tip in found.items() if tip}


def tips_there(address: git_address.Address, branches: Sequence[str]) -> dict[str, str]:
    """The same for another repository: one question, however many. Raises SourceUnreadable."""
    refs = {git_commit.branch_name(name): name for name in branches}
    done = _away(("ls-remote", "--quiet", "--", address.url, *refs), address)
    found = {}
    for row in done.stdout.splitlines():
        oid, _, ref = row.decode("utf-8", "replace").partition("\t")
        if ref in refs and git_address.is_commit(oid):
            found[refs[ref]] = oid
    return found


def close_here(repository: Path, branch: str, commit: str) -> bool:
    """Remove the branch if it is still at ``commit`` and nobody has it checked out; whether it is gone."""
    name = git_commit.branch_name(branch)
    with git_away.opened(repository) as opened:
        held = _tip(opened, name)
        if held != commit:
            return not held
        if git_worktree.checked_out(opened.path, opened.layout, name) is not None:
            return False
        done = git_process.run(("update-ref", "-d", name, commit), git_dir=opened.layout.common_dir)
        return done.status == 0


def close_there(address: git_address.Address, branch: str, commit: str) -> bool:
    """The same in another repository. Raises SourceUnreadable."""
    name = git_commit.branch_name(branch)
    held = tips_there(address, (branch,)).get(branch, "")
    if held != commit:
        return not held
    with tempfile.TemporaryDirectory(prefix="remit-propose-") as folder:
        git_dir = Path(folder) / "repository"
        algorithm = "sha1" if len(commit) == 40 else "sha256"
        git_commit.must(("init", "--quiet", "--bare", "--template=", f"--object-format={algorithm}"), git_dir)
        config = ("-c", "push.gpgSign=false", "-c", "push.followTags=false", "-c", "push.recurseSubmodules=no")
        lease = f"--force-with-lease={name}:{commit}"
        command = (*config, "push", "--porcelain", "--no-verify", lease, "--", address.url, f":{name}")
        done = _away(command, address, git_dir=git_dir, may_fail=True)
    return done.status == 0


def _commit(repository: git_repository.Repository, change: Change) -> str:
    git_dir = repository.layout.git_dir
    path = git_commit.checked_path(change.path)
    blob = git_commit.store_blob(git_dir, change.text.encode())
    with tempfile.TemporaryDirectory(prefix="remit-index-") as folder:
        apart = {**git_environment.local(), "GIT_INDEX_FILE": f"{folder}/index"}
        git_commit.must(("read-tree", change.base), git_dir, environment=apart)
        listed = git_commit.must(("ls-files", "--stage", "-z", "--", f":(literal){path}"), git_dir, environment=apart)
        mode = listed[:6].decode() if listed[:6] in (b"100644", b"100755") else "100644"
        git_commit.must(("update-index", "--add", "--cacheinfo", f"{mode},{blob},{path}"), git_dir, environment=apart)
        new = git_commit.must(("write-tree",), git_dir, environment=apart).decode().strip()
    identity = git_commit.identity_of(git_dir, change.author, change.when)
    return git_commit.commit_tree(git_dir, new, change.base, change.message, identity)


def _tip(repository: git_repository.Repository, branch: str) -> str:
    return git_refs.RefReader(repository.layout.git_dir, repository.layout.common_dir).read(branch) or ""


def _away(
    command: Sequence[str], address: git_address.Address, *, git_dir: Path | None = None, may_fail: bool = False
) -> git_process.Finished:
    try:
        done = git_process.run(
            command, git_dir=git_dir, environment=git_environment.remote(address.protocols), deadline_s=_AWAY_S
        )
    except git_process.GitSilent as error:
        raise SourceUnreadable(f"{address} did not answer within {_AWAY_S:g} s", reason=tree.FETCH_TIMEOUT) from error
    if done.status and not may_fail:
        words = git_address.redact(done.last_words)
        raise SourceUnreadable(f"{address} cannot be asked for its branches: {words}",
                               reason=tree.REPOSITORY_UNREACHABLE)  # fmt: skip
    return done


def _taken(branch: str) -> Refused:
    return Refused(
        f"the branch {branch} holds something else; remove it if nobody needs it", reason=SourceReason.BRANCH_TAKEN
    )
