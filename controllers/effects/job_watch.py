"""Hears at once what becomes of Jobs: an event makes the look at its run due, and does nothing else.

One pair of watches, of Jobs and of their pods, for each access to a cluster and namespace that a Job was looked at in
of late. Nobody relies on them: looks go on without, at longer intervals while everything is heard. A watch that dies
in silence is noticed as that of the source is: every few seconds it is asked, over a new request, what happened since;
what the watch has not told by then is listed, and watched anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from controllers.dispatch.jobs import document
from controllers.dispatch.jobs.access import Access
from controllers.dispatch.jobs.cluster import Said, StreamRefused, Streams
from controllers.effects import jobs
from controllers.runtime.backoff import Backoff
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from controllers.web.client import StreamBroken
from schemas.errors import StoreError
from schemas.resource import SYSTEM
from store.contract import EffectState, Store

log = logging.getLogger(__name__)

KINDS: Final = ("Job", "Pod")
PROBE_S: Final = 20.0
GRACE_S: Final = 3.0
"""How much later than a question the watch may tell the same."""
IDLE_S: Final = 600.0
"""A place where no Job was looked at for so long is left."""
REFUSED_S: Final = 300.0
"""Until an API server that forbids a watch is asked again."""
CLAIMED_S: Final = 0.25
"""Until a look that is under way is asked for once more: it may have seen what was before."""
MOST_AT_START: Final = 10_000
_ENDED_S: Final = 1.0
_PAUSES: Final = Backoff(0.5, 30.0, jitter=0.2)

Reach = Callable[[Access, str], Streams]
"""A namespace of a cluster."""


@dataclass(slots=True)
class _Heard:
    """What is known of one kind in a place. ``faces`` holds, by uid, the run and what its looks depend on."""

    version: str = ""
    live: bool = False
    faces: dict[str, tuple[str, Any]] = field(default_factory=dict)


@dataclass(slots=True)
class _Place:
    streams: Streams
    namespace: str
    attended: float
    heard: dict[str, _Heard] = field(default_factory=lambda: {kind: _Heard() for kind in KINDS})
    tasks: list[asyncio.Task[None]] = field(default_factory=list)


class JobWatch:
    """A component; for one event loop."""

    def __init__(
        self, store: Store, *, reach: Reach, blocking: Blocking, clock: Clock, random: Random, probe_s: float = PROBE_S
    ) -> None:
        self._store = store
        self._reach = reach
        self._blocking = blocking
        self._clock = clock
        self._random = random
        self._probe_s = probe_s
        self._places: dict[tuple[Access, str], _Place] = {}
        self._due: set[str] = set()
        self._news = asyncio.Event()

    def attend(self, access: Access, namespace: str) -> None:
        """Jobs are looked at there: listen, from now on and for a while."""
        place = self._places.get((access, namespace))
        if place is None:
            place = _Place(self._reach(access, namespace), namespace, 0.0)
            self._places[access, namespace] = place
            self._news.set()
        place.attended = self._clock.monotonic()

    def hears(self, access: Access, namespace: str) -> bool:
        """Whether what happens there is told at once."""
        place = self._places.get((access, namespace))
        return place is not None and all(heard.live for heard in place.heard.values())

    async def run(self, life: Lifecycle) -> None:
        """Listen wherever it is attended, until it is stopped."""
        life.ready()
        try:
            # Nobody heard what happened before this life, and where to listen is known by a look.
            self._due |= await self._blocking.run(self._open_runs)
            while not life.stopping.is_set():
                self._news.clear()
                await self._see_to_places()
                due, self._due = frozenset(self._due), set()
                left = await self._blocking.run(self._hasten, due) if due else due
                self._due |= left
                wait_s = CLAIMED_S if left else (IDLE_S / 10 if self._places else None)
                await wait_for_any(self._clock, wait_s, life.stopping, self._news)
        finally:
            for place in self._places.values():
                await _end(place)
            self._places.clear()

    async def _see_to_places(self) -> None:
        """Begin to listen where somebody looks, and leave where nobody does any more."""
        for key, place in list(self._places.items()):
            if self._clock.monotonic() - place.attended > IDLE_S:
                del self._places[key]
                await _end(place)
            elif not place.tasks:
                for kind in KINDS:
                    name = f"watch-{kind}-{place.namespace}"
                    place.tasks.append(asyncio.create_task(self._listen(place, kind), name=name))

    # Making looks due.

    def _hasten(self, runs: frozenset[str]) -> frozenset[str]:
        """Make the looks at these runs due; those whose look is under way are for another time. Blocks."""
        late, claimed = [], set()
        try:
            with self._store.snapshot() as snapshot:
                for run in runs:
                    for key in (f"watch-job/{run}", f"delete-job/{run}"):
                        effect = snapshot.effect(key)
                        if effect is not None and effect.state is EffectState.PENDING:
                            late.append(key)
                        elif effect is not None and effect.state is EffectState.CLAIMED:
                            claimed.add(run)
            if late:
                with self._store.transaction(SYSTEM) as tx:
                    for key in late:
                        tx.hasten_effect(key)
        except StoreError:
            return runs
        return frozenset(claimed)

    def _open_runs(self) -> frozenset[str]:
        """The runs whose Job is to be looked at some time. Blocks."""
        try:
            with self._store.snapshot() as snapshot:
                effects = snapshot.effects(states=[EffectState.PENDING], type=jobs.WATCH, limit=MOST_AT_START)
        except StoreError:
            return frozenset()
        return frozenset(str(effect.payload["runUid"]) for effect in effects)

    def _changed(self, run: str) -> None:
        self._due.add(run)
        self._news.set()

    # Listening.

    async def _listen(self, place: _Place, kind: str) -> None:
        """Hear what happens to a kind, for ever."""
        failures, heard = 0, place.heard[kind]
        while True:
            began = self._clock.monotonic()
            try:
                selector = f"{document.STORE_LABEL}={await self._blocking.run(self._label)}"
                if not heard.version:
                    await self._list(place, kind, selector)
                heard.live = True
                if await self._hear(place, kind, selector):
                    failures = 0
                    await self._clock.sleep(max(0.0, _ENDED_S - (self._clock.monotonic() - began)))
                    continue
                why = "it was silent while something happened"
            except Exception as error:  # noqa: BLE001  a listener that ends would be missed by nobody
                why = str(error) if isinstance(error, StreamBroken | StoreError) else type(error).__name__
                if isinstance(error, StreamRefused):
                    heard.live, heard.version = False, ""
                    log.warning("Jobs in %s are asked for, as they cannot be watched: %s", place.namespace, why)
                    await self._clock.sleep(REFUSED_S)
                    continue
            heard.live, heard.version = False, ""
            failures += 1
            log.info("the watch of %ss in %s is opened anew: %s", kind, place.namespace, why)
            await self._clock.sleep(_PAUSES.delay(failures, self._random))

    def _label(self) -> str:
        with self._store.snapshot() as snapshot:
            return jobs.store_of(snapshot)

    async def _list(self, place: _Place, kind: str, selector: str) -> None:
        """Learn how everything stands; what is not as it was heard last is looked at. Raises StreamBroken."""
        answer = await place.streams.listed(kind, selector)
        if not answer.done:
            raise (StreamRefused if answer.said in (Said.REFUSED, Said.MISSING) else StreamBroken)(answer.why)
        heard = place.heard[kind]
        before = set(heard.faces)
        for found in answer.items:
            before.discard(self._take_in(heard, "MODIFIED", found))
        for uid in before:
            self._changed(heard.faces.pop(uid)[0])
        heard.version = _version(answer.document)

    async def _hear(self, place: _Place, kind: str, selector: str) -> bool:
        """One watch; whether it went on to its end, and told everything meanwhile. Raises StreamBroken."""
        heard, ended = place.heard[kind], asyncio.Event()
        reading = asyncio.create_task(self._read(place, kind, selector))
        reading.add_done_callback(lambda _: ended.set())
        try:
            while not reading.done():
                await wait_for_any(self._clock, self._probe_s, ended)
                if not reading.done() and not await self._tells(place, kind, selector):
                    return False
            await reading
            return bool(heard.version)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError, StreamBroken):
                await reading

    async def _read(self, place: _Place, kind: str, selector: str) -> None:
        heard = place.heard[kind]
        async with contextlib.aclosing(place.streams.told(kind, selector, heard.version)) as events:
            async for type_, found in events:
                if type_ == "ERROR":  # mostly 410: longer ago than the server remembers
                    heard.version = ""
                    return
                if type_ != "BOOKMARK":
                    self._take_in(heard, type_, found)
                heard.version = _version(found) or heard.version

    async def _tells(self, place: _Place, kind: str, selector: str) -> bool:
        """Whether the watch tells what another request does."""
        heard = place.heard[kind]
        last = 0
        async with contextlib.aclosing(place.streams.told(kind, selector, heard.version, seconds=1)) as events:
            async for type_, found in events:
                last = max(last, _number(found)) if type_ not in ("ERROR", "BOOKMARK") else last
        if last > _as_number(heard.version):
            await self._clock.sleep(GRACE_S)
        return last <= _as_number(heard.version) or not heard.version

    def _take_in(self, heard: _Heard, type_: str, found: Mapping[str, Any]) -> str:
        """Have its run looked at where it does not look as before; its uid."""
        metadata = document.metadata_of(found)
        labels = metadata.get("labels")
        run = str(labels.get(document.RUN_LABEL) or "") if isinstance(labels, Mapping) else ""
        uid = str(metadata.get("uid") or "")
        if type_ == "DELETED":
            heard.faces.pop(uid, None)
            self._changed(run)
            return uid
        face = _face(found)
        if heard.faces.get(uid) != (run, face):
            heard.faces[uid] = (run, face)
            self._changed(run)
        return uid


async def _end(place: _Place) -> None:
    for task in place.tasks:
        task.cancel()
    for task in place.tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def _face(found: Mapping[str, Any]) -> Any:
    """What a look at a Job or a pod depends on, in a form that can be compared. Never raises."""
    spec, status, metadata = (_part(found, name) for name in ("spec", "status", "metadata"))
    states = status.get("containerStatuses"), status.get("initContainerStatuses")
    return (
        spec.get("suspend"), spec.get("nodeName"), metadata.get("deletionTimestamp"), status.get("phase"),
        status.get("reason"), _conditions(status),
        tuple(_state(one) for some in states if isinstance(some, list) for one in some),
    )  # fmt: skip


def _conditions(status: Mapping[str, Any]) -> tuple[object, ...]:
    found = status.get("conditions")
    listed = found if isinstance(found, list) else []
    return tuple((c.get("type"), c.get("status"), c.get("reason")) for c in listed if isinstance(c, Mapping))


def _state(container: object) -> tuple[object, ...]:
    """The state of a container, and why it is in it."""
    state = _part(container, "state")
    return tuple((name, _part(state, name).get("reason")) for name in sorted(state))


def _part(value: object, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def _version(found: Mapping[str, Any]) -> str:
    return str(document.metadata_of(found).get("resourceVersion") or "")


def _number(found: Mapping[str, Any]) -> int:
    return _as_number(_version(found))


def _as_number(version: str) -> int:
    return int(version) if version.isdecimal() else 0
