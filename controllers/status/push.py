"""PushStatus: from the outbox to the remote's status branch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from controllers.effects.runner import Commit
from controllers.runtime.blocking import Blocking
from controllers.sources import git_push, git_status
from controllers.sources.readers import local_url, require_remote
from controllers.status import conditions
from schemas.base import Key
from schemas.errors import Refused, Retry, SourceUnreadable
from schemas.source import SourceReason, SourceSpec, SourceType, WritebackMode
from store.contract import Effect, EffectState, Store, Transaction

PUSH = "PushStatus"
_SOON_S = 1.5


def enqueue_push(store: Store, source: Key, uid: str, tip: str) -> None:
    """Put a push of a source's status branch into the outbox, unless one waits there: that one will take the tip
    along."""
    with store.transaction(conditions.ACTOR) as tx:
        if tx.effects(states=[EffectState.PENDING], subject=source, type=PUSH, limit=1):
            return
        # The moment makes the key unlike that of an earlier push of the same commit, which somebody may have undone.
        key = f"push-status/{uid}/{tip[:12]}/{int(tx.now.timestamp() * 1000)}"
        tx.enqueue(PUSH, key, source, {"sourceUid": uid, "commit": tip})


class PushEffects:
    """Handler of PushStatus. ``look_again`` has the writer compare everything with the branch of a source."""

    def __init__(
        self, store: Store, *, project: Path, cache: Path, blocking: Blocking, look_again: Callable[[str], None]
    ) -> None:
        self._store = store
        self._project = project
        self._cache = cache
        self._blocking = blocking
        self._look_again = look_again
        self._guard = threading.Lock()
        self._locks: dict[Key, threading.Lock] = {}

    async def push(self, effect: Effect) -> Commit | None:
        """Push what the branch holds now. Pushing what is there already does nothing, so a repeat is harmless."""
        return await self._blocking.run(self._push, effect)

    def _push(self, effect: Effect) -> Commit | None:
        key = effect.subject
        with self._lock(key):
            try:
                remote = self._remote(key)
                if remote is None:
                    return None
                remote.prepare()
                held = remote.push()
            except git_push.Overtaken:
                self._look_again(str(effect.payload["sourceUid"]))
                raise Retry(f"{key.short}: the status branch was moved by somebody else", after=_SOON_S) from None
            except (Refused, SourceUnreadable) as error:
                reason = conditions.reason_of(error)
                conditions.set_on(self._store, key, "StatusWritten", reason, str(error), good=False)
                raise Retry(str(error)) from error
        if not held:
            return None
        message = f"{remote.ref} of {remote.address}"

        def say(tx: Transaction) -> None:
            conditions.put(tx, key, "StatusWritten", SourceReason.STATUS_WRITTEN, message, good=True)

        return say

    def _remote(self, key: Key) -> git_push.StatusRemote | None:
        """The remote of a source, None when it is written nowhere by now."""
        with self._store.snapshot() as snapshot:
            source = snapshot.get(key)
        if source is None:
            return None
        spec = SourceSpec.model_validate(source.spec)
        if spec.type is not SourceType.GIT or spec.status_writeback.mode is not WritebackMode.ALWAYS:
            return None
        require_remote(key, spec)
        url = local_url(spec.url, self._project)
        if git_status.local_path(url) is not None:
            return None
        return git_push.StatusRemote(url, spec.status_writeback.branch, self._cache)

    def _lock(self, key: Key) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())
