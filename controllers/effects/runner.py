"""The outbox runner: claims due effects, hands them to their handler, books how it went.

Each handler is called at least once per effect and must be idempotent by the effect's key. It may return a function
that writes in the transaction which marks the effect as done, so that the two are never apart.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.together import Together
from schemas.errors import Fenced, Retry, StoreUnavailable, Terminal
from schemas.event import EventType
from schemas.resource import SYSTEM
from store.contract import Effect, EffectState, Store, Transaction

log = logging.getLogger(__name__)

Commit = Callable[[Transaction], None]


@dataclass(frozen=True, slots=True)
class Again:
    """What a handler returns whose effect is to be delivered once more after ``after_s``, although nothing failed.
    ``commit`` writes in the transaction that says so; ``why`` stands on the effect meanwhile."""

    after_s: float
    why: str = ""
    commit: Commit | None = None


Handler = Callable[[Effect], Awaitable[Commit | Again | None]]

LEASE_S = 60.0
MAX_TRIES = 20
POLL_S = 1.0
_INITIAL_S, _MAX_S = 0.5, 60.0
_LOOK = 256
_FEW = 2
"""Effects that are made ready one after the other: others would wait less for a thread of their own."""


class EffectRunner:
    """Runs the effects of the given types. ``slots`` bounds how many are out at a time."""

    def __init__(
        self,
        name: str,
        store: Store,
        handlers: Mapping[str, Handler],
        *,
        holder: str,
        blocking: Blocking,
        clock: Clock,
        random: Random,
        slots: int = 16,
        on_dead: Callable[[Transaction, Effect, str], None] | None = None,
        keep: Callable[[Transaction, Effect], bool] | None = None,
        patient: bool = False,
        together: Together | None = None,
    ) -> None:
        """``keep`` is asked in the transaction that claims an effect; for False somebody else carries it out, and what
        it wrote says who. ``patient`` is for handlers that return ``Again``: tries are no failures there, and only
        Terminal gives an effect up. ``together`` is whom it shares its transactions with."""
        self.name = name
        self._store = store
        self._handlers = dict(handlers)
        self._holder = holder
        self._blocking = blocking
        self._clock = clock
        self._random = random
        self._slots = slots
        self._on_dead = on_dead
        self._keep_claim = keep
        self._patient = patient
        self._together = together or Together(store, blocking)
        self._loop: asyncio.AbstractEventLoop | None = None  # while it takes effects from others
        self._counting = threading.Lock()
        self._handed_over = 0  # claimed in transactions of others, and not yet delivered
        self._short = False  # more may be due than there was room for
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.delivered = self.failed = 0

    def wake(self, types: frozenset[str] | None = None) -> None:
        """Look for due effects now, if any of these types are its own; None for whatever there may be. Call from the
        event loop."""
        if types is None or not types.isdisjoint(self._handlers):
            self._wake.set()

    async def run(self, life: Lifecycle) -> None:
        """A component (`lifecycle.Run`). Stopping lets effects that are out finish."""
        self._stopping = life.stopping
        life.ready()
        self._loop = asyncio.get_running_loop()
        try:
            while not life.stopping.is_set():
                self._wake.clear()
                claimed = await self._claim()
                self._send_out(claimed)
                if not claimed:
                    await wait_for_any(self._clock, POLL_S, life.stopping, self._wake)
        finally:
            self._loop = None
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def claim_in(
        self,
        tx: Transaction,
        prepare: Callable[[Transaction, Effect], object] | None = None,
        ready: Callable[[Effect], object] | None = None,
    ) -> Callable[[], object]:
        """Claim what is due in a transaction of somebody else, such as the one that puts it there, and ``prepare`` it;
        what it returns, called after the commit, has it delivered. ``ready`` is called then, where there are few: it
        does at once what the handler would need a thread for. From any thread."""
        loop = self._loop
        free = self._slots - len(self._tasks) - self._handed_over
        if loop is None or free <= 0:
            self._short = True
            return lambda: None
        claimed = tx.claim_effects(self._holder, types=sorted(self._handlers), limit=free, lease_s=LEASE_S)
        if self._keep_claim is not None:
            claimed = [effect for effect in claimed if self._keep_claim(tx, effect)]
        if prepare is not None:
            for effect in claimed:
                prepare(tx, effect)
        return functools.partial(self._hand_over, loop, claimed, ready if len(claimed) <= _FEW else None)

    def _hand_over(
        self, loop: asyncio.AbstractEventLoop, claimed: list[Effect], ready: Callable[[Effect], object] | None
    ) -> None:
        if ready is not None:
            for effect in claimed:
                try:
                    ready(effect)
                except Exception as error:  # noqa: BLE001 - the handler finds the same, and says so
                    log.debug("%s is made ready by its handler: %s", effect.key, error)
        if claimed:
            with self._counting:
                self._handed_over += len(claimed)
            loop.call_soon_threadsafe(self._take_over, claimed)

    def _take_over(self, claimed: list[Effect]) -> None:
        with self._counting:
            self._handed_over -= len(claimed)
        if self._loop is not None:  # else they are claimed by the next life, or when the claim runs out
            self._send_out(claimed)

    def _send_out(self, claimed: list[Effect]) -> None:
        for effect in claimed:
            task = asyncio.create_task(self._deliver(effect), name=f"{self.name}/{effect.key}")
            self._tasks.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._short:
            self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            log.error("%s: %s", task.get_name(), task.exception())

    async def _claim(self) -> list[Effect]:
        free = self._slots - len(self._tasks) - self._handed_over
        self._short = free <= 0
        if free <= 0:
            return []
        try:
            claimed = await self._blocking.run(self._claim_now, free)
            self._short = self._short or len(claimed) == free
            return claimed
        except StoreUnavailable as error:
            log.warning("%s: effects wait, the store does not answer: %s", self.name, error)
            return []

    def _claim_now(self, limit: int) -> list[Effect]:
        types = sorted(self._handlers)
        waiting = (EffectState.PENDING, EffectState.CLAIMED)
        now = self._clock.now()
        with self._store.snapshot() as snapshot:
            # By type: a long queue of another runner must not hide what is due here.
            found = [e for type_ in types for e in snapshot.effects(states=waiting, type=type_, limit=_LOOK)]
        if not any(_is_due(e, now) for e in found):
            return []
        with self._store.transaction(SYSTEM) as tx:
            claimed = tx.claim_effects(self._holder, types=types, limit=limit, lease_s=LEASE_S)
            keep = self._keep_claim
            return claimed if keep is None else [effect for effect in claimed if keep(tx, effect)]

    async def _deliver(self, effect: Effect) -> None:
        keeper = asyncio.create_task(self._keep(effect))
        try:
            await self._try(effect)
        except Fenced:
            log.info("%s: taken over by another process", effect.key)
        finally:
            keeper.cancel()

    async def _try(self, effect: Effect) -> None:
        try:
            outcome = await self._handlers[effect.type](effect)
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001  a handler's fault must not end the runner
            self.failed += 1
            await self._book(effect, functools.partial(self._write_failure, effect, error))
            return
        try:
            if isinstance(outcome, Again):
                await self._book(effect, functools.partial(_put_off, effect, outcome))
                return
            await self._book(effect, functools.partial(_finish, effect, outcome))
            self.delivered += 1
        except Fenced:
            raise
        except Exception as error:  # noqa: BLE001  the same for what it writes
            self.failed += 1
            await self._book(effect, functools.partial(self._write_failure, effect, error))

    async def _book(self, effect: Effect, write: Callable[[Transaction], None]) -> None:
        """Write down how it went, over and over while the store does not answer. Left unwritten at the end of the
        process, the claim runs out and the effect is delivered again; its handler is idempotent."""
        warned = stopping = False
        while True:
            try:
                await self._together.write(write)
                return
            except StoreUnavailable as error:
                if not warned:
                    log.warning("%s: cannot be booked yet: %s", effect.key, error)
                warned = True
            if stopping:
                return
            # Who is told to stop asks once more: the store may have come back since.
            stopping = await wait_for_any(self._clock, POLL_S, self._stopping)

    async def _keep(self, effect: Effect) -> None:
        """Hold on to the claim of a slow effect."""
        while True:
            await self._clock.sleep(LEASE_S / 3)
            try:
                await self._blocking.run(self._extend, effect)
            except StoreUnavailable:
                continue
            except Fenced:
                return

    def _extend(self, effect: Effect) -> None:
        with self._store.transaction(SYSTEM) as tx:
            tx.extend_claim(effect, LEASE_S)

    def _finish(self, effect: Effect, commit: Commit | None) -> None:
        with self._store.transaction(SYSTEM) as tx:
            _finish(effect, commit, tx)

    def _fail(self, effect: Effect, error: Exception) -> None:
        with self._store.transaction(SYSTEM) as tx:
            self._write_failure(effect, error, tx)

    def _write_failure(self, effect: Effect, error: Exception, tx: Transaction) -> None:
        dead = isinstance(error, Terminal) or (effect.tries >= MAX_TRIES and not self._patient)
        pause = getattr(error, "after", None) if isinstance(error, Retry) else None
        if pause is None:
            pause = min(_INITIAL_S * 2 ** min(effect.tries - 1, MAX_TRIES), _MAX_S) * self._random.uniform(0.8, 1.2)
        message = str(error) or type(error).__name__
        if not isinstance(error, Retry | Terminal):
            log.warning("%s: %s", effect.key, message, exc_info=error)
        tx.fail_effect(effect, message, retry_at=None if dead else tx.now + timedelta(seconds=pause))
        tx.event(
            EventType.EFFECT_FAILED,
            effect.subject,
            reason="GivenUp" if dead else "Retrying",
            message=f"{effect.type}: {message}"[:500],
            data={"effect": effect.key, "try": effect.tries},
        )
        if dead and self._on_dead is not None:
            self._on_dead(tx, effect, message)


def _finish(effect: Effect, commit: Commit | None, tx: Transaction) -> None:
    tx.finish_effect(effect)
    if commit is not None:
        commit(tx)


def _put_off(effect: Effect, again: Again, tx: Transaction) -> None:
    tx.fail_effect(effect, again.why[:500], retry_at=tx.now + timedelta(seconds=again.after_s))
    if again.commit is not None:
        again.commit(tx)


def _is_due(effect: Effect, now: datetime) -> bool:
    """Whether it may be claimed."""
    if effect.state is EffectState.CLAIMED:
        return effect.claim_until is not None and effect.claim_until <= now
    return effect.due_at <= now
