"""Which tables a database has, and whether this version of Remit can work on them. Costs no import of alembic."""

from __future__ import annotations

from schemas.errors import StoreUnavailable
from store.backend import Backend

REVISIONS = ("0001", "0002", "0003", "0005", "0006", "0007", "0008")
"""Every migration of ``migrations/versions``, oldest first; a test compares the two."""

HEAD = REVISIONS[-1]


def is_empty(backend: Backend) -> bool:
    """Whether there are no tables yet."""
    return backend.revision() == ""


def is_current(backend: Backend) -> bool:
    """Whether the tables are those that this version knows; False for older ones. Raises StoreUnavailable for tables of
    a newer version, and for a database that is not a Remit store."""
    revision = backend.revision()
    if revision is None:
        raise StoreUnavailable(f"{backend.place} is a database, but not a Remit store. Check the path")
    if revision and revision not in REVISIONS:
        raise StoreUnavailable(
            f"{backend.place} was written by a newer Remit (its tables are at {revision}, this version knows up to"
            f" {HEAD}). Upgrade Remit, or restore a backup from before"
        )
    return revision == HEAD
