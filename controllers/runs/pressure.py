"""What runs tell of their Provider: what they asked of it, and that it refused. Kept on the Provider, so that every
engine and every agent that uses it goes by the same."""

from __future__ import annotations

from datetime import timedelta

from controllers.runs.run_record import RunRecord
from controllers.runs.text import MESSAGE, clean
from decisions import pools
from schemas.base import Key
from schemas.event import EventType
from schemas.parsed import parsed
from schemas.protocol import OVERLOADED, ProviderErrorMessage
from schemas.provider import ProviderSpec, ProviderStatus
from schemas.quantities import format_duration
from schemas.resource import Resource
from schemas.run import ProviderError, RunReason, RunStatus
from store.contract import Transaction


def used(tx: Transaction, run: Resource, requests: int, tokens: int) -> None:
    """Count what a run reported, where its Provider has a rate."""
    provider = _provider(tx, run)
    if provider is None or not provider.spec.get("rateLimit"):
        return
    status = parsed(ProviderStatus, provider.status)
    minute = pools.used(status.minute, tx.now, requests, tokens)
    tx.put_status(provider, status.model_copy(update={"minute": minute}).to_wire())


def refused(tx: Transaction, record: RunRecord, said: ProviderErrorMessage) -> bool:
    """A run was refused by its Provider; returns whether that was for its load, which pauses everybody who uses it.
    The record is not saved here."""
    message = clean(said.message, MESSAGE, record.redactor)
    record.put(
        provider_error=ProviderError(
            status=said.status, retry_after_s=said.retry_after_seconds, message=message, at=tx.now
        )
    )
    if said.status not in OVERLOADED:
        return False
    after = None if said.retry_after_seconds is None else timedelta(seconds=said.retry_after_seconds)
    _pause(tx, record.run, f"{said.status} {message}".strip(), after)
    return True


def of_ended(tx: Transaction, run: Resource) -> None:
    """A run has ended: where its output says that its Provider refused, and its agent had not said so, that counts as
    if it had."""
    status = parsed(RunStatus, run.status)
    if status.reason == RunReason.PROVIDER_OVERLOADED and status.provider_error is None:
        _pause(tx, run, status.message, None)


def _pause(tx: Transaction, run: Resource, said: str, after: timedelta | None) -> None:
    provider = _provider(tx, run)
    if provider is None:
        return  # nobody declared it: the run is tried again, after its own pause
    spec, status = parsed(ProviderSpec, provider.spec), parsed(ProviderStatus, provider.status)
    found = pools.pause(spec.backoff, status, provider.uid, after, tx.now)
    moved = found.until != status.backoff_until
    fields = {"backoff_until": found.until, "streak": found.streak, "last_error": said, "last_error_at": tx.now}
    if not moved:
        fields = {"last_error_at": tx.now}
    provider = tx.put_status(provider, status.model_copy(update=fields).to_wire())
    if moved:
        tx.event(
            EventType.PROVIDER_PAUSED,
            provider,
            reason="Overloaded",
            message=f"nothing new starts for {format_duration(found.until - tx.now)}: {said}",
            data={"related": [run.uid], "run": run.name, "until": found.until.isoformat(), "streak": found.streak},
        )


def _provider(tx: Transaction, run: Resource) -> Resource | None:
    ref = run.spec.get("providerRef")
    return None if not ref else tx.get(Key("Provider", ref.get("namespace") or run.namespace, ref["name"]))
