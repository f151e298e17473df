"""Lists a git tree: which files it declares, and what in it is refused. Every tree object on the way is verified.

The listing of a folder depends on its tree's id and its path only, so the listing of the revision before is kept and
a folder whose id did not move is taken over whole: reading a commit that changed one file reads as many trees as that
file has parents. One level of folders is asked for at a time, in one exchange with git.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from controllers.sources import git_objects, tree
from schemas.errors import Diagnostic, InvalidSpec, SourceUnreadable

FOLDER = b"40000"
LINK = b"120000"
SUBMODULE = b"160000"
FILES = {b"100644": "100644", b"100664": "100644", b"100755": "100755"}


@dataclass(frozen=True, slots=True)
class _Folder:
    """One listed folder. ``files`` are its own, ``entries``, ``links`` (path, blob) and ``problems`` include those of
    all folders below. ``visited`` counts the rows that were looked at."""

    oid: str
    folders: dict[bytes, _Folder]
    files: tuple[tree.Entry, ...]
    entries: tuple[tree.Entry, ...]
    links: tuple[tuple[str, str], ...]
    problems: tuple[Diagnostic, ...]
    visited: int

    @property
    def matters(self) -> bool:
        return bool(self.entries or self.links or self.problems)


@dataclass(frozen=True, slots=True)
class Listing:
    """What one tree declares; see `tree.Tree` for the order of its parts."""

    tree_id: str
    entries: tuple[tree.Entry, ...]
    problems: tuple[Diagnostic, ...]
    extent: tree.Extent | None


class TreeLister:
    """Lists trees of one repository, remembering the last one. Not thread-safe."""

    def __init__(self, objects: git_objects.ObjectReader, wanted: Callable[[str], bool], limits: tree.Limits) -> None:
        self._objects = objects
        self._wanted = wanted
        self._limits = limits
        self._last: _Folder | None = None
        self._last_listing: Listing | None = None

    @property
    def remembers(self) -> bool:
        """Whether a tree was listed before, so that the next one costs what differs."""
        return self._last is not None

    def listing(self, root: str) -> Listing:
        """The listing of the tree with id ``root``."""
        if self._last_listing is not None and self._last_listing.tree_id == root:
            return self._last_listing
        rows = self._load(root)
        asked: set[bytes] = set()
        sizes = self._sizes(rows, asked)
        folder = self._assemble(b"", root, self._last, rows, sizes, asked)
        entries, problems = folder.entries, list(folder.problems)
        if folder.links:
            linked = self._follow_links(root, folder.links)
            entries += tuple(found for found in linked if isinstance(found, tree.Entry))
            entries = tuple(sorted(entries, key=lambda entry: entry.path.encode()))
            problems += [found for found in linked if isinstance(found, Diagnostic)]
        if len(entries) > self._limits.max_files:
            raise _too_much(f"more than {self._limits.max_files} files are declared")
        self._last = folder
        plain = not folder.links and not problems
        extent = tree.Extent(len(entries), folder.visited) if plain else None
        self._last_listing = Listing(root, entries, tuple(sorted(problems)), extent)
        return self._last_listing

    def find(self, root: str, path: str) -> tree.Entry | None:
        """One file of a tree by path, listed or not; see `tree.SourceReader.find`."""
        checked = tree.check_path(path.encode("utf-8", "surrogateescape"), self._limits)
        if isinstance(checked, Diagnostic):
            raise InvalidSpec([checked])
        place = Place(self._objects, root)
        found = tree.resolve(path, place.look)
        if isinstance(found, Diagnostic):
            if place.met_link:
                raise InvalidSpec([found])
            return None
        if found.kind is not tree.NodeKind.FILE:
            return None
        entry = self._entry(path, found.path, place)
        if isinstance(entry, Diagnostic):
            raise InvalidSpec([entry])
        return entry

    def folder(self, root: str, path: str) -> str | None:
        """The id of the tree at a folder path below ``root``; None when there is none or a symlink is on the way."""
        if not path:
            return root
        row = Place(self._objects, root).row(path)
        return row.oid if row is not None and row.mode == FOLDER else None

    def _load(self, root: str) -> dict[bytes, tuple[git_objects.Row, ...]]:
        """The rows of every folder that is not as it was, by path with a slash at its end."""
        loaded: dict[bytes, tuple[git_objects.Row, ...]] = {}
        visited = 0
        level: list[tuple[bytes, str, _Folder | None]] = [(b"", root, self._last)]
        depth = 0
        while level:
            changed = []
            for prefix, oid, old in level:
                if old is not None and old.oid == oid:
                    visited += old.visited
                else:
                    changed.append((prefix, oid, old))
            names = {oid: prefix.decode("utf-8", "surrogateescape").rstrip("/") for prefix, oid, _ in changed}
            rows_of = dict(zip(names, self._objects.rows(list(names.items())), strict=True))
            level = []
            depth += 1
            for prefix, oid, old in changed:
                rows = loaded[prefix] = rows_of[oid]
                visited += len(rows)
                if visited > self._limits.max_nodes:
                    raise _too_much(f"it holds more than {self._limits.max_nodes} files and folders")
                if depth > self._limits.max_depth or len(prefix) > self._limits.max_path_bytes:
                    continue
                level += [
                    (prefix + row.name + b"/", row.oid, old.folders.get(row.name) if old is not None else None)
                    for row in rows
                    if row.mode == FOLDER and not row.name.startswith(b".")
                ]
        return loaded

    def _sizes(self, loaded: dict[bytes, tuple[git_objects.Row, ...]], paths: set[bytes]) -> dict[str, int]:
        """Sizes of the files that new folders declare; those the last listing knew are not asked for again. ``paths``
        takes in what these folders hold that was asked for."""
        known: dict[str, int] = {}
        self._remember_sizes(self._last, b"", loaded, known)
        asked: dict[str, git_objects.Wanted] = {}
        for prefix, rows in loaded.items():
            for row in rows:
                if row.mode not in FILES:
                    continue
                path = prefix + row.name
                if self._wanted(path.decode("utf-8", "replace")):
                    paths.add(path)
                    if row.oid not in known and row.oid not in asked:
                        where = path.decode("utf-8", "surrogateescape")
                        asked[row.oid] = git_objects.Wanted(row.oid, "blob", where, 0)
        known.update(zip(asked, self._objects.sizes(asked.values()), strict=True))
        return known

    def _remember_sizes(
        self,
        old: _Folder | None,
        prefix: bytes,
        loaded: dict[bytes, tuple[git_objects.Row, ...]],
        known: dict[str, int],
    ) -> None:
        if old is None or prefix not in loaded:
            return
        known.update((entry.blob, entry.size) for entry in old.files)
        for row in loaded[prefix]:
            if row.mode == FOLDER:
                self._remember_sizes(old.folders.get(row.name), prefix + row.name + b"/", loaded, known)

    def _assemble(
        self,
        prefix: bytes,
        oid: str,
        old: _Folder | None,
        loaded: dict[bytes, tuple[git_objects.Row, ...]],
        sizes: dict[str, int],
        asked: set[bytes],
    ) -> _Folder:
        if old is not None and old.oid == oid:
            return old
        rows = loaded.get(prefix)
        if rows is None:
            finding = tree.problem(tree.printable(prefix.rstrip(b"/")), "the folder is nested too deep to be read")
            return _Folder(oid, {}, (), (), (), (finding,), 0)
        folders: dict[bytes, _Folder] = {}
        files: list[tree.Entry] = []
        entries: list[tree.Entry] = []
        links: list[tuple[str, str]] = []
        problems: list[Diagnostic] = []
        collisions = tree.Collisions()
        for row in rows:
            if row.name.startswith(b"."):
                continue
            path = prefix + row.name
            if row.mode == FOLDER:
                below = old.folders.get(row.name) if old is not None else None
                folder = folders[row.name] = self._assemble(path + b"/", row.oid, below, loaded, sizes, asked)
                if not folder.matters:
                    continue
                entries += folder.entries
                links += folder.links
                problems += folder.problems
                if clash := collisions.add(path.decode("utf-8", "surrogateescape")):
                    problems.append(clash)
                continue
            if row.mode in FILES and path not in asked:
                continue
            text = tree.check_path(path, self._limits)
            if isinstance(text, Diagnostic):
                problems.append(text)
                continue
            if row.mode == LINK:
                links.append((text, row.oid))
            else:
                found = self._judge(row, text, sizes)
                if isinstance(found, Diagnostic):
                    problems.append(found)
                else:
                    files.append(found)
                    entries.append(found)
            if clash := collisions.add(text):
                problems.append(clash)
        visited = len(rows) + sum(folder.visited for folder in folders.values())
        return _Folder(oid, folders, tuple(files), tuple(entries), tuple(links), tuple(problems), visited)

    def _judge(self, row: git_objects.Row, path: str, sizes: dict[str, int]) -> tree.Entry | Diagnostic:
        """The entry of a file that was asked for, or why there is none."""
        if row.mode == SUBMODULE:
            return tree.problem(path, "a submodule is not read", "make its repository a Source of its own")
        if row.mode not in FILES:
            return tree.problem(path, f"the mode {tree.printable(row.mode)} is unknown")
        size = sizes[row.oid]
        if size > self._limits.max_blob_bytes:
            return tree.oversized(path, size, self._limits)
        return tree.Entry(path, row.oid, size, FILES[row.mode])

    def _follow_links(self, root: str, links: Iterable[tuple[str, str]]) -> list[tree.Entry | Diagnostic]:
        links = tuple(links)
        if len(links) > self._limits.max_links:
            raise _too_much(f"it holds more than {self._limits.max_links} symlinks")
        place = Place(self._objects, root)
        found: list[tree.Entry | Diagnostic] = []
        for path, _ in links:
            led = tree.follow(path, self._wanted(path), place.look)
            if isinstance(led, Diagnostic):
                found.append(led)
            elif led is not None:
                found.append(self._entry(path, led, place))
        return found

    def _entry(self, path: str, leads_to: str, place: Place) -> tree.Entry | Diagnostic:
        row = place.row(leads_to)
        assert row is not None
        size = next(self._objects.sizes([git_objects.Wanted(row.oid, "blob", path, 0)]))
        if size > self._limits.max_blob_bytes:
            return tree.oversized(path, size, self._limits)
        return tree.Entry(path, row.oid, size, FILES[row.mode])


class Place:
    """Answers what is where below one tree, reading only the trees on the way."""

    def __init__(self, objects: git_objects.ObjectReader, root: str) -> None:
        self._objects = objects
        self._root = root
        self._trees: dict[str, dict[bytes, git_objects.Row]] = {}
        self.met_link = False

    def row(self, path: str) -> git_objects.Row | None:
        """The row at ``path``, none of whose parents is a symlink."""
        oid = self._root
        row: git_objects.Row | None = None
        parts = path.split("/")
        for number, part in enumerate(parts):
            row = self._rows(oid, "/".join(parts[:number])).get(part.encode("utf-8", "surrogateescape"))
            if row is None:
                return None
            if number < len(parts) - 1 and row.mode != FOLDER:
                return None
            oid = row.oid
        return row

    def look(self, path: str) -> tree.Node:
        """What `tree.resolve` asks."""
        row = self.row(path)
        if row is None:
            return tree.Node(tree.NodeKind.MISSING)
        if row.mode == FOLDER:
            return tree.Node(tree.NodeKind.FOLDER)
        if row.mode != LINK:
            return tree.Node(tree.NodeKind.FILE if row.mode in FILES else tree.NodeKind.OTHER)
        self.met_link = True
        return tree.Node(tree.NodeKind.LINK, self._target(row, path))

    def _target(self, row: git_objects.Row, path: str) -> str:
        asked = git_objects.Wanted(row.oid, "blob", path, tree.MAX_LINK_TARGET)
        if next(self._objects.sizes([asked])) > tree.MAX_LINK_TARGET:
            return ""
        try:
            return self._objects.content(asked).decode("utf-8")
        except UnicodeDecodeError:
            return ""

    def _rows(self, oid: str, where: str) -> dict[bytes, git_objects.Row]:
        if oid not in self._trees:
            rows = next(self._objects.rows([(oid, where)]))
            self._trees[oid] = {row.name: row for row in rows}
        return self._trees[oid]


def _too_much(what: str) -> SourceUnreadable:
    return SourceUnreadable(f"the source is too large: {what}; narrow its path or split it", reason=tree.LIMIT_EXCEEDED)
