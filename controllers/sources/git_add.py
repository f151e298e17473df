"""Puts one new file on a branch of another repository, by a commit of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

from controllers.sources import git_address, git_away, git_commit, git_environment, git_signing, git_tree
from controllers.sources.git_edit import FILE_CHANGED
from schemas.errors import Refused


def add_and_push(
    path: Path,
    head: str,
    name: str,
    address: git_address.Address,
    file_path: str,
    text: str,
    message: str,
    *,
    signing: git_signing.Signing | None,
    expected: str = "",
) -> str:
    """Push a commit on top of ``head`` that adds one file; its id.

    ``path`` is the local repository or mirror that holds the history; nothing is written to it. ``name`` is the branch
    there, which has to be at ``expected``, "" for one that must not exist. Raises Refused with FileChanged (the file is
    there already), NotSigned, PushRefused; SourceUnreadable when the other repository cannot be reached.
    """
    branch = git_away.new_branch(name)
    file = git_commit.checked_path(file_path)
    with git_away.opened(path) as source, git_away.borrowing(source) as repository:
        root = repository.objects.commit_tree(head, f"commit {head[:12]}")
        if git_tree.Place(repository.objects, root).row(file) is not None:
            raise Refused(f"{file} is in {head[:12]} already", reason=FILE_CHANGED)
        git_dir = repository.layout.git_dir
        blob = git_commit.store_blob(git_dir, text.encode())
        with tempfile.TemporaryDirectory(prefix="remit-index-") as folder:
            apart = {**git_environment.local(), "GIT_INDEX_FILE": f"{folder}/index"}
            git_commit.must(("read-tree", head), git_dir, environment=apart)
            entry = f"100644,{blob},{file}"
            git_commit.must(("update-index", "--add", "--cacheinfo", entry), git_dir, environment=apart)
            new = git_commit.must(("write-tree",), git_dir, environment=apart).decode().strip()
        identity = git_commit.identity_of(git_dir, None, None)
        commit = git_commit.commit_tree(git_dir, new, head, message, identity, signing=signing)
        git_away.push(repository, address, branch, commit, expected)
        return commit
