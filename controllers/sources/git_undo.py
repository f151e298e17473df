"""What a branch would hold without one of its commits: the tree of a revert, merged without a work tree.

A three-way merge of the branch with the commit's parent, the commit as their base. Files are merged by
``git merge-file``: a merge driver that attributes of the repository ask for does not run.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controllers.sources import (
    git_bringer,
    git_commit,
    git_environment,
    git_objects,
    git_process,
    git_repository,
    tree,
)
from schemas.errors import Refused

REVERT_CONFLICT: Final = "RevertConflict"
NEEDS_MAINLINE: Final = "NeedsMainline"
NOT_ON_BRANCH: Final = "NotOnBranch"
SHALLOW_CLONE: Final = "ShallowClone"

_REGULAR: Final = ("100644", "100755")
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class _Stage:
    mode: str
    blob: str


def tree_without(repository: git_repository.Repository, commit: str, head: str, mainline: int | None = None) -> str:
    """The id of the tree that undoes ``commit`` on top of ``head``; both are full commit ids. ``mainline`` says which
    parent of a merge, counted from 1, is the side that stays.

    New blobs and trees are stored in the repository; nothing else changes. Raises Refused: NotOnBranch,
    NeedsMainline, ShallowClone, RevertConflict.
    """
    objects = repository.objects
    if not repository.is_ancestor(commit, head):
        raise Refused(
            f"the commit {commit[:12]} is no part of {head[:12]}: there is nothing to undo", reason=NOT_ON_BRANCH
        )
    parent = _parent(repository, commit, mainline)
    ours = objects.commit_tree(head, f"commit {head[:12]}")
    base = objects.commit_tree(commit, f"commit {commit[:12]}")
    theirs = objects.commit_tree(parent, f"commit {parent[:12]}") if parent else repository.empty_tree
    git_dir = repository.layout.git_dir
    with tempfile.TemporaryDirectory(prefix="remit-index-") as folder:
        environment = {**git_environment.local(), "GIT_INDEX_FILE": f"{folder}/index"}
        git_commit.must(("read-tree", "-i", "-m", "--aggressive", base, ours, theirs), git_dir, environment=environment)
        rows = _merge(repository, _unmerged(git_dir, environment), Path(folder), commit)
        if rows:
            stdin = b"".join(rows)
            git_commit.must(("update-index", "-z", "--index-info"), git_dir, environment=environment, stdin=stdin)
        written = git_process.run(("write-tree",), git_dir=git_dir, environment=environment)
        if written.status:
            raise _conflict(commit, ["files and folders of the same name"])
        return written.stdout.decode().strip()


def _parent(repository: git_repository.Repository, commit: str, mainline: int | None) -> str:
    """The commit to go back to; "" for the first commit of all."""
    parents = git_bringer.parents_of(git_bringer.signed_commit(repository, commit).data)
    if len(parents) > 1 and mainline is None:
        raise Refused(
            f"{commit[:12]} is a merge of {len(parents)} commits; say which side stays: --mainline 1 is the branch"
            " that was merged into",
            reason=NEEDS_MAINLINE,
        )
    if mainline is not None and (len(parents) < 2 or not 1 <= mainline <= len(parents)):
        what = f"a merge of {len(parents)}" if len(parents) > 1 else "no merge"
        raise Refused(f"{commit[:12]} is {what}, so there is no --mainline {mainline}", reason=NEEDS_MAINLINE)
    if not parents:
        return ""
    parent = parents[(mainline or 1) - 1]
    if repository.is_shallow and not repository.objects.exists(parent):
        raise Refused(
            f"what was there before {commit[:12]} is not in this shallow clone; run 'git fetch --unshallow' in"
            f" {repository.path}",
            reason=SHALLOW_CLONE,
        )
    return parent


def _unmerged(git_dir: Path, environment: dict[str, str]) -> dict[bytes, dict[int, _Stage]]:
    """Paths that the trees alone do not settle, with what stands at each stage: base 1, ours 2, theirs 3."""
    listed = git_commit.must(("ls-files", "--unmerged", "-z"), git_dir, environment=environment)
    paths: dict[bytes, dict[int, _Stage]] = {}
    for row in listed.split(b"\0"):
        head, _, path = row.partition(b"\t")
        if head:
            mode, blob, stage = head.decode("ascii").split(" ")
            paths.setdefault(path, {})[int(stage)] = _Stage(mode, blob)
    return paths


def _merge(
    repository: git_repository.Repository, paths: dict[bytes, dict[int, _Stage]], folder: Path, commit: str
) -> list[bytes]:
    """Lines for ``update-index --index-info`` that settle the paths. Raises Refused when one cannot be settled."""
    settled: list[bytes] = []
    torn: list[str] = []
    for path, stages in sorted(paths.items()):
        merged = _merge_file(repository, path, stages, folder)
        if merged is None:
            torn.append(tree.printable(path))
            continue
        nothing = b"0" * len(commit)
        settled.append(b"0 %s\t%s\0" % (nothing, path))
        settled.append(b"%s %s\t%s\0" % (merged.mode.encode(), merged.blob.encode(), path))
    if torn:
        raise _conflict(commit, torn)
    return settled


def _merge_file(
    repository: git_repository.Repository, path: bytes, stages: dict[int, _Stage], folder: Path
) -> _Stage | None:
    """One file, merged by lines; None for a conflict."""
    if len(stages) != 3 or any(stage.mode not in _REGULAR for stage in stages.values()):
        return None
    base, ours, theirs = stages[1], stages[2], stages[3]
    shown = os.fsdecode(path)
    wanted = [git_objects.Wanted(s.blob, "blob", shown, git_process.MAX_OUTPUT) for s in (ours, base, theirs)]
    names = [folder / name for name in ("ours", "base", "theirs")]
    for name, content in zip(names, repository.objects.contents(wanted), strict=True):
        name.write_bytes(content)
    git_dir = repository.layout.git_dir
    done = git_process.run(("merge-file", "-p", "--quiet", *(str(name) for name in names)), git_dir=git_dir)
    if done.status:
        return None
    mode = theirs.mode if ours.mode == base.mode else ours.mode
    return _Stage(mode, git_commit.store_blob(git_dir, done.stdout))


def _conflict(commit: str, paths: list[str]) -> Refused:
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return Refused(
        f"{commit[:12]} cannot be undone by itself: later commits changed the same lines of"
        f" {', '.join(paths[:_SHOWN])}{more}; undo those commits first, or edit the files by hand",
        reason=REVERT_CONFLICT,
    )
