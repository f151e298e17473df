"""Migrations: up, down and up again; what they build is what the code expects; a step is done whole or not at all."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from schemas.errors import StoreLocked, StoreUnavailable
from store import migrate, revision
from store.sqlite import SqliteBackend
from store.tables import APPEND_ONLY, metadata
from tests.fakes.stores import ALICE, SqliteHarness, apart_from_search, mission, step, steps_in


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    made = SqliteHarness(tmp_path)
    yield made
    made.close()


def schema(path: Path) -> list[tuple[str, str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY type, name").fetchall()


def test_up_down_and_up_again_ends_where_it_began(harness: SqliteHarness) -> None:
    harness.open().close()
    built = schema(harness.path)
    assert migrate.downgrade(harness.url, "base", now=harness.clock) == ""
    assert {name for type_, name, _ in schema(harness.path) if type_ == "table"} == {"alembic_version"}
    assert migrate.current(harness.url) == ""
    with pytest.raises(StoreUnavailable, match="is empty"):
        harness.open()
    assert migrate.upgrade(harness.url, now=harness.clock) == revision.HEAD
    assert schema(harness.path) == built
    store = harness.open()
    with store.transaction(ALICE) as tx:
        step(tx)
    assert steps_in(store) == 1


def test_going_down_and_up_works_on_a_store_with_content(harness: SqliteHarness) -> None:
    store = harness.open()
    with store.transaction(ALICE) as tx:
        step(tx)
    store.close()
    migrate.downgrade(harness.url, "base", now=harness.clock)
    migrate.upgrade(harness.url, now=harness.clock)
    assert steps_in(harness.open()) == 0


def test_upgrading_what_is_up_to_date_changes_nothing(harness: SqliteHarness) -> None:
    harness.open().close()
    before = harness.path.read_bytes()
    assert migrate.upgrade(harness.url, now=harness.clock) == revision.HEAD
    assert migrate.current(harness.url) == revision.HEAD
    assert harness.path.read_bytes() == before


def test_the_migrations_build_what_the_tables_module_says(harness: SqliteHarness) -> None:
    harness.open().close()
    engine = sa.create_engine(harness.url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_name": apart_from_search}
        )
        assert compare_metadata(context, metadata) == []
        inspector = sa.inspect(connection)
        for table in metadata.sorted_tables:
            stored = {str(c["name"]): c["sqltext"] for c in inspector.get_check_constraints(table.name)}
            wanted = {str(c.name): str(c.sqltext) for c in table.constraints if isinstance(c, sa.CheckConstraint)}
            assert stored == wanted
            assert inspector.get_pk_constraint(table.name)["constrained_columns"] == [
                c.name for c in table.primary_key.columns
            ]
            without_rowid = table.dialect_options["sqlite"]["with_rowid"] is False
            assert (
                any("WITHOUT ROWID" in row[2] for row in schema(harness.path) if row[:2] == ("table", table.name))
                is without_rowid
            )
    engine.dispose()


def test_every_append_only_table_is_guarded(harness: SqliteHarness) -> None:
    harness.open().close()
    triggers = {name for type_, name, _ in schema(harness.path) if type_ == "trigger"}
    assert triggers == {f"{table}_no_{verb}" for table in APPEND_ONLY for verb in ("update", "delete", "replace")}


def test_the_list_of_revisions_is_the_list_of_scripts() -> None:
    steps = migrate.history()
    assert tuple(s.revision for s in steps) == revision.REVISIONS
    assert all(s.summary for s in steps)


def test_the_scripts_speak_postgresql_too() -> None:
    sql = migrate.script("postgresql")
    for table in metadata.sorted_tables:
        assert f"CREATE TABLE {table.name} (" in sql
    for table_name in APPEND_ONLY:
        assert f"BEFORE UPDATE OR DELETE OR TRUNCATE ON {table_name} " in sql
    assert "RAISE EXCEPTION" in sql
    assert "INSERT INTO heads" in sql
    assert 'TEXT COLLATE "C"' in sql
    assert "RAISE(ABORT" in migrate.script("sqlite")


def test_migrating_needs_the_store_for_itself(harness: SqliteHarness) -> None:
    harness.open(exclusive=True)
    with pytest.raises(StoreLocked):
        migrate.upgrade(harness.url, now=harness.clock)
    with pytest.raises(StoreLocked):
        migrate.downgrade(harness.url, "base", now=harness.clock)


def test_an_unknown_revision_is_refused(harness: SqliteHarness) -> None:
    harness.open().close()
    for to in ("9999", "heads", "+1", ""):
        with pytest.raises(StoreUnavailable, match="there is no revision"):
            migrate.upgrade(harness.url, to, now=harness.clock)


def test_only_a_store_is_migrated(tmp_path: Path, harness: SqliteHarness) -> None:
    with pytest.raises(StoreUnavailable, match="no store at"):
        migrate.upgrade(harness.url, now=harness.clock)
    assert list(tmp_path.iterdir()) == []
    with closing(sqlite3.connect(harness.path)) as connection:
        connection.execute("CREATE TABLE notes (text)")
    for move in (
        lambda: migrate.upgrade(harness.url, now=harness.clock),
        lambda: migrate.downgrade(harness.url, "base", now=harness.clock),
    ):
        with pytest.raises(StoreUnavailable, match="not a Remit store"):
            move()


NEXT = '''"""One more table."""
import sqlalchemy as sa
from alembic import op
revision = "9000"
down_revision = "{head}"

def upgrade():
    op.create_table("extra", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("UPDATE heads SET pruned_version = 7")
    {more}

def downgrade():
    op.drop_table("extra")
'''


@pytest.fixture
def newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A version of Remit with one more migration; returns its script."""
    scripts = tmp_path / "100% scripts"
    shutil.copytree(Path(migrate.__file__).with_name("migrations"), scripts)
    monkeypatch.setattr(migrate, "_SCRIPTS", scripts)
    monkeypatch.setattr(revision, "REVISIONS", (*revision.REVISIONS, "9000"))
    script = scripts / "versions" / "9000_more.py"
    script.write_text(NEXT.format(head=revision.HEAD, more=""))
    monkeypatch.setattr(revision, "HEAD", "9000")
    return script


def old_store(harness: SqliteHarness) -> None:
    """A store at revision 0001 with one step in it."""
    backend = SqliteBackend(harness.path)
    harness.path.touch()
    migrate._run(backend, "0001", forward=True)
    backend.close()


def test_an_engine_brings_an_older_store_forward_and_keeps_its_content(harness: SqliteHarness, newer: Path) -> None:
    old_store(harness)
    with pytest.raises(StoreUnavailable, match="remit db upgrade"):
        harness.open()
    engine = harness.open(exclusive=True)
    with engine.snapshot() as snapshot:
        assert snapshot.oldest_cursor() == 7
    assert migrate.current(harness.url) == "9000"
    harness.open().close()


def test_the_upgrade_command_does_the_same_and_the_way_back_works(harness: SqliteHarness, newer: Path) -> None:
    old_store(harness)
    assert migrate.upgrade(harness.url, now=harness.clock) == "9000"
    harness.open().close()
    assert migrate.downgrade(harness.url, "0001", now=harness.clock) == "0001"
    assert migrate.upgrade(harness.url, "9000", now=harness.clock) == "9000"


def test_a_way_back_keeps_every_first_spec_in_the_table_where_older_versions_look(harness: SqliteHarness) -> None:
    with harness.open().transaction(ALICE) as tx:
        made = tx.create(mission(a=1))
        tx.put_spec(tx.create(mission("b", a=1)), mission("b", a=2))
    harness.close()
    migrate.downgrade(harness.url, "0003", now=harness.clock)
    with closing(sqlite3.connect(harness.path)) as connection:
        kept = connection.execute("SELECT generation, spec FROM specs ORDER BY spec, generation").fetchall()
        assert kept == [(1, '{"a":1}'), (1, '{"a":1}'), (2, '{"a":2}')]
    migrate.upgrade(harness.url, now=harness.clock)
    with harness.open().transaction(ALICE) as tx:
        found = tx.get(made.key)
        assert found is not None
        tx.put_spec(found, mission(a=3))
        assert [s.spec for s in tx.specs(made.uid)] == [{"a": 1}, {"a": 3}]


@pytest.mark.parametrize("trouble", ['op.execute("SELECT nonsense FROM nowhere")', 'raise RuntimeError("a bug")'])
def test_a_migration_that_fails_midway_changes_nothing(harness: SqliteHarness, newer: Path, trouble: str) -> None:
    old_store(harness)
    before = schema(harness.path)
    newer.write_text(NEXT.format(head=revision.REVISIONS[-2], more=trouble))
    with pytest.raises((StoreUnavailable, RuntimeError), match=r"nothing was changed: no such table|a bug"):
        harness.open(exclusive=True)
    assert schema(harness.path) == before
    assert migrate.current(harness.url) == "0001"
    newer.write_text(NEXT.format(head=revision.REVISIONS[-2], more=""))
    with harness.open(exclusive=True).snapshot() as snapshot:
        assert snapshot.oldest_cursor() == 7


def test_migrating_leaves_the_logging_of_the_program_alone(harness: SqliteHarness) -> None:
    handlers, level = list(logging.root.handlers), logging.root.level
    harness.path.touch()
    harness.open(create=True).close()
    assert (list(logging.root.handlers), logging.root.level) == (handlers, level)
    assert all(isinstance(h, logging.NullHandler) for h in logging.getLogger("alembic").handlers)
    assert not logging.getLogger("store").disabled
