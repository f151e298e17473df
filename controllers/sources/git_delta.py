"""What one git tree brings against another, read from the folders that differ and nothing else.

It is asked about a tree whose listing is known to hold no symlink and no problem, and of which the extent is known; and
answers only where the next listing holds none either and takes no listed file away. Otherwise the answer is None: list
the whole. ``git_tree`` says what a listing is; every tree that is read here is verified as there. Why not ``git
diff-tree``: it believes what is stored, and follows the settings of the repository.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from controllers.sources import git_objects, git_rows, git_tree, tree
from schemas.errors import Diagnostic

MOST: Final = 500
"""More changed files than this are listed together with everything else; so are more folders."""


class Found(NamedTuple):
    """``tree.Delta`` without the name of the version."""

    changed: tuple[tree.Changed, ...]
    touched: frozenset[str]
    extent: tree.Extent


class _Pair(NamedTuple):
    """A folder in both trees. ``prefix`` is its path with a slash at its end; ``old`` is "" for a new one."""

    prefix: bytes
    old: str
    new: str


class _File(NamedTuple):
    path: str
    blob: str
    before: str
    mode: str


class Comparer:
    """Compares trees of one repository, remembering the folders of the last one that was compared. Not thread-safe."""

    def __init__(self, objects: git_objects.ObjectReader, wanted: Callable[[str], bool], limits: tree.Limits) -> None:
        self._objects = objects
        self._wanted = wanted
        self._limits = limits
        self._rows: dict[str, git_rows.Rows] = {}

    def compare(self, old: str, new: str, extent: tree.Extent) -> Found | None:
        """What the tree ``new`` brings against ``old``, the listing of which has that extent. Raises SourceUnreadable
        when an object cannot be read."""
        walk = _Walk(self._wanted, self._limits, extent.nodes)
        level = [_Pair(b"", old, new)] if old != new else []
        loaded: dict[str, git_rows.Rows] = {"": git_rows.NONE}
        for _ in range(self._limits.max_depth):
            if not level:
                break
            below: list[_Pair] = []
            try:
                for pair, between in self._load(level, loaded):
                    if not walk.folder(pair, between, loaded[pair.new].rows, below):
                        return None
            except ValueError:
                return None  # no well-formed tree
            level = below
        if level or walk.falls_together():
            return None
        added = sum(not file.before for file in walk.files)
        total = tree.Extent(extent.files + added, walk.nodes)
        if total.files > self._limits.max_files or total.nodes > self._limits.max_nodes:
            return None
        changed = self._judged(walk.files)
        if changed is None:
            return None
        self._rows = {oid: loaded[oid] for oid in walk.current}
        return Found(changed, frozenset(walk.touched), total)

    def _load(
        self, level: Sequence[_Pair], loaded: dict[str, git_rows.Rows]
    ) -> Iterator[tuple[_Pair, git_rows.Between]]:
        """The folders of one level, with the rows in which they differ. Raises ValueError for one that is no tree."""
        loaded |= {oid: rows for pair in level for oid in (pair.old, pair.new) if (rows := self._rows.get(oid))}
        asked = {
            oid: pair.prefix.decode("utf-8", "surrogateescape").rstrip("/")
            for pair in level
            for oid in (pair.old, pair.new)
            if oid not in loaded
        }
        data = dict(zip(asked, self._objects.trees(list(asked.items())), strict=True))
        for pair in level:
            size = len(pair.new) // 2
            if pair.old not in loaded:
                loaded[pair.old] = git_rows.split(data[pair.old], size)
            old = loaded[pair.old]
            if pair.new in loaded:
                yield pair, git_rows.Between(old.rows, loaded[pair.new].rows)
            else:
                loaded[pair.new], between = git_rows.split_after(old, data[pair.new], size)
                yield pair, between

    def _judged(self, files: Sequence[_File]) -> tuple[tree.Changed, ...] | None:
        """Their entries; None when one is too large."""
        sizes = self._objects.sizes([git_objects.Wanted(file.blob, "blob", file.path, 0) for file in files])
        found = []
        for file, size in zip(files, sizes, strict=True):
            if size > self._limits.max_blob_bytes:
                return None
            found.append(tree.Changed(tree.Entry(file.path, file.blob, size, file.mode), file.before))
        return tuple(sorted(found, key=lambda each: each.entry.path.encode()))


class _Walk:
    """What was met on the way through the folders that differ."""

    def __init__(self, wanted: Callable[[str], bool], limits: tree.Limits, nodes: int) -> None:
        self._wanted = wanted
        self._limits = limits
        self._folders: dict[bytes, Sequence[git_rows.Row]] = {}
        self.nodes = nodes
        self.files: list[_File] = []
        self.touched: set[str] = set()
        self.current: set[str] = set()

    def folder(self, pair: _Pair, between: git_rows.Between, rows: Sequence[git_rows.Row], below: list[_Pair]) -> bool:
        """Take in one folder, whose rows are ``rows`` now, and put those inside that differ to ``below``; false when
        the whole is to be listed."""
        prefix = pair.prefix
        if len(prefix) > self._limits.max_path_bytes or len(self._folders) >= MOST:
            return False
        self._folders[prefix] = rows
        self.current.add(pair.new)
        self.nodes += len(between.new) - len(between.old)
        before, after = _different(between.old, between.new)
        for name, row in before.items():
            if name not in after:
                if row[0] not in git_tree.FILES or self._asked_for(prefix + name):
                    return False
                self.touched.add((prefix + name).decode("utf-8", "surrogateescape"))
        for name, (mode, _, oid) in after.items():
            was = before.get(name)
            if mode == git_tree.FOLDER:
                if was is not None and was[0] != git_tree.FOLDER:
                    return False
                below.append(_Pair(prefix + name + b"/", was[2].hex() if was is not None else "", oid.hex()))
                continue
            if mode not in git_tree.FILES or (was is not None and was[0] not in git_tree.FILES):
                return False
            if not self._file(prefix + name, mode, oid.hex(), was[2].hex() if was is not None else ""):
                return False
        return len(self.files) <= MOST

    def _file(self, path: bytes, mode: bytes, blob: str, before: str) -> bool:
        if not self._asked_for(path):
            self.touched.add(path.decode("utf-8", "surrogateescape"))
            return True
        text = tree.check_path(path, self._limits)
        if isinstance(text, Diagnostic):
            return False
        self.files.append(_File(text, blob, before, git_tree.FILES[mode]))
        return True

    def falls_together(self) -> bool:
        """Whether names may clash: those of a folder in which something new is listed, wherever below. A folder in
        which nothing is listed counts too; the whole listing knows better."""
        looked: set[bytes] = set()
        for file in self.files:
            if file.before:
                continue
            prefix = file.path.encode()
            while prefix:
                prefix = prefix.rstrip(b"/").rpartition(b"/")[0]
                prefix = prefix and prefix + b"/"
                if prefix in looked:
                    break
                looked.add(prefix)
                if self._clashes(prefix):
                    return True
        return False

    def _clashes(self, prefix: bytes) -> bool:
        collisions = tree.Collisions()
        for mode, name, _ in self._folders[prefix]:
            if name.startswith(b".") or (mode != git_tree.FOLDER and not self._asked_for(prefix + name)):
                continue
            if collisions.add(name.decode("utf-8", "surrogateescape")) is not None:
                return True
        return False

    def _asked_for(self, path: bytes) -> bool:
        return self._wanted(path.decode("utf-8", "replace"))


def _different(
    old: Sequence[git_rows.Row], new: Sequence[git_rows.Row]
) -> tuple[dict[bytes, git_rows.Row], dict[bytes, git_rows.Row]]:
    """The rows of either side that the other has not, by name, hidden ones left out. Modes come without zeros before
    them."""
    if len(old) == len(new):
        pairs = [(one, other) for one, other in zip(old, new, strict=True) if one != other]
        if all(one[1] == other[1] for one, other in pairs):
            return _visible([one for one, _ in pairs]), _visible([other for _, other in pairs])
    one, other = set(old), set(new)
    return _visible([row for row in old if row not in other]), _visible([row for row in new if row not in one])


def _visible(rows: Sequence[git_rows.Row]) -> dict[bytes, git_rows.Row]:
    return {row[1]: (row[0].lstrip(b"0"), row[1], row[2]) for row in rows if not row[1].startswith(b".")}
