"""SetCommitStatus: shows on the forge how the commit of a source went, whenever that changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path

from controllers.dispatch.environment import SecretMissing, SecretSource
from controllers.effects.runner import Commit
from controllers.runs import text
from controllers.runtime.blocking import Blocking
from controllers.status import conditions, forges
from controllers.status.redaction import redact
from schemas.base import Key
from schemas.conditions import ConditionStatus, find
from schemas.errors import Refused, Retry, Terminal
from schemas.resource import digest
from schemas.source import ForgeType, SourceReason, SourceSpec, SourceStatus
from store.contract import Effect, Store, Transaction

SET_STATUS = "SetCommitStatus"
AGAIN = timedelta(minutes=10)
"""A status that was given up is sent again after this."""

Connect = Callable[[ForgeType, str | None, str, str], forges.Forge]
"""(type, url, repository, token) to a forge. Raises Refused."""


def wanted(spec: SourceSpec, status: SourceStatus) -> forges.CommitStatus | None:
    """What the forge should show; None while there is nothing to say about any commit."""
    ready = find(status.conditions, "Ready")
    if spec.forge is None or ready is None:
        return None
    if status.refused_revision:
        return _status(spec, status.refused_revision, forges.State.FAILURE, f"{ready.reason}: {ready.message}")
    if not status.revision or not status.units or any(u.revision != status.revision for u in status.units):
        return None
    failed = [u for u in status.units if u.reason is SourceReason.INVALID_SPEC]
    if failed:
        return _status(spec, status.revision, forges.State.FAILURE, f"{failed[0].path}: {failed[0].message}")
    waiting = [u for u in status.units if u.pending]
    if waiting:
        held = waiting[0].pending[0]
        return _status(spec, status.revision, forges.State.PENDING, f"{held.guard}: {held.message}")
    count = sum(u.objects for u in status.units)
    return _status(spec, status.revision, forges.State.SUCCESS, f"in force: {count} objects")


def _status(spec: SourceSpec, revision: str, state: forges.State, description: str) -> forges.CommitStatus:
    assert spec.forge is not None
    shown = text.line(redact(description), 300)
    return forges.CommitStatus(revision.rpartition(":")[2], state, shown, spec.forge.context)


def report(store: Store, key: Key) -> bool:
    """Put a status into the outbox when the forge shows another one; whether it did. To be called after each look at a
    source: what was sent is remembered on the Source, in the transaction that sends it."""
    with store.snapshot() as snapshot:
        source = snapshot.get(key)
    if source is None or source.spec.get("forge") is None:
        return False
    with store.transaction(conditions.ACTOR) as tx:
        source = tx.get(key)
        if source is None:
            return False
        spec, status = SourceSpec.model_validate(source.spec), SourceStatus.model_validate(source.status)
        news = wanted(spec, status)
        if news is None or spec.forge is None:
            return False
        payload = {"commit": news.commit, "state": news.state.value, "description": news.description}
        mark = digest({**payload, "forge": spec.forge.to_wire()})
        if mark == status.reported and not _failed(tx, key, status):
            return False
        tx.put_status(source, status.model_copy(update={"reported": mark}).to_wire())
        moment = int(tx.now.timestamp() * 1000)
        tx.enqueue(SET_STATUS, f"commit-status/{source.uid}/{mark[7:39]}/{moment}", key, payload | {"mark": mark})
    return True


def _failed(tx: Transaction, key: Key, status: SourceStatus) -> bool:
    """Whether the last one was given up, a while ago: what was wrong may have been put right outside of the specs."""
    condition = find(status.conditions, "ForgeReported")
    if condition is None or condition.status is not ConditionStatus.FALSE:
        return False
    ended = []
    for effect in tx.effects(subject=key, type=SET_STATUS):
        if effect.done_at is None:
            return False
        ended.append(effect.done_at)
    return tx.now - max(ended, default=tx.now) >= AGAIN


class CommitStatusEffects:
    """Handler of SetCommitStatus. ``hosts`` are those of ``forgeHosts``."""

    def __init__(
        self, store: Store, *, secrets: SecretSource, project: Path, hosts: Iterable[str], blocking: Blocking,
        connect: Connect | None = None,
    ) -> None:  # fmt: skip
        self._store = store
        self._secrets = secrets
        self._project = project
        self._hosts = tuple(hosts)
        self._blocking = blocking
        self._connect = connect or self._over_http

    async def send(self, effect: Effect) -> Commit | None:
        """Send the status of an effect, unless a later one took its place."""
        return await self._blocking.run(self._send, effect)

    def _send(self, effect: Effect) -> Commit | None:
        key = effect.subject
        with self._store.snapshot() as snapshot:
            source = snapshot.get(key)
        if source is None or source.status.get("reported") != effect.payload["mark"]:
            return None
        spec = SourceSpec.model_validate(source.spec)
        if spec.forge is None:
            return None
        status = forges.CommitStatus(
            str(effect.payload["commit"]),
            forges.State(effect.payload["state"]),
            str(effect.payload["description"]),
            spec.forge.context,
        )
        try:
            token = self._secrets.of(key.namespace).resolve(spec.forge.token, self._project)
            self._connect(spec.forge.type, spec.forge.url, spec.forge.repository, token).set_status(status)
        except SecretMissing as error:
            self._say(key, SourceReason.FORGE_CREDENTIAL_NOT_FOUND, f"spec.forge.token: {error}")
            raise Retry(f"{key.short}: spec.forge.token: {error}") from error
        except Retry as error:
            self._say(key, SourceReason.FORGE_UNREACHABLE, str(error))
            raise
        except Refused as error:
            self._say(key, conditions.reason_of(error), str(error))
            raise Terminal(f"{key.short}: {error}") from error
        message = f"{spec.forge.type} shows {status.context} on the commits of {spec.forge.repository}"

        def say(tx: Transaction) -> None:
            conditions.put(tx, key, "ForgeReported", SourceReason.FORGE_REPORTED, message, good=True)

        return say

    def _say(self, key: Key, reason: SourceReason, message: str) -> None:
        conditions.set_on(self._store, key, "ForgeReported", reason, message, good=False)

    def _over_http(self, type_: ForgeType, url: str | None, repository: str, token: str) -> forges.Forge:
        return forges.connect(type_, url, repository, token, hosts=self._hosts)
