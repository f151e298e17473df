"""The log of a pod while it runs: followed into the file that ``remit logs`` reads.

The file holds what the pod said from its beginning, without credentials. Each request reads the log from there, so that
nothing but the file itself has to be remembered: what it holds already is passed over, and what differs (another pod,
a log that was rotated) is written over. So no line stands there twice, whatever breaks. Once the run is over, the whole
log takes the place of the file; up to half of ``maxOutput`` is followed, which is what stands at the beginning of that.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

from controllers.dispatch.jobs.cluster import StreamRefused, Streams
from controllers.dispatch.supervision.records import check_run_id
from controllers.effects import jobs
from controllers.runs.redaction_level import level_of
from controllers.runtime.backoff import Backoff
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock
from controllers.web.client import StreamBroken
from schemas.errors import StoreError, StoreUnavailable
from schemas.redaction import Redactor
from schemas.redaction_stream import StreamRedactor
from store.contract import Store

log = logging.getLogger(__name__)

MOST: Final = 200
"""Logs that are followed at a time: each one takes a connection. Others are read when their run is over."""
_PAUSES: Final = Backoff(1.0, 30.0, jitter=0.2)


@dataclass(frozen=True, slots=True)
class Voice:
    """A container that runs, and how much of its log is kept."""

    streams: Streams
    pod: str
    container: str
    most: int


class JobLogs:
    """Follows logs. For one event loop; ``close`` ends it."""

    def __init__(
        self, store: Store, *, known: Callable[[str], tuple[str, ...]], runs: Path, blocking: Blocking, clock: Clock,
        random: Random, most: int = MOST,
    ) -> None:  # fmt: skip
        """``known`` are the values of secrets that were handed out in a namespace; ``runs`` is where logs are kept."""
        self._store = store
        self._known = known
        self._runs = runs
        self._blocking = blocking
        self._clock = clock
        self._random = random
        self._most = most
        self._tasks: dict[str, tuple[str, asyncio.Task[bool]]] = {}

    def follow(self, run_uid: str, voice: Voice) -> None:
        """Follow the log of a run's pod, unless that is done already, or too many are."""
        found = self._tasks.get(run_uid)
        if found is not None and found[0] == voice.pod:
            return
        if found is not None:
            found[1].cancel()
        elif len(self._tasks) >= self._most and not self._forget():
            return
        task = asyncio.create_task(self._follow(run_uid, voice, found and found[1]), name=f"log-of-{run_uid}")
        self._tasks[run_uid] = (voice.pod, task)
        task.add_done_callback(lambda ended: self._landed(run_uid, ended))

    async def stop(self, run_uid: str) -> None:
        """Follow it no longer. When this returns nothing is written any more."""
        found = self._tasks.pop(run_uid, None)
        if found is not None:
            await _ended(found[1])

    async def close(self) -> None:
        """Follow nothing any longer."""
        for run_uid in list(self._tasks):
            await self.stop(run_uid)

    def _landed(self, run_uid: str, task: asyncio.Task[bool]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if not failed and task.result():
            return  # its place says that there is no more to follow
        found = self._tasks.get(run_uid)
        if found is not None and found[1] is task:
            del self._tasks[run_uid]
        if not task.cancelled() and task.exception() is not None:
            log.error("%s: %s", task.get_name(), task.exception())

    def _forget(self) -> bool:
        """Give up the places of what is followed no more; whether there were any."""
        over = [run_uid for run_uid, (_, task) in self._tasks.items() if task.done()]
        for run_uid in over:
            del self._tasks[run_uid]
        return bool(over)

    async def _follow(self, run_uid: str, voice: Voice, before: asyncio.Task[bool] | None) -> bool:
        """Follow until there is room for no more (True), or nothing more to be had."""
        if before is not None:
            await _ended(before)
        failures = 0
        while True:
            try:
                redactor = await self._blocking.run(self._redactor, run_uid)
                if redactor is None:
                    return False
                if await self._once(run_uid, voice, redactor):
                    return True
                failures += 1
            except StreamRefused:
                return False
            except (StreamBroken, StoreError) as error:
                log.debug("the log of %s is asked for anew: %s", voice.pod, error)
                failures += 1
            await self._clock.sleep(_PAUSES.delay(failures, self._random))

    async def _once(self, run_uid: str, voice: Voice, redactor: Redactor) -> bool:
        """Read the log from its beginning to where it ends or breaks; whether there is room for no more of it. Raises
        StreamBroken, StoreUnavailable."""
        text = codecs.getincrementaldecoder("utf-8")("replace")  # as the whole log is kept in the end
        clean, at, room = StreamRedactor(redactor), 0, voice.most
        spoken = voice.streams.spoken(voice.pod, voice.container, limit=voice.most)
        async with contextlib.aclosing(spoken) as chunks:
            async for chunk in chunks:
                part = chunk[:room]
                room -= len(part)
                data = clean.feed(text.decode(part).encode())
                if data:
                    await self._blocking.run(self._put, run_uid, at, data)
                    at += len(data)
                if not room:
                    return True
        return False

    def _redactor(self, run_uid: str) -> Redactor | None:
        """What takes credentials out of it; None when the run is over. Blocks."""
        with self._store.snapshot() as snapshot:
            found = jobs.find(snapshot, run_uid)
            if found is None:
                return None
            level = level_of(snapshot, snapshot.get_by_uid(found.spec.agent_uid))
        return Redactor(self._known(found.run.namespace), level, octets=True)

    def _put(self, run_uid: str, at: int, data: bytes) -> None:
        """Have the file hold ``data`` from ``at`` on. Blocks. Raises StoreUnavailable."""
        folder = self._runs / check_run_id(run_uid)
        try:
            self._runs.mkdir(mode=0o700, exist_ok=True)
            folder.mkdir(mode=0o700, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
            with os.fdopen(os.open(folder / "stdout.log", flags, 0o600), "r+b", buffering=0) as file:
                there = os.pread(file.fileno(), len(data), at)
                if not data.startswith(there):
                    file.truncate(at)
                    there = b""
                file.seek(at + len(there))
                file.write(data[len(there) :])
        except OSError as error:
            raise StoreUnavailable(f"the log in {folder} cannot be written: {error.strerror}") from error


async def _ended(task: asyncio.Task[bool]) -> None:
    """Wait until it has ended, whatever became of it."""
    task.cancel()
    await asyncio.wait([task])
