"""Backups of a store at work, and the check that finds what is wrong with one."""

from __future__ import annotations

import re
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from schemas.errors import StoreUnavailable
from store import maintenance, revision
from tests.fakes.stores import ALICE, SqliteHarness, step, steps_in


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    made = SqliteHarness(tmp_path)
    store = made.open()
    for _ in range(5):
        with store.transaction(ALICE) as tx:
            step(tx)
    yield made
    made.close()


def test_a_backup_is_a_whole_store(harness: SqliteHarness, tmp_path: Path) -> None:
    target = tmp_path / "copy" / "state.db"
    target.parent.mkdir()
    size = maintenance.backup(harness.url, target)
    assert size == target.stat().st_size > 100_000
    assert target.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in target.parent.iterdir()] == ["state.db"]
    copy = SqliteHarness(target.parent, ids="later")
    assert maintenance.check(copy.url).ok
    store = copy.open(exclusive=True)
    with store.snapshot() as snapshot:  # held open while the first write comes
        with store.transaction(ALICE) as tx:
            assert step(tx) == 6
        assert snapshot.verify_events().count == 5
    assert steps_in(store) == 6
    copy.close()
    assert steps_in(harness.open()) == 5


def test_backups_of_a_store_at_work_are_each_of_one_moment(harness: SqliteHarness, tmp_path: Path) -> None:
    store = harness.open()
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            with store.transaction(ALICE) as tx:
                step(tx)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        for i in range(8):
            maintenance.backup(harness.url, tmp_path / f"copy-{i}.db")
    finally:
        stop.set()
        worker.join()
    counts = []
    for i in range(8):
        directory = tmp_path / f"restored-{i}"
        directory.mkdir()
        shutil.copy(tmp_path / f"copy-{i}.db", directory / "state.db")
        restored = SqliteHarness(directory)
        counts.append(steps_in(restored.open()))
        restored.close()
    assert counts == sorted(counts)
    assert counts[0] >= 5
    assert steps_in(store) >= counts[-1]


def test_a_backup_replaces_nothing(harness: SqliteHarness, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    target.write_text("precious")
    with pytest.raises(StoreUnavailable, match="exists already"):
        maintenance.backup(harness.url, target)
    assert target.read_text() == "precious"


def test_a_backup_that_cannot_be_written_leaves_nothing(harness: SqliteHarness, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be written: No such file or directory"):
        maintenance.backup(harness.url, tmp_path / "nowhere" / "copy.db")
    with pytest.raises(StoreUnavailable, match="no store at"):
        maintenance.backup(f"sqlite:///{tmp_path}/nothing.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_sound_store_passes_the_check(harness: SqliteHarness) -> None:
    heard: list[int] = []
    report = maintenance.check(harness.url, progress=heard.append)
    assert report.ok
    assert report.problems == ()
    assert (report.place, report.revision, report.chain.count) == (str(harness.path), revision.HEAD, 5)


def change(harness: SqliteHarness, *statements: str) -> None:
    with closing(sqlite3.connect(harness.path)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("UPDATE balances SET spent_usd_micros = 9", "the balance of all says spent"),
        ("UPDATE balances SET reserved_usd_micros = 0", "the balance of all says reserved"),
        ("UPDATE balances SET granted_tokens = 1", "the balance of all says granted"),
        ("DELETE FROM balances", "the balance of all is missing"),
        ("INSERT INTO balances SELECT 'x', 1,0,0,0, 0,0,0,0, 0,0,0,0", "the balance of x says spent"),
        ("UPDATE ledger_entries SET usd_micros = 1 WHERE key = 'settle-2'", "the balance of all says spent"),
        ("DELETE FROM ledger_entries WHERE key = 'settle-2'", "the balance of all says spent"),
        ("DELETE FROM account_set_members", "the balance of all says spent"),
        ("DELETE FROM account_sets", "row .* of account_set_members belongs to a row of account_sets that is gone"),
        ("UPDATE balances SET spent_tokens = -1", "the balance of all says spent"),
        ("DELETE FROM events WHERE seq = 2", "event 2 is missing"),
        ("UPDATE alembic_version SET version_num = '9999'", "newer Remit"),
        ("DROP TABLE alembic_version", "not a Remit store"),
        ("DELETE FROM alembic_version", "its tables are at revision none"),
    ],
)
def test_the_check_says_what_is_wrong(harness: SqliteHarness, statement: str, problem: str) -> None:
    harness.close()
    change(harness, statement)
    report = maintenance.check(harness.url)
    assert not report.ok
    assert any(re.search(problem, found) for found in report.problems), report.problems
