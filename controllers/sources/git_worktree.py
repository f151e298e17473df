"""A work tree that a branch is checked out in: whether one file of it is untouched, and how to replace that file.

Whatever else a person has staged or is editing there stays as it is, and no filter, hook or editor is started.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controllers.sources import git_process, git_repository
from schemas.errors import Refused

LOCAL_CHANGES: Final = "LocalChanges"
REPOSITORY_BUSY: Final = "RepositoryBusy"
PATH_REFUSED: Final = "PathRefused"

_IN_PROGRESS: Final = {
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
}
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class WorkTree:
    """One checkout: its folder, and the git folder that holds its index and HEAD."""

    path: Path
    git_dir: Path


def checked_out(repository: Path, layout: git_repository.Layout, branch: str) -> WorkTree | None:
    """Where a branch (full ref name) is checked out, in the repository's own work tree or a linked one."""
    if _has_one_head(layout) and (layout.common_dir / "HEAD").read_bytes().rstrip() != f"ref: {branch}".encode():
        return None
    listed = git_process.run(("worktree", "list", "--porcelain", "-z"), git_dir=layout.git_dir)
    if listed.status:
        raise Refused(f"the work trees of {repository} cannot be listed: {listed.last_words}", reason=REPOSITORY_BUSY)
    for number, record in enumerate(os.fsdecode(listed.stdout).split("\0\0")):
        fields = dict(line.partition(" ")[::2] for line in record.split("\0") if line)
        if fields.get("branch") != branch or "bare" in fields:
            continue
        path = Path(fields["worktree"])
        if number == 0 and layout.git_dir == layout.common_dir and (repository / ".git").exists():
            path = repository  # for a repository with a separate git folder git does not know it
        if not (path / ".git").exists():
            if "prunable" in fields:
                continue
            raise Refused(
                f"{branch} is checked out somewhere that {repository} does not tell; name the work tree instead",
                reason=PATH_REFUSED,
            )
        return WorkTree(path, git_repository.find_layout(path).git_dir)
    return None


def _has_one_head(layout: git_repository.Layout) -> bool:
    """Whether a file of the repository says what is checked out, in the only place that there is for it."""
    common = layout.common_dir
    if layout.git_dir != common or (common / "worktrees").exists() or (common / "reftable").exists():
        return False
    with contextlib.suppress(OSError):
        head = common / "HEAD"
        return not head.is_symlink() and head.read_bytes().startswith(b"ref: refs/heads/")
    return False


def require_idle(tree: WorkTree) -> None:
    """Refuse while a merge, rebase or the like is under way: a commit in its middle would end up inside it."""
    for name, what in _IN_PROGRESS.items():
        if (tree.git_dir / name).exists():
            raise Refused(f"a {what} is in progress in {tree.path}; finish or abort it first", reason=REPOSITORY_BUSY)


def staged(tree: WorkTree, path: str) -> tuple[str, str] | None:
    """Mode and blob of a file in the index; None when it is not there. Refuses a path that is in conflict."""
    listed = git_process.run(("ls-files", "--stage", "-z", "--", path), git_dir=tree.git_dir)
    rows = [row.partition("\t") for row in os.fsdecode(listed.stdout).split("\0") if row]
    mine = [head.split(" ") for head, _, name in rows if name == path]
    if listed.status or len(mine) != len(rows) or any(stage != "0" for _, _, stage in mine):
        raise Refused(
            f"{path} is a folder or in conflict in the index of {tree.path}; settle that first", reason=LOCAL_CHANGES
        )
    return (mine[0][0], mine[0][1]) if mine else None


def stage(tree: WorkTree, path: str, entry: tuple[str, str] | None) -> None:
    """Set mode and blob of a file in the index, or remove it. Only the index is touched."""
    if entry is None:
        command: tuple[str, ...] = ("update-index", "--force-remove", "--", path)
    else:
        command = ("update-index", "--add", "--cacheinfo", f"{entry[0]},{entry[1]},{path}")
    done = git_process.run(command, git_dir=tree.git_dir)
    if done.status:
        if "File exists" in done.stderr:
            raise Refused(
                f"another git process works in {tree.path}; try again, or remove {tree.git_dir}/index.lock"
                " when none does",
                reason=REPOSITORY_BUSY,
            )
        raise Refused(f"{path} cannot be staged in {tree.path}: {done.last_words}", reason=PATH_REFUSED)


def read_file(tree: Path, path: str) -> bytes | None:
    """The content of a file of the work tree, None when there is none. A symlink anywhere on the way is refused."""
    try:
        with _parent(tree, path, create=False) as (folder, name):
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
            with os.fdopen(fd, "rb") as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise Refused(f"{tree / path} is not a regular file", reason=PATH_REFUSED)
                return file.read()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refused(f"{tree / path} cannot be read: {error.strerror}", reason=PATH_REFUSED) from error


def write_file(tree: Path, path: str, content: bytes | None, mode: str = "100644") -> None:
    """Replace a file of the work tree as one step; None removes it. The old or the new content is there, never a
    part, also after a crash."""
    try:
        with _parent(tree, path, create=content is not None) as (folder, name):
            if content is None:
                os.unlink(name, dir_fd=folder)
                return
            beside = f".{name[:100]}.{secrets.token_hex(8)}"
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(beside, flags, 0o777 if mode == "100755" else 0o666, dir_fd=folder)
            try:
                with os.fdopen(fd, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(fd)
                os.replace(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                os.unlink(beside, dir_fd=folder)
                raise
            os.fsync(folder)
    except OSError as error:
        raise Refused(f"{tree / path} cannot be written: {error.strerror}", reason=PATH_REFUSED) from error


@contextlib.contextmanager
def _parent(tree: Path, path: str, *, create: bool) -> Iterator[tuple[int, str]]:
    """The open folder of a file and the last part of its name; missing folders are made with ``create``."""
    *parents, name = path.split("/")
    folder = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parents:
            if create:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            below = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
            os.close(folder)
            folder = below
        yield folder, name
    finally:
        os.close(folder)
