"""Walks and reads a directory that nobody vouches for: symbolic links, loops, special files, endless depth, file names
that are no text. Nothing outside the root is ever opened."""

from __future__ import annotations

import errno
import os
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from remit_client.agents.globs import Globs
from remit_client.errors import Failure

MAX_FILES = 100_000
MAX_DEPTH = 64
_MAX_ENTRIES = 1_000_000
_BINARY_PROBE = 8192

LEFT_OUT = frozenset(
    {
        ".git", ".hg", ".svn", ".jj", ".bzr", ".remit", ".venv", "venv", "node_modules", "bower_components", "vendor",
        "vendored", "third_party", "site-packages", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache",
        ".hypothesis", ".import_linter_cache", ".tox", ".nox", ".cache", ".eggs",
    }
)  # fmt: skip
"""Directories of other people's files and of caches: never entered."""
_UNSAID = frozenset({".git", ".remit"})
"""Left out without a word: nobody expects a repository's own records to be looked at."""
_FOREIGN_MARKS = ("pyvenv.cfg", "CACHEDIR.TAG", ".git")
"""A directory below the root that holds one of these is a virtual environment, a cache, or a repository of its own."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A regular file. ``path`` is relative to the root, with ``/``; bytes that are not UTF-8 stand as lone surrogates
    (see ``show``)."""

    path: str
    size: int
    mtime_ns: int


@dataclass(slots=True)
class Tree:
    """What a walk found. ``files`` is sorted by the bytes of the path. ``notes`` counts what was passed over, by
    reason. ``incomplete`` says why the walk ended early, "" when it did not."""

    root: Path
    files: list[Entry] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    incomplete: str = ""


def resolve_inside(project: Path, path: str, field_name: str) -> Path:
    """``path`` below ``project`` with every symbolic link followed. Raises Failure when it leaves the project, also
    through a link, or is no directory. ``project`` is resolved already."""
    try:
        resolved = (project / path).resolve()
        inside = resolved == project or project in resolved.parents
        is_dir = inside and resolved.is_dir()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: Python 3.11 and 3.12 report loops of links so
        inside, is_dir, resolved = True, False, project
    if not inside:
        raise Failure("OutsideProject", f"{field_name} {show(path)} leaves the project directory")
    if not is_dir:
        raise Failure("RootNotFound", f"{field_name} {show(path)} is not a directory of the project")
    return resolved


def walk(
    root: Path,
    *,
    check: Callable[[], None],
    late: Callable[[], bool] = lambda: False,
    exclude: Globs | None = None,
    max_files: int = MAX_FILES,
    max_depth: int = MAX_DEPTH,
) -> Tree:
    """Every regular file below ``root``. Symbolic links are counted, not followed. ``check`` may raise to stop; once
    ``late`` is true the walk ends with what there is."""
    tree = Tree(root)
    pending: list[tuple[str, int]] = [("", 0)]
    seen = 0
    while pending:
        check()
        if late():
            tree.incomplete = "the time limit was reached"
            break
        folder, depth = pending.pop()
        try:
            with os.scandir(os.path.join(root, folder)) as listing:
                if depth and _is_foreign(os.path.join(root, folder)):
                    tree.notes["directories left out"] += 1
                    continue
                for item in listing:
                    seen += 1
                    path = f"{folder}/{item.name}" if folder else item.name
                    if exclude is not None and exclude.matches(path):
                        tree.notes["excluded by the input"] += 1
                        continue
                    kind = _note(tree, item, path)
                    if kind == "directory":
                        if depth + 1 > max_depth:
                            tree.notes[f"directories deeper than {max_depth}"] += 1
                        else:
                            pending.append((path, depth + 1))
                    if len(tree.files) >= max_files or seen >= _MAX_ENTRIES:
                        tree.incomplete = f"there are more than {len(tree.files)} files"
                        break
        except OSError:
            tree.notes["unreadable directories"] += 1
        if tree.incomplete:
            break
    tree.files.sort(key=lambda entry: os.fsencode(entry.path))
    return tree


def _note(tree: Tree, item: os.DirEntry[str], path: str) -> str:
    try:
        if item.is_symlink():
            tree.notes["symbolic links"] += 1
        elif item.is_dir(follow_symlinks=False):
            if item.name not in LEFT_OUT:
                return "directory"
            if item.name not in _UNSAID:
                tree.notes["directories left out"] += 1
        elif item.is_file(follow_symlinks=False):
            info = item.stat(follow_symlinks=False)
            tree.files.append(Entry(path, info.st_size, info.st_mtime_ns))
        else:
            tree.notes["special files"] += 1
    except OSError:
        tree.notes["unreadable files"] += 1
    return ""


def _is_foreign(folder: str) -> bool:
    return any(os.path.lexists(os.path.join(folder, mark)) for mark in _FOREIGN_MARKS)


def read_bytes(path: str | Path, limit: int) -> bytes:
    """At most ``limit`` bytes of a regular file. Raises OSError for anything else: a link in its place, a device, a
    pipe (which is not waited for)."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(fd)


def is_binary(data: bytes) -> bool:
    """Whether these are not the bytes of a text: a NUL among the first 8,192, as git decides it."""
    return b"\x00" in data[:_BINARY_PROBE]


def to_text(data: bytes) -> str:
    """As UTF-8 without a byte order mark, each wrong byte as U+FFFD, line ends as ``\\n``."""
    return data.decode("utf-8-sig", "replace").replace("\r\n", "\n").replace("\r", "\n")


def show(path: str) -> str:
    """A path, or any text of unknown origin, for people: what is not printable is escaped (``\\xe9``, ``\\n``)."""
    return "".join(c if c.isprintable() else _escape(c) for c in path)


def _escape(char: str) -> str:
    if "\udc80" <= char <= "\udcff":  # a byte of a file name that is not UTF-8, as os.fsdecode marks it
        return f"\\x{ord(char) - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")
