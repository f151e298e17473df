"""Provider: how many of its slots are taken, who waits, and until when it is left alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from controllers.reconcilers import pools, writing
from controllers.reconcilers.ready import ReadyMissions
from controllers.runtime.result import DONE, Result
from decisions import pools as decisions
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.provider import ProviderReason, ProviderSpec, ProviderStatus
from schemas.resource import RECONCILE_REQUESTED_AT, Resource
from store.contract import Transaction


class Providers:
    """Reconciles Providers; ``ready`` knows who waits. A run takes its slot in the transaction that orders it: what
    stands here is for people, and for the missions that say what they wait for."""

    def __init__(self, ready: ReadyMissions) -> None:
        self._ready = ready

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """One pass over a Provider."""
        provider = tx.get(key)
        if provider is None:
            return writing.gone(tx, key)
        users = _in_use_by(tx, key) if provider.deletion_at is not None else ()
        if provider.deletion_at is not None and not users:
            tx.event(EventType.DELETED, provider, reason="Finalized", message="no agent refers to it")
            tx.clear_timer(key, writing.WAKE)
            tx.remove(tx.put_finalizers(provider, ()) if provider.finalizers else provider)
            return DONE
        old = ProviderStatus.model_validate(provider.status)
        spec = ProviderSpec.model_validate(provider.spec)
        used = pools.in_use(pools.active(tx))[key]
        found = decisions.standing(pools.facts(tx, key, used), tx.now)
        reason, message = found.reason, found.message
        ready = reason is ProviderReason.RECONCILED
        if ready:
            message = ""  # all slots taken is no fault: status.inUse says it
        if users:
            reason, message = ProviderReason.IN_USE, "deletion waits: in use by " + ", ".join(users[:5])
        over = old.backoff_until is not None and reason is not ProviderReason.BACKING_OFF
        minute = old.minute
        if minute is not None and (tx.now >= minute.began + decisions.MINUTE or tx.now < minute.began):
            minute = None
        status = old.model_copy(
            update={
                "conditions": set_condition(
                    old.conditions, "Ready", ready, reason, message, now=tx.now, generation=provider.generation
                ),
                "observed_generation": provider.generation,
                "in_use": used,
                "waiting": self._ready.waiting_for(key),
                "minute": minute,
                "streak": 0 if decisions.calm(spec.backoff, old, tx.now) else old.streak,
                "backoff_until": None if over else old.backoff_until,
                "backoff_ended": min(old.backoff_until, tx.now) if over and old.backoff_until else old.backoff_ended,
                "last_handled_reconcile": provider.annotations.get(RECONCILE_REQUESTED_AT, old.last_handled_reconcile),
            }
        )
        provider = writing.put_status(tx, provider, status)
        writing.note_ready(tx, provider, old.conditions, status.conditions)
        return writing.wake_at(tx, provider, _next(status, tx.now))


def _next(status: ProviderStatus, now: datetime) -> datetime | None:
    """When something changes by itself: the end of a pause or of a minute."""
    times = [] if status.backoff_until is None else [status.backoff_until]
    if status.minute is not None:
        times.append(status.minute.began + decisions.MINUTE)
    return min((time for time in times if time > now), default=None)


def _in_use_by(tx: Transaction, key: Key) -> tuple[str, ...]:
    """Agents whose model names it, and that are not being deleted."""
    agents: Iterable[Resource] = tx.objects("Agent")
    return tuple(a.key.short for a in agents if a.deletion_at is None and pools.key_of(a.namespace, a.spec) == key)
