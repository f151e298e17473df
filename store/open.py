"""Opening a store: the one way in for the engine, the command line and the API."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from schemas.errors import StoreUnavailable
from store import revision
from store.backend import Backend
from store.codec import Mask, unmasked
from store.contract import Store
from store.lock import EngineLock
from store.place import advice, check_file, sqlite_path
from store.postgres_address import is_postgres
from store.postgres_open import postgres_backend
from store.sql_store import SqlStore
from store.sqlite import SqliteBackend


def open_store(
    url: str,
    *,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    create: bool = False,
    exclusive: bool = False,
    read_only: bool = False,
    mask: Mask = unmasked,
) -> Store:
    """Open the store at ``url`` (``sqlite:///path``, ``postgresql://...``). ``now`` gives aware moments, ``new_id`` a
    new unique text.

    - ``create`` makes a missing or empty store, and its directory if only that is missing; mode 0600. A PostgreSQL
      database has to be there; its tables are made.
    - ``exclusive`` is for the engine, and brings older tables to this version. In SQLite it holds the store until
      close, so that no second engine works on it (commands may read and write meanwhile). In PostgreSQL it keeps
      migrations away until close; engines agree by leases who does what.
    - ``mask`` is given every status, event, effect and spec of a record, and its namespace, before it is kept, and
      returns what is kept in its place. It must be quick and never raise.
    - ``read_only`` never writes, not even to the disk that holds the file.

    Raises StoreLocked when another engine holds it, StoreUnavailable when it is missing, is not a store, has tables of
    another version, or does not answer; the message says what to do.
    """
    if read_only and (create or exclusive):
        raise ValueError("a store that is opened for reading only can be neither created nor held")
    if is_postgres(url):
        return _open_postgres(url, now, new_id, create=create, exclusive=exclusive, read_only=read_only, mask=mask)
    path = sqlite_path(url)
    if create:
        _create(path)
    check_file(path)
    lock = EngineLock.take(path, now=now()) if exclusive else None
    try:
        backend = SqliteBackend(path, exclusive=exclusive, read_only=read_only)
        try:
            _bring_up(backend, create=create, exclusive=exclusive)
            backend.prepare()
        except BaseException:
            backend.close()
            raise
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return SqlStore(backend, now=now, new_id=new_id, lock=lock, mask=mask)


def _open_postgres(
    url: str,
    now: Callable[[], datetime],
    new_id: Callable[[], str],
    *,
    create: bool,
    exclusive: bool,
    read_only: bool,
    mask: Mask,
) -> Store:
    backend = postgres_backend(url, engine=exclusive, read_only=read_only)
    try:
        _bring_up(backend, create=create, exclusive=exclusive)
        backend.join()
        if exclusive and not revision.is_current(backend):
            raise StoreUnavailable(f"the tables of {backend.place} were changed at this moment; try again")
    except BaseException:
        backend.close()
        raise
    return SqlStore(backend, now=now, new_id=new_id, mask=mask)


def _bring_up(backend: Backend, *, create: bool, exclusive: bool) -> None:
    """Make or check the tables."""
    if revision.is_current(backend):
        return
    if revision.is_empty(backend):
        if not create:
            raise StoreUnavailable(f"{backend.place} is empty. Start the engine on it with `remit run`")
    elif not exclusive:
        raise StoreUnavailable(
            f"{backend.place} has the tables of an older Remit. Run `remit db upgrade`, or start the engine with"
            " `remit run`, which does the same"
        )
    from store import migrate  # alembic is slow to import, and needed only here

    migrate.to_head(backend)


def _create(path: Path) -> None:
    """Make the file, readable by its owner only: it will hold what agents said and did."""
    try:
        if not path.parent.exists() and path.parent.parent.is_dir():
            path.parent.mkdir(mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreUnavailable(f"the store {path} cannot be made: {error.strerror}. {advice(path)}") from error
