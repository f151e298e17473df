"""PostgreSQL: how it is reached, and how transactions begin and end on it.

- One writer at a time, of any process: each writing transaction locks the row of ``heads`` first, and reads everything
  after that. So READ COMMITTED is serializable here, and no transaction is ever refused for its order.
- Readers see one moment (REPEATABLE READ) and wait for nobody.
- The server ends what hangs: a statement, a wait for a lock, a transaction whose process sleeps with the lock in hand.
- A connection that broke between two transactions is replaced in silence. One that breaks inside raises
  StoreUnavailable; so does a COMMIT without an answer, which may have happened.
- Each commit that wrote is told to the other processes (NOTIFY); ``postgres_listener`` hears of theirs.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import psycopg as dialects

from schemas.errors import StoreError, StoreUnavailable
from store import heads, postgres_errors
from store.contract import SpecRevision
from store.memory import Memory
from store.pool import Pool, PoolExhausted
from store.postgres_address import Address
from store.postgres_listener import CHANNEL, PRESENCE, Listener
from store.session import Params, Row, Session, Stamp, Statement
from store.turn import Turn

TURN_WAIT_S = 30.0
POOL_WAIT_S = 10.0
_OLDEST = 130_000
_READERS = 8
_MORE_READERS = 24
_SETTINGS = {
    "connect_timeout": "10",
    "application_name": "remit",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# A writer waits longer than the server lets another one sleep: an engine that is frozen with the lock in hand costs its
# fellows a delay, and none of them gives up.
_WRITER_LIMITS = "SET statement_timeout='60s'; SET lock_timeout='25s'; SET idle_in_transaction_session_timeout='12s'"
_READER_LIMITS = "SET statement_timeout='120s'; SET lock_timeout='20s'; SET idle_in_transaction_session_timeout='600s'"
_MIGRATION_LIMITS = "SET lock_timeout='10s'; SET idle_in_transaction_session_timeout='600s'"
_BEGIN_READING = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_BEGIN_WRITING = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE"
_TABLES = "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = current_schema()"

DIALECT: sa.Dialect = dialects.dialect()  # type: ignore[no-untyped-call]
Connection = psycopg.Connection[tuple[Any, ...]]


class PostgresBackend:
    """One database. ``engine`` says that this process works on it: migrations then wait until it is gone."""

    def __init__(self, address: Address, *, engine: bool = False, read_only: bool = False) -> None:
        self._address = address
        self._read_only = read_only
        self._engine = engine
        self._closed = False
        self._name = uuid.uuid4().hex  # tells this process's own commits from those of others
        self._turn = Turn(wait_s=TURN_WAIT_S)
        self._writer: Connection | None = None
        self._known: tuple[Stamp | None, Memory] = (None, Memory())  # the stamp that the last transaction left
        self._specs: dict[tuple[str, int], SpecRevision] = {}
        self._poll_mutex = threading.Lock()
        self._poll: Connection | None = None
        self._listener: Listener | None = None
        self._listening = threading.Lock()
        self._readers = Pool(
            lambda: self.connect(_READER_LIMITS), kept=_READERS, most=_READERS + _MORE_READERS, wait_s=POOL_WAIT_S
        )

    @property
    def place(self) -> str:
        return self._address.place

    @property
    def shared(self) -> bool:
        return True

    @property
    def dialect_name(self) -> str:
        return DIALECT.name

    def translate(self, error: Exception) -> StoreError:
        """The StoreError that says the same."""
        return postgres_errors.translate(error, self._address)

    def connect(self, limits: str, *, autocommit: bool = True) -> Connection:
        """A new connection, set up. Raises psycopg.Error, StoreUnavailable for a server that Remit cannot use."""
        parameters = {**_SETTINGS, **self._address.parameters}
        connection = psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]
        try:
            if connection.info.server_version < _OLDEST:
                raise StoreUnavailable(f"{self.place} is PostgreSQL older than 13, which Remit does not know")
            encoding = connection.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise StoreUnavailable(f"{self.place} is encoded in {encoding}: make the database with ENCODING 'UTF8'")
            connection.execute(cast(Any, limits))
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def ask(self, statement: Statement, params: Params) -> list[Row]:
        """A connection that a restart of the server left dead costs a second try."""
        connection = self._reader()
        session = Session(cast(Any, connection), DIALECT, psycopg.Error, self.translate)
        try:
            return session.rows(statement, params)
        except StoreUnavailable:
            if not connection.closed:
                raise
        finally:
            session.end()
            self._readers.give_back(connection, sound=session.failed is None)
        with self.reading() as second:
            return second.rows(statement, params)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        connection = self._begin_reading()
        session = Session(cast(Any, connection), DIALECT, psycopg.Error, self.translate)
        session.specs = self._specs
        try:
            yield session
        finally:
            session.end()
            sound = False
            try:
                sound = session.failed is None and _ended(connection)
            finally:
                self._readers.give_back(connection, sound=sound)

    def _begin_reading(self) -> Connection:
        """A connection that answers. Those that a restart of the server left dead in the pool are thrown away."""
        for left in reversed(range(_READERS + 2)):
            connection = self._reader()
            try:
                cursor = connection.cursor()
                cursor.execute(_BEGIN_READING)
                cursor.close()
            except psycopg.Error as error:
                self._readers.give_back(connection, sound=False)
                if not left:
                    raise self.translate(error) from error
            except BaseException:
                self._readers.give_back(connection, sound=False)
                raise
            else:
                return connection
        raise AssertionError("the last try raises or returns")

    def _reader(self) -> Connection:
        """A connection out of the pool, which may be dead."""
        self._refuse_if_closed()
        try:
            return self._readers.take()
        except PoolExhausted:
            raise StoreUnavailable(
                f"{_READERS + _MORE_READERS} snapshots of {self.place} are open at once and none ended within"
                f" {POOL_WAIT_S:g} s; try again"
            ) from None
        except psycopg.Error as error:
            raise self.translate(error) from error

    @contextmanager
    def writing(self) -> Iterator[Session]:
        self._refuse_if_closed()
        if self._read_only:
            raise StoreUnavailable(f"{self.place} was opened for reading only")
        with self._turn.taken():
            connection = self._begin_writing()
            session = Session(cast(Any, connection), DIALECT, psycopg.Error, self.translate)
            session.specs = self._specs
            session.recall = self._recall
            ended = False
            try:
                yield session
                session.refuse_if_failed()
                self._commit(
                    connection, tell=session.wrote, version=None if session.stamp is None else session.stamp[1]
                )
                ended = True
                if session.stamp is not None:
                    self._known = (session.stamp, session.memory)
            except psycopg.Error as error:
                session.failed = self.translate(error)
                raise session.failed from error
            finally:
                session.end()
                if not ended:
                    self._roll_back(connection)
                if session.failed is not None or self._closed:
                    self._drop_writer()

    def _recall(self, stamp: Stamp) -> Memory | None:
        """Give a transaction what the last one knew, unless another process wrote since: each transaction that writes
        what is remembered writes the row of heads, whose lock is held by now, and PostgreSQL says which one did last.
        Whoever fails, remembers nothing."""
        (known, memory), self._known = self._known, (None, Memory())
        if known != stamp:
            return None
        memory.prune()
        return memory

    def _begin_writing(self) -> Connection:
        """The writer's connection, with a transaction begun on it; replaced if it died while nobody used it."""
        writer = self._writer
        if writer is not None:
            try:
                writer.execute(_BEGIN_WRITING)
            except psycopg.Error:
                self._drop_writer()
            else:
                return writer
        try:
            self._writer = writer = self.connect(_WRITER_LIMITS)
            writer.execute(_BEGIN_WRITING)
        except psycopg.Error as error:
            self._drop_writer()
            raise self.translate(error) from error
        return writer

    def _commit(self, connection: Connection, *, tell: bool, version: int | None) -> None:
        """Raises psycopg.Error; StoreUnavailable when the server rolled back, which it says without an error."""
        said = self._name if version is None else f"{self._name} {version}"
        cursor = connection.execute(cast(Any, f"NOTIFY {CHANNEL}, '{said}'; COMMIT" if tell else "COMMIT"))
        with cursor:
            while cursor.nextset():
                pass
            if cursor.statusmessage != "COMMIT":
                raise StoreUnavailable(f"{self.place} rolled the transaction back; nothing was written")

    def _roll_back(self, connection: Connection) -> None:
        try:
            connection.rollback()
        except psycopg.Error:  # the connection is of no use any more; the next transaction opens another
            self._drop_writer()

    def _drop_writer(self) -> None:
        writer, self._writer = self._writer, None
        self._known = (None, Memory())
        if writer is not None:
            with suppress(psycopg.Error):
                writer.close()

    def version(self) -> int:
        """One short question to the server: a fraction of a millisecond when it is near."""
        with self._poll_mutex:
            self._refuse_if_closed()
            row = self._asked("SELECT resource_version FROM heads")
        if row is None:
            raise StoreUnavailable(heads.LOST)
        return int(row[0])

    def _asked(self, sql: str) -> tuple[Any, ...] | None:
        for again in (True, False):
            fresh = self._poll is None
            try:
                if self._poll is None:
                    self._poll = self.connect(_READER_LIMITS)
                with self._poll.execute(cast(Any, sql)) as cursor:
                    return cursor.fetchone()
            except psycopg.Error as error:
                self._drop_poll()
                if fresh or not again:
                    raise self.translate(error) from error
        raise AssertionError("the second try raises or returns")

    def _drop_poll(self) -> None:
        poll, self._poll = self._poll, None
        if poll is not None:
            with suppress(psycopg.Error):
                poll.close()

    def listen(self, callback: Callable[[int], None]) -> None:
        with self._listening:
            if self._listener is None:
                self._listener = self._make_listener()
            self._listener.add(callback)

    def join(self) -> None:
        """Say that an engine works here; raises StoreUnavailable while a migration runs."""
        if self._engine:
            with self._listening:
                if self._listener is None:
                    self._listener = self._make_listener()

    def _make_listener(self) -> Listener:
        listener = Listener(
            lambda: self.connect(_READER_LIMITS), self.version, name=self._name, present=self._engine, place=self.place
        )
        try:
            listener.start()
        except psycopg.Error as error:
            listener.close()
            raise self.translate(error) from error
        return listener

    def revision(self) -> str | None:
        try:
            with self.connect(_READER_LIMITS) as connection:
                tables = {name for (name,) in connection.execute(_TABLES)}
                if "alembic_version" not in tables:
                    return None if tables else ""
                row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
                return "" if row is None else str(row[0])
        except psycopg.Error as error:
            raise self.translate(error) from error

    def close(self) -> None:
        self._closed = True
        with self._listening:
            if self._listener is not None:
                self._listener.close()
        with self._poll_mutex:
            self._drop_poll()
        self._readers.close()
        with self._turn.taken():
            self._drop_writer()

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise StoreUnavailable(f"{self.place} was closed by this process")

    def sqlalchemy_engine(self) -> sa.Engine:
        """Its transactions wait for the end of every engine and of other migrations, ten seconds at most."""
        engine = sa.create_engine(
            "postgresql+psycopg://",
            creator=lambda: self.connect(_MIGRATION_LIMITS, autocommit=False),
            poolclass=sa.pool.NullPool,
        )

        @sa.event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({PRESENCE})")

        return engine


def _ended(connection: Connection) -> bool:
    """End a transaction that read; False where the connection broke. Not rolled back: the driver would forget all
    statements that are prepared."""
    try:
        cursor = connection.cursor()
        cursor.execute("COMMIT")
        cursor.close()
    except psycopg.Error:
        return False
    return True
