"""A proposed change before anybody is asked: the edited file, what the compiler says of the tree with it, and what the
planner says of its effects. Nothing is written anywhere."""

from __future__ import annotations

import difflib
import hashlib
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from controllers.sources import planning, tree, yaml
from controllers.sources.compile import BlobCache, CompiledUnit, compile_unit
from controllers.sources.git import GitReader
from controllers.sources.units import source_id, split, unit_of
from decisions.plan import Entry
from decisions.plan_effects import predict
from schemas.base import API_VERSION, DEFAULT_NAMESPACE, Key
from schemas.errors import InvalidSpec, Refused
from schemas.resource import Declared, Resource, digest
from schemas.source import SourceSpec, SourceStatus
from store.contract import Snapshot

MOST_LINES = 400
_SIDES = ("Agent", "Budget", "Schedule")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to change: values by field path (below the document). None takes a field away. ``create`` declares a new
    object in the folder of ``beside``."""

    key: Key
    edits: Mapping[tuple[str, ...], Any]
    create: bool
    beside: Key


@dataclass(frozen=True, slots=True)
class Spot:
    """Where the object is declared: a file below the source path, and the line of its document (0 for a new one)."""

    path: str
    line: int


@dataclass(frozen=True, slots=True)
class Draft:
    """The change, worked out. ``spot`` is the file and what stands there afterwards, ``base`` a commit id, ``root`` the
    file's path from the root of the repository. ``wanted`` holds the canonical values of the fields once it is merged.
    ``entry`` is the part of the plan that is the object's."""

    spot: Spot
    base: str
    root: str
    digest: str
    diff: tuple[str, ...]
    wanted: Mapping[str, Any]
    entry: Entry
    effects: tuple[str, ...]


def draft(
    snapshot: Snapshot, source: Resource, reader: GitReader, cache: BlobCache, wish: Wish, now: datetime
) -> Draft:
    """Work the change out on top of the revision of ``source`` that was accepted last. Blocks.

    Raises Refused (NotDeclared, AlreadyDeclared, BaseInvalid, NothingToChange, EditUnsafe, PathRefused), InvalidSpec
    with file:line:column for what the compiler or the planner does not take, SourceUnreadable.
    """
    spec, status = SourceSpec.model_validate(source.spec), SourceStatus.model_validate(source.status)
    if not status.revision:
        raise Refused(f"{source.key.short} was not read yet; try again in a while", reason="NotDeclared")
    listed = reader.read_tree(status.revision)
    quiet = _ReadOnly(cache)
    units = _compile(source, listed, reader, quiet)
    spot = _spot(units, wish)
    path = spot.path
    old = next((e for e in listed.entries if e.path == path), None)
    if wish.create and old is not None:
        raise Refused(f"{path} is there already; choose another name", reason="AlreadyDeclared")
    before = "" if old is None else _text(reader, old)
    text = _edited(before, spot, wish)
    if text == before:
        raise Refused(f"{wish.key.short} says that already: there is nothing to change", reason="NothingToChange")
    changed = _overlay(listed, reader, path, text, old)
    after = _compile(source, changed.listed, changed, quiet)
    folder = unit_of(path, {u.path for u in after})
    unit = next(u for u in after if u.path == folder)
    known = next((u.diagnostics for u in units if u.path == folder), ())
    if known:
        raise Refused(f"the specs do not compile as they are: {known[0]}", reason="BaseInvalid")
    problems = [*unit.diagnostics, *planning.refused(snapshot, source.key, after).get(folder, ())]
    if problems:
        raise InvalidSpec(problems)
    elsewhere = frozenset(k for other in after if other is not unit for k in other.by_key)
    planned = planning.plan_unit(snapshot, source_id(source.key), unit, listed.revision, spec, keep=elsewhere)
    if planned.faults:
        raise InvalidSpec(planned.faults)
    was = next((u.by_key[wish.key] for u in units if wish.key in u.by_key), None)
    entry = next((e for e in planned.plan.entries if e.key == wish.key), None)
    mine = unit.by_key[wish.key]
    if entry is None or (was is not None and was.spec_hash == mine.spec_hash):
        raise Refused(f"{wish.key.short} says that already: there is nothing to change", reason="NothingToChange")
    only = replace(planned.plan, entries=(entry,), relocations=(), guards=())
    sides = {r.key: (r.labels, r.spec) for kind in _SIDES for r in snapshot.objects(kind)}
    effects = predict(only, sides, {**sides, wish.key: (mine.labels, mine.spec)}, now)
    shown = tuple(f"{e.kind}: {e.subject}: {e.message}" for e in effects)
    root = posixpath.normpath(posixpath.join(reader.path, path))
    wanted = {".".join(field): _at(mine.spec, field[1:]) for field in wish.edits}
    return Draft(spot, listed.commit, root, digest(text), _lines(before, text, root), wanted, entry, shown)


def rendered(reader: GitReader, base: str, spot: Spot, wish: Wish) -> str:
    """The file of a draft once more: the same for the same arguments. Raises as ``draft``."""
    listed = reader.read_tree(base)
    entry = next((e for e in listed.entries if e.path == spot.path), None)
    return _edited("" if entry is None else _text(reader, entry), spot, wish)


def merged(live: Resource | None, wanted: Mapping[str, Any]) -> bool:
    """Whether an object says what a proposal asked for: it was taken over by other means than a merge."""
    return live is not None and all(_at(live.spec, tuple(f.split("."))[1:]) == value for f, value in wanted.items())


def _at(spec: Any, path: Iterable[str]) -> Any:
    for part in path:
        if not isinstance(spec, Mapping) or part not in spec:
            return None
        spec = spec[part]
    return spec


def _compile(source: Resource, listed: tree.Tree, reader: tree.SourceReader, cache: BlobCache) -> list[CompiledUnit]:
    return [compile_unit(source_id(source.key), files, listed, reader, cache) for files in split(listed)]


def _spot(units: Iterable[CompiledUnit], wish: Wish) -> Spot:
    declared: dict[Key, Declared] = {}
    for unit in units:
        declared |= unit.by_key
    wanted = declared.get(wish.beside if wish.create else wish.key)
    if wanted is None or wanted.provenance is None:
        missing = wish.beside if wish.create else wish.key
        raise Refused(f"no file of the specs declares {missing.short}", reason="NotDeclared")
    if not wish.create:
        return Spot(wanted.provenance.path, wanted.provenance.line)
    if wish.key in declared:
        raise Refused(f"{wish.key.short} is declared already; propose a change of it", reason="AlreadyDeclared")
    name = f"{wish.key.kind.lower()}-{wish.key.name}.yaml"
    return Spot(posixpath.join(posixpath.dirname(wanted.provenance.path), name), 0)


def _text(reader: tree.SourceReader, entry: tree.Entry) -> str:
    return b"".join(data for _, data in reader.read_blobs([entry])).decode()


def _edited(before: str, spot: Spot, wish: Wish) -> str:
    text, index, path = before, 0, spot.path
    if wish.create:
        place = "" if wish.key.namespace == DEFAULT_NAMESPACE else f"  namespace: {wish.key.namespace}\n"
        text = (
            f"apiVersion: {API_VERSION}\nkind: {wish.key.kind}\nmetadata:\n  name: {wish.key.name}\n{place}spec: {{}}\n"
        )
    else:
        index = next(d.index for d in yaml.load(before.encode(), path=path).documents if d.line == spot.line)
    from controllers.sources import edit  # brings a second reader of YAML, for proposals alone

    for field, value in wish.edits.items():
        if value is None:
            text = edit.delete_value(text, index, field, name=path)
        else:
            text = edit.set_value(text, index, field, value, name=path)
    return text


def _lines(before: str, after: str, path: str) -> tuple[str, ...]:
    """The change as a unified diff, cut where it is long."""
    old, new = before.splitlines(), after.splitlines()
    lines = list(difflib.unified_diff(old, new, f"a/{path}" if before else "/dev/null", f"b/{path}", lineterm="", n=2))
    more = len(lines) - MOST_LINES
    return (*lines[:MOST_LINES], f"... {more} more lines") if more > 0 else tuple(lines)


class _ReadOnly:
    """Takes from a cache and puts nothing in: what nobody merged must not fill it."""

    def __init__(self, cache: BlobCache) -> None:
        self._cache = cache

    def cached_blobs(self, compiler: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        return self._cache.cached_blobs(compiler, blobs)

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        """Keeps nothing."""


@dataclass(frozen=True, slots=True)
class _Overlay:
    """A reader over a tree of which one file has other content."""

    listed: tree.Tree
    under: tree.SourceReader
    entry: tree.Entry
    data: bytes

    def fetch(self) -> None:
        """Nothing to bring."""

    def head(self) -> str:
        return self.listed.revision

    def read_tree(self, revision: str | None = None) -> tree.Tree:
        return self.listed

    def read_blobs(self, entries: Iterable[tree.Entry]) -> Iterator[tuple[tree.Entry, bytes]]:
        for entry in entries:
            if entry == self.entry:
                yield entry, self.data
            else:
                yield from self.under.read_blobs([entry])

    def find(self, listed: tree.Version, path: str) -> tree.Entry | None:
        return self.entry if path == self.entry.path else self.under.find(listed, path)

    def close(self) -> None:
        """The reader below is somebody else's."""


def _overlay(listed: tree.Tree, reader: tree.SourceReader, path: str, text: str, old: tree.Entry | None) -> _Overlay:
    data = text.encode()
    head = b"blob %d\0" % len(data)
    algorithm = hashlib.sha256 if len(listed.commit) == 64 else hashlib.sha1
    entry = tree.Entry(path, algorithm(head + data).hexdigest(), len(data), old.mode if old is not None else "100644")
    entries = sorted([*(e for e in listed.entries if e.path != path), entry], key=lambda e: e.path.encode())
    return _Overlay(replace(listed, entries=tuple(entries)), reader, entry, data)
