"""The way to a PostgreSQL backend. The driver is an optional dependency, imported only once a URL asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import StoreUnavailable
from store.postgres_address import parse

if TYPE_CHECKING:
    from store.postgres import PostgresBackend


def postgres_backend(url: str, *, engine: bool = False, read_only: bool = False) -> PostgresBackend:
    """Raises StoreUnavailable for a URL that cannot be read, and where psycopg is not installed. Does not connect."""
    address = parse(url)
    try:
        from store.postgres import PostgresBackend  # psycopg: optional, and 0.1 s to import
    except ImportError as error:
        raise StoreUnavailable(
            f"{address.place} needs the PostgreSQL driver: pip install 'remit[postgres]' ({error})"
        ) from error
    return PostgresBackend(address, engine=engine, read_only=read_only)
