"""Deciding several calls in one durable transaction: those that come in while one commits go together into the next."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from controllers.gate.asking import Asked
from controllers.gate.authorize import Gate
from controllers.gate.held import before_it_goes_out
from controllers.runtime.blocking import Blocking
from schemas.authorize import Decision
from schemas.errors import NotFound, Refused, StoreUnavailable
from schemas.resource import SYSTEM
from store.contract import Store

MOST = 64
"""Calls of one transaction: the others wait for its commit, and every other writer for all of it."""
_ROUNDS = 3
"""Rounds of the event loop before a transaction begins: what lies ready in other connections is read, parsed, and goes
along. Much cheaper than a transaction of its own."""
Outcome = Decision | Exception


@dataclass(frozen=True, slots=True)
class _Waiting:
    run_uid: str
    asked: Asked
    answer: asyncio.Future[Outcome]


def decide_all(store: Store, gate: Gate, calls: Sequence[tuple[str, Asked]]) -> list[Outcome]:
    """Decide each call (uid of its run, what is asked), in order: the decision, or the error that concerns this call
    alone. A fault that shows only while a call is written is not the others': they are decided one by one then. Raises
    StoreUnavailable: nothing is known to be decided, and the same calls may be asked again."""
    try:
        with store.transaction(SYSTEM) as tx:
            found: list[Outcome] = []
            for run_uid, asked in calls:
                try:
                    found.append(gate.authorize(tx, run_uid, asked))
                except (Refused, NotFound) as error:  # raised before anything of this call was written
                    found.append(error)
        return _before_they_go_out(store, gate, calls, found)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whoever asked is told
        if len(calls) > 1:
            return [outcome for call in calls for outcome in decide_all(store, gate, [call])]
        return [error]


def _before_they_go_out(
    store: Store, gate: Gate, calls: Sequence[tuple[str, Asked]], found: list[Outcome]
) -> list[Outcome]:
    """What stops work beside the store takes leave back that was committed and not told yet."""
    if not gate.stops.everywhere():
        return found
    with store.snapshot() as snapshot:
        runs = [snapshot.get_by_uid(run_uid) for run_uid, _ in calls]
    return [
        before_it_goes_out(outcome, run, gate.stops) if isinstance(outcome, Decision) and run is not None else outcome
        for outcome, run in zip(found, runs, strict=True)
    ]


async def _round() -> None:
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    loop.call_soon(done.set_result, None)
    await done


class Batches:
    """The calls of all runs of one server. Belongs to one event loop; transactions run in threads."""

    def __init__(self, store: Store, gate: Gate, blocking: Blocking) -> None:
        self._store = store
        self._gate = gate
        self._blocking = blocking
        self._waiting: list[_Waiting] = []
        self._at_work: asyncio.Task[None] | None = None

    async def decide(self, run_uid: str, asked: Asked) -> Decision:
        """The answer to one call, once it is on disk. Raises what ``Gate.authorize`` raises, StoreError."""
        mine = _Waiting(run_uid, asked, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        if self._at_work is None:
            self._at_work = asyncio.create_task(self._work(), name="gate-batches")
        outcome = await mine.answer
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _work(self) -> None:
        try:
            while self._waiting:
                for _ in range(_ROUNDS):
                    await _round()
                batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
                # Whoever hung up before its turn came did not get far enough to be asked about.
                batch = [each for each in batch if not each.answer.done()]
                if batch:
                    await self._answer(batch)
        finally:
            self._at_work = None

    async def _answer(self, batch: list[_Waiting]) -> None:
        calls = [(each.run_uid, each.asked) for each in batch]
        try:
            outcomes = await self._blocking.run(decide_all, self._store, self._gate, calls)
        except asyncio.CancelledError:
            for each in [*batch, *self._waiting]:
                each.answer.cancel()
            self._waiting = []
            raise
        except Exception as error:  # noqa: BLE001 - whoever asked is told
            for each in batch:
                if not each.answer.done():
                    each.answer.set_exception(error)
            return
        for each, outcome in zip(batch, outcomes, strict=True):
            if not each.answer.done():
                each.answer.set_result(outcome)
