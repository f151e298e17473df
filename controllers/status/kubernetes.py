"""Keeps the cluster saying what the store says: status of what it declares, records and children of what it runs.

A component of the engine, as the writer of status branches is. What it remembers is a cache: at its start everything is
compared with what the cluster holds. One change is at most two writes: the object, where the engine made it and its
spec or labels changed, and the status, by server-side apply under the field manager ``remit``, so that nothing that
others wrote is touched. A finalizer stands on an object only while it has effects that have to be ended first.
"""

from __future__ import annotations

import concurrent.futures
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from random import Random
from typing import Final

from controllers.runtime.backoff import Backoff
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from controllers.sources import kubernetes_objects as objects
from controllers.sources.kubernetes import ROOT, KubernetesReader
from controllers.sources.units import source_of
from controllers.status import conditions, kubernetes_render
from controllers.status.kubernetes_events import ClusterEvents
from controllers.status.kubernetes_render import Document, Owner
from controllers.web.kubernetes import APPLY, MERGE, Api, ClusterFault, pages
from decisions.finalizers import DRAIN
from schemas import crd, registry
from schemas.base import API_VERSION, Key
from schemas.errors import StoreUnavailable
from schemas.resource import Resource
from schemas.source import SourceReason
from store.contract import Snapshot, Store

log = logging.getLogger(__name__)

MANAGER: Final = "remit"
"""The field manager."""
POLL_S: Final = 1.0
QUIET_S: Final = 0.1
"""An object is written this long after it changed: what follows at once is one write."""
CHECK_S: Final = 600.0
"""How often everything is compared with the cluster all the same."""
THREADS: Final = 8
_CHANGES: Final = 5_000
_BATCH: Final = 400
_BACKOFF: Final = Backoff(initial_s=0.5, maximum_s=60.0)
_NEVER_S: Final = 3600.0
_APPLIED: Final = {"fieldManager": MANAGER, "force": "true"}


@dataclass(slots=True)
class _Shadow:
    """What the cluster holds of one object, as far as is known. ``uid`` is that of the cluster, "" while it is not
    there; ``made`` and ``said`` are digests of the object and its status; ``drains`` is set while our finalizer is
    there that the reader may not have seen yet."""

    key: Key
    uid: str = ""
    made: str = ""
    said: str = ""
    drains: bool = False


@dataclass(slots=True)
class _Due:
    """An object that is to be looked at. Times are monotonic."""

    key: Key
    at_s: float
    failures: int = 0


@dataclass(slots=True)
class _Facts:
    """What is needed to write one batch, from one snapshot."""

    now: dict[Key, Resource]
    owners: dict[str, Resource]


@dataclass(slots=True)
class _Refusals:
    """What the source could not take: key -> (why, since when)."""

    by_key: dict[Key, tuple[str, datetime]] = field(default_factory=dict)


class ClusterStatus:
    """Writes to a cluster. Works in one thread at a time, with helpers for requests."""

    def __init__(
        self, store: Store, source: Key, reader: KubernetesReader, *, clock: Clock, blocking: Blocking, random: Random,
    ) -> None:  # fmt: skip
        self._store = store
        self._source = source
        self._reader = reader
        self._api: Api = reader.api
        self._clock = clock
        self._blocking = blocking
        self._random = random
        self._cursor = -1
        self._due: dict[str, _Due] = {}
        self._shadows: dict[str, _Shadow] = {}
        self._refusals = _Refusals()
        self._checked_s = 0.0
        self._not_before_s = 0.0
        self._failures = 0
        self._problem = ""
        self._events = ClusterEvents(self._api, self._uid_in_cluster)
        self.writes = 0
        """Requests that wrote, so far."""

    def problem(self) -> str:
        """For /readyz."""
        return self._problem

    async def run(self, life: Lifecycle) -> None:
        """A component. What is left when it is stopped is written at the next start."""
        life.ready()
        threads = concurrent.futures.ThreadPoolExecutor(THREADS, thread_name_prefix="remit-cluster")
        try:
            while not life.stopping.is_set():
                wait_s = await self._blocking.run(self.pass_once, threads)
                await wait_for_any(self._clock, wait_s, life.stopping)
            await self._blocking.run(self._last, threads)
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            self._cursor = -1

    def pass_once(self, threads: concurrent.futures.Executor) -> float:
        """Take in what changed and write what is due; the seconds until something may be due again."""
        now_s = self._clock.monotonic()
        if now_s < self._not_before_s:
            return min(POLL_S, self._not_before_s - now_s)
        try:
            self._look()
            self._write_due(threads)
            self._events.write(self._clock.now(), threads)
        except StoreUnavailable as error:
            log.warning("status waits, the store does not answer: %s", error)
            self._cursor = -1
            return POLL_S
        except ClusterFault as fault:
            self._fail(fault)
            return min(POLL_S, max(0.05, self._not_before_s - self._clock.monotonic()))
        soonest = min((due.at_s for due in self._due.values()), default=now_s + POLL_S)
        return max(0.02, min(POLL_S / 5, soonest - self._clock.monotonic()))

    def _last(self, threads: concurrent.futures.Executor) -> None:
        """Whatever is left, once, due or not."""
        try:
            self._look()
            for due in self._due.values():
                if not due.failures:
                    due.at_s = 0.0
            self._write_due(threads)
        except (StoreUnavailable, ClusterFault) as error:
            log.warning("status was not written at the end: %s", error)

    def _fail(self, fault: ClusterFault) -> None:
        self._failures += 1
        wait_s = _BACKOFF.delay(self._failures, self._random)
        self._not_before_s = self._clock.monotonic() + (fault.after if fault.after is not None else wait_s)
        self._cursor = -1 if self._cursor < 0 else self._cursor
        self._problem = f"status cannot be written: {fault}"
        self._say(SourceReason.NOT_WRITABLE, str(fault), good=False)

    def _say(self, reason: SourceReason, message: str, *, good: bool) -> None:
        try:
            conditions.set_on(self._store, self._source, "StatusWritten", reason, message, good=good)
        except StoreUnavailable as error:
            log.warning("the status of %s waits: %s", self._source.short, error)

    # What changed.

    def _look(self) -> None:
        now_s = self._clock.monotonic()
        if self._cursor < 0 or now_s - self._checked_s >= CHECK_S:
            self._compare()
            return
        if self._store.cursor() == self._cursor:
            return
        with self._store.snapshot() as snapshot:
            if self._cursor < snapshot.oldest_cursor():
                self._cursor = -1
                return
            latest = snapshot.latest_version()
            while self._cursor < latest:
                changes = snapshot.changes_since(self._cursor, limit=_CHANGES)
                if not changes:
                    self._cursor = latest
                    break
                for change in changes:
                    if change.key == self._source:
                        self._take_refusals(snapshot, now_s)
                    self._mark(change.uid, change.key, now_s + QUIET_S)
                self._cursor = changes[-1].resource_version
            self._events.take(snapshot)

    def _mark(self, uid: str, key: Key, at_s: float) -> None:
        if key.kind in crd.SERVED:
            due = self._due.get(uid)
            if due is None or (due.at_s > at_s and not due.failures):
                self._due[uid] = _Due(key, at_s)

    def _take_refusals(self, snapshot: Snapshot, now_s: float) -> None:
        """What the source says of objects that it could not take."""
        source = snapshot.get(self._source)
        told: dict[Key, str] = {}
        for unit in source.status.get("units", ()) if source is not None else ():
            for error in unit.get("errors", ()):
                path, _, rest = str(error).partition(":")
                key = objects.key_of(path)
                if key is not None:
                    why = _without_place(rest)
                    told[key] = f"{told[key]}; {why}" if key in told else why
        before, now = self._refusals.by_key, self._clock.now()
        after = {key: (why, before[key][1] if key in before else now) for key, why in told.items()}
        for key in {k for k in before.keys() | after.keys() if before.get(k) != after.get(k)}:
            resource = snapshot.get(key)
            self._mark(resource.uid if resource is not None else _nameless(key), key, now_s)
        self._refusals.by_key = after

    # Everything.

    def _compare(self) -> None:
        """Look at all that the cluster holds, and note what it says otherwise than the store."""
        now_s = self._clock.monotonic()
        with self._store.snapshot() as snapshot:
            self._take_refusals(snapshot, now_s)
            self._events.begin(snapshot)
            cursor = snapshot.latest_version()
            wanted = {r.uid: r for kind in crd.SERVED for r in snapshot.objects(kind) if self._is_ours(r)}
        by_key = {resource.key: resource for resource in wanted.values()}
        before = dict(self._shadows)
        self._shadows.clear()
        for kind in crd.SERVED:
            for document in self._documents(kind):
                self._compare_one(kind, document, by_key, before, now_s)
        for uid, resource in wanted.items():
            if uid not in self._shadows and self._is_made(resource):
                self._mark(uid, resource.key, now_s)
        self._cursor = cursor
        self._checked_s = now_s

    def _documents(self, kind: str) -> Iterable[Document]:
        name = registry.find_name(kind)
        if not name.namespaced and not self._reader.scope.whole:
            return
        for place in self._reader.places(name.namespaced):
            for page in pages(self._api, f"{place}/{name.plural}"):
                yield from page.items

    def _compare_one(
        self, kind: str, document: Document, by_key: dict[Key, Resource], before: dict[str, _Shadow], now_s: float
    ) -> None:  # fmt: skip
        there = objects.known(document, kind)
        is_made = objects.is_made(document)
        if not self._reader.minds(there.key.namespace):
            return
        resource = by_key.get(there.key)
        if resource is None:
            refused = self._refusals.by_key.get(there.key)
            if is_made or DRAIN in there.finalizers or refused is not None:
                uid = _nameless(there.key)
                self._shadows[uid] = _Shadow(there.key, there.uid, "made" if is_made else "")
                self._mark(uid, there.key, now_s)
            return
        said = kubernetes_render.news(document.get("status") or {})
        old = before.get(resource.uid)
        made = old.made if old is not None and old.uid == there.uid else ""
        self._shadows[resource.uid] = _Shadow(there.key, there.uid, made, said)
        self._mark(resource.uid, there.key, now_s)

    # Whose an object is.

    def _is_declared(self, resource: Resource) -> bool:
        """Whether the cluster holds the declaration."""
        return bool(resource.unit) and source_of(resource.unit) == self._source

    def _is_made(self, resource: Resource) -> bool:
        """Whether it is there because the engine made it: nobody declares it in a file."""
        return not resource.unit and (resource.key != self._source or self._reader.scope.whole)

    def _is_ours(self, resource: Resource) -> bool:
        if not self._reader.minds(resource.namespace):
            return False
        return self._is_declared(resource) or self._is_made(resource)

    def _uid_in_cluster(self, resource: Resource) -> str:
        """The uid that the cluster knows an object by; "" where it does not."""
        if self._is_declared(resource):
            known = self._reader.known(resource.key)
            return known.uid if known is not None else ""
        shadow = self._shadows.get(resource.uid)
        return shadow.uid if shadow is not None else ""

    # Writing.

    def _write_due(self, threads: concurrent.futures.Executor) -> None:
        now_s = self._clock.monotonic()
        due = sorted(((uid, one) for uid, one in self._due.items() if one.at_s <= now_s), key=lambda each: each[1].at_s)
        faults: list[ClusterFault] = []
        for start in range(0, len(due), _BATCH):
            batch = due[start : start + _BATCH]
            for uid, _ in batch:
                del self._due[uid]
            facts = self._facts([one.key for _, one in batch])
            # Owners first: what they own names their uid.
            batch.sort(key=lambda each: registry.NAMES.index(registry.find_name(each[1].key.kind)))
            for part in _by_rank(batch):
                jobs = {threads.submit(self._write, uid, one.key, facts): (uid, one) for uid, one in part}
                for job in concurrent.futures.as_completed(jobs):
                    uid, one = jobs[job]
                    fault = job.result()
                    if fault is not None:
                        faults.append(fault)
                        self._put_off(uid, one, fault)
            if any(fault.status == 0 for fault in faults):
                raise faults[-1]
        if due and not faults:
            if self._failures or self._problem:
                self._failures, self._problem = 0, ""
            self._say(SourceReason.STATUS_WRITTEN, "in the cluster", good=True)

    def _put_off(self, uid: str, one: _Due, fault: ClusterFault) -> None:
        failures = one.failures + 1
        wait_s = fault.after if fault.after is not None else _BACKOFF.delay(failures, self._random)
        if not fault.passing:
            # What it says will not change by itself; the next change of the object tries again.
            log.warning("%s: its status cannot be written: %s", one.key.short, fault)
            wait_s = _NEVER_S
        if uid not in self._due:
            self._due[uid] = _Due(one.key, self._clock.monotonic() + wait_s, failures)

    def _facts(self, keys: Sequence[Key]) -> _Facts:
        with self._store.snapshot() as snapshot:
            now = snapshot.get_many(keys)
            uids = {resource.owner_uid for resource in now.values() if resource.owner_uid}
            owners = {uid: found for uid in uids if (found := snapshot.get_by_uid(uid)) is not None}
        return _Facts(now, owners)

    def _write(self, uid: str, key: Key, facts: _Facts) -> ClusterFault | None:
        """Bring one object to what the store says."""
        try:
            resource = facts.now.get(key)
            if resource is not None and (resource.uid == uid or uid == _nameless(key)):
                if self._is_ours(resource):
                    self._write_one(resource, facts)
            elif resource is None:
                self._write_gone(uid, key)
        except ClusterFault as fault:
            if fault.status == 404:
                self._shadows.pop(uid, None)  # it is gone, or its namespace is
                return None
            return fault
        return None

    def _write_one(self, resource: Resource, facts: _Facts) -> None:
        shadow = self._shadows.setdefault(resource.uid, _Shadow(resource.key))
        if self._is_declared(resource):
            self._mind_finalizer(resource, shadow)
            generation = self._generation(resource)
            if generation is None:
                return
        else:
            generation = self._make(resource, shadow, facts)
            if not generation:
                return
        why, since = self._refusals.by_key.get(resource.key, ("", None))
        known = self._reader.known(resource.key)
        seen = known.generation if known is not None else generation
        self._say_status(shadow, kubernetes_render.status(resource, generation, why, since, seen))

    def _generation(self, resource: Resource) -> int | None:
        """The generation that the cluster counts for the spec that is in force; None where the object is not there."""
        known = self._reader.known(resource.key)
        parts = objects.blob_parts(resource.provenance.blob) if resource.provenance is not None else None
        if known is None:
            return None
        return parts[1] if parts is not None and parts[0] == known.uid else max(0, known.generation - 1)

    def _say_status(self, shadow: _Shadow, status: Document) -> None:
        said = kubernetes_render.news(status)
        if not status or said == shadow.said:
            return
        document = {"apiVersion": API_VERSION, "kind": shadow.key.kind, "metadata": _name(shadow.key), "status": status}
        answer = self._ask("PATCH", f"{_path(shadow.key)}/status", document, APPLY, _APPLIED)
        shadow.said = said
        if self._reader.known(shadow.key) is not None:
            self._reader.mark(shadow.key.kind, answer)

    def _make(self, resource: Resource, shadow: _Shadow, facts: _Facts) -> int:
        """Write an object that the engine made; its generation, 0 when it has no place in the cluster."""
        if self._reader.known(resource.key) is not None:
            return 0  # somebody declares one of that name: theirs stands, and the source says what is wrong with it
        owner = facts.owners.get(resource.owner_uid)
        owner_uid = self._uid_in_cluster(owner) if owner is not None else ""
        if owner is not None and owner.namespace not in ("", resource.namespace):
            owner_uid = ""
        document = kubernetes_render.made(
            resource, Owner(owner.key, owner_uid) if owner is not None and owner_uid else None
        )
        made = kubernetes_render.news(document)
        if made != shadow.made:
            answer = self._ask("PATCH", _path(resource.key), document, APPLY, _APPLIED)
            shadow.uid = str((answer.get("metadata") or {}).get("uid") or "")
            shadow.made = made
        return resource.generation

    def _mind_finalizer(self, resource: Resource, shadow: _Shadow) -> None:
        known = self._reader.known(resource.key)
        if known is None:
            return
        wanted = has_effects(resource) or (known.deleting and resource.deletion_at is not None)
        is_there = shadow.drains or DRAIN in known.finalizers
        if wanted and not known.deleting and not is_there:
            self._put_finalizers(known, [*known.finalizers, DRAIN])
            shadow.drains = True
        elif not wanted and is_there:
            self._put_finalizers(known, [each for each in known.finalizers if each != DRAIN])
            shadow.drains = False

    def _put_finalizers(self, known: objects.Known, wanted: list[str]) -> None:
        """By compare-and-swap: others keep finalizers there, too."""
        for _ in range(5):
            body = {"metadata": {"uid": known.uid, "resourceVersion": known.version, "finalizers": wanted}}
            try:
                answer = self._ask("PATCH", _path(known.key), body, MERGE, {"fieldManager": f"{MANAGER}-finalizers"})
                self._reader.mark(known.key.kind, answer)  # the watch tells it later
                return
            except ClusterFault as fault:
                if fault.status != 409:
                    raise
            fresh = objects.known(self._api.ask("GET", _path(known.key)), known.key.kind)
            if fresh.uid != known.uid or (DRAIN in fresh.finalizers) == (DRAIN in wanted):
                return
            others = [each for each in fresh.finalizers if each != DRAIN]
            if fresh.deleting and DRAIN in wanted:
                return
            wanted = [*others, DRAIN] if DRAIN in wanted else others
            known = fresh

    def _write_gone(self, uid: str, key: Key) -> None:
        """The store holds no such object, or no longer."""
        shadow = self._shadows.get(uid)
        known = self._reader.known(key)
        if known is not None:
            if DRAIN in known.finalizers or (shadow is not None and shadow.drains):
                self._put_finalizers(known, [each for each in known.finalizers if each != DRAIN])
            refused = self._refusals.by_key.get(key)
            if refused is not None and not known.deleting:
                shadow = self._shadows.setdefault(uid, _Shadow(key, known.uid))
                self._say_status(shadow, kubernetes_render.refusal(key.kind, *refused, known.generation))
                return
        elif shadow is not None and shadow.uid:
            body = {"preconditions": {"uid": shadow.uid}, "propagationPolicy": "Background"}
            self._ask("DELETE", _path(key), body, "application/json", {})
        self._shadows.pop(uid, None)

    def _ask(self, method: str, path: str, body: Document, kind: str, params: dict[str, str]) -> Document:
        self.writes += 1
        return self._api.ask(method, path, params=params, body=body, kind=kind)


def has_effects(resource: Resource) -> bool:
    """Whether something outside has to end before the object may go: a run that is open."""
    if resource.kind == "Mission":
        return bool(resource.status.get("currentRun"))
    return resource.kind == "Agent" and bool(resource.status.get("activeRuns"))


def _by_rank(batch: Iterable[tuple[str, _Due]]) -> list[list[tuple[str, _Due]]]:
    """Parts that may be written side by side: records after what they belong to."""
    parts: tuple[list[tuple[str, _Due]], ...] = ([], [], [])
    for uid, one in batch:
        rank = {"Mission": 1, "Todo": 1}.get(one.key.kind, 2 if one.key.kind in registry.RECORDS else 0)
        parts[rank].append((uid, one))
    return [part for part in parts if part]


def _nameless(key: Key) -> str:
    """Stands for the uid of what is in the cluster and not in the store."""
    return f"cluster:{objects.path_of(key)}"


def _without_place(error: str) -> str:
    """A diagnostic without the line and column of a file that there is not."""
    line, _, rest = error.strip().partition(":")
    column, _, said = rest.partition(":")
    return said.strip() if line.isdecimal() and column.isdecimal() else error.strip()


def _name(key: Key) -> Document:
    return {"name": key.name, **({"namespace": key.namespace} if key.namespace else {})}


def _path(key: Key) -> str:
    plural = registry.find_name(key.kind).plural
    place = f"{ROOT}/namespaces/{key.namespace}" if key.namespace else ROOT
    return f"{place}/{plural}/{key.name}"
