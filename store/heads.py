"""The one row that puts all writing in order: last resource_version, end of the event chain, what was pruned."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy import bindparam
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler

from schemas.errors import StoreUnavailable
from store.session import Session, Statement
from store.tables import TEXT
from store.tables import heads as table

LOST = "the store has lost its head row: run `remit db check`, and restore a backup"

_COLUMNS = (table.c.resource_version, table.c.event_seq, table.c.event_hash, table.c.pruned_version)
_ONLY = table.c.id == 1
_READ = Statement(sa.select(*_COLUMNS).where(_ONLY))


class _Writer(sa.ColumnElement[str]):
    """The transaction that wrote the row last, as PostgreSQL keeps it in every row; "" elsewhere."""

    inherit_cache = True
    type = TEXT


@compiles(_Writer)
def _nobody(element: _Writer, compiler: SQLCompiler, **options: object) -> str:
    return "''"


@compiles(_Writer, "postgresql")
def _xmin(element: _Writer, compiler: SQLCompiler, **options: object) -> str:
    return "CAST(heads.xmin AS TEXT)"


# SQLite needs no row lock, as BEGIN IMMEDIATE locked everything; SQLAlchemy leaves it out there.
_LOCK = Statement(sa.select(*_COLUMNS, _Writer()).where(_ONLY).with_for_update())
_MOVE = (
    sa.update(table)
    .where(_ONLY)
    .values(
        resource_version=bindparam("version"),
        event_seq=bindparam("seq"),
        event_hash=bindparam("hash"),
        pruned_version=bindparam("pruned"),
    )
)
_WRITE = Statement(_MOVE)
_WRITE_STAMPED = Statement(_MOVE.returning(_Writer()))


@dataclass(slots=True)
class Heads:
    """Counted up in memory while a transaction runs, and written once at its end."""

    resource_version: int
    event_seq: int
    event_hash: str
    pruned_version: int

    @classmethod
    def read(cls, session: Session, *, lock: bool = False) -> Heads:
        """The row; with ``lock`` no other transaction writes until this one ends."""
        if lock and session.memory.heads is not None:
            return cls(*session.memory.heads)
        row = session.row(_LOCK if lock else _READ)
        if row is None:
            raise StoreUnavailable(LOST)
        if lock and row[4]:
            session.stamp = (row[4], row[0], row[1])
            session.memory = session.recall(session.stamp) or session.memory
        return cls(*row[:4])

    def next_version(self) -> int:
        """A resource_version for one more written object."""
        self.resource_version += 1
        return self.resource_version

    def write(self, session: Session) -> None:
        """Bring the row to this."""
        values = {
            "version": self.resource_version,
            "seq": self.event_seq,
            "hash": self.event_hash,
            "pruned": self.pruned_version,
        }
        if session.stamp is None:
            session.run(_WRITE, values)
            session.memory.heads = (self.resource_version, self.event_seq, self.event_hash, self.pruned_version)
            return
        row = session.row(_WRITE_STAMPED, values)
        if row is None:
            raise StoreUnavailable(LOST)
        session.stamp = (row[0], self.resource_version, self.event_seq)
