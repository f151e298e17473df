"""SQLite: how it is opened, and how transactions begin and end on it.

- WAL: readers see their moment and wait for nobody; one writer at a time, of any process.
- ``synchronous=FULL``: a commit that returned survives power loss.
- ``BEGIN IMMEDIATE`` takes the write lock at once; a transaction that read first and wrote later could fail midway.
- Only the engine moves the WAL back into the database file while it runs; others leave that to it until the WAL is
  large. SQLite before 3.51.3 can, very rarely, lose pages when one connection checkpoints while another one writes.
- No memory-mapping: an error of the disk would kill the process instead of failing a statement.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy.dialects.sqlite import pysqlite

from schemas.errors import StoreError, StoreGone, StoreUnavailable, StoreUnsafe
from store import errors, heads
from store.contract import SpecRevision
from store.memory import Memory
from store.pool import Pool, PoolExhausted
from store.session import Params, Row, Session, Statement
from store.turn import Turn

BUSY_WAIT_S = 10.0
TURN_WAIT_S = 30.0
_OLDEST = (3, 35, 0)  # RETURNING
_READERS = 8
_MOST_READERS = 64
_ENGINE_CHECKPOINT_PAGES = 2_000
_OTHERS_CHECKPOINT_PAGES = 16_000
_NOTHING_KNOWN = (-1, None)

DIALECT: sa.Dialect = pysqlite.dialect(paramstyle="qmark")


class SqliteBackend:
    """One database file. ``exclusive`` says that this process is the engine; it does not lock (see ``lock``)."""

    def __init__(
        self, path: Path, *, exclusive: bool = False, read_only: bool = False, busy_wait_s: float = BUSY_WAIT_S
    ) -> None:
        if sqlite3.sqlite_version_info < _OLDEST:
            oldest = ".".join(map(str, _OLDEST))
            raise StoreUnavailable(f"this Python brings SQLite {sqlite3.sqlite_version}, Remit needs {oldest} or newer")
        self._path = path
        self._read_only = read_only
        self._busy_wait_s = busy_wait_s
        self._checkpoint_pages = _ENGINE_CHECKPOINT_PAGES if exclusive else _OTHERS_CHECKPOINT_PAGES
        self._closed = False
        self._turn = Turn(wait_s=TURN_WAIT_S)
        self._writer: sqlite3.Connection | None = None
        # PRAGMA data_version of the writer, and what it knew then.
        self._known: tuple[int, Memory | None] = _NOTHING_KNOWN
        self._specs: dict[tuple[str, int], SpecRevision] = {}
        self._poll_mutex = threading.Lock()
        self._poll: sqlite3.Connection | None = None
        self._polled = (-1, 0)  # PRAGMA data_version, and the resource_version that was read after it
        self._identity: tuple[int, int] | None = None
        self._immutable = False
        self._unsafe = ""
        if read_only:
            self._immutable = self._needs_immutable()
        self._readers = Pool(
            lambda: self.connect(query_only=True), kept=_READERS, most=_MOST_READERS, wait_s=busy_wait_s
        )

    @property
    def place(self) -> str:
        return str(self._path)

    @property
    def shared(self) -> bool:
        return False

    @property
    def dialect_name(self) -> str:
        return DIALECT.name

    def translate(self, error: Exception) -> StoreError:
        """The StoreError that says the same. After a StoreUnsafe nothing is read or written any more."""
        found = errors.from_sqlite(error, place=self.place, wait_s=self._busy_wait_s)
        if isinstance(found, StoreUnsafe):
            self._unsafe = str(found)
        return found

    def connect(self, *, query_only: bool = False) -> sqlite3.Connection:
        """A new connection, set up. Raises sqlite3.Error."""
        mode = "immutable=1" if self._immutable else "mode=ro" if self._read_only else "mode=rw"
        connection = sqlite3.connect(
            f"file:{quote(str(self._path.absolute()))}?{mode}",
            uri=True,
            timeout=self._busy_wait_s,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=512,
        )
        try:
            self._set_up(connection, query_only=query_only)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: sqlite3.Connection, *, query_only: bool) -> None:
        for pragma in ("foreign_keys=ON", "trusted_schema=OFF", "cell_size_check=ON", "temp_store=MEMORY"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("PRAGMA cache_size=-16000")  # 16 MB
        if self._read_only or query_only:
            connection.execute("PRAGMA query_only=ON")
            return
        (mode,) = connection.execute("PRAGMA journal_mode=WAL").fetchone()
        if mode != "wal":
            raise StoreUnavailable(
                f"{self.place} lies on a file system that cannot share a write-ahead log (SQLite answered"
                f" journal_mode={mode}): network file systems cannot. Put the store on a local disk"
            )
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute(f"PRAGMA wal_autocheckpoint={self._checkpoint_pages}")

    def _needs_immutable(self) -> bool:
        """Whether the file can only be read by promising SQLite that nobody writes it.

        SQLite opens a WAL database only where it may create the ``-shm`` file. On a read-only disk it may not; then,
        and only when no WAL holds commits that would be missed, nobody can be writing either.
        """
        try:
            with closing(self.connect()) as connection:
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorname", "").startswith(("SQLITE_CANTOPEN", "SQLITE_READONLY")):
                wal = Path(f"{self._path}-wal")
                return not wal.exists() or wal.stat().st_size == 0
            raise self.translate(error) from error
        except sqlite3.Error as error:
            raise self.translate(error) from error
        return False

    def ask(self, statement: Statement, params: Params) -> list[Row]:
        connection = self._reader()
        session = Session(connection, DIALECT, sqlite3.Error, self.translate)
        try:
            return session.rows(statement, params)
        finally:
            self._give_back(connection, session)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        connection = self._reader()
        session = Session(connection, DIALECT, sqlite3.Error, self.translate)
        session.specs = self._specs
        try:
            try:
                connection.execute("BEGIN")
            except sqlite3.Error as error:
                session.failed = self.translate(error)
                raise session.failed from error
            yield session
        finally:
            self._give_back(connection, session)

    def _reader(self) -> sqlite3.Connection:
        """A connection that nobody else uses, with no transaction begun on it."""
        self._refuse_if_closed()
        try:
            return self._readers.take()
        except PoolExhausted:
            raise StoreUnavailable(
                f"{_MOST_READERS} snapshots of {self.place} are open at once and none ended within"
                f" {self._busy_wait_s:g} s; try again"
            ) from None
        except sqlite3.Error as error:
            raise self.translate(error) from error

    def _give_back(self, connection: sqlite3.Connection, session: Session) -> None:
        session.end()
        sound = False
        try:
            connection.rollback()
            sound = session.failed is None
        except sqlite3.Error:
            pass  # the connection is of no use any more; the next snapshot opens another
        finally:
            self._readers.give_back(connection, sound=sound)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        self._refuse_if_closed()
        if self._read_only:
            raise StoreUnavailable(f"{self.place} was opened for reading only")
        with self._turn.taken():
            connection = self._begin()
            version, memory = self._recall(connection)
            session = Session(connection, DIALECT, sqlite3.Error, self.translate, memory)
            session.specs = self._specs
            ended = False
            try:
                yield session
                session.refuse_if_failed()
                connection.execute("COMMIT")
                ended = True
                self._known = (version, session.memory)
            except sqlite3.Error as error:
                session.failed = self.translate(error)
                raise session.failed from error
            finally:
                session.end()
                if not ended:
                    self._roll_back(connection)
                if session.failed is not None or self._closed:
                    self._drop_writer()

    def _recall(self, connection: sqlite3.Connection) -> tuple[int, Memory]:
        """What the last transaction knew, for the next one, unless another connection wrote since: SQLite says so
        exactly, and under the write lock nobody does from now on. Whoever fails, remembers nothing. With it comes the
        version that it is about. Raises StoreError."""
        (known, memory), self._known = self._known, _NOTHING_KNOWN
        try:
            (version,) = connection.execute("PRAGMA data_version").fetchone()
        except BaseException as error:  # nothing else ends the transaction that has begun
            self._drop_writer()
            if isinstance(error, sqlite3.Error):
                raise self.translate(error) from error
            raise
        if memory is None or known != version:
            return version, Memory()
        memory.prune()
        return version, memory

    def prepare(self) -> None:
        """Bring the file into WAL mode if it is in another (a restored backup is), before readers hold it open there.
        Raises StoreUnavailable."""
        if not self._read_only:
            with self._turn.taken():
                self._begin().rollback()

    def _begin(self) -> sqlite3.Connection:
        try:
            if self._writer is None:
                self._writer = self.connect()
                self._known = _NOTHING_KNOWN  # the versions of two connections cannot be compared
            self._writer.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            self._drop_writer()
            raise self.translate(error) from error
        return self._writer

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            connection.rollback()
        except sqlite3.Error:  # the connection is of no use any more; the next transaction opens another
            self._drop_writer()

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            with suppress(sqlite3.Error):
                writer.close()

    def version(self) -> int:
        """Asks SQLite whether anybody committed (2 microseconds), and reads ``heads`` only then."""
        with self._poll_mutex:
            self._refuse_if_closed()
            try:
                if self._poll is None:
                    self._poll = self.connect(query_only=True)
                self._refuse_if_gone()
                (data_version,) = self._poll.execute("PRAGMA data_version").fetchone()
                if data_version != self._polled[0]:
                    # Read after data_version: a commit in between shows again at the next poll.
                    row = self._poll.execute("SELECT resource_version FROM heads").fetchone()
                    if row is None:
                        raise StoreUnavailable(heads.LOST)
                    self._polled = (data_version, row[0])
            except sqlite3.Error as error:
                self._drop_poll()
                raise self.translate(error) from error
            return self._polled[1]

    def listen(self, callback: Callable[[int], None]) -> None:
        """SQLite tells nobody: others' commits are seen through ``version``."""

    def _drop_poll(self) -> None:
        poll, self._poll, self._polled = self._poll, None, (-1, self._polled[1])
        if poll is not None:
            with suppress(sqlite3.Error):
                poll.close()

    def revision(self) -> str | None:
        try:
            with closing(self.connect(query_only=True)) as connection:
                tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
                if "alembic_version" not in tables:
                    return None if tables else ""
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
                return "" if row is None else str(row[0])
        except sqlite3.Error as error:
            raise self.translate(error) from error

    def close(self) -> None:
        self._closed = True
        with self._poll_mutex:
            self._drop_poll()
        self._readers.close()
        with self._turn.taken():
            self._drop_writer()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.place} was closed by this process")
        if self._unsafe:
            raise StoreUnsafe(self._unsafe)

    def _refuse_if_gone(self) -> None:
        """The path has to lead to the file that was there first: a removed one takes writes that nobody will read."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            raise StoreGone(f"{self.place} was removed while it was open") from None
        except OSError:
            return  # the disk has a problem of its own, which reading will tell
        identity = (found.st_dev, found.st_ino)
        self._identity = self._identity or identity
        if identity != self._identity:
            raise StoreGone(f"{self.place} was removed while it was open, and another file lies there now")

    def sqlalchemy_engine(self) -> sa.Engine:
        engine = sa.create_engine("sqlite://", creator=self.connect, poolclass=sa.pool.NullPool)

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql("BEGIN IMMEDIATE")

        return engine
