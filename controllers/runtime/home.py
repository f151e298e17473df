"""Who an engine is to other engines on the same store: its home, which is its state directory, and its life.

Runs belong to a home: its supervisor holds their programs, whichever life of the engine started them. A life is one
process. The kernel's lock on the directory keeps it to one life at a time, so that a new one knows the one before it to
be dead, whatever its leases say.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import Lifecycle
from schemas.errors import StoreError, StoreLocked, StoreUnavailable
from schemas.resource import SYSTEM
from store.contract import Fence, Lease, Store, Transaction
from store.lock import EngineLock

log = logging.getLogger(__name__)

LEADER = "engine/leader"
"""The lease of the engine that reconciles and reads sources."""
TTL_S = 10.0
"""How long an engine may be silent before another one takes its lease."""
RENEW_S = 2.5
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,60}")


@dataclass(frozen=True, slots=True)
class Home:
    """``name`` is the directory's (host name and a random part), ``life`` this process's, ``before`` that of the last
    process here ("" for none). ``lock`` is held until the process ends."""

    name: str
    life: str
    before: str
    lock: EngineLock

    @property
    def lease(self) -> str:
        """The lease that says that this home is alive."""
        return f"engine/{self.name}"


def move_in(state: Path, *, now: datetime, new_id: Callable[[], str]) -> Home:
    """Lock the state directory, and read or make its name. Raises StoreLocked while another engine lives there,
    StoreUnavailable when its files cannot be written."""
    lock = EngineLock.take(state / "engine", now=now)
    try:
        name = _read(state / "engine.name")
        if not _NAME.fullmatch(name):
            host = re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")[:40] or "host"
            name = f"{host}-{new_id()[-8:].lower()}"
            _write(state / "engine.name", name)
        before, life = _read(state / "engine.life"), f"{name}/{new_id()}"
        _write(state / "engine.life", life)
    except OSError as error:
        lock.release()
        raise StoreUnavailable(f"{state} cannot be written: {error.strerror}. Make it writable for you") from error
    return Home(name, life, before, lock)


def join(tx: Transaction, home: Home) -> Lease:
    """Take the lease of the home, and give back what the life before this one held. Raises StoreLocked when the home is
    held by a process that never lived in this directory: a copy of it is in use."""
    for name in (home.lease, LEADER):
        held = tx.lease(name)
        if held is not None and home.before and held.holder == home.before:
            tx.release_lease(name, held.token)
    lease = tx.acquire_lease(home.lease, home.life, ttl_s=TTL_S)
    if lease is None:
        raise StoreLocked(
            f"an engine with a copy of this state directory works on the store already, under the name {home.name}."
            " Stop that one; or, if both are to work, remove engine.name from the state directory that is the copy"
        )
    return lease


def renew(tx: Transaction, lease: Lease) -> bool:
    """Extend a lease that is still one's own; False when it is another's by now, or given up."""
    now = tx.lease(lease.name)
    if now is None or (now.holder, now.token) != (lease.holder, lease.token):
        return False
    return tx.acquire_lease(lease.name, lease.holder, ttl_s=TTL_S) is not None


@dataclass(frozen=True, slots=True)
class Member:
    """An engine among those of a store: its home, and the lease on it that all its own writes are fenced by."""

    home: Home
    lease: Lease

    @classmethod
    def join(cls, store: Store, state: Path, *, now: datetime, new_id: Callable[[], str]) -> Member:
        """Move in and join. Raises StoreLocked, StoreUnavailable."""
        home = move_in(state, now=now, new_id=new_id)
        try:
            with store.transaction(SYSTEM) as tx:
                return cls(home, join(tx, home))
        except BaseException:
            home.lock.release()
            raise

    @property
    def fence(self) -> Fence:
        """What makes a write of this engine count."""
        return Fence(self.lease.name, self.lease.token)

    async def stay(
        self, life: Lifecycle, *, store: Store, clock: Clock, blocking: Blocking, lost: Callable[[StoreError], None]
    ) -> None:
        """A component: says again and again that the engine is alive. Calls ``lost`` once the home is another's."""

        def extend() -> bool:
            with store.transaction(SYSTEM) as tx:
                return renew(tx, self.lease)

        life.ready()
        while not await wait_for_any(clock, RENEW_S, life.stopping):
            try:
                if await blocking.run(extend):
                    continue
            except StoreError as error:
                log.warning("the store cannot be told that this engine is alive: %s", error)
                continue
            lost(StoreLocked(f"another engine works under the name {self.home.name}: this one ends"))
            await life.stopping.wait()

    def leave(self, tx: Transaction) -> None:
        """Give the home up; nothing of this engine counts from then on."""
        tx.release_lease(self.lease.name, self.lease.token)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return ""


def _write(path: Path, text: str) -> None:
    """Whole and on disk, before anything is done under that name."""
    unfinished = path.with_name(path.name + ".new")
    with unfinished.open("w", encoding="utf-8") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
