"""What a new revision changed, when that is little: so that a pass costs what changed and not what there is.

After a pass that left nothing to be desired its ``Ground`` is kept, in memory and beside the cache of compiled files.
From it, what the next version brings, and what the cache knows of the files as they were follow the few files to
compile and plan, or None: look at everything. None is always right. A narrow pass does what a full one would do about
these files; what it leaves out is the comparison of the other objects with the store, which the next full pass makes up
for. It is for files of ordinary work only, added or changed: whatever takes objects away, widens what others may do, or
can make other files wrong is looked at together with everything else.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from controllers.sources.compile import BlobCache, CompiledBlob, CompiledUnit, compile_unit, kept
from controllers.sources.git import GitReader
from controllers.sources.tree import Changed, Delta, Entry, Extent, SourceReader, Tree, Version
from controllers.sources.units import MARKERS, ROOT, UnitFiles, unit_of
from decisions import cross_check
from schemas.base import Key
from schemas.errors import InvalidSpec
from schemas.resource import RENAMED_FROM, Declared
from store.contract import Snapshot

MOST = 500
"""More changed files than this are looked at together with everything else."""

KINDS = frozenset({"Goal", "Mission", "Project", "Schedule", "Todo"})
"""Kinds that limit nobody and that no other declaration is checked against, but for dependencies."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What is in force of a source, as far as the check of one file may need it: small, however large the source is.

    ``extent`` is that of its listing, ``units`` the folders of units below the first. ``with_schema`` are the files
    that declare agents which say what input they take, ``prompts`` the texts that files draw in; both with their blobs,
    sorted. ``tree`` is the listing where the reader compares listings and not folders; it is not kept beside the cache.
    """

    extent: Extent | None
    units: tuple[str, ...] = ()
    with_schema: tuple[tuple[str, str], ...] = ()
    prompts: tuple[tuple[str, str], ...] = ()
    tree: Tree | None = None


@dataclass(frozen=True, slots=True)
class Narrow:
    """What a version brings, compiled: a part for each unit that has some, and the ground for the next pass."""

    version: Version
    units: tuple[CompiledUnit, ...]
    ground: Ground
    fresh: Mapping[str, bytes]
    """Compiled forms to keep."""


def ground(tree: Tree, units: Iterable[tuple[UnitFiles, CompiledUnit]], reader: SourceReader) -> Ground | None:
    """The ground of a tree whose units are all in force; None for one that has something wrong with it."""
    units = list(units)
    if tree.problems or any(unit.diagnostics for _, unit in units):
        return None
    prompts = {path: _blob(reader, tree, path) for _, unit in units for path in unit.prompts}
    schemas: dict[str, str] = {}
    for _, unit in units:
        for item in unit.declared:
            if item.kind == "Agent" and item.spec.get("inputSchema"):
                assert item.provenance is not None
                schemas[item.provenance.path] = item.provenance.blob
    near = isinstance(reader, GitReader) and tree.extent is not None
    return Ground(
        tree.extent,
        tuple(sorted(files.path for files, _ in units if files.path != ROOT)),
        tuple(sorted(schemas.items())),
        tuple(sorted(prompts.items())),
        None if near else tree,
    )


def difference(known: Ground, old: str, new: str, reader: SourceReader) -> tuple[Delta | None, Tree | None]:
    """What the revision ``new`` brings against ``old``, the ground of which is known; and its tree, where it was listed
    for that. Raises SourceUnreadable when it cannot be listed."""
    if known.tree is not None:
        tree = reader.read_tree(new)
        return compared(known.tree, tree), tree
    if known.extent is None or not isinstance(reader, GitReader):
        return None, None
    return reader.delta(old, new, known.extent), None


def narrow(
    source: str, known: Ground, delta: Delta, tree: Tree | None, reader: SourceReader, cache: BlobCache,
    snapshot: Snapshot, *, signer: str,
) -> Narrow | None:  # fmt: skip
    """What a version brings, compiled, where it can be judged without the rest. ``tree`` is the listing of the
    version where there is one. Raises SourceUnreadable when a blob cannot be read."""
    if len(delta.changed) > MOST or any(posixpath.basename(c.entry.path) in MARKERS for c in delta.changed):
        return None
    if tree is not None and tree.apart and tree.folders != frozenset(known.units):
        return None
    if not _prompts_stand(known, delta, tree, reader):
        return None
    before = _declared_before(delta.changed, cache)
    if before is None:
        return None
    folders = frozenset(known.units)
    by_unit: dict[str, list[Changed]] = {}
    for changed in delta.changed:
        by_unit.setdefault(unit_of(changed.entry.path, folders), []).append(changed)
    beside = _agents(known, cache)
    if beside is None:
        return None
    fresh = _Fresh(cache)
    result = []
    for path, several in sorted(by_unit.items()):
        files = UnitFiles(path, tuple(c.entry for c in several), ())
        unit = compile_unit(source, files, delta.version, reader, fresh, signer=signer)
        if unit.diagnostics or not all(_ordinary(item) for item in unit.declared):
            return None
        here = [item for place, item in beside if unit_of(place, folders) == path]
        if here and cross_check.check([*unit.declared, *here]):
            return None
        gone = {key for c in several for key in before.get(c.before, ())} - unit.by_key.keys()
        if gone or len(unit.by_key) != len(unit.declared) or not _alone(unit, several, before, snapshot):
            return None
        result.append(unit)
    after = replace(known, extent=delta.extent, tree=tree)
    return Narrow(delta.version, tuple(result), after, fresh.compiled)


def _prompts_stand(known: Ground, delta: Delta, tree: Tree | None, reader: SourceReader) -> bool:
    """Whether the texts that files draw in are what they were. Without symlinks a text in sight changes by itself."""
    altered = delta.touched | {c.entry.path for c in delta.changed}
    for path, blob in known.prompts:
        hidden = tree is not None or any(part.startswith(".") for part in path.split("/"))
        if path in altered or (hidden and _blob(reader, delta.version, path) != blob):
            return False
    return True


def _declared_before(changed: Sequence[Changed], cache: BlobCache) -> dict[str, list[Key]] | None:
    """The identities that the files declared as they were, by blob; None where that is not known, or where it was more
    than ordinary work."""
    blobs = {c.before for c in changed if c.before}
    compiled = kept(cache, blobs)
    if compiled.keys() != blobs:
        return None
    if not all(_ordinary(item) for blob in compiled.values() for item, _ in blob.declared):
        return None
    return {oid: [item.key for item, _ in blob.declared] for oid, blob in compiled.items()}


def _agents(known: Ground, cache: BlobCache) -> list[tuple[str, Declared]] | None:
    """The agents that say what input they take, with the files that declare them; None where one is not known."""
    compiled: dict[str, CompiledBlob] = kept(cache, {blob for _, blob in known.with_schema})
    if any(blob not in compiled for _, blob in known.with_schema):
        return None
    return [
        (path, item)
        for path, blob in known.with_schema
        for item, _ in compiled[blob].declared
        if item.kind == "Agent" and item.spec.get("inputSchema")
    ]


def _alone(
    unit: CompiledUnit, changed: Sequence[Changed], before: Mapping[str, Sequence[Key]], snapshot: Snapshot
) -> bool:
    """Whether no other file declares the same. The object tells which file does. Where a file declares what it did not
    declare before, and there is no object, there must never have been one: it may have been taken away by somebody."""
    earlier = {c.entry.path: frozenset(before.get(c.before, ())) for c in changed}
    live = snapshot.get_many(unit.by_key)
    for key, item in unit.by_key.items():
        assert item.provenance is not None
        known = key in earlier[item.provenance.path]
        current = live.get(key)
        if current is not None:
            at = current.provenance.path if current.provenance is not None else ""
            if current.deletion_at is not None or (not known and at != item.provenance.path):
                return False
        elif not known and snapshot.events(subject=key, limit=1):
            return False
    return True


def compared(old: Tree, new: Tree) -> Delta | None:
    """What one listing brings against another; None when one of ``old`` is gone, for more than a few, or where anything
    is wrong. Both are sorted. Most entries are the same objects in both, and comparing slices of those costs next to
    nothing."""
    if new.problems:
        return None
    start = _alike(old.entries, new.entries)
    end = _alike(old.entries[start:][::-1], new.entries[start:][::-1])
    before = {entry.path: entry for entry in old.entries[start : len(old.entries) - end]}
    after = new.entries[start : len(new.entries) - end]
    if before.keys() - {entry.path for entry in after}:
        return None
    changed = [
        Changed(entry, before[entry.path].blob if entry.path in before else "")
        for entry in after
        if before.get(entry.path) != entry
    ]
    version = Version(new.revision, new.commit, new.tree_id)
    return Delta(version, tuple(changed), frozenset(), new.extent) if len(changed) <= MOST else None


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


def _blob(reader: SourceReader, tree: Version, path: str) -> str:
    """The blob of a file, listed or not; "" where it cannot be had."""
    try:
        entry = reader.find(tree, path)
    except InvalidSpec:
        return ""
    return entry.blob if entry is not None else ""


def _ordinary(item: Declared) -> bool:
    return item.kind in KINDS and not item.spec.get("dependsOn") and RENAMED_FROM not in item.annotations


class _Fresh:
    """A cache that holds back what is new, for the transaction that applies it."""

    def __init__(self, cache: BlobCache) -> None:
        self._cache = cache
        self.compiled: dict[str, bytes] = {}

    def cached_blobs(self, compiler: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        return self._cache.cached_blobs(compiler, blobs)

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        self.compiled.update(compiled)
