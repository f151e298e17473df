"""Persistence behind one contract (``contract``): SQLite is the embedded default.

Tables, migrations, ledger, leases, outbox and the event chain live here, and nowhere else does the project know SQL.
What an object means is decided in ``decisions``; what happens next, in ``controllers``.

``store.open_store`` opens a store. The import of the database library waits until then: ``remit --help`` needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from store.open import open_store

__all__ = ["open_store"]


def __getattr__(name: str) -> Any:
    if name == "open_store":
        from store.open import open_store  # imports SQLAlchemy, a third of a second

        return open_store
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
