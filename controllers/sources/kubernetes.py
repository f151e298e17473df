"""The custom resources of a cluster as a source: a listing that follows the cluster object by object.

Who watches marks what may have changed (`mark`); a fetch reads these objects, one request each, and everything anew
now and then, or when it is told that it may have missed something. What cannot be read leaves the listing as it was:
nothing is ever concluded from silence.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from controllers.sources import kubernetes_objects as objects
from controllers.sources import tree
from controllers.sources.kubernetes_objects import Known
from controllers.web.kubernetes import Api, ClusterFault, pages
from schemas import registry
from schemas.base import API_GROUP, API_VERSION, Key
from schemas.errors import SourceUnreadable
from schemas.kind import ObjectClass
from schemas.source import SourceReason

ROOT: Final = f"/apis/{API_VERSION}"
KINDS: Final = tuple(name for name in registry.NAMES if name.object_class is not ObjectClass.RECORD)
"""What can be declared."""
FEW: Final = 100
"""More marked objects than this of one kind are listed rather than read one by one."""
_GONE: Final = 410
_TRIES: Final = 3


@dataclass(frozen=True, slots=True)
class Scope:
    """What of a cluster is read. Without ``namespaces`` and ``shard`` all of it; ``shard`` is the value that the label
    ``remit.dev/shard`` of a namespace must have. Objects without a namespace are read unless there is either."""

    namespaces: tuple[str, ...] = ()
    shard: str = ""

    @property
    def cluster_wide(self) -> bool:
        """Whether one list holds all namespaces."""
        return not self.namespaces

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return not self.namespaces and not self.shard


@dataclass(slots=True)
class _Listing:
    """What is there, by key. ``order`` holds the paths of declarations, sorted by their bytes."""

    known: dict[Key, Known] = field(default_factory=dict)
    entries: list[tree.Entry] = field(default_factory=list)

    def put(self, one: Known) -> bool:
        """Take an object in; whether what is declared changed."""
        before = self.known.get(one.key)
        self.known[one.key] = one
        return self._arrange(before, one)

    def drop(self, key: Key) -> bool:
        """Take an object out; whether what is declared changed."""
        return self._arrange(self.known.pop(key, None), None)

    def _arrange(self, before: Known | None, after: Known | None) -> bool:
        old = before.entry if before is not None and not before.deleting else None
        new = after.entry if after is not None and not after.deleting else None
        if old == new:
            return False
        if old is not None:
            del self.entries[self._place(old)]
        if new is not None:
            self.entries.insert(self._place(new), new)
        return True

    def _place(self, entry: tree.Entry) -> int:
        return bisect.bisect_left(self.entries, entry.path.encode(), key=lambda each: each.path.encode())


class KubernetesReader:
    """A `tree.SourceReader` over a cluster. There is no history: only the current revision can be read.

    ``relist_s`` is how often everything is listed whatever the watch says; ``monotonic`` a clock in seconds. All may be
    called from several threads.
    """

    def __init__(
        self, api: Api, scope: Scope, *, monotonic: Callable[[], float], relist_s: float = 300.0,
        limits: tree.Limits = tree.DEFAULT_LIMITS,
    ) -> None:  # fmt: skip
        self.api = api
        self.scope = scope
        self._monotonic = monotonic
        self._relist_s = relist_s
        self._limits = limits
        self._reading = threading.Lock()
        """Held while requests are under way: one fetch at a time."""
        self._lock = threading.Lock()
        self._listing = _Listing()
        self._marked: set[Key] = set()
        self._whole = True
        self._listed_s = 0.0
        self._namespaces: frozenset[str] = frozenset()
        self._revision = 0
        self._tree: tree.Tree | None = None
        self.reads = 0
        """Requests so far, for whoever counts."""

    # What the watch says.

    def mark(self, kind: str, document: Mapping[str, Any], *, gone: bool = False) -> bool:
        """Something happened to an object, which looks like ``document`` now. Whether it is to be read: what leaves the
        declaration as it is, such as our own status, is no news."""
        seen = objects.known(document, kind)
        if objects.is_made(document):
            gone = True  # no declaration, or no longer
        with self._lock:
            if not self.minds(seen.key.namespace):
                return False
            before = self._listing.known.get(seen.key)
            if before is not None and before.uid == seen.uid and _number(before.version) > _number(seen.version):
                return False  # it tells what was before the state that is known
            alike = before is not None and (before.blob, before.deleting) == (seen.blob, seen.deleting)
            if alike and not gone:
                self._listing.known[seen.key] = seen
                return False
            if before is None and gone:
                return False
            self._marked.add(seen.key)
            return True

    def doubt(self) -> None:
        """Something may have been missed: the next fetch lists everything."""
        with self._lock:
            self._whole = True

    @property
    def is_due(self) -> bool:
        """Whether a fetch would ask for anything."""
        with self._lock:
            return bool(self._marked) or self._needs_whole()

    def known(self, key: Key) -> Known | None:
        """An object as it was last read, also one that is being deleted."""
        with self._lock:
            return self._listing.known.get(key)

    def everything(self) -> list[Known]:
        """All that is known, also what is being deleted."""
        with self._lock:
            return list(self._listing.known.values())

    def _needs_whole(self) -> bool:
        return self._whole or self._monotonic() - self._listed_s >= self._relist_s

    def minds(self, namespace: str) -> bool:
        """Whether objects of a namespace ("" for those without one) are this engine's."""
        scope = self.scope
        if scope.whole:
            return True
        return namespace in (scope.namespaces or self._namespaces)

    # Reading.

    def fetch(self) -> None:
        """Read what was marked, or everything. Raises SourceUnreadable, with all that was marked still marked."""
        with self._reading:
            with self._lock:
                whole = self._needs_whole()
                marked = set(self._marked)
            try:
                if whole or len(marked) > FEW:
                    self._list_all(marked)
                elif marked:
                    self._read_some(marked)
            except ClusterFault as fault:
                raise _unreadable(fault) from fault

    def _list_all(self, marked: set[Key]) -> None:
        with self._lock:
            self._whole = False  # whoever doubts from here on doubts this listing
        try:
            namespaces = self._sharded() if self.scope.shard else frozenset(self.scope.namespaces)
            found: dict[Key, Known] = {}
            revision = 0
            for name in KINDS:
                for place in self.places(name.namespaced):
                    version = self._list(place, name, namespaces, found)
                    revision = max(revision, version)
        except BaseException:
            self.doubt()
            raise
        listing = _Listing()
        listing.known = found
        declared = (each.entry for each in found.values() if not each.deleting)
        listing.entries = sorted(declared, key=lambda entry: entry.path.encode())
        with self._lock:
            self._listed_s = self._monotonic()
            self._marked -= marked
            self._namespaces = namespaces
            if listing.entries != self._listing.entries or self._tree is None:
                self._changed(revision)
            self._listing = listing

    def places(self, namespaced: bool) -> list[str]:
        """The paths below which objects are listed."""
        if not namespaced:
            return [ROOT] if self.scope.whole else []
        if self.scope.cluster_wide:
            return [ROOT]
        return [f"{ROOT}/namespaces/{namespace}" for namespace in self.scope.namespaces]

    def _list(
        self, place: str, name: registry.KindName, namespaces: frozenset[str], found: dict[Key, Known]
    ) -> int:  # fmt: skip
        """Take in one list; its version."""
        for attempt in range(_TRIES):
            part: dict[Key, Known] = {}
            revision = 0
            try:
                for page in pages(self.api, f"{place}/{name.plural}", {"labelSelector": objects.DECLARED}):
                    self.reads += 1
                    revision = _number(page.version)
                    for document in page.items:
                        one = objects.known(document, name.kind)
                        if not self.scope.shard or one.key.namespace in namespaces:
                            part[one.key] = one
            except ClusterFault as fault:
                if fault.status == _GONE and attempt + 1 < _TRIES:
                    continue  # the list took longer than the server remembers
                if fault.status == 404:
                    raise ClusterFault(
                        f"the cluster does not serve {name.plural}.{API_GROUP}: install the definitions, with"
                        " 'remit crd | kubectl apply --server-side -f -'",
                        status=404,
                    ) from fault
                raise
            found |= part
            if len(found) > self._limits.max_files:
                raise SourceUnreadable(
                    f"the cluster holds more than {self._limits.max_files} objects; share it out over shards",
                    reason=tree.LIMIT_EXCEEDED,
                )
            return revision
        raise AssertionError("the last attempt returns or raises")

    def check_shard(self) -> None:
        """Look which namespaces are this engine's; when they are others than before, everything is to be listed.
        Raises ClusterFault."""
        if self.scope.shard:
            found = self._sharded()
            with self._lock:
                self._whole = self._whole or found != self._namespaces

    def _sharded(self) -> frozenset[str]:
        """The namespaces of this engine."""
        found = set()
        query = {"labelSelector": f"{objects.SHARD}={self.scope.shard}"}
        for page in pages(self.api, "/api/v1/namespaces", query):
            self.reads += 1
            found |= {str((item.get("metadata") or {}).get("name")) for item in page.items}
        if self.scope.namespaces:
            found &= set(self.scope.namespaces)
        return frozenset(found)

    def _read_some(self, marked: Iterable[Key]) -> None:
        for key in sorted(marked):
            with self._lock:
                self._marked.discard(key)  # who marks it from here on means a later state
            try:
                one, version = self._read(key)
            except BaseException:
                with self._lock:
                    self._marked.add(key)
                raise
            with self._lock:
                changed = self._listing.put(one) if one is not None else self._listing.drop(key)
                if changed:
                    self._changed(version)

    def _read(self, key: Key) -> tuple[Known | None, int]:
        """An object as it is now, None when it is no declaration any more; and a version that is not older."""
        name = registry.find_name(key.kind)
        place = f"{ROOT}/namespaces/{key.namespace}" if name.namespaced else ROOT
        self.reads += 1
        try:
            document = self.api.ask("GET", f"{place}/{name.plural}/{key.name}")
        except ClusterFault as fault:
            if fault.status != 404:
                raise
            # Nobody is taken for deleted by a server that has lost the definitions: the list has to be there.
            self.reads += 1
            answer = self.api.ask("GET", f"{place}/{name.plural}", params={"limit": "1"})
            return None, _number(str((answer.get("metadata") or {}).get("resourceVersion") or ""))
        one = objects.known(document, key.kind)
        return (None if objects.is_made(document) else one), _number(one.version)

    def _changed(self, version: int) -> None:
        self._revision = max(version, self._revision + 1)
        self._tree = None

    # As a source.

    def head(self) -> str:
        """See `tree.SourceReader.head`."""
        with self._lock:
            return f"kubernetes@rv:{self._revision}"

    def read_tree(self, revision: str | None = None) -> tree.Tree:
        """See `tree.SourceReader.read_tree`. A revision that has passed raises SourceChanging."""
        with self._lock:
            now = f"kubernetes@rv:{self._revision}"
            if revision not in (None, now):
                raise _passed(str(revision))
            if self._tree is None:
                entries = tuple(self._listing.entries)
                folders = frozenset(entry.path.partition("/")[0] for entry in entries)
                name = str(self._revision)
                self._tree = tree.Tree(now, name, f"rv-{name}", entries, (), folders=folders, apart=True)
            return self._tree

    def read_blobs(self, entries: Iterable[tree.Entry]) -> Iterator[tuple[tree.Entry, bytes]]:
        """See `tree.SourceReader.read_blobs`."""
        for entry in entries:
            key = objects.key_of(entry.path)
            with self._lock:
                one = self._listing.known.get(key) if key is not None else None
            if one is None or one.blob != entry.blob:
                raise _passed(entry.path)
            yield entry, one.content

    def find(self, listed: tree.Version, path: str) -> tree.Entry | None:
        """See `tree.SourceReader.find`. A cluster holds no files beside its objects."""
        return None

    def close(self) -> None:
        """Nothing is kept open: whoever made the API closes it."""


def _number(version: str) -> int:
    return int(version) if version.isdecimal() else 0


def _passed(what: str) -> SourceUnreadable:
    return SourceUnreadable(
        f"{what} changed in the cluster after it was listed; the next look takes it as it is then",
        reason=tree.SOURCE_CHANGING,
    )


def _unreadable(fault: ClusterFault) -> SourceUnreadable:
    reason: str = tree.REPOSITORY_UNREACHABLE
    advice = "what was in force stays; it is tried again"
    if fault.status in (401, 403):
        reason = tree.AUTHENTICATION_FAILED
        advice = "give the engine's user a role that may get, list and watch it"
    elif fault.status == 404:
        reason, advice = SourceReason.PATH_NOT_FOUND, "what was in force stays"
    return SourceUnreadable(f"{fault}; {advice}", reason=reason)
