"""The log under attack: the database refuses to change it, and a change behind its back is found and named."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from schemas.errors import StoreUnavailable
from store import maintenance
from store.contract import GENESIS, ChainReport, Store
from store.tables import APPEND_ONLY
from tests.fakes.stores import ALICE, SqliteHarness, step

EVENTS = 10


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    """A store with ten events, closed."""
    made = SqliteHarness(tmp_path)
    store = made.open()
    for _ in range(EVENTS):
        with store.transaction(ALICE) as tx:
            step(tx)
    store.close()
    with closing(sqlite3.connect(made.path)) as connection:  # as entries of before there were sets have it
        connection.execute("INSERT INTO ledger_postings VALUES ('all', 3, 0)")
        connection.commit()
    yield made
    made.close()


def tamper(harness: SqliteHarness, *statements: str) -> None:
    """Change the file behind the store's back: the triggers go first, as somebody would who can write the file."""
    with closing(sqlite3.connect(harness.path)) as connection:
        names = [n for (n,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'")]
        for name in names:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount, statement
        connection.commit()


def verify(store: Store) -> ChainReport:
    with store.snapshot() as snapshot:
        return snapshot.verify_events()


GUARDED = {
    "events": ("at", "seq = 3"),
    "event_related": ("uid", "seq = 3"),
    "ledger_entries": ("at", "seq = 3"),
    "ledger_postings": ("account", "seq = 3"),
    "account_sets": ("accounts", "id > 0"),
    "account_set_members": ("account", "account = 'all'"),
}
"""A column of each, and a row."""


def test_every_append_only_table_has_a_row_to_guard() -> None:
    assert set(GUARDED) == set(APPEND_ONLY)


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {table} SET {column} = {column}",
        "DELETE FROM {table}",
        "DELETE FROM {table} WHERE {row}",
        "INSERT OR REPLACE INTO {table} SELECT * FROM {table} WHERE {row}",
        "REPLACE INTO {table} SELECT * FROM {table}",
        "INSERT INTO {table} SELECT * FROM {table} WHERE true ON CONFLICT DO UPDATE SET {column} = {column}",
    ],
)
def test_the_database_itself_refuses_to_change_history(harness: SqliteHarness, table: str, statement: str) -> None:
    column, row = GUARDED[table]
    with closing(sqlite3.connect(harness.path)) as connection:
        before = connection.execute(f"SELECT * FROM {table}").fetchall()
        assert before
        with pytest.raises(sqlite3.IntegrityError, match=f"{table} is append-only"):
            connection.execute(statement.format(table=table, column=column, row=row))
        assert connection.execute(f"SELECT * FROM {table}").fetchall() == before
    assert verify(harness.open()).problem == ""


COLUMNS = {
    "at": "at + 1",
    "type": "'Deleted'",
    "subject_kind": "'Agent'",
    "subject_namespace": "'other'",
    "subject_name": "'other'",
    "subject_uid": "'other'",
    "actor_kind": "'Agent'",
    "actor_subject": "'user:mallory'",
    "actor_transport": "'Chat'",
    "reason": "'Other'",
    "message": "message || ' '",
    "data": "'{}'",
    "prev_hash": "hash",
    "hash": "prev_hash",
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("seq", [1, 6, EVENTS])
def test_a_changed_field_is_found_in_its_row(harness: SqliteHarness, column: str, seq: int) -> None:
    tamper(harness, f"UPDATE events SET {column} = {COLUMNS[column]} WHERE seq = {seq}")
    report = verify(harness.open())
    assert report.broken_seq == seq
    assert f"event {seq} " in report.problem
    assert report.count == seq - 1


@pytest.mark.parametrize("value", ["x'00'", "NULL", "1.5", "'\ud83d'", "CAST(x'ff' AS TEXT)"])
@pytest.mark.parametrize("column", ["message", "data", "at", "hash"])
def test_a_value_of_another_type_is_found_too(harness: SqliteHarness, column: str, value: str) -> None:
    with closing(sqlite3.connect(harness.path)) as connection:  # NULL needs the constraint out of the way
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("UPDATE sqlite_schema SET sql = replace(sql, ' NOT NULL', '') WHERE name = 'events'")
        connection.commit()
    tamper(harness, f"UPDATE events SET {column} = {value.encode('utf-8', 'replace').decode()} WHERE seq = 4")
    report = verify(harness.open())
    assert (report.broken_seq, report.count) == (4, 3)
    assert "event 4 " in report.problem


@pytest.mark.parametrize("seq", [1, 6, EVENTS])
def test_a_deleted_row_is_missed(harness: SqliteHarness, seq: int) -> None:
    tamper(harness, f"DELETE FROM events WHERE seq = {seq}")
    report = verify(harness.open())
    assert report.broken_seq == seq
    assert f"event {seq} is missing" in report.problem


def test_a_tail_cut_off_is_missed(harness: SqliteHarness) -> None:
    tamper(harness, "DELETE FROM events WHERE seq > 6")
    report = verify(harness.open())
    assert (report.broken_seq, report.count) == (7, 6)
    assert report.problem == "event 7 is missing: the log ends there, but 10 were written"


def test_an_emptied_log_is_missed(harness: SqliteHarness) -> None:
    tamper(harness, "DELETE FROM events")
    assert verify(harness.open()) == ChainReport(
        0, GENESIS, 1, "event 1 is missing: the log ends there, but 10 were written"
    )


def test_two_rows_that_changed_places_are_found(harness: SqliteHarness) -> None:
    tamper(
        harness,
        "UPDATE events SET seq = -1 WHERE seq = 4",
        "UPDATE events SET seq = 4 WHERE seq = 5",
        "UPDATE events SET seq = 5 WHERE seq = -1",
    )
    report = verify(harness.open())
    assert report.broken_seq == 4
    assert "does not follow event 3" in report.problem


def test_a_row_before_the_first_is_found(harness: SqliteHarness) -> None:
    tamper(harness, "UPDATE events SET seq = 0 WHERE seq = 10")
    assert verify(harness.open()).broken_seq == 1


def test_rows_closed_up_after_a_deletion_are_found(harness: SqliteHarness) -> None:
    tamper(harness, "DELETE FROM events WHERE seq = 4", "UPDATE events SET seq = seq - 1 WHERE seq > 4")
    report = verify(harness.open())
    assert report.broken_seq == 4
    assert "does not follow" in report.problem


def test_a_row_added_by_hand_is_found(harness: SqliteHarness) -> None:
    tamper(harness, "INSERT INTO events SELECT 11, " + ", ".join(COLUMNS) + " FROM events WHERE seq = 10")
    report = verify(harness.open())
    assert report.broken_seq == 11
    assert "added from outside" in report.problem


@pytest.mark.parametrize(
    ("change", "seq", "words"),
    [
        ("event_hash = 'x'", EVENTS, "head row does not carry the hash of event 10"),
        ("event_seq = 12", 11, "event 11 is missing"),
        ("event_seq = 8", 9, "event 9 was added from outside"),
        ("event_seq = 0", 1, "event 1 was added from outside"),
    ],
)
def test_a_changed_head_is_found(harness: SqliteHarness, change: str, seq: int, words: str) -> None:
    tamper(harness, f"UPDATE heads SET {change}")
    report = verify(harness.open())
    assert report.broken_seq == seq
    assert words in report.problem


def test_a_removed_head_is_reported_by_everything(harness: SqliteHarness) -> None:
    tamper(harness, "DELETE FROM heads")
    store = harness.open()
    with pytest.raises(StoreUnavailable, match="lost its head row"), store.snapshot():
        pass
    with pytest.raises(StoreUnavailable, match="lost its head row"), store.transaction(ALICE):
        pass
    with pytest.raises(StoreUnavailable, match="lost its head row"):
        store.cursor()


def test_the_first_of_several_bad_rows_is_named(harness: SqliteHarness) -> None:
    tamper(
        harness,
        "UPDATE events SET message = 'x' WHERE seq = 8",
        "DELETE FROM events WHERE seq = 5",
        "UPDATE events SET reason = 'x' WHERE seq = 9",
    )
    assert verify(harness.open()).broken_seq == 5


def test_a_flipped_bit_in_the_file_is_found(harness: SqliteHarness) -> None:
    content = bytearray(harness.path.read_bytes())
    place = content.index(b"user:alice")
    content[place] ^= 1
    harness.path.write_bytes(content)
    assert verify(harness.open()).broken_seq > 0


def test_new_events_can_be_written_on_a_broken_chain_and_the_break_stays_visible(harness: SqliteHarness) -> None:
    tamper(harness, "UPDATE events SET message = 'x' WHERE seq = 8")
    store = harness.open()
    with store.transaction(ALICE) as tx:
        assert step(tx) == 11
    assert verify(store).broken_seq == 8


def test_the_check_of_the_whole_store_names_the_row(harness: SqliteHarness) -> None:
    assert maintenance.check(harness.url).ok
    tamper(harness, "UPDATE events SET message = 'x' WHERE seq = 8")
    report = maintenance.check(harness.url)
    assert not report.ok
    assert report.chain.broken_seq == 8
    assert report.problems == ("event 8 was changed after it was written: its content does not give its hash",)
