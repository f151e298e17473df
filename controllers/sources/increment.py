"""What a new revision changed, when that is little: so that a pass costs what changed and not what there is.

After a pass that left nothing to be desired, an ``Index`` of it is kept in memory. From it and the next tree follow the
few files to compile and plan, or None: look at everything. None is always right. A narrow pass does what a full one
would do about these files; what it leaves out is the comparison of the other objects with the store, which the next
full pass makes up for. It is for files of ordinary work only, added or changed: whatever takes objects away, widens
what others may do, or can make other files wrong is looked at together with everything else.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from controllers.sources.compile import BlobCache, CompiledUnit, compile_unit
from controllers.sources.tree import Entry, SourceReader, Tree
from controllers.sources.units import MARKERS, UnitFiles, unit_of
from schemas.base import Key
from schemas.errors import InvalidSpec
from schemas.resource import RENAMED_FROM, Declared

MOST = 500
"""More changed files than this are looked at together with everything else."""

KINDS = frozenset({"Goal", "Mission", "Project", "Schedule", "Todo"})
"""Kinds that limit nobody and that no other declaration is checked against, but for dependencies."""


@dataclass(slots=True)
class Index:
    """What is in force of a source: its files, what each declares, and what the check of one file may need of others.

    ``units`` are the folders of units. ``files`` are those that declare nothing but ordinary work, ``others`` the rest.
    ``prompts`` are the texts that files draw in, with their blobs.
    """

    tree: Tree
    units: frozenset[str]
    files: dict[str, frozenset[Key]] = field(default_factory=dict)
    others: frozenset[str] = frozenset()
    places: dict[Key, str] = field(default_factory=dict)
    with_schema: dict[Key, Declared] = field(default_factory=dict)
    prompts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Narrow:
    """The changed files of one unit, compiled, as ``path`` and ``declared`` of a unit of their own."""

    unit: CompiledUnit
    entries: tuple[Entry, ...]


def index(tree: Tree, units: Iterable[tuple[UnitFiles, CompiledUnit]], reader: SourceReader) -> Index | None:
    """The index of a tree whose units are all in force; None for one that has something wrong with it."""
    units = list(units)
    if tree.problems or any(unit.diagnostics for _, unit in units):
        return None
    found = Index(tree, frozenset(files.path for files, _ in units if files.path != "."))
    ordinary: dict[str, set[Key]] = {}
    other: set[str] = set()
    for _, unit in units:
        for path in unit.prompts:
            found.prompts[path] = _blob(reader, tree, path)
        for item in unit.declared:
            assert item.provenance is not None
            place = item.provenance.path
            if _ordinary(item):
                ordinary.setdefault(place, set()).add(item.key)
            else:
                other.add(place)
            if item.kind == "Agent" and item.spec.get("inputSchema"):
                found.with_schema[item.key] = item
            found.places[item.key] = place
    found.files = {path: frozenset(keys) for path, keys in ordinary.items() if path not in other}
    found.others = frozenset(entry.path for entry in tree.entries if entry.path not in found.files)
    return found


def narrow(
    source: str, known: Index, tree: Tree, reader: SourceReader, cache: BlobCache, *, signer: str
) -> list[Narrow] | None:
    """The changed files of each unit that has some; None when everything has to be looked at. Raises SourceUnreadable
    when a blob cannot be read."""
    changed = _changed(known.tree.entries, tree.entries)
    if tree.problems or changed is None or not _alone(known, changed):
        return None
    if any(_blob(reader, tree, path) != blob for path, blob in known.prompts.items()):
        return None
    by_unit: dict[str, list[Entry]] = {}
    for entry in changed:
        by_unit.setdefault(unit_of(entry.path, known.units), []).append(entry)
    result = []
    for path, entries in sorted(by_unit.items()):
        unit = compile_unit(
            source, UnitFiles(path, tuple(entries), ()), tree, reader, cache, signer=signer,
            beside=_agents(known, path),
        )  # fmt: skip
        if unit.diagnostics or not all(_fits(known, item) for item in unit.declared):
            return None
        if any(known.files.get(e.path, frozenset()) - unit.by_key.keys() for e in entries):
            return None  # something is no longer declared
        result.append(Narrow(unit, tuple(entries)))
    return result


def follow(known: Index, tree: Tree, found: Sequence[Narrow]) -> None:
    """Bring the index to the tree, after what ``narrow`` found is in force."""
    known.tree = tree
    for part in found:
        keys: dict[str, set[Key]] = {entry.path: set() for entry in part.entries}
        for item in part.unit.declared:
            assert item.provenance is not None
            keys[item.provenance.path].add(item.key)
            known.places[item.key] = item.provenance.path
        known.files.update({path: frozenset(found) for path, found in keys.items()})


def _blob(reader: SourceReader, tree: Tree, path: str) -> str:
    """The blob of a file, listed or not; "" where it cannot be had."""
    try:
        entry = reader.find(tree, path)
    except InvalidSpec:
        return ""
    return entry.blob if entry is not None else ""


def _ordinary(item: Declared) -> bool:
    return item.kind in KINDS and not item.spec.get("dependsOn") and RENAMED_FROM not in item.annotations


def _fits(known: Index, item: Declared) -> bool:
    """Whether a declaration can be judged without the others, and no other file declares the same."""
    assert item.provenance is not None
    return _ordinary(item) and known.places.get(item.key, item.provenance.path) == item.provenance.path


def _alone(known: Index, changed: Sequence[Entry]) -> bool:
    """Whether these files are new, or declared nothing but ordinary work before."""
    strange = [entry.path for entry in changed if entry.path not in known.files]
    return not any(path in known.others or posixpath.basename(path) in MARKERS for path in strange)


def _agents(known: Index, unit: str) -> tuple[Declared, ...]:
    """Agents of a unit that say what input they take."""
    return tuple(item for key, item in known.with_schema.items() if unit_of(known.places[key], known.units) == unit)


def _changed(old: tuple[Entry, ...], new: tuple[Entry, ...]) -> list[Entry] | None:
    """Entries of ``new`` that ``old`` has not; None when one of ``old`` is gone, or for more than a few. Both are
    sorted. Most entries are the same objects in both, and comparing slices of those costs next to nothing."""
    start = _alike(old, new)
    end = _alike(old[start:][::-1], new[start:][::-1])
    before = {entry.path: entry for entry in old[start : len(old) - end]}
    after = new[start : len(new) - end]
    if before.keys() - {entry.path for entry in after}:
        return None
    found = [entry for entry in after if before.get(entry.path) != entry]
    return found if len(found) <= MOST else None


def _alike(one: tuple[Entry, ...], other: tuple[Entry, ...]) -> int:
    """How many entries both begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
