"""Errors of PostgreSQL and its driver, translated to those of ``schemas.errors``."""

from __future__ import annotations

import psycopg

from schemas.errors import AlreadyExists, StoreError, StoreUnavailable
from store.postgres_address import Address

_UNAVAILABLE = {
    "25006": "{place} takes no writes: it is a standby or set to read-only. Use the address of the primary",
    "28": "{place} refused this user: {text}. Check user, password and pg_hba.conf",
    "3D000": "there is no such database: {place}. Make it with `createdb`",
    "40001": "{place} could not put this transaction in order with another one; nothing was written, try again",
    "40P01": "{place} ended a deadlock by refusing this transaction; nothing was written, try again",
    "42501": "{place} does not allow this user to do that: {text}. Let the user own the database, or grant it",
    "42P01": "{place} has lost a table: {text}. Restore a backup",
    "53100": "the disk of {place} is full; nothing was written. Free some space, writing then goes on by itself",
    "53200": "{place} has no memory left",
    "53300": "{place} accepts no more connections. Raise max_connections, or run fewer commands at once",
    "55P03": "{place}: another process has kept the store's write lock for too long; try again",
    "57014": "{place}: a statement took too long and was ended; nothing was written",
    "57P": "{place} is starting or shutting down; try again",
    "XX": "{place} is damaged: {text}. Look at the server's log, and restore a backup",
}
_LOST = "{place} does not answer: {text}. Check that the server runs and can be reached; this goes on by itself then"


def translate(error: Exception, address: Address) -> StoreError:
    """The StoreError that says the same."""
    text = address.redacted(" ".join(str(error).split())) or type(error).__name__
    code = getattr(error, "sqlstate", None) or ""
    if code == "23505":
        return AlreadyExists(f"{address.place}: {text}")
    if code.startswith("23"):
        return StoreError(f"{address.place} refused a write: {text}")
    if code == "0A000" and "recovery" in text:
        code = "25006"  # what a standby says to a transaction that is begun for writing
    for length in (5, 3, 2):
        if code[:length] in _UNAVAILABLE:
            return StoreUnavailable(_UNAVAILABLE[code[:length]].format(place=address.place, text=text))
    if not code and isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return StoreUnavailable(_connection(text).format(place=address.place, text=text))
    return StoreUnavailable(f"{address.place}: the database reports: {text}. Run `remit db check`")


def _connection(text: str) -> str:
    """A refusal at connecting comes without its code; libpq's text is all there is."""
    if "password" in text or "pg_hba.conf" in text:
        return _UNAVAILABLE["28"]
    if 'database "' in text and "does not exist" in text:
        return _UNAVAILABLE["3D000"]
    if "too many clients" in text or "remaining connection slots" in text:
        return _UNAVAILABLE["53300"]
    return _LOST
