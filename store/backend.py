"""What a database must offer to carry the store. All that differs between databases is behind this."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import sqlalchemy as sa

from store.session import Params, Row, Session, Statement


class Backend(Protocol):
    """An open database at the revision that the code knows. Every method may be called from any thread; every error
    is one of ``schemas.errors``."""

    @property
    def place(self) -> str:
        """The database as a person knows it (a path), for messages."""

    @property
    def shared(self) -> bool:
        """Whether several engines may work on it at a time."""

    @property
    def dialect_name(self) -> str:
        """``sqlite`` or ``postgresql``."""

    def ask(self, statement: Statement, params: Params) -> list[Row]:
        """All rows of one statement that reads: ``reading`` for a single question, which sees one moment without a
        transaction. Raises StoreError."""

    def reading(self) -> AbstractContextManager[Session]:
        """A read-only transaction. It sees one moment, which its first statement fixes; it never waits for a writer."""

    def writing(self) -> AbstractContextManager[Session]:
        """A transaction that no other one overlaps, once it has locked the heads, which it does first. Commits at the
        normal end of the block, else rolls back."""

    def version(self) -> int:
        """``heads.resource_version`` as last committed by anybody, at the least cost."""

    def listen(self, callback: Callable[[int], None]) -> None:
        """Call ``callback(version)`` soon after commits of other processes, from a thread of the backend's own, where
        the database tells of them; a hint that may be lost."""

    def revision(self) -> str | None:
        """The migration that the database is at; "" when it has no tables at all, None when they are not ours."""

    def sqlalchemy_engine(self) -> sa.Engine:
        """For migrations. Its transactions are the only ones that write while they run. The caller disposes it."""

    def close(self) -> None:
        """Close every connection; idempotent. Blocks that run end first."""
