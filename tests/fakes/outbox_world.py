"""A World whose runs are begun elsewhere by handlers of the outbox, as the engine has them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, Protocol

from controllers.effects.runner import Again
from controllers.effects.runs import CANCEL, START
from schemas.resource import SYSTEM
from store.contract import Effect, Transaction
from tests.fakes.world import World


class Records(Protocol):
    """The module that keeps what the store knows of such runs: ``effects.posts``, ``effects.jobs``."""

    def offer(self, tx: Transaction, run_uid: str) -> None: ...

    def withdraw(self, tx: Transaction, run_uid: str) -> None: ...


@dataclass
class OutboxWorld(World):
    """``records`` takes in starts and cancels; ``_handlers``, which a subclass fills, carry out all other effects."""

    records: ClassVar[Records]

    def __post_init__(self) -> None:
        super().__post_init__()
        self._handlers: dict[str, Callable[[Effect], Any]] = {}

    def _deliver(self) -> bool:
        with self.store.transaction(SYSTEM) as tx:
            claimed = tx.claim_effects("test", types=[START, CANCEL, *self._handlers], limit=100, lease_s=60)
        for effect in claimed:
            if effect.type in self._handlers:
                self._handle(effect)
            else:
                self._carry_out(effect)
        return bool(claimed)

    def _carry_out(self, effect: Effect) -> None:
        write = self.records.offer if effect.type == START else self.records.withdraw
        with self.store.transaction(SYSTEM) as tx:
            tx.finish_effect(effect)
            write(tx, str(effect.payload["runUid"]))

    def _handle(self, effect: Effect) -> None:
        outcome = asyncio.run(self._handlers[effect.type](effect))
        with self.store.transaction(SYSTEM) as tx:
            if isinstance(outcome, Again):
                tx.fail_effect(effect, outcome.why, retry_at=tx.now + timedelta(seconds=outcome.after_s))
                if outcome.commit is not None:
                    outcome.commit(tx)
                return
            tx.finish_effect(effect)
            if outcome is not None:
                outcome(tx)
