"""Reads specs from a directory: the rules of git sources, without git's snapshots.

A directory has no moment at which all of its files belong together, so a listing counts only once two walks in a row
saw the same. Nothing is opened through a symlink: each folder and file is opened by its name in its parent with
O_NOFOLLOW, and a link is followed by our own rules first. So a link that is swapped in under us leads nowhere.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import itertools
import operator
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from controllers.sources import tree
from schemas.errors import Diagnostic, InvalidSpec, SourceUnreadable

_ATTEMPTS: Final = 8
_TRUST_AFTER_S: Final = 3.0
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO put in a file's place must not hold us up.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOVED: Final = (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ESTALE)


class _Raced(Exception):
    """What was there a moment ago is not: look again."""


@dataclass(frozen=True, slots=True)
class _Known:
    """What a file held while its stamp (device, inode, size, times, mode) was this.

    Two writes within one tick of the file system's clock leave the same stamp. So a stamp is only believed once the
    content was read again ``_TRUST_AFTER_S`` after the stamp was first seen.
    """

    stamp: tuple[int, ...]
    digest: str
    first_seen: float
    read_at: float


@dataclass(slots=True)
class _Walk:
    """What one walk has seen. ``marks`` compares walks: everything that decides the listing, by path."""

    entries: list[tree.Entry] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)
    known: dict[str, _Known] = field(default_factory=dict)
    visited: int = 0

    @property
    def marks(self) -> tuple[object, ...]:
        return sorted(self.entries, key=_place), self.problems, {p: k.stamp for p, k in self.known.items()}


class DirectoryReader:
    """A `tree.SourceReader` over a directory.

    The revision is a digest of the listing, so ``head`` walks the directory; it reads only files that changed. There
    is no history: a revision can be read while the directory still holds it. ``monotonic`` is a clock in seconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        wanted: Callable[[str], bool] = tree.is_manifest,
        limits: tree.Limits = tree.DEFAULT_LIMITS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path.absolute()
        self._wanted = wanted
        self._limits = limits
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._known: dict[str, _Known] = {}
        self._marks: tuple[object, ...] | None = None
        self._tree: tree.Tree | None = None

    def fetch(self) -> None:
        """Nothing to do: a directory is always where it is."""

    def head(self) -> str:
        """See `tree.SourceReader.head`."""
        return self._read().revision

    def read_tree(self, revision: str | None = None) -> tree.Tree:
        """See `tree.SourceReader.read_tree`. A revision that has passed raises SourceChanging."""
        listed = self._read()
        if revision not in (None, listed.revision):
            raise SourceUnreadable(
                f"the directory {self.path} no longer holds {revision}; it keeps no history, read it again",
                reason=tree.SOURCE_CHANGING,
            )
        return listed

    def read_blobs(self, entries: Iterable[tree.Entry]) -> Iterator[tuple[tree.Entry, bytes]]:
        """See `tree.SourceReader.read_blobs`. A file that no longer holds what was listed raises SourceChanging."""
        with self._opened() as root:
            for entry in entries:
                data = self._read_again(root, entry.path)
                if data is None or f"sha256-{hashlib.sha256(data).hexdigest()}" != entry.blob:
                    raise SourceUnreadable(
                        f"{self.path / entry.path} changed after it was listed; the next look takes the new content",
                        reason=tree.SOURCE_CHANGING,
                    )
                yield entry, data

    def find(self, listed: tree.Version, path: str) -> tree.Entry | None:
        """See `tree.SourceReader.find`. Looks at the directory as it is now."""
        checked = tree.check_path(path.encode("utf-8", "surrogateescape"), self._limits)
        if isinstance(checked, Diagnostic):
            raise InvalidSpec([checked])
        with self._opened() as root:
            for _ in range(_ATTEMPTS):
                met: list[str] = []
                try:
                    found = tree.resolve(path, functools.partial(_look, root, met))
                    if isinstance(found, Diagnostic):
                        if met:
                            raise InvalidSpec([found])
                        return None
                    if found.kind is not tree.NodeKind.FILE:
                        return None
                    walk = _Walk()
                    entry = self._enter(walk, root, found.path, path)
                except _Raced:
                    continue
                if isinstance(entry, Diagnostic):
                    raise InvalidSpec([entry])
                return entry
        raise self._restless()

    def close(self) -> None:
        """Nothing is kept open."""

    def _read(self) -> tree.Tree:
        with self._lock:
            before = self._marks
            for _ in range(_ATTEMPTS):
                try:
                    walk = self._walk()
                except _Raced:
                    before = None
                    continue
                self._known = walk.known
                marks = walk.marks
                if marks == before:
                    if self._tree is None or marks != self._marks:
                        self._tree, self._marks = _tree_of(walk), marks
                    return self._tree
                before = marks
            raise self._restless()

    def _walk(self) -> _Walk:
        walk = _Walk()
        with self._opened() as root:
            self._walk_folder(walk, root, b"", 1)
            if len(walk.links) > self._limits.max_links:
                raise self._too_much(f"it holds more than {self._limits.max_links} symlinks")
            for path in sorted(walk.links):
                led = tree.follow(path, self._wanted(path), functools.partial(_look, root, []))
                if isinstance(led, str):
                    found = self._enter(walk, root, led, path)
                    walk.problems.append(found) if isinstance(found, Diagnostic) else walk.entries.append(found)
                elif led is not None:
                    walk.problems.append(led)
        if len(walk.entries) > self._limits.max_files:
            raise self._too_much(f"more than {self._limits.max_files} files are declared")
        return walk

    def _walk_folder(self, walk: _Walk, folder: int, prefix: bytes, depth: int) -> bool:
        """Add what is in one open folder; whether anything in it matters."""
        try:
            with os.scandir(folder) as listing:
                visible = (each for each in listing if not each.name.startswith("."))
                some = itertools.islice(visible, self._limits.max_nodes + 1)
                found = sorted(((os.fsencode(each.name), _kind(each)) for each in some), key=operator.itemgetter(0))
        except OSError as error:
            raise self._unreadable(prefix, error) from error
        walk.visited += len(found)
        if walk.visited > self._limits.max_nodes:
            raise self._too_much(f"it holds more than {self._limits.max_nodes} files and folders")
        matters = False
        collisions = tree.Collisions()
        for name, kind in found:
            path = prefix + name
            shown = path.decode("utf-8", "surrogateescape")
            if kind is tree.NodeKind.FOLDER:
                if not self._walk_subfolder(walk, folder, name, path, depth):
                    continue
            elif kind is not tree.NodeKind.LINK and not self._wanted(path.decode("utf-8", "replace")):
                continue
            else:
                self._take(walk, folder, name, path, kind)
            matters = True
            if clash := collisions.add(shown):
                walk.problems.append(clash)
        return matters

    def _walk_subfolder(self, walk: _Walk, parent: int, name: bytes, path: bytes, depth: int) -> bool:
        if depth >= self._limits.max_depth or len(path) > self._limits.max_path_bytes:
            walk.problems.append(tree.problem(tree.printable(path), "the folder is nested too deep to be read"))
            return True
        try:
            folder = os.open(name, _FOLDER_FLAGS, dir_fd=parent)
        except OSError as error:
            raise self._unreadable(path, error) from error
        try:
            return self._walk_folder(walk, folder, path + b"/", depth + 1)
        finally:
            os.close(folder)

    def _take(self, walk: _Walk, folder: int, name: bytes, path: bytes, kind: tree.NodeKind) -> None:
        text = tree.check_path(path, self._limits)
        if isinstance(text, Diagnostic):
            walk.problems.append(text)
        elif kind is tree.NodeKind.LINK:
            walk.links.append(text)
        elif kind is tree.NodeKind.FILE:
            found = self._enter_at(walk, folder, name, text, text)
            walk.problems.append(found) if isinstance(found, Diagnostic) else walk.entries.append(found)
        else:
            walk.problems.append(tree.problem(text, "is not a regular file", "replace it with one"))

    def _enter(self, walk: _Walk, root: int, path: str, listed_as: str) -> tree.Entry | Diagnostic:
        """The entry of a file anywhere below ``root``; no part of ``path`` is a symlink."""
        with self._parent(root, path) as (folder, name):
            return self._enter_at(walk, folder, name, path, listed_as)

    def _enter_at(self, walk: _Walk, folder: int, name: bytes, path: str, listed_as: str) -> tree.Entry | Diagnostic:
        try:
            info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            raise self._unreadable(path.encode(), error) from error
        if info.st_size > self._limits.max_blob_bytes:
            return tree.oversized(listed_as, info.st_size, self._limits)
        now = self._monotonic()
        known = self._known.get(path)
        stamp = _stamp(info)
        if known is None or known.stamp != stamp or known.read_at - known.first_seen < _TRUST_AFTER_S:
            data, stamp = self._content(folder, name, path)
            digest = f"sha256-{hashlib.sha256(data).hexdigest()}"
            same = known is not None and known.stamp == stamp and known.digest == digest
            known = _Known(stamp, digest, known.first_seen if same and known else now, now)
        walk.known[path] = known
        mode = "100755" if stamp[5] & stat.S_IXUSR else "100644"
        return tree.Entry(listed_as, known.digest, stamp[2], mode)

    def _content(self, folder: int, name: bytes, path: str) -> tuple[bytes, tuple[int, ...]]:
        """The bytes of a file and the stamp that it had both before and after they were read."""
        try:
            fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
            try:
                before = os.fstat(fd)
                if not stat.S_ISREG(before.st_mode):
                    raise _Raced
                with os.fdopen(os.dup(fd), "rb") as file:
                    data = file.read(self._limits.max_blob_bytes + 1)
                stamp = _stamp(os.fstat(fd))
            finally:
                os.close(fd)
        except OSError as error:
            raise self._unreadable(path.encode(), error) from error
        if stamp != _stamp(before) or len(data) != before.st_size:
            raise _Raced
        return data, stamp

    def _read_again(self, root: int, path: str) -> bytes | None:
        """The present content of a listed file; None when it is gone or does not hold still."""
        for _ in range(_ATTEMPTS):
            try:
                found = tree.resolve(path, functools.partial(_look, root, []))
                if isinstance(found, Diagnostic) or found.kind is not tree.NodeKind.FILE:
                    return None
                with self._parent(root, found.path) as (folder, name):
                    return self._content(folder, name, path)[0]
            except _Raced:
                continue
        return None

    @contextmanager
    def _opened(self) -> Iterator[int]:
        """The directory itself. The operator may have given a symlink to it; that one is followed."""
        try:
            root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in _MOVED:
                raise SourceUnreadable(
                    f"the directory {self.path} is not there; restore it, or correct the source's path",
                    reason=tree.PATH_NOT_FOUND,
                ) from error
            raise self._denied(self.path, error) from error
        try:
            yield root
        finally:
            os.close(root)

    @contextmanager
    def _parent(self, root: int, path: str) -> Iterator[tuple[int, bytes]]:
        """The open folder that holds ``path``, and the last part of its name."""
        *parents, name = path.encode().split(b"/")
        folder = os.dup(root)
        try:
            for part in parents:
                below = os.open(part, _FOLDER_FLAGS, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder, name
        except OSError as error:
            raise self._unreadable(path.encode(), error) from error
        finally:
            os.close(folder)

    def _unreadable(self, path: bytes, error: OSError) -> Exception:
        if error.errno in _MOVED:
            return _Raced()
        return self._denied(self.path / tree.printable(path), error)

    def _denied(self, path: Path, error: OSError) -> SourceUnreadable:
        return SourceUnreadable(
            f"{path} cannot be read: {error.strerror}; give the engine's user access to it",
            reason=tree.FILE_UNREADABLE,
        )

    def _restless(self) -> SourceUnreadable:
        return SourceUnreadable(
            f"the directory {self.path} kept changing while it was read; it is read again later",
            reason=tree.SOURCE_CHANGING,
        )

    def _too_much(self, what: str) -> SourceUnreadable:
        return SourceUnreadable(
            f"the directory {self.path} is too large: {what}; narrow the path or split it",
            reason=tree.LIMIT_EXCEEDED,
        )


def _tree_of(walk: _Walk) -> tree.Tree:
    entries = tuple(sorted(walk.entries, key=_place))
    problems = tuple(sorted(walk.problems))
    listing = hashlib.sha256()
    for entry in entries:
        listing.update(f"{entry.blob} {entry.mode} {entry.path}\n".encode())
    for finding in problems:
        listing.update(f"! {finding}\n".encode())
    digest = listing.hexdigest()
    return tree.Tree(f"dir@sha256:{digest}", digest, digest, entries, problems)


def _place(entry: tree.Entry) -> bytes:
    return entry.path.encode()


def _stamp(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns, info.st_mode


def _kind(entry: os.DirEntry[str]) -> tree.NodeKind:
    try:
        if entry.is_symlink():
            return tree.NodeKind.LINK
        if entry.is_dir(follow_symlinks=False):
            return tree.NodeKind.FOLDER
        return tree.NodeKind.FILE if entry.is_file(follow_symlinks=False) else tree.NodeKind.OTHER
    except OSError as error:
        raise _Raced from error


def _look(root: int, met: list[str], path: str) -> tree.Node:
    """What `tree.resolve` asks; the links on the way are noted in ``met``."""
    raw = path.encode()
    try:
        info = os.stat(raw, dir_fd=root, follow_symlinks=False)
        if stat.S_ISLNK(info.st_mode):
            met.append(path)
            target = os.readlink(raw, dir_fd=root)
            try:
                return tree.Node(tree.NodeKind.LINK, target.decode("utf-8"))
            except UnicodeDecodeError:
                return tree.Node(tree.NodeKind.LINK, "")
    except FileNotFoundError:
        return tree.Node(tree.NodeKind.MISSING)
    except OSError as error:
        raise _Raced from error
    if stat.S_ISDIR(info.st_mode):
        return tree.Node(tree.NodeKind.FOLDER)
    return tree.Node(tree.NodeKind.FILE if stat.S_ISREG(info.st_mode) else tree.NodeKind.OTHER)
