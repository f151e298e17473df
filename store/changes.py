"""What changed since a cursor, and how long removals are remembered."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.base import Key
from store.codec import bounded
from store.contract import Change, Op
from store.heads import Heads
from store.session import Session, Statement
from store.tables import objects, tombstones

_COLUMNS = ("resource_version", "kind", "namespace", "name", "uid", "owner_uid")


def _after(table: sa.Table, op: Op) -> sa.Select[tuple[object, ...]]:
    return sa.select(sa.literal_column(f"'{op}'").label("op"), *[table.c[name] for name in _COLUMNS]).where(
        table.c.resource_version > bindparam("version")
    )


_SINCE = Statement(
    sa.union_all(_after(objects, Op.PUT), _after(tombstones, Op.REMOVED))
    .order_by("resource_version")
    .limit(bindparam("limit"))
)
_PRUNE = Statement(sa.delete(tombstones).where(tombstones.c.resource_version <= bindparam("version")))


class ChangeReads:
    """The part of Snapshot that concerns cursors."""

    _session: Session
    _heads: Heads

    def latest_version(self) -> int:
        return self._heads.resource_version

    def oldest_cursor(self) -> int:
        return self._heads.pruned_version

    def changes_since(self, version: int, *, limit: int = 1000) -> list[Change]:
        found = self._session.rows(_SINCE, {"version": bounded(version), "limit": bounded(max(limit, 0))})
        return [
            Change(resource_version, Op(op), Key(kind, namespace, name), uid, owner_uid)
            for op, resource_version, kind, namespace, name, uid, owner_uid in found
        ]


class ChangeWrites(ChangeReads):
    """The part of Transaction that concerns cursors."""

    def prune_tombstones(self, before_version: int) -> int:
        upto = min(before_version, self._heads.resource_version)
        pruned = self._session.run(_PRUNE, {"version": upto})
        if pruned:
            self._heads.pruned_version = max(self._heads.pruned_version, upto)
        return pruned
