"""Timers: when a key wants to be looked at again. Waits live here, not in sleeping tasks, so they survive anything."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.base import Key
from store.codec import bounded, from_micros, to_micros
from store.contract import Timer
from store.session import Session, Statement
from store.tables import timers

_c = timers.c
_ALL = sa.select(_c.kind, _c.namespace, _c.name, _c.purpose, _c.due_at).order_by(
    _c.due_at, _c.kind, _c.namespace, _c.name, _c.purpose
)
_LIST = Statement(_ALL.limit(bindparam("limit")))
_DUE = Statement(_ALL.where(_c.due_at <= bindparam("before")).limit(bindparam("limit")))
_ONE = (
    _c.kind == bindparam("at_kind"),
    _c.namespace == bindparam("at_namespace"),
    _c.name == bindparam("at_name"),
    _c.purpose == bindparam("at_purpose"),
)
_GET = Statement(sa.select(_c.due_at).where(*_ONE))
_INSERT = Statement(
    sa.insert(timers).values(
        kind=bindparam("at_kind"),
        namespace=bindparam("at_namespace"),
        name=bindparam("at_name"),
        purpose=bindparam("at_purpose"),
        due_at=bindparam("due"),
    )
)
_MOVE = Statement(sa.update(timers).where(*_ONE).values(due_at=bindparam("due")))
_DELETE = Statement(sa.delete(timers).where(*_ONE))


class TimerReads:
    """The part of Snapshot that concerns timers."""

    _session: Session

    def timers(self, *, due_before: datetime | None = None, limit: int = 1000) -> list[Timer]:
        if due_before is None:
            found = self._session.rows(_LIST, {"limit": bounded(max(limit, 0))})
        else:
            found = self._session.rows(_DUE, {"before": to_micros(due_before), "limit": bounded(max(limit, 0))})
        return [
            Timer(Key(kind, namespace, name), purpose, from_micros(due_at))
            for kind, namespace, name, purpose, due_at in found
        ]


class TimerWrites(TimerReads):
    """The part of Transaction that concerns timers."""

    def set_timer(self, key: Key, purpose: str, due_at: datetime) -> None:
        due = to_micros(due_at)
        params = _params(key, purpose) | {"due": due}
        before = self._due(key, purpose)
        if before is None:
            self._session.run(_INSERT, params)
        elif before != due:
            self._session.run(_MOVE, params)
        self._session.memory.timers[key, purpose] = due

    def clear_timer(self, key: Key, purpose: str) -> None:
        if self._due(key, purpose) is not None:
            self._session.run(_DELETE, _params(key, purpose))
        self._session.memory.timers[key, purpose] = None

    def _due(self, key: Key, purpose: str) -> int | None:
        known = self._session.memory.timers
        if (key, purpose) not in known:
            row = self._session.row(_GET, _params(key, purpose), apart=True)
            known[key, purpose] = None if row is None else int(row[0])
        return known[key, purpose]


def _params(key: Key, purpose: str) -> dict[str, object]:
    return {"at_kind": key.kind, "at_namespace": key.namespace, "at_name": key.name, "at_purpose": purpose}
