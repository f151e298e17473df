"""A document as read from YAML: its value, and where in the file each part of it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from controllers.sources.findings import PathPart, Position
from schemas.errors import Diagnostic

Path = tuple[PathPart, ...]

# A place is line and column, both from 0, in one integer: half the memory of a pair, and not tracked by the garbage
# collector. Limits.max_bytes keeps columns below 2**24.
SHIFT = 24
_COLUMN = (1 << SHIFT) - 1

Places: TypeAlias = "dict[PathPart, Entry] | list[Entry]"
"""The places inside a collection, in its own shape."""
Entry: TypeAlias = "tuple[int, int, Places | None]"
"""The place of a key or item, the place of its value, and the places inside that."""


def position(place: int) -> Position:
    """The packed place as people count."""
    return Position((place >> SHIFT) + 1, (place & _COLUMN) + 1)


def below(entry: Entry, part: PathPart) -> Entry:
    """The entry of ``part`` inside ``entry``; where the file has none, ``entry`` itself with nothing inside."""
    return Document.step(entry, part) or (entry[0], entry[1], None)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file.

    ``index`` counts the documents of the file from 0, empty ones included. ``value`` is plain dict, list, str, int,
    float, bool or None; parts that the file shares by alias are shared here too, so treat it as read-only. ``line``
    is that of the first node, from 1. ``flawed`` are the places in it that the reader already complained about: a
    later check need not complain there again.
    """

    index: int
    value: Any
    line: int
    flawed: frozenset[Position] = frozenset()
    root: Entry = field(default=(0, 0, None), repr=False, compare=False)

    def position(self, path: Sequence[PathPart]) -> Position | None:
        """Where the key (in a list: the item) at ``path`` stands; None when there is none. ``()`` is the document."""
        entry = self._entry(path)
        return None if entry is None else position(entry[0])

    def value_position(self, path: Sequence[PathPart]) -> Position | None:
        """Where the value at ``path`` begins; for an alias, where the alias stands."""
        entry = self._entry(path)
        return None if entry is None else position(entry[1])

    def nearest(self, path: Sequence[PathPart]) -> Position:
        """Where the key at ``path`` stands, or else the nearest key around it that the file has."""
        entry = self.root
        for part in path:
            inner = self.step(entry, part)
            if inner is None:
                break
            entry = inner
        return position(entry[0])

    @property
    def positions(self) -> Mapping[Path, Position]:
        """The place of every key and item, by path. Made anew at each call; aliases are written out."""
        return {path: position(entry[0]) for path, entry in self._walk()}

    @property
    def value_positions(self) -> Mapping[Path, Position]:
        """The place of every value, by path. Made anew at each call."""
        return {path: position(entry[1]) for path, entry in self._walk()}

    def _walk(self) -> Iterator[tuple[Path, Entry]]:
        todo: list[tuple[Path, Entry]] = [((), self.root)]
        while todo:
            path, entry = todo.pop()
            yield path, entry
            inside = entry[2]
            if isinstance(inside, dict):
                todo.extend(((*path, key), child) for key, child in inside.items())
            elif inside is not None:
                todo.extend(((*path, number), child) for number, child in enumerate(inside))

    def _entry(self, path: Sequence[PathPart]) -> Entry | None:
        entry: Entry | None = self.root
        for part in path:
            if entry is None:
                return None
            entry = self.step(entry, part)
        return entry

    @staticmethod
    def step(entry: Entry, part: PathPart) -> Entry | None:
        """The entry of one key or item; None when there is none."""
        inside = entry[2]
        if inside is None:
            return None
        if isinstance(inside, list):
            return inside[part] if isinstance(part, int) and 0 <= part < len(inside) else None
        return inside.get(part)


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What a file holds, in file order, and what is wrong with it, sorted by place.

    A document with faults of its own is still among ``documents`` where its shape could be read, so that the checks
    that follow can report the rest in the same run. Nothing of a file with diagnostics may be applied.
    """

    documents: tuple[Document, ...]
    diagnostics: tuple[Diagnostic, ...]
