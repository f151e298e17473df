"""Commits that go to another repository: made in a throw-away one that borrows the objects at hand, then pushed.

Nothing is written to the repository that holds the history, and nobody's work is overwritten.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from controllers.sources import (
    git_address,
    git_commit,
    git_environment,
    git_process,
    git_repository,
    git_signing,
    git_worktree,
    tree,
)
from schemas.errors import Refused, SourceUnreadable

PUSH_REFUSED: Final = "PushRefused"
_PUSH_S: Final = 120.0


@contextlib.contextmanager
def opened(path: Path) -> Iterator[git_repository.Repository]:
    """A repository for one command; a git that does not answer is SourceUnreadable."""
    try:
        with contextlib.closing(git_repository.Repository(path.absolute())) as repository:
            yield repository
    except git_process.GitSilent as error:
        raise git_commit.silent(path) from error


@contextlib.contextmanager
def borrowing(source: git_repository.Repository) -> Iterator[git_repository.Repository]:
    """A throw-away bare repository that reads the objects of ``source`` and keeps its own."""
    layout = source.layout
    objects = str(layout.common_dir / "objects")
    if "\n" in objects or objects.startswith(("#", '"')):
        raise Refused(f"{source.path} has a name that git cannot borrow from", reason=git_worktree.PATH_REFUSED)
    with tempfile.TemporaryDirectory(prefix="remit-revert-") as folder:
        git_dir = Path(folder) / "repository"
        options = ("--quiet", "--bare", "--template=", f"--object-format={layout.algorithm}")
        git_commit.must(("init", *options), git_dir)
        (git_dir / "objects" / "info").mkdir(parents=True, exist_ok=True)
        (git_dir / "objects" / "info" / "alternates").write_bytes(os.fsencode(objects) + b"\n")
        if source.is_shallow:
            shutil.copyfile(layout.common_dir / "shallow", git_dir / "shallow")
        _keep_person(layout.git_dir, git_dir)
        with contextlib.closing(git_repository.Repository(git_dir)) as repository:
            yield repository


def _keep_person(source: Path, into: Path) -> None:
    """The name that the repository itself knows its user by."""
    for name, value in git_signing.settings(source, r"^user\.(name|email)$", ("--local",)).items():
        git_commit.must(("config", "--local", name, value), into)


def new_branch(name: str) -> str:
    """The full name of a branch that a person named. Raises Refused with BranchNotFound."""
    try:
        return git_commit.branch_name(name)
    except SourceUnreadable as error:
        raise Refused(str(error), reason=git_commit.BRANCH_NOT_FOUND) from error


def push(
    repository: git_repository.Repository, address: git_address.Address, branch: str, commit: str, expected: str
) -> None:
    """Put ``commit`` on a branch elsewhere, which has to be at ``expected`` ("": must not exist). Raises Refused with
    PushRefused, SourceUnreadable."""
    url = str(address.local) if address.local is not None else address.url
    protocols = "file" if address.local is not None else address.protocols
    lease = f"--force-with-lease={branch}:{expected}"
    config = ("-c", "push.gpgSign=false", "-c", "push.followTags=false", "-c", "push.recurseSubmodules=no")
    command = (*config, "push", "--porcelain", "--no-verify", lease, "--", url, f"{commit}:{branch}")
    try:
        done = git_process.run(
            command,
            git_dir=repository.layout.git_dir,
            environment=git_environment.remote(protocols),
            deadline_s=_PUSH_S,
        )
    except git_process.GitSilent as error:
        raise SourceUnreadable(
            f"{address} did not answer within {_PUSH_S:g} s; whether it took {branch} is not known",
            reason=tree.FETCH_TIMEOUT,
        ) from error
    refused = [line for line in done.stdout.decode("utf-8", "replace").splitlines() if line.startswith("!")]
    if refused:
        why = tree.printable(refused[0].rpartition("\t")[2])[:200]
        raise Refused(
            f"{address} did not take {branch}: {why}; choose another name, or see whether it is protected",
            reason=PUSH_REFUSED,
        )
    if done.status:
        words = git_address.redact(done.last_words)
        raise SourceUnreadable(f"{address} cannot be pushed to: {words}", reason=tree.REPOSITORY_UNREACHABLE)
