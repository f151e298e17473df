"""Sync units: which files are applied together. A folder that directly holds ``tenant.yaml`` is a unit of its own;
everything else below the source path is the unit ".". Units go by file name, never by content, so that a file that
does not parse cannot move objects from one unit to another."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Set
from dataclasses import dataclass, field

from controllers.sources.tree import Entry, Tree
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.errors import Diagnostic

ROOT = "."
MARKERS = frozenset({"tenant.yaml", "tenant.yml"})


@dataclass(frozen=True, slots=True)
class UnitFiles:
    """The files of one unit, sorted by path, and what was wrong with its tree before any file was read."""

    path: str
    entries: tuple[Entry, ...]
    problems: tuple[Diagnostic, ...]

    @property
    def fingerprint(self) -> tuple[tuple[str, str], ...]:
        """Equal fingerprints, equal content."""
        return tuple((e.path, e.blob) for e in self.entries)


@dataclass(slots=True)
class _Building:
    entries: list[Entry] = field(default_factory=list)
    problems: list[Diagnostic] = field(default_factory=list)


def split(tree: Tree) -> list[UnitFiles]:
    """The units of a tree, by path; the root unit is always there, but where every entry has a folder."""
    folders = set(tree.folders) or _marked(tree)
    units: dict[str, _Building] = {f: _Building() for f in sorted(folders)}
    if not tree.apart:
        units[ROOT] = _Building()
    for entry in tree.entries:
        units[unit_of(entry.path, folders)].entries.append(entry)
    for problem in tree.problems:
        units[unit_of(problem.path, folders)].problems.append(problem)
    return [UnitFiles(path, tuple(b.entries), tuple(b.problems)) for path, b in sorted(units.items())]


def _marked(tree: Tree) -> set[str]:
    folders = {posixpath.dirname(e.path) for e in tree.entries if posixpath.basename(e.path) in MARKERS}
    # A damaged or linked-away marker still marks its folder: otherwise its objects would fall to the root unit.
    folders |= {posixpath.dirname(p.path) for p in tree.problems if posixpath.basename(p.path) in MARKERS}
    folders.discard("")
    return folders


def unit_of(path: str, folders: Iterable[str]) -> str:
    """The innermost unit folder above a file."""
    folders = folders if isinstance(folders, Set) else frozenset(folders)
    folder = posixpath.dirname(path)
    while folder:
        if folder in folders:
            return folder
        folder = posixpath.dirname(folder)
    return ROOT


def source_id(source: Key) -> str:
    """How a source is called in inventories and managers: its name, with its namespace where that is not default."""
    return source.name if source.namespace == DEFAULT_NAMESPACE else f"{source.namespace}/{source.name}"


def unit_id(source: str, path: str) -> str:
    """The inventory name of a unit of the source with this ``source_id``: ``<source>:<path>``."""
    return f"{source}:{path}"


def source_of(unit: str) -> Key:
    """The source whose unit this is."""
    namespace, _, name = unit.partition(":")[0].rpartition("/")
    return Key("Source", namespace or DEFAULT_NAMESPACE, name)
