"""Of several engines on one store, one leads: it reconciles and reads sources. The others stand by.

The lease is what makes it safe: whoever leads writes under the fence of its token, and the store refuses a write under
an old one inside its transaction, however late it comes. Time only decides how soon a successor steps in. It is
measured on the waiting engine's own monotonic clock, as "the lease has not moved for so long": wall clocks of several
machines differ.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.home import LEADER, RENEW_S, TTL_S, renew
from controllers.runtime.lifecycle import Lifecycle
from schemas.errors import StoreError
from schemas.resource import SYSTEM
from store.contract import Fence, Lease, Store

log = logging.getLogger(__name__)

LOOK_S = 0.5
"""How often an engine that stands by looks at the lease."""

Term = Callable[[Fence, asyncio.Event], Awaitable[None]]
"""What a leader does: work under the fence until the event is set, then return soon."""


class Leadership:
    """A component that leads whenever it may. ``life`` names this process among the holders of the lease."""

    def __init__(self, store: Store, life: str, term: Term, *, clock: Clock, blocking: Blocking) -> None:
        self._store = store
        self._life = life
        self._term = term
        self._clock = clock
        self._blocking = blocking
        self._seen: tuple[tuple[str, int, datetime] | None, float] = (None, 0.0)
        self.leads = False

    async def run(self, life: Lifecycle) -> None:
        """A component (`lifecycle.Run`); ready as soon as it looks, whoever leads."""
        life.ready()
        while not life.stopping.is_set():
            lease = await self._try()
            if lease is not None:
                await self._lead(lease, life)
            await wait_for_any(self._clock, LOOK_S, life.stopping)

    async def _lead(self, lease: Lease, life: Lifecycle) -> None:
        ends = asyncio.Event()
        term = asyncio.create_task(self._ending(Fence(LEADER, lease.token), ends), name="term")
        self.leads = True
        log.info("this engine leads (token %d)", lease.token)
        try:
            held = True
            while held and not await wait_for_any(self._clock, RENEW_S, life.stopping, ends):
                held = await self._keep(lease)
            if not held:
                log.warning("another engine leads now; this one stands by")
            ends.set()
            await term
        finally:
            self.leads = False
            term.cancel()
        await self._give_up(lease)

    async def _ending(self, fence: Fence, ends: asyncio.Event) -> None:
        try:
            await self._term(fence, ends)
        except Exception:
            # Whatever it was, another engine may do better; this one tries again as well.
            log.exception("leading failed")
        finally:
            ends.set()

    async def _try(self) -> Lease | None:
        try:
            return await self._blocking.run(self._campaign)
        except StoreError as error:
            log.warning("cannot see who leads: %s", error)
            return None

    def _campaign(self) -> Lease | None:
        """The lease, once it is free, or did not move for longer than a leader may be silent."""
        with self._store.snapshot() as snapshot:
            now = snapshot.lease(LEADER)
        if now is not None and now.holder and not self._is_silent(now):
            return None
        with self._store.transaction(SYSTEM) as tx:
            if tx.lease(LEADER) != now:
                return None
            if now is not None and now.holder:
                tx.release_lease(LEADER, now.token)
            return tx.acquire_lease(LEADER, self._life, ttl_s=TTL_S)

    def _is_silent(self, now: Lease) -> bool:
        state, moment = (now.holder, now.token, now.expires_at), self._clock.monotonic()
        if self._seen[0] != state:
            self._seen = state, moment
        return moment - self._seen[1] > TTL_S

    async def _keep(self, lease: Lease) -> bool:
        """Whether it is still ours, as far as anybody can tell: while the store is silent, nobody writes anyway."""

        def extend() -> bool:
            with self._store.transaction(SYSTEM) as tx:
                return renew(tx, lease)

        try:
            return await self._blocking.run(extend)
        except StoreError as error:
            log.warning("the lead cannot be renewed yet: %s", error)
            return True

    async def _give_up(self, lease: Lease) -> None:
        def release() -> None:
            with self._store.transaction(SYSTEM) as tx:
                tx.release_lease(LEADER, lease.token)

        try:
            await self._blocking.run(release)
        except StoreError as error:
            log.warning("the lead could not be handed over, it runs out in %g s: %s", TTL_S, error)
