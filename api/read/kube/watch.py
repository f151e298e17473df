"""Watches: every change of a kind after a version, one JSON document a line."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from api.read import log
from api.read.answers import Reader, json_bytes
from api.read.engine import Clock
from api.read.kube.lists import Query, matches, page
from api.read.kube.shape import META, Form, Wanted, as_one, document
from api.read.kube.status import expired
from api.stream.follower import Changed, Follower, Logged, changes, head_of_log
from api.stream.response import first_of
from schemas.base import API_VERSION
from schemas.errors import StoreError
from schemas.kind import KindInfo
from schemas.quantities import parse_time
from store.contract import Event, Snapshot

BOOKMARK_S = 60.0


@dataclass(slots=True)
class Watch:
    """One watch. ``position`` is the version up to which the client knows everything."""

    info: KindInfo
    namespace: str | None
    query: Query
    wanted: Wanted
    reader: Reader
    follower: Follower
    clock: Clock

    async def lines(self, gone: asyncio.Future[Any]) -> AsyncIterator[bytes]:
        """What is sent. Ends at the time limit, when the reader has gone or the server stops, and after an error."""
        began = self.clock.now()
        ends = None if self.query.timeout_s is None else self.clock.monotonic() + self.query.timeout_s
        next_bookmark = self.clock.monotonic() + BOOKMARK_S
        known: set[str] = set()
        try:
            async with self.follower.following_objects() as ring:
                position = self.query.since
                if position is None or self.query.initial_events:
                    first = await self.reader.read(lambda s: page(s, self.info, self.namespace, _all(self.query)))
                    for item in first.items:
                        known.add(item["metadata"]["uid"])
                        yield self._line("ADDED", item)
                    position = first.version
                    if self.query.initial_events:
                        yield self._bookmark(position, initial=True)
                elif self._selects:
                    first = await self.reader.read(lambda s: page(s, self.info, self.namespace, _all(self.query)))
                    known |= {item["metadata"]["uid"] for item in first.items}
                if position > ring.head and position > await self.reader.read(lambda s: s.latest_version()):
                    yield self._expired()
                    return
                while not self.follower.closing.is_set() and not gone.done():
                    news = ring.waiter()
                    batch = ring.since(position)
                    if batch is None:
                        found = await self.reader.read(functools.partial(_caught_up, position=position))
                        if found is None:
                            yield self._expired()
                            return
                        batch, reached = found
                    else:
                        reached = ring.head
                    for changed in batch:
                        line = self._told(changed, known, began)
                        if line:
                            yield line
                    position = max(position, reached)
                    now = self.clock.monotonic()
                    if ends is not None and now >= ends:
                        return
                    if self.query.bookmarks and now >= next_bookmark:
                        yield self._bookmark(position)
                        next_bookmark = now + BOOKMARK_S
                    if position >= ring.head and not news.done():
                        rest = BOOKMARK_S if ends is None else min(BOOKMARK_S, ends - now)
                        await first_of(rest, news, gone)
                    news.cancel()
        except StoreError:
            return  # the client begins again from the version it has

    @property
    def _selects(self) -> bool:
        return bool(self.query.labels.requirements or self.query.fields.requirements)

    def _told(self, changed: Changed, known: set[str], began: datetime) -> bytes:
        """The line for a change; b"" when it concerns this watch not."""
        change = changed.change
        if change.key.kind != self.info.kind or self.namespace not in (None, change.key.namespace):
            return b""
        name, place = self.query.fields.equal("metadata.name"), self.query.fields.equal("metadata.namespace")
        if name not in (None, change.key.name) or place not in (None, change.key.namespace):
            return b""
        whole = changed.document
        if whole is not None and matches(whole, whole["metadata"].get("labels", {}), self.query):
            fresh = change.uid not in known and parse_time(whole["metadata"]["creationTimestamp"]) >= began
            known.add(change.uid)
            return self._shared(changed, "ADDED" if fresh else "MODIFIED", whole)
        if self._selects and change.uid not in known:
            return b""
        known.discard(change.uid)
        return self._line("DELETED", whole or _removed(changed))

    def _shared(self, changed: Changed, type_: str, whole: dict[str, Any]) -> bytes:
        if self.wanted.form is not Form.OBJECT:
            return self._line(type_, whole)
        line = changed.rendered.get(type_)
        if line is None:
            line = changed.rendered[type_] = self._line(type_, whole)
        return line

    def _line(self, type_: str, whole: dict[str, Any]) -> bytes:
        shaped = as_one(self.info, whole, self.wanted, self.clock.now())
        return json_bytes({"type": type_, "object": shaped}) + b"\n"

    def _expired(self) -> bytes:
        return json_bytes({"type": "ERROR", "object": expired("resourceVersion").to_wire()}) + b"\n"

    def _bookmark(self, version: int, *, initial: bool = False) -> bytes:
        meta: dict[str, Any] = {"resourceVersion": str(version), "creationTimestamp": None}
        if initial:
            meta["annotations"] = {"k8s.io/initial-events-end": "true"}
        shaped: dict[str, Any] = {"kind": self.info.kind, "apiVersion": API_VERSION, "metadata": meta}
        if self.wanted.form is Form.TABLE:
            shaped = {"kind": "Table", "apiVersion": META, "metadata": meta, "columnDefinitions": [], "rows": []}
        elif self.wanted.form is Form.METADATA:
            shaped = {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": meta}
        return json_bytes({"type": "BOOKMARK", "object": shaped}) + b"\n"


def _all(query: Query) -> Query:
    return replace(query, limit=0, after=None)


def _caught_up(snapshot: Snapshot, position: int) -> tuple[list[Changed], int] | None:
    """A batch from the store, and the version that it reaches; None when some of it is forgotten, or when the version
    is of another store."""
    if position < snapshot.oldest_cursor() or position > snapshot.latest_version():
        return None
    found = changes(snapshot, position, document)
    return [changed for _, changed in found], found[-1][0] if found else snapshot.latest_version()


def _removed(changed: Changed) -> dict[str, Any]:
    change = changed.change
    meta: dict[str, Any] = {
        "name": change.key.name,
        "uid": change.uid,
        "resourceVersion": str(change.resource_version),
    }
    if change.key.namespace:
        meta["namespace"] = change.key.namespace
    return {"apiVersion": API_VERSION, "kind": change.key.kind, "metadata": meta}


@dataclass(slots=True)
class LogWatch:
    """A watch of rows of the log: each is added, none ever changes. Versions are numbers of rows."""

    query: log.LogQuery
    since: int | None
    timeout_s: float | None
    wanted: Wanted
    reader: Reader
    follower: Follower
    clock: Clock

    async def lines(self, gone: asyncio.Future[Any]) -> AsyncIterator[bytes]:
        """What is sent; as ``Watch.lines``."""
        ends = None if self.timeout_s is None else self.clock.monotonic() + self.timeout_s
        try:
            async with self.follower.following_log() as ring:
                position = ring.head if self.since is None else self.since
                if position > ring.head and position > await self.reader.read(head_of_log):
                    yield json_bytes({"type": "ERROR", "object": expired("resourceVersion").to_wire()}) + b"\n"
                    return
                while not self.follower.closing.is_set() and not gone.done():
                    news = ring.waiter()
                    batch = ring.since(position)
                    if batch is None:
                        batch = await self.reader.read(functools.partial(_rows, position=position))
                    for row in batch:
                        position = row.event.seq
                        if self._picks(row.event):
                            yield self._line(row.event)
                    now = self.clock.monotonic()
                    if ends is not None and now >= ends:
                        return
                    if position >= ring.head and not news.done():
                        await first_of(BOOKMARK_S if ends is None else min(BOOKMARK_S, ends - now), news, gone)
                    news.cancel()
        except StoreError:
            return

    def _picks(self, event: Event) -> bool:
        query = self.query
        related = event.data.get("related", ())
        return (
            (not query.types or event.type in query.types)
            and (query.namespace is None or event.subject.namespace == query.namespace)
            and (query.uid is None or query.uid == event.subject_uid or query.uid in related)
            and (query.subject is None or query.subject == event.subject)
            and query.picks(event)
        )

    def _line(self, event: Event) -> bytes:
        item = log.to_wire(event)
        if self.wanted.form is Form.TABLE:
            item = log.table([item], {"resourceVersion": str(event.seq)}, self.clock.now())
        return json_bytes({"type": "ADDED", "object": item}) + b"\n"


def _rows(snapshot: Snapshot, position: int) -> list[Logged]:
    return [Logged(event) for event in snapshot.events(after=position)]
