"""Deciding several calls in one durable transaction: those that come in while one commits go together into the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from controllers.gate.asking import Asked
from controllers.gate.authorize import Gate
from controllers.gate.held import before_it_goes_out
from controllers.runtime.blocking import Blocking, hand_over
from schemas.authorize import Decision
from schemas.errors import NotFound, Refused, StoreUnavailable
from schemas.resource import SYSTEM
from store.contract import Store

log = logging.getLogger(__name__)

MOST = 64
"""Calls of one transaction: the others wait for its commit, and every other writer for all of it."""
_ROUNDS = 3
"""Rounds of the event loop before a transaction begins: what lies ready in other connections is read, parsed, and goes
along. Much cheaper than a transaction of its own."""
_MANY = 8
"""Calls that are worth two transactions."""
Outcome = Decision | Exception


def decide_all(store: Store, gate: Gate, calls: Sequence[tuple[str, Asked]]) -> list[Outcome]:
    """Decide each call (uid of its run, what is asked), in order: the decision, or the error that concerns this call
    alone. A fault that shows only while a call is written is not the others': they are decided one by one then. Raises
    StoreUnavailable: nothing is known to be decided, and the same calls may be asked again."""
    try:
        with store.transaction(SYSTEM) as tx:
            found: list[Outcome] = []
            gate.look_up(tx, calls)
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


class Waiting:
    """A call that waits for its answer. Whoever does not wait any more says so with ``gone``: before its turn came it
    is not decided."""

    __slots__ = ("asked", "gone", "run_uid", "tell")

    def __init__(self, run_uid: str, asked: Asked, tell: Callable[[Outcome], None]) -> None:
        self.run_uid = run_uid
        self.asked = asked
        self.tell = tell
        self.gone = False

    def leave(self) -> None:
        """Nobody waits any more."""
        self.gone = True


class Batches:
    """The calls of all runs of one server. Belongs to one event loop; transactions run in threads."""

    def __init__(self, store: Store, gate: Gate, blocking: Blocking) -> None:
        self._store = store
        self._gate = gate
        self._blocking = blocking
        self._waiting: list[Waiting] = []
        self._at_work = False
        self._crowded = False  # whether calls came together of late

    async def decide(self, run_uid: str, asked: Asked) -> Decision:
        """The answer to one call, once it is on disk. Raises what ``Gate.authorize`` raises, StoreError."""
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

        def tell(outcome: Outcome) -> None:
            if not answer.done():
                answer.set_result(outcome)

        waiting = self.submit(run_uid, asked, tell)
        try:
            outcome = await answer
        finally:
            waiting.leave()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def submit(self, run_uid: str, asked: Asked, tell: Callable[[Outcome], None]) -> Waiting:
        """The same, and ``tell`` is called later in the event loop, once, with the answer or what ``decide`` raises."""
        mine = Waiting(run_uid, asked, tell)
        self._waiting.append(mine)
        if not self._at_work:
            self._at_work = True
            self._begin(_ROUNDS if self._crowded else 0)
        return mine

    def _begin(self, rounds: int, most: int | None = None) -> None:
        """Decide those that wait, up to ``most``; None: a half where many wait, so that from now on one half is decided
        while the other is answered."""
        if rounds:
            asyncio.get_running_loop().call_soon(self._begin, rounds - 1)
            return
        if most is None:
            most = min(MOST, len(self._waiting) // 2 if len(self._waiting) >= _MANY else MOST)
        batch: list[Waiting] = []
        while self._waiting and not batch:
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
            batch = [each for each in batch if not each.gone]
        if not batch:
            self._at_work = False
            return
        self._crowded = len(batch) > 1
        calls = [(each.run_uid, each.asked) for each in batch]
        try:
            hand_over(
                self._blocking,
                partial(decide_all, self._store, self._gate, calls),
                partial(self._answer, batch),
            )
        except RuntimeError:  # the threads were closed
            stopping = StoreUnavailable("the engine is being stopped")
            asyncio.get_running_loop().call_soon(self._answer, batch, stopping)

    def _answer(self, batch: list[Waiting], outcomes: list[Outcome] | BaseException) -> None:
        if self._waiting:  # they go into the database while those of this batch are answered and ask again
            self._begin(0, MOST)
        else:
            self._at_work = False
        found: Sequence[Outcome]
        if isinstance(outcomes, list):
            found = outcomes
        else:
            error = outcomes if isinstance(outcomes, Exception) else StoreUnavailable("the engine is being stopped")
            found = [error] * len(batch)
        for each, outcome in zip(batch, found, strict=True):
            if not each.gone:
                try:
                    each.tell(outcome)
                except Exception:
                    log.exception("an answer could not be told")  # the others' can
