"""A git repository in memory, with the contract of ``controllers.sources.tree.SourceReader``."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from controllers.sources.tree import HISTORY_REWRITTEN, Entry, Tree, Version
from schemas.errors import SourceUnreadable


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit: its files, and the first commit of its history."""

    oid: str
    root: str
    files: dict[str, bytes]


class MemorySource:
    """Repository and reader in one. ``unreadable`` is the reason with which reading fails from ``fails_at`` on, ""
    for none."""

    def __init__(self) -> None:
        self._commits: dict[str, Commit] = {}
        self._blobs: dict[str, bytes] = {}
        self.branch: list[str] = []
        self.unreadable = ""
        self.fails_at = "fetch"

    # What people do to it.

    def commit(self, files: dict[str, str], *, unrelated: bool = False) -> str:
        """A new head with exactly these files; ``unrelated`` begins another history."""
        data = {path: text.encode() for path, text in files.items()}
        parent = "" if unrelated or not self.branch else self.branch[-1]
        hashed = hashlib.sha1(f"{parent}/{len(self._commits)}".encode())
        for path in sorted(data):
            hashed.update(path.encode() + b"\0" + data[path] + b"\0")
        oid = hashed.hexdigest()
        self._blobs.update((hashlib.sha1(content).hexdigest(), content) for content in data.values())
        root = self._commits[parent].root if parent else oid
        self._commits[oid] = Commit(oid, root, data)
        self.branch = [*self.branch, oid] if parent else [oid]
        return oid

    def push_force(self, oids: list[str]) -> None:
        """Let the branch be another line of commits that exist."""
        self.branch = list(oids)

    @property
    def files(self) -> dict[str, str]:
        """The files of the head."""
        return {path: data.decode() for path, data in self._commits[self.branch[-1]].files.items()}

    # The reader.

    def fetch(self) -> None:
        self._check("fetch")

    def head(self) -> str:
        self._check("head")
        return f"main@sha1:{self.branch[-1]}"

    def read_tree(self, revision: str | None = None) -> Tree:
        self._check("tree")
        oid = (revision or self.head()).rpartition(":")[2]
        commit = self._commits[oid]
        entries = tuple(
            Entry(path, hashlib.sha1(commit.files[path]).hexdigest(), len(commit.files[path]), "100644")
            for path in sorted(commit.files, key=str.encode)
        )
        tree_id = hashlib.sha1(repr([(e.path, e.blob) for e in entries]).encode()).hexdigest()
        return Tree(f"main@sha1:{oid}", oid, tree_id, entries, ())

    def read_blobs(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        for entry in entries:
            self._check("blobs")
            yield entry, self._blobs[entry.blob]

    def find(self, listed: Version, path: str) -> Entry | None:
        self._check("find")
        return next((e for e in self.read_tree(listed.revision).entries if e.path == path), None)

    def require_common_history(self, old: str, new: str) -> None:
        """As the git reader: another history is not taken for a change."""
        before, after = (self._commits[r.rpartition(":")[2]] for r in (old, new))
        if before.root != after.root:
            raise SourceUnreadable(f"{new} shares no history with {old}", reason=HISTORY_REWRITTEN)

    def close(self) -> None:
        pass

    def _check(self, place: str) -> None:
        order = ("fetch", "head", "tree", "blobs", "find")
        if self.unreadable and order.index(place) >= order.index(self.fails_at):
            raise SourceUnreadable(f"injected at {place}", reason=self.unreadable)
