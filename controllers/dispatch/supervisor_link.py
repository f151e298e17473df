"""One connection from the engine to the supervisor: requests out, answers and events in."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from typing import Any

from controllers.dispatch.supervision import address, wire
from controllers.dispatch.supervision.records import Layout
from controllers.runtime.clock import Clock, Deadline
from schemas.errors import Terminal

CALL_TIMEOUT_S = 30.0


class LinkLost(Exception):
    """The connection ended, or an answer is overdue; asking again is always allowed."""


class Link:
    """One connection."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        clock: Clock,
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.lost = asyncio.Event()
        self._clock = clock
        self._reader = reader
        self._writer = writer
        self._on_event = on_event
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def open(cls, layout: Layout, clock: Clock, on_event: Callable[[dict[str, Any]], None]) -> Link:
        """Connect, and make sure that it is our own user who answers: a request carries secrets."""
        path = address.socket_path(layout)
        reader, writer = await asyncio.open_unix_connection(str(path), limit=wire.MAX_LINE)
        uid = wire.peer_uid(writer.get_extra_info("socket"))
        if uid is not None and uid != layout.home.stat().st_uid:
            writer.close()
            raise PermissionError(f"user {uid} listens on {path}, which is not the owner of {layout.home}")
        return cls(reader, writer, clock, on_event)

    @property
    def is_lost(self) -> bool:
        return self.lost.is_set()

    async def call(self, message: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return its answer. Raises LinkLost, and Terminal when the request is too large."""
        if self.is_lost:
            raise LinkLost
        number = next(self._numbers)
        line = wire.encode({**message, "id": number})
        if len(line) > wire.MAX_LINE:
            raise Terminal(f"a request of {len(line)} bytes is more than the supervisor takes ({wire.MAX_LINE})")
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            self._writer.write(line)
            await self._writer.drain()
            async with Deadline(self._clock, CALL_TIMEOUT_S):
                return await answer
        except (OSError, TimeoutError) as error:
            await self.close()
            raise LinkLost from error
        finally:
            self._answers.pop(number, None)

    async def close(self) -> None:
        """End the connection; requests that wait for an answer are told. Idempotent."""
        self._reading.cancel()
        self._end()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def _read(self) -> None:
        try:
            while line := await self._reader.readline():
                message = wire.decode(line)
                answer = self._answers.get(message.get("id", 0))
                if answer is None:
                    self._on_event(message)
                elif not answer.done():
                    answer.set_result(message)
        except (OSError, ValueError, wire.ProtocolError):
            # Lost, or a line beyond every limit, or no line of ours at all.
            pass
        finally:
            self._end()

    def _end(self) -> None:
        self.lost.set()
        self._writer.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(LinkLost())
