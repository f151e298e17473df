"""What passes had read, so that a pass over the same is not made once more.

A pass that wrote nothing, and read nothing but objects, answers the same as long as none of those objects changed and
the moment that it asked for has not come. So does one that wrote no more than that its own object has come to rest. So
it need not be made: its answer is recalled, for as long as that can be shown. Three things end a memory:

* one of the objects that were read changes, or one appears where none was found, or any object of a kind that was
  listed changes (versions, as the reader of changes takes them in, in their order);
* the moment comes that the pass asked for, its life ends, or the clock is set back behind the pass;
* a timer of the key is due.

Recalling is the same as having made the pass at the moment up to which changes were taken in. What changed after that
moment is taken in later, and wakes whom it concerns, as ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from controllers.runtime.result import RequeueAfter, RequeueAt, Result
from schemas.base import Key
from schemas.resource import Actor, Resource
from store.contract import Change, Op, SpecRevision, Transaction

Token = Key | str
"""The uid of an object that was read, the key of one that was not there, or ``*Kind`` for a list of a kind."""

LIFE = timedelta(hours=1)
"""A memory older than this is not trusted: the resync has to heal what a defect made the engine miss."""
MOST = 200_000
"""Tokens whose latest change is known. Beyond, everything is forgotten and learnt anew."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A pass that wrote nothing: its answer, what it read, when, and at which version of the store. ``there`` are
    objects, by uid, of which nothing counted but that they are there under that key."""

    result: Result
    read: tuple[Token, ...]
    version: int
    at: datetime
    there: tuple[tuple[str, Key], ...] = ()


class Recall:
    """The memories of one reader of changes. Not thread-safe: it belongs to one event loop."""

    def __init__(self) -> None:
        self._memories: dict[Key, Memory] = {}
        self._latest: dict[Token, int] = {}  # the latest change of each token since ``_floor``
        self._places: dict[str, Key | None] = {}  # where each object that changed since then is; None where it is gone
        self._floor = math.inf

    def begin(self, cursor: int) -> None:
        """Changes are taken in from here on; what was known before may have been missed, and is forgotten."""
        self._memories.clear()
        self._latest.clear()
        self._places.clear()
        self._floor = cursor

    def take_in(self, changes: Iterable[Change]) -> None:
        """Changes after those that were taken in, in their order. Call it before their keys are woken."""
        latest, version = self._latest, 0
        for change in changes:
            version = change.resource_version
            latest[change.uid] = latest[change.key] = latest[f"*{change.key.kind}"] = version
            self._places[change.uid] = None if change.op is Op.REMOVED else change.key
        if len(latest) > MOST:
            self.begin(version)

    def keep(self, key: Key, memory: Memory) -> None:
        """Remember a pass."""
        if memory.version >= self._floor and self._holds(memory):
            self._memories[key] = memory

    def keep_all(self, memories: Mapping[Key, Memory]) -> None:
        """Remember several."""
        for key, memory in memories.items():
            self.keep(key, memory)

    def answer(self, key: Key, now: datetime) -> Result | None:
        """What a pass over ``key`` would answer; None when it has to be made."""
        memory = self._memories.get(key)
        if memory is None:
            return None
        result = memory.result
        until = result.when if isinstance(result, RequeueAt) else memory.at + LIFE
        if memory.at <= now < until and now < memory.at + LIFE and self._holds(memory):
            return result
        del self._memories[key]
        return None

    def forget(self, key: Key) -> None:
        """The next pass over ``key`` is made, whatever is known."""
        self._memories.pop(key, None)

    def _holds(self, memory: Memory) -> bool:
        latest, version = self._latest, memory.version
        return all(latest.get(token, 0) <= version for token in memory.read) and all(
            self._places.get(uid, key) == key for uid, key in memory.there
        )


class Watched:
    """A transaction that notes what is read through it. Everything that is not named here makes the pass one that
    cannot be recalled: reads of anything but objects, and writes. Timers are left out of account: the answer of the
    pass says the same."""

    def __init__(
        self, inner: Transaction, key: Key | None = None, rests: Callable[[Resource], bool] = lambda _: False
    ) -> None:
        """``rests`` tells whether the object of ``key`` is at rest: a pass after the one that brought it there, and
        wrote nothing else, would find nothing to do or to wait for, and look at nothing else to say so."""
        self._inner = inner
        self._key = key
        self._rests = rests
        self._version = inner.latest_version()
        self._read: set[Token] = set()
        self._pure = True
        self._settled = ""  # the uid of its own object, where it wrote its status

    def __getattr__(self, name: str) -> Any:
        self._pure = False
        return getattr(self._inner, name)

    def as_transaction(self) -> Transaction:
        """What a reconciler takes."""
        return cast(Transaction, self)

    def memory(self, result: Result) -> Memory | None:
        """Of the pass that answered ``result``; None when it cannot be recalled."""
        if not self._pure or isinstance(result, RequeueAfter):
            return None
        if self._settled:
            return Memory(result, (self._settled,), self._inner.latest_version(), self._inner.now)
        return Memory(result, tuple(self._read), self._version, self._inner.now)

    @property
    def now(self) -> datetime:
        return self._inner.now

    @property
    def actor(self) -> Actor:
        return self._inner.actor

    def acting(self, actor: Actor) -> AbstractContextManager[None]:
        return self._inner.acting(actor)

    def get(self, key: Key) -> Resource | None:
        found = self._inner.get(key)
        self._read.add(key if found is None else found.uid)
        return found

    def get_by_uid(self, uid: str) -> Resource | None:
        self._read.add(uid)
        return self._inner.get_by_uid(uid)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        keys = list(keys)
        found = self._inner.get_many(keys)
        self._read.update(found[key].uid if key in found else key for key in keys)
        return found

    def objects(
        self, kind: str, *, namespace: str | None = None, labels: Mapping[str, str] | None = None,
        states: Sequence[str] | None = None, owner_uid: str | None = None, unit: str | None = None,
        limit: int | None = None, after: tuple[str, str] | None = None,
    ) -> list[Resource]:  # fmt: skip
        self._read.add(f"*{kind}")
        return self._inner.objects(
            kind, namespace=namespace, labels=labels, states=states, owner_uid=owner_uid, unit=unit, limit=limit,
            after=after,
        )  # fmt: skip

    def count(
        self, kind: str, *, namespace: str | None = None, states: Sequence[str] | None = None,
        owner_uid: str | None = None,
    ) -> int:  # fmt: skip
        self._read.add(f"*{kind}")
        return self._inner.count(kind, namespace=namespace, states=states, owner_uid=owner_uid)

    def spec_at(self, uid: str, generation: int) -> SpecRevision | None:
        self._read.add(uid)
        return self._inner.spec_at(uid, generation)

    def put_status(self, current: Resource, status: dict[str, Any]) -> Resource:
        stored = self._inner.put_status(current, status)
        if stored is not current:
            self._settled = stored.uid
            self._pure = self._pure and current.key == self._key and self._rests(stored)
        return stored

    def event(
        self, type: str, subject: Resource | Key, *, reason: str, message: str, data: dict[str, Any] | None = None,
        actor: Actor | None = None,
    ) -> int:  # fmt: skip
        self._pure = self._pure and bool(self._settled)
        return self._inner.event(type, subject, reason=reason, message=message, data=data, actor=actor)

    def set_timer(self, key: Key, purpose: str, due_at: datetime) -> None:
        self._inner.set_timer(key, purpose, due_at)

    def clear_timer(self, key: Key, purpose: str) -> None:
        self._inner.clear_timer(key, purpose)
