"""The log as server-sent events.

An id is ``<epoch>-<number of the row>``, the epoch being the first digits of that row's hash in the chain: it stands
for the whole history up to there, so an id of another store, or of one that was set back to a backup, is recognised.
What a client missed is read from the store. One that cannot be caught up is told ``event: resync``: load again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from api.problems import Problem
from api.read import log
from api.read.answers import Reader, json_bytes
from api.read.engine import Clock
from api.read.summary import figures
from api.stream import ceilings
from api.stream.follower import Follower, Logged
from api.stream.response import Push, Streaming
from api.stream.ring import Ring
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.errors import StoreError
from schemas.event import EventType
from store.contract import GENESIS, Event, Snapshot

PATH = "/api/v1/events/stream"
HEARTBEAT_S = 15.0
KPI_S = 1.0
RETRY_MS = 2_000
MOST_CLIENTS = 2_000
MOST_BEHIND = 50_000
"""Rows that are read again for a client that comes back; beyond, loading the page anew is quicker."""
_EPOCH = 12
_BATCH = 500
_MOST_WORDS = 200
_SLICE = 100
"""Clients that are sent something before the event loop may do other things."""
_ID = re.compile(rf"^([0-9a-f]{{{_EPOCH}}})-([0-9]{{1,18}})$")


def event_id(event: Event) -> str:
    """The id of a row."""
    return f"{event.hash[:_EPOCH]}-{event.seq}"


@dataclass(slots=True)
class Subscription:
    """Which rows a client wants; an empty set leaves a filter out. ``missions`` and ``agents`` are keys, ``uids`` what
    they are known by: rows that only name them count, too."""

    kinds: frozenset[str] = frozenset()
    namespaces: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    about: frozenset[Key] = frozenset()
    uids: set[str] = field(default_factory=set)
    kpi: bool = True

    def group(self) -> tuple[object, ...] | None:
        """The same for all who want the same; None where that changes with what is made."""
        return None if self.about else (self.kinds, self.namespaces, self.types, self.kpi)

    def shown(self) -> frozenset[str]:
        """The namespaces whose rows it may get; empty for all of them."""
        return self.namespaces or frozenset(key.namespace for key in self.about)

    def picks(self, event: Event) -> bool:
        """Whether the client wants the row. Learns the uids of objects that are made later."""
        if self.about:
            if event.subject in self.about:
                self.uids |= {event.subject_uid} - {""}
            elif not self._names(event):
                return False
        return (
            (not self.kinds or event.subject.kind in self.kinds)
            and (not self.namespaces or event.subject.namespace in self.namespaces)
            and (not self.types or event.type in self.types)
        )

    def _names(self, event: Event) -> bool:
        if event.subject_uid in self.uids:
            return True
        related = event.data.get("related", ())
        named: Iterable[Any] = (related,) if isinstance(related, str) else related
        return any(uid in self.uids for uid in named if isinstance(uid, str))


def subscription_of(given: QueryParams) -> Subscription:
    """Read the parameters. Raises Problem (422)."""
    types = _words(given, "types")
    unknown = sorted(types - {str(t) for t in EventType})
    if unknown:
        raise Problem(422, "Invalid", f"types: there is no {unknown[0][:80]}")
    about = {_key("Mission", text) for text in _words(given, "missions")}
    about |= {_key("Agent", text) for text in _words(given, "agents")}
    return Subscription(
        kinds=_words(given, "kinds"),
        namespaces=_words(given, "namespaces"),
        types=types,
        about=frozenset(about),
        kpi=given.get("kpi", "1") not in ("0", "false"),
    )


def _words(given: QueryParams, name: str) -> frozenset[str]:
    found = frozenset(w.strip() for text in given.getlist(name) for w in text.split(",") if w.strip())
    if len(found) > _MOST_WORDS:
        raise Problem(422, "Invalid", f"{name} names at most {_MOST_WORDS}")
    return found


def _key(kind: str, text: str) -> Key:
    namespace, slash, name = text.partition("/")
    return Key(kind, namespace, name) if slash else Key(kind, DEFAULT_NAMESPACE, text)


@dataclass(slots=True)
class _Start:
    """Where a client begins: up to ``position`` it knows everything, by that ``mark``. ``resync`` says why it has to
    load anew, "" when it has not."""

    position: int
    mark: str
    resync: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class _Place:
    """How far clients were brought: rows up to ``position``, known by ``mark``, and the pulse and figures of then.
    Those who were brought there together have it in common."""

    position: int
    mark: str
    beat: int
    kpi: bytes = b""


@dataclass(slots=True, eq=False)
class _Client:
    """One client, which keeps a place and no queue. ``group`` is what those who want the same have in common, None for
    one that wants something of its own. ``news`` is there while it waits for more, and done when it is to look by
    itself."""

    wanted: Subscription
    push: Push
    at: _Place
    group: tuple[object, ...] | None
    news: asyncio.Future[None] | None = None

    def look(self) -> None:
        """Have it look by itself."""
        if self.news is not None and not self.news.done():
            self.news.set_result(None)


class EventStream:
    """Serves every client from one ring. Those that have read everything are pushed what is new, in one go; others look
    by themselves. ``start`` and ``stop`` on the event loop, with the follower's."""

    def __init__(
        self,
        reader: Reader,
        follower: Follower,
        clock: Clock,
        *,
        most_clients: int = MOST_CLIENTS,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._reader = reader
        self._follower = follower
        self._clock = clock
        self._most = most_clients
        self._heartbeat_s = heartbeat_s
        self._ceilings = ceilings.Ceilings()
        self._task: asyncio.Task[None] | None = None
        self._beat = 0
        self._kpi = b""
        self._kpi_wanted = 0
        self._waiting: dict[_Client, None] = {}
        self._now: tuple[object, ...] = ()
        self._head: _Place | None = None
        self._shared: dict[tuple[object, ...], tuple[_Place, bytes]] = {}
        self.clients = 0
        follower.log.tell(self._wave)

    async def endpoint(self, request: Request) -> Response:
        """One client. Raises Problem (422, 429)."""
        if self.clients >= self._most:
            raise Problem(429, "TooManyStreams", f"{self._most} streams are open already", retry_after_s=10)
        wanted = subscription_of(request.query_params)
        last = request.headers.get("last-event-id") or request.query_params.get("lastEventId", "")

        def chunks(gone: asyncio.Future[Any], push: Push) -> AsyncIterator[bytes]:
            return self.frames(wanted, last, gone, push)

        shown = wanted.shown()
        self._ceilings.open(shown, await self._reader.read(ceilings.limits))
        return Streaming(chunks, media_type="text/event-stream", ended=lambda: self._ceilings.close(shown))

    async def frames(
        self, wanted: Subscription, last: str, gone: asyncio.Future[Any], push: Push
    ) -> AsyncIterator[bytes]:
        """What one client is sent, until it has gone or the server stops; while this waits, the rest is pushed."""
        self.clients += 1
        self._kpi_wanted += wanted.kpi
        client: _Client | None = None

        def left(_: object) -> None:
            if client is not None:
                client.look()

        gone.add_done_callback(left)
        try:
            async with self._follower.following_log() as ring:
                self._attend()
                start = await self._reader.read(lambda snapshot: _start(snapshot, wanted, last))
                at = _Place(start.position, start.mark, self._beat)
                client, live = _Client(wanted, push, at, wanted.group()), False
                yield f"retry: {RETRY_MS}\n\n".encode() + (
                    _resync(start.mark, start.resync) if start.resync else _hello(start.mark, start.position)
                )
                while not gone.done() and not self._follower.closing.is_set():
                    if client.at.position >= ring.floor:
                        live = True
                        client.at, text = self._due(ring, client)
                        if not text:
                            # Nothing was awaited since the ring was looked at, so nothing came meanwhile.
                            await self._news(client)
                    elif live:
                        # It was sent more than it read: what it holds is old by now.
                        newest = await self._reader.read(_newest)
                        client.at = replace(client.at, position=newest.position, mark=newest.mark)
                        text = _resync(newest.mark, "this client fell behind")
                    else:
                        text = await self._older(client)
                    if text:
                        yield text
        except StoreError:
            return  # it comes back with the id it has
        finally:
            gone.remove_done_callback(left)
            self.clients -= 1
            self._kpi_wanted -= wanted.kpi

    async def _news(self, client: _Client) -> None:
        """Until the client has to look by itself."""
        client.news = asyncio.get_running_loop().create_future()
        self._waiting[client] = None
        try:
            await client.news
        finally:
            del self._waiting[client]
            client.news = None

    async def _older(self, client: _Client) -> bytes:
        """What came after a position that is no longer in the ring, or some of it."""
        rows = await self._reader.read(lambda s: _rows(s, client.at.position))
        if not rows:
            return b""
        position, mark, text = _joined(rows, client.wanted)
        client.at = replace(client.at, position=position, mark=mark)
        return text

    def _wave(self) -> None:
        """Something is new: push it to all who wait."""
        self._push(iter(list(self._waiting)))

    def _push(self, clients: Iterator[_Client]) -> None:
        ring, closing = self._follower.log, self._follower.closing.is_set()
        some = list(islice(clients, _SLICE))
        for client in some:
            news = client.news
            if news is None or news.done():
                continue
            if closing or client.at.position < ring.floor:
                client.look()
                continue
            place, text = self._due(ring, client)
            if not text or client.push(text):
                client.at = place
            else:
                client.look()
        if len(some) == _SLICE:
            asyncio.get_running_loop().call_soon(self._push, clients)

    def _due(self, ring: Ring[Logged], client: _Client) -> tuple[_Place, bytes]:
        """Where a client in the ring is to be, and what brings it there. Those who want the same share it."""
        now = (ring.head, self._beat, self._kpi)
        if self._now != now:
            self._now, self._head = now, None
            self._shared.clear()
        if client.group is None:
            return self._made(ring, client)
        key = (client.at, client.group)
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = self._made(ring, client)
        return found

    def _made(self, ring: Ring[Logged], client: _Client) -> tuple[_Place, bytes]:
        at, wanted = client.at, client.wanted
        position, mark, text = at.position, at.mark, b""
        if position < ring.head:
            position, mark, text = _joined(ring.since(position) or [], wanted)
        if wanted.kpi and self._kpi != at.kpi:
            text += self._kpi
        if self._beat != at.beat:
            text += f": ping\nid: {mark}\n\n".encode()
        if self._head is None or self._head.position != position:  # a client may be ahead of the ring
            self._head = _Place(position, mark, self._beat, self._kpi)
        return self._head, text

    def _attend(self) -> None:
        """See to it that pulses and figures come, for as long as there are clients."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._pulse(), name="read-api-stream")

    async def stop(self) -> None:
        """End; every client was let go by the follower."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _pulse(self) -> None:
        ring, position = self._follower.log, -1
        next_beat = self._clock.monotonic() + self._heartbeat_s
        while self.clients and not self._follower.closing.is_set():
            if self._kpi_wanted and ring.head != position:
                position = ring.head
                try:
                    found = json_bytes(await self._reader.read(figures))
                except StoreError:
                    found = b""
                frame = b"event: kpi\ndata: " + found + b"\n\n"
                if found and frame != self._kpi:
                    self._kpi = frame
                    ring.wake()
            if self._clock.monotonic() >= next_beat:
                next_beat = self._clock.monotonic() + self._heartbeat_s
                self._beat += 1
                ring.wake()
            await self._clock.sleep(min(KPI_S, self._heartbeat_s))


def _frame(row: Logged, mark: str) -> bytes:
    """Rendered once, for whoever is first."""
    found = row.rendered.get("sse")
    if found is None:
        data = json_bytes(log.to_wire(row.event))
        found = row.rendered["sse"] = b"id: " + mark.encode() + b"\nevent: log\ndata: " + data + b"\n\n"
    return found


def _joined(rows: Sequence[Logged], wanted: Subscription) -> tuple[int, str, bytes]:
    """Position and mark of the last of at least one row, and the frames of those that are wanted."""
    out = [_frame(row, event_id(row.event)) for row in rows if wanted.picks(row.event)]
    last = rows[-1].event
    return last.seq, event_id(last), b"".join(out)


def _hello(mark: str, seq: int) -> bytes:
    return f'id: {mark}\nevent: hello\ndata: {{"seq":{seq}}}\n\n'.encode()


def _resync(mark: str, why: str) -> bytes:
    return f"id: {mark}\nevent: resync\ndata: ".encode() + json_bytes({"reason": why}) + b"\n\n"


def _rows(snapshot: Snapshot, position: int) -> list[Logged]:
    return [Logged(event) for event in snapshot.events(after=position, limit=_BATCH)]


def _newest(snapshot: Snapshot) -> _Start:
    found = snapshot.events(limit=1, newest_first=True)
    return _Start(found[0].seq, event_id(found[0])) if found else _Start(0, f"{GENESIS[:_EPOCH]}-0")


def _start(snapshot: Snapshot, wanted: Subscription, last: str) -> _Start:
    wanted.uids |= {resource.uid for resource in snapshot.get_many(wanted.about).values()}
    newest = _newest(snapshot)
    if not last:
        return newest
    match = _ID.match(last)
    if match is None:
        return _Start(newest.position, newest.mark, "the id is none of this log")
    epoch, seq = match[1], int(match[2])
    if seq > newest.position:
        return _Start(newest.position, newest.mark, "the log ends before that id")
    if newest.position - seq > MOST_BEHIND:
        return _Start(newest.position, newest.mark, f"more than {MOST_BEHIND} rows were missed")
    row = snapshot.events(after=seq - 1, before=seq + 1, limit=1) if seq else []
    known = event_id(row[0]) if row else f"{GENESIS[:_EPOCH]}-0"
    if known != f"{epoch}-{seq}":
        return _Start(newest.position, newest.mark, "the log is another one by now")
    return _Start(seq, last)


def add_stream(app: Starlette, stream: EventStream) -> None:
    """``/api/v1/events/stream``."""
    app.router.routes.append(Route(PATH, stream.endpoint, methods=["GET"], name="event-stream"))
