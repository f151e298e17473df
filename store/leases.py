"""Leases with fencing tokens, and the check that a writer still holds what it acts under."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.errors import Fenced
from store.codec import from_micros, in_micros
from store.contract import Fence, Lease
from store.session import Session, Statement
from store.tables import leases

_c = leases.c
_NAMED = _c.name == bindparam("at_name")
_READ = sa.select(_c.name, _c.holder, _c.token, _c.expires_at).where(_NAMED)
_GET = Statement(_READ)
_LOCK = Statement(_READ.with_for_update())
_INSERT = Statement(
    sa.insert(leases).values(
        name=bindparam("at_name"), holder=bindparam("by"), token=bindparam("new_token"), expires_at=bindparam("expires")
    )
)
_UPDATE = Statement(
    sa.update(leases)
    .where(_NAMED)
    .values(holder=bindparam("by"), token=bindparam("new_token"), expires_at=bindparam("expires"))
)


def check_fence(session: Session, fence: Fence) -> None:
    """Raises Fenced unless the lease has that token and was not given up. A lease that only ran out still counts: as
    long as nobody took it, nobody else acts under it."""
    row = session.row(_LOCK, {"at_name": fence.lease})
    if row is None:
        raise Fenced(f"nothing was written: the lease {fence.lease} was never given out")
    _, holder, token, _ = row
    if token != fence.token:
        raise Fenced(
            f"nothing was written: the lease {fence.lease} went to {holder or 'another holder'} (token {token}, this"
            f" writer has {fence.token})"
        )
    if not holder:
        raise Fenced(f"nothing was written: the lease {fence.lease} was given up (token {token})")


class LeaseReads:
    """The part of Snapshot that concerns leases."""

    _session: Session

    def lease(self, name: str) -> Lease | None:
        return _read(self._session, name, lock=False)


class LeaseWrites(LeaseReads):
    """The part of Transaction that concerns leases."""

    _now: int

    def acquire_lease(self, name: str, holder: str, *, ttl_s: float) -> Lease | None:
        if not holder:
            raise ValueError('a lease needs a holder: "" marks one that nobody holds')
        before = _read(self._session, name, lock=True)
        now = from_micros(self._now)
        if before is not None and before.holder not in ("", holder) and before.expires_at > now:
            return None
        until = self._now + in_micros(ttl_s)
        if before is None:
            return self._put(_INSERT, name, holder, 1, until)
        token = before.token if before.holder == holder else before.token + 1
        return self._put(_UPDATE, name, holder, token, until)

    def release_lease(self, name: str, token: int) -> bool:
        before = _read(self._session, name, lock=True)
        if before is None or before.token != token or not before.holder:
            return False
        self._put(_UPDATE, name, "", token, self._now)
        return True

    def _put(self, statement: Statement, name: str, holder: str, token: int, expires_at: int) -> Lease:
        self._session.run(statement, {"at_name": name, "by": holder, "new_token": token, "expires": expires_at})
        return Lease(name, holder, token, from_micros(expires_at))


def _read(session: Session, name: str, *, lock: bool) -> Lease | None:
    row = session.row(_LOCK if lock else _GET, {"at_name": name})
    if row is None:
        return None
    name, holder, token, expires_at = row
    return Lease(name, holder, token, from_micros(expires_at))
