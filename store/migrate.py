"""Migrations: bring the tables of a store to another revision. Alembic is imported only here, and only when needed."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from schemas.errors import StoreLocked, StoreUnavailable
from store import revision
from store.backend import Backend
from store.lock import EngineLock
from store.place import check_file, sqlite_path
from store.postgres_address import is_postgres
from store.postgres_open import postgres_backend
from store.sqlite import SqliteBackend

if TYPE_CHECKING:
    from alembic.config import Config

_SCRIPTS = Path(__file__).with_name("migrations")
_ONE_AT_A_TIME = threading.Lock()
"""Alembic keeps what it works on in globals of its modules."""


@dataclass(frozen=True, slots=True)
class Step:
    """One migration. ``summary`` is one line."""

    revision: str
    summary: str

    def __str__(self) -> str:
        return f"{self.revision}  {self.summary}"


def history() -> list[Step]:
    """Every migration that this version knows, oldest first."""
    from alembic.script import ScriptDirectory  # slow to import, and rarely needed

    scripts = ScriptDirectory.from_config(_config())
    return [Step(s.revision, (s.doc or "").strip()) for s in reversed(list(scripts.walk_revisions()))]


def current(url: str) -> str:
    """The revision that a store is at; "" when it has no tables yet. Raises StoreUnavailable."""
    with _opened(url) as backend:
        return backend.revision() or ""


def upgrade(url: str, to: str = "head", *, now: Callable[[], datetime]) -> str:
    """Bring an existing store forward, in one transaction; returns its revision. Raises StoreLocked while an engine
    holds it, StoreUnavailable for an unknown revision or a database that is not a store."""
    return _move(url, revision.HEAD if to == "head" else to, now, forward=True)


def downgrade(url: str, to: str, *, now: Callable[[], datetime]) -> str:
    """Take a store back to an older revision ("base" for no tables at all), in one transaction; what only newer tables
    hold is lost. Raises like upgrade."""
    return _move(url, to, now, forward=False)


def to_head(backend: Backend) -> None:
    """Bring an open, empty or older database to the newest revision. The caller holds the engine's lock or created the
    file."""
    _run(backend, revision.HEAD, forward=True)


def script(dialect: str) -> str:
    """The SQL of all migrations for a database that is not there, such as ``postgresql``."""
    from alembic import command  # slow to import, and rarely needed

    config = _config()
    config.attributes["dialect"] = dialect
    config.attributes["output"] = output = io.StringIO()
    command.upgrade(config, "head", sql=True)
    return output.getvalue()


def _move(url: str, to: str, now: Callable[[], datetime], *, forward: bool) -> str:
    if to not in (*revision.REVISIONS, "base"):
        raise StoreUnavailable(f"there is no revision {to}: this version knows {', '.join(revision.REVISIONS)}")
    with _opened(url) as backend:
        lock = None if backend.shared else EngineLock.take(sqlite_path(url), now=now())
        try:
            revision.is_current(backend)  # refuses what is not ours, or newer than us
            _run(backend, to, forward=forward)
            return backend.revision() or ""
        finally:
            if lock is not None:
                lock.release()


def _run(backend: Backend, to: str, *, forward: bool) -> None:
    from alembic import command, util  # slow to import, and needed only when tables change

    config = _config()
    engine = backend.sqlalchemy_engine()
    try:
        with _ONE_AT_A_TIME, engine.begin() as connection:
            config.attributes["connection"] = connection
            (command.upgrade if forward else command.downgrade)(config, to)
    except sa.exc.DBAPIError as error:
        cause = error.orig if isinstance(error.orig, Exception) else error
        if getattr(cause, "sqlstate", "") == "55P03":
            raise StoreLocked(
                f"engines or another migration work on {backend.place}: stop every `remit run` on it, and try again"
            ) from error
        raise StoreUnavailable(
            f"the tables of {backend.place} could not be brought to {to}; nothing was changed: {cause}"
        ) from error
    except util.CommandError as error:
        raise StoreUnavailable(f"the tables of {backend.place} could not be brought to {to}: {error}") from error
    finally:
        engine.dispose()


@contextmanager
def _opened(url: str) -> Iterator[Backend]:
    backend: Backend
    if is_postgres(url):
        backend = postgres_backend(url)
    else:
        path = sqlite_path(url)
        check_file(path)
        backend = SqliteBackend(path)
    try:
        yield backend
    finally:
        backend.close()


def _config() -> Config:
    from alembic.config import Config  # slow to import, and rarely needed

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
