"""A disk that is full, read-only, slow to unlock or damaged: plain words, nothing lost, and on it goes afterwards."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from schemas.errors import AlreadyExists, StoreError, StoreUnavailable
from store import errors, maintenance
from store.contract import Store
from store.sql_store import SqlStore
from store.sqlite import SqliteBackend
from store.turn import Turn
from tests.fakes.stores import ALICE, KEY, CountedIds, SqliteHarness, mission, step, steps_in

ROOT = Path(__file__).parents[2]


def do_step(store: Store) -> int:
    with store.transaction(ALICE) as tx:
        return step(tx)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    made = SqliteHarness(tmp_path)
    yield made
    made.close()


@pytest.fixture
def impatient(harness: SqliteHarness) -> Iterator[SqlStore]:
    """A store that waits 50 ms for other processes."""
    harness.open()
    store = SqlStore(SqliteBackend(harness.path, busy_wait_s=0.05), now=harness.clock, new_id=CountedIds())
    yield store
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root to mount")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("may not mount here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_writing_and_nothing_else(small_disk: Path) -> None:
    harness = SqliteHarness(small_disk)
    store = harness.open()
    ballast = small_disk / "ballast"
    try:
        done = do_step(store)
        ballast.write_bytes(bytes(300_000))
        with suppress(StoreUnavailable):
            while done < 1_000:
                done = do_step(store)
        with pytest.raises(StoreUnavailable, match=r"disk that holds .* is full.*Free some space"):
            write_much(store)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="full"):
                write_much(store)
        assert steps_in(store) == done
        with pytest.raises(StoreUnavailable), harness.open().transaction(ALICE) as tx:
            tx.create(mission(text="x" * 500_000))
        ballast.unlink()
        assert do_step(store) == done + 1
        assert steps_in(store) == done + 1
    finally:
        harness.close()
    assert maintenance.check(harness.url).ok


def write_much(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.create(mission("large", text="x" * 2_000_000))


def test_a_limit_on_the_size_of_files_is_reported_as_trouble_of_the_disk(harness: SqliteHarness) -> None:
    code = (
        "import resource, sys\n"
        "from schemas.errors import StoreUnavailable\n"
        "from tests.fakes.stores import *\n"
        "store = open_store(sys.argv[1], now=SettableClock(), new_id=CountedIds())\n"
        "with store.transaction(ALICE) as tx: step(tx)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))\n"
        "try:\n"
        "    with store.transaction(ALICE) as tx: tx.create(mission('large', text='x' * 1_000_000))\n"
        "except StoreUnavailable as error: print(error)\n"
        "assert steps_in(store) == 1\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "with store.transaction(ALICE) as tx: step(tx)\n"
        "assert steps_in(store) == 2\n"
    )
    harness.open().close()
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", code, harness.url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Check the free space, quota and health of its disk" in done.stdout
    assert steps_in(harness.open()) == 2


def test_an_error_swallowed_inside_the_block_still_ends_the_transaction(small_disk: Path) -> None:
    harness = SqliteHarness(small_disk)
    store = harness.open()

    def carry_on_regardless() -> None:
        with store.transaction(ALICE) as tx:
            tx.create(mission("before"))
            tx.create(mission("large", text="x" * 40_000_000))
            with pytest.raises(StoreUnavailable, match="full"):
                tx.count("Mission")  # what was held back goes out first
            with pytest.raises(StoreUnavailable, match="lost midway"):
                tx.create(mission("after"))

    try:
        with pytest.raises(StoreUnavailable, match="lost midway, nothing of it was written"):
            carry_on_regardless()
        with store.snapshot() as snapshot:
            assert snapshot.objects("Mission") == []
        do_step(store)
    finally:
        harness.close()


def test_a_store_locked_for_too_long_is_reported_with_what_to_do(harness: SqliteHarness, impatient: SqlStore) -> None:
    with closing(sqlite3.connect(harness.path, isolation_level=None)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match=r"locked by another process for longer than 0\.05 s.*fuser"):
            do_step(impatient)
        assert steps_in(impatient) == 0  # reading needs no lock
        somebody.execute("ROLLBACK")
    assert do_step(impatient) == 1


def test_a_writer_waits_for_another_process_and_then_goes_on(harness: SqliteHarness) -> None:
    store = harness.open()
    with closing(sqlite3.connect(harness.path, isolation_level=None, check_same_thread=False)) as somebody:
        somebody.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, somebody.execute, ["ROLLBACK"])
        release.start()
        assert do_step(store) == 1
        release.join()


def test_a_write_transaction_that_never_ends_keeps_others_waiting_no_longer_than_agreed() -> None:
    turn = Turn(wait_s=0.05)
    outcome: list[BaseException | None] = []

    def wait() -> None:
        try:
            with turn.taken():
                outcome.append(None)
        except StoreUnavailable as error:
            outcome.append(error)

    with turn.taken():
        thread = threading.Thread(target=wait)
        thread.start()
        thread.join()
    assert "more than 0.05 s" in str(outcome[0])
    with turn.taken():  # who gave up is not waited for
        pass
    wait()
    assert outcome[1] is None


def test_waiting_writers_are_served_in_the_order_they_came() -> None:
    turn = Turn(wait_s=30)
    order: list[int] = []

    def wait_for_turn(number: int) -> None:
        with turn.taken():
            order.append(number)

    threads = [threading.Thread(target=wait_for_turn, args=(i,)) for i in range(6)]
    with turn.taken():
        for waiting, thread in enumerate(threads, start=1):
            thread.start()
            while len(turn._waiting) < waiting:
                thread.join(timeout=0.001)
    for thread in threads:
        thread.join()
    assert order == list(range(6))


@pytest.mark.parametrize(("query_only", "wanted"), [(False, ("wal", 2, 1, 0)), (True, ("wal", None, 1, 1))])
def test_a_commit_is_on_the_disk_and_a_reader_cannot_write(
    harness: SqliteHarness, query_only: bool, wanted: tuple[object, ...]
) -> None:
    """No test can pull the plug; what SQLite needs to survive that is ``synchronous=FULL`` (2)."""
    harness.open()
    backend = SqliteBackend(harness.path)
    with closing(backend.connect(query_only=query_only)) as connection:
        pragmas = ("journal_mode", "synchronous", "foreign_keys", "query_only")
        found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas]
    backend.close()
    assert [value for value, want in zip(found, wanted, strict=True) if want is not None] == [
        want for want in wanted if want is not None
    ]


def test_too_many_snapshots_at_once_are_refused_in_time(impatient: SqlStore) -> None:
    opened = []
    with pytest.raises(StoreUnavailable, match="64 snapshots"):  # noqa: PT012 - which one is refused is the point
        for _ in range(65):
            context = impatient.snapshot()
            context.__enter__()
            opened.append(context)
    assert len(opened) == 64
    do_step(impatient)
    for context in opened:
        context.__exit__(None, None, None)
    assert steps_in(impatient) == 1


def test_a_damaged_page_is_reported_where_it_is_met(harness: SqliteHarness) -> None:
    store = harness.open()
    with store.transaction(ALICE) as tx:
        tx.create_many([mission(f"m{i}", text="x" * 500) for i in range(200)])
    harness.close()
    damage(harness.path, b"x" * 400)
    store = harness.open()
    with pytest.raises(StoreUnavailable, match=r"is damaged.*remit db check.*restore a backup"), store.snapshot() as s:
        s.objects("Mission")
    with store.snapshot() as snapshot:
        assert snapshot.latest_version() == 200
    report = maintenance.check(harness.url)
    assert not report.ok
    assert "the file is damaged" in report.problems[0]
    with pytest.raises(StoreUnavailable):
        maintenance.backup(harness.url, harness.path.with_name("copy.db"))
    assert not harness.path.with_name("copy.db").exists()


def damage(path: Path, marker: bytes) -> None:
    """Overwrite the head of every page that holds ``marker``."""
    content = bytearray(path.read_bytes())
    for start in range(0, len(content), 4096):
        if marker in content[start : start + 4096]:
            content[start : start + 8] = b"\xff" * 8
    path.write_bytes(content)


def test_a_check_reports_even_a_store_that_cannot_be_opened(harness: SqliteHarness) -> None:
    harness.open().close()
    damage(harness.path, b"CREATE TABLE objects")
    with pytest.raises(StoreUnavailable, match="is damaged"):
        harness.open()
    report = maintenance.check(harness.url)
    assert not report.ok
    assert "is damaged" in report.problems[0]


def test_a_file_that_shrinks_under_an_open_store_kills_nobody(harness: SqliteHarness) -> None:
    store = harness.open()
    with store.transaction(ALICE) as tx:
        tx.create_many([mission(f"m{i}", text="x" * 500) for i in range(200)])
    store.close()
    store = harness.open()
    os.truncate(harness.path, 8_192)
    with pytest.raises(StoreError), store.snapshot() as snapshot:
        snapshot.objects("Mission")
    with pytest.raises(StoreError):
        do_step(store)


def test_a_store_that_lost_its_tables_says_so(harness: SqliteHarness) -> None:
    store = harness.open()
    with closing(sqlite3.connect(harness.path)) as connection:
        connection.execute("DROP TABLE objects")
    with pytest.raises(StoreUnavailable, match=r"no such table: objects.*remit db check"), store.snapshot() as snapshot:
        snapshot.get(KEY)


def test_every_family_of_database_errors_has_its_sentence() -> None:
    def translated(name: str, kind: type[sqlite3.Error] = sqlite3.OperationalError) -> StoreError:
        error = kind("as SQLite says it")
        error.sqlite_errorname = name
        return errors.from_sqlite(error, place="state.db", wait_s=10)

    for name in (
        "SQLITE_BUSY",
        "SQLITE_BUSY_SNAPSHOT",
        "SQLITE_LOCKED",
        "SQLITE_PROTOCOL",
        "SQLITE_FULL",
        "SQLITE_READONLY_DBMOVED",
        "SQLITE_PERM",
        "SQLITE_AUTH",
        "SQLITE_CANTOPEN_ISDIR",
        "SQLITE_IOERR_WRITE",
        "SQLITE_CORRUPT_INDEX",
        "SQLITE_NOTADB",
        "SQLITE_NOMEM",
        "SQLITE_TOOBIG",
        "SQLITE_SCHEMA",
    ):
        found = translated(name)
        assert type(found) is StoreUnavailable
        assert "state.db" in str(found)
        assert "as SQLite says it" not in str(found)
    assert type(translated("SQLITE_CONSTRAINT_UNIQUE", sqlite3.IntegrityError)) is AlreadyExists
    assert type(translated("SQLITE_CONSTRAINT_CHECK", sqlite3.IntegrityError)) is StoreError
    assert "as SQLite says it" in str(translated("SQLITE_MISUSE"))
    assert "as SQLite says it" in str(
        errors.from_sqlite(sqlite3.ProgrammingError("as SQLite says it"), place="", wait_s=1)
    )
