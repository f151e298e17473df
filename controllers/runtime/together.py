"""Short writes that share durable transactions: what comes in while one commits goes together into the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from controllers.runtime.blocking import Blocking
from schemas.errors import StoreUnavailable
from schemas.resource import SYSTEM
from store.contract import Store, Transaction

log = logging.getLogger(__name__)

T = TypeVar("T")
Write = Callable[[Transaction], Any]
Follow = Callable[[Transaction], Callable[[], object]]
"""What goes on in the transaction of some writes once they are made. What it returns is called after the commit."""

MOST = 64
"""Writes of one transaction: every other writer waits for all of it."""
_ROUNDS = 3
"""Rounds of the event loop before a transaction begins: what is ready by then goes along."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    write: Write
    answer: asyncio.Future[Any]


class Together:
    """Writes through one store. Belongs to one event loop; transactions run in threads.

    A write that fails fails alone: the others of its transaction are made one by one then.
    """

    def __init__(self, store: Store, blocking: Blocking) -> None:
        self._store = store
        self._blocking = blocking
        self._waiting: list[_Waiting] = []
        self._at_work: asyncio.Task[None] | None = None
        self._lead: tuple[Store, Follow] | None = None

    def lead(self, store: Store | None, follow: Follow | None = None) -> None:
        """From now on each transaction is one of ``store``, the same under the fence of a leader, and goes on with
        ``follow``; a fault of either costs what that would have done, and none of the writes. None ends it."""
        self._lead = None if store is None or follow is None else (store, follow)

    async def write(self, work: Callable[[Transaction], T]) -> T:
        """What ``work`` returned, once it is on disk; it may be called again when others failed beside it. Raises what
        it raised, StoreError."""
        mine = _Waiting(work, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if self._at_work is None:
            self._at_work = asyncio.create_task(self._work(), name="together")
        return cast(T, await mine.answer)

    async def _work(self) -> None:
        try:
            while self._waiting:
                for _ in range(_ROUNDS):
                    await _round()
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                await self._answer(batch)
        finally:
            self._at_work = None

    async def _answer(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = await self._blocking.run(self.write_all, [each.write for each in batch])
        except asyncio.CancelledError:
            for each in [*batch, *self._waiting]:
                each.answer.cancel()
            self._waiting = []
            raise
        except Exception as error:  # noqa: BLE001 - whoever writes is told
            outcomes = [error] * len(batch)
        for each, outcome in zip(batch, outcomes, strict=True):
            if each.answer.done():
                continue  # whoever asked is gone; it is written all the same
            if isinstance(outcome, Exception):
                each.answer.set_exception(outcome)
            else:
                each.answer.set_result(outcome)

    def write_all(self, works: Sequence[Write]) -> list[Any]:
        """Make each write, in order: what it returned, or the error that concerns it alone. Raises StoreUnavailable:
        nothing is known to be written. Blocks."""
        lead = self._lead
        if lead is not None:
            try:
                return _transaction(*lead, works)
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 - whatever it was, it shows below if it is theirs
                log.debug("%d writes go alone: %s", len(works), error)
        try:
            return _transaction(self._store, None, works)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whoever writes is told
            if len(works) == 1:
                return [error]
        return [outcome for work in works for outcome in self.write_all([work])]


def _transaction(store: Store, follow: Follow | None, works: Sequence[Write]) -> list[Any]:
    with store.transaction(SYSTEM) as tx:
        found = [work(tx) for work in works]
        then = follow(tx) if follow is not None else None
    if then is not None:
        then()
    return found


async def _round() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, None)
    await done
