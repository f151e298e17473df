"""Transaction: everything that can be written, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime

from schemas.resource import Actor
from store.cache import CacheWrites
from store.changes import ChangeWrites
from store.codec import Mask, from_micros, to_micros, unmasked
from store.contract import Fence
from store.events import EventWrites
from store.heads import Heads
from store.leases import LeaseWrites, check_fence
from store.ledger import LedgerWrites
from store.object_writes import ObjectWrites
from store.outbox import OutboxWrites
from store.session import Session
from store.timers import TimerWrites


class SqlTransaction(
    ObjectWrites, ChangeWrites, EventWrites, OutboxWrites, TimerWrites, LedgerWrites, LeaseWrites, CacheWrites
):
    """``contract.Transaction`` over one write transaction. Locking the heads first puts all writers in one order."""

    def __init__(
        self,
        session: Session,
        actor: Actor,
        *,
        fence: Fence | None,
        now: Callable[[], datetime],
        new_id: Callable[[], str],
        mask: Mask = unmasked,
    ) -> None:
        self._session = session
        self._actor = actor
        self._new_id = new_id
        self._mask = mask
        self._held_events = []
        self._held_relations = []
        self._posted = set()
        self._touched = {}
        self._touched_kinds = set()
        self._woken = set()
        self._heads = Heads.read(session, lock=True)
        # Asked only now, so that times follow the order of the transactions.
        self._now = to_micros(now())
        self._moment = from_micros(self._now)
        if fence is not None:
            check_fence(session, fence)

    @property
    def now(self) -> datetime:
        return self._moment

    @property
    def actor(self) -> Actor:
        return self._actor

    @contextmanager
    def acting(self, actor: Actor) -> Iterator[None]:
        before, self._actor = self._actor, actor
        try:
            yield
        finally:
            self._actor = before

    def finish(self) -> bool:
        """Write what was held back; returns whether anything was written at all."""
        self._flush_events()
        self.write_balances()
        self._session.flush()
        if self._session.wrote:
            self._heads.write(self._session)
        return self._session.wrote

    @property
    def woken(self) -> frozenset[str]:
        """The types of the effects that were put into the outbox and are due."""
        return frozenset(self._woken)

    @property
    def version(self) -> int:
        """The highest resource_version given out so far."""
        return self._heads.resource_version
