"""Errors of a database, translated to those of ``schemas.errors``: what failed, on which file, what to do.

The cause stays chained. Nothing above the store ever sees an error of a driver.
"""

from __future__ import annotations

import sqlite3

from schemas.errors import AlreadyExists, StoreError, StoreUnavailable, StoreUnsafe

_UNAVAILABLE = {
    "BUSY": "{place} has been locked by another process for longer than {wait_s:g} s. Find it with"
    " `fuser {place}` (an open sqlite3 shell, a backup tool, another `remit` command) and let it end",
    "LOCKED": "{place} is locked by another connection; try again",
    "PROTOCOL": "{place} is locked by another process; try again",
    "FULL": "the disk that holds {place} is full; nothing was written. Free some space, writing then goes on by itself",
    "READONLY": "{place} cannot be written: the file, its directory or the file system is read-only, or belongs to"
    " another user. Make it writable for this user",
    "PERM": "access to {place} was refused. Check the owner and mode of the file and its directory",
    "AUTH": "access to {place} was refused. Check the owner and mode of the file and its directory",
    "CANTOPEN": "{place} cannot be opened. Check that it and its directory exist, and may be read and written by"
    " this user",
    "IOERR": "reading or writing {place} failed ({name}). Check the free space, quota and health of its disk, then"
    " run `remit db check`",
    "CORRUPT": "{place} is damaged. Stop the engine, run `remit db check` to see how far, and restore a backup",
    "NOTADB": "{place} is not a Remit store (not an SQLite file), or its start is overwritten. Check the path, or"
    " restore a backup and run `remit db check`",
    "NOMEM": "there is no memory left to work on {place}",
    "TOOBIG": "a value is too large for {place} (more than a thousand million bytes)",
    "SCHEMA": "the tables of {place} changed meanwhile; try again",
}
_UNSYNCED = ("SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC")
_TAKEN = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID")


def from_sqlite(error: Exception, *, place: str, wait_s: float) -> StoreError:
    """The StoreError that says the same as an error of ``sqlite3``. ``place`` names the file."""
    name: str = getattr(error, "sqlite_errorname", "")
    if name in _TAKEN:
        return AlreadyExists(f"{place}: {error}")
    if isinstance(error, sqlite3.IntegrityError):
        return StoreError(f"{place} refused a write: {error}")
    if name in _UNSYNCED:
        return StoreUnsafe(
            f"the disk that holds {place} did not confirm a write ({name}): what it keeps is unknown. Check the health"
            " of its disk; the next start goes on with what is there, `remit db check` says whether it is whole"
        )
    family = name.removeprefix("SQLITE_").split("_", 1)[0]
    text = _UNAVAILABLE.get(family)
    if text is None:
        return StoreUnavailable(f"{place}: the database reports: {error}. Run `remit db check`")
    return StoreUnavailable(text.format(place=place, wait_s=wait_s, name=name))
