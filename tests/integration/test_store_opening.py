"""Opening a store on SQLite: what is made, what is refused, and what the refusal says."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import StoreUnavailable
from store import open_store, revision
from store.contract import Store
from tests.fakes.stores import ALICE, KEY, CountedIds, SettableClock, SqliteHarness, mission

ROOT = Path(__file__).parents[2]


def open_at(path: Path | str, **options: Any) -> Store:
    return open_store(f"sqlite:///{path}", now=SettableClock(), new_id=CountedIds(), **options)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_store_is_private_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / ".remit" / "state.db"
    store = open_at(path, create=True, exclusive=True)
    with store.transaction(ALICE) as tx:
        tx.create(mission())
    assert mode(path.parent) == 0o700
    assert {mode(p) for p in path.parent.iterdir()} == {0o600}
    store.close()


def test_creating_opens_what_is_there_already(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = open_at(path, create=True)
    with first.transaction(ALICE) as tx:
        tx.create(mission())
    first.close()
    second = open_at(path, create=True)
    with second.snapshot() as snapshot:
        assert snapshot.get(KEY) is not None
    second.close()


@pytest.mark.parametrize(
    "name", ["a b.db", "100%.db", "what?.db", "#1.db", "ünï.db", 'it\'s "q".db', "%2e.db", "a&b=c.db"]
)
def test_any_file_name_will_do(tmp_path: Path, name: str) -> None:
    store = open_at(tmp_path / name, create=True, exclusive=True)
    store.cursor()
    store.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"{name}.lock"])


def test_several_may_create_the_same_store_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from tests.fakes.stores import *\n"
        "input()\n"
        "store = open_store(sys.argv[1], now=SettableClock(), new_id=CountedIds(sys.argv[2]), create=True)\n"
        "with store.transaction(ALICE) as tx: tx.create(mission(sys.argv[2]))\n"
    )
    url = f"sqlite:///{tmp_path / 'state.db'}"
    processes = [
        subprocess.Popen([sys.executable, "-c", code, url, name], cwd=ROOT, stdin=subprocess.PIPE) for name in "abc"
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        process.communicate()
        assert process.returncode == 0
    threads = [
        threading.Thread(target=lambda i=i: open_at(tmp_path / f"{i % 2}.db", create=True).close()) for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store = open_at(tmp_path / "state.db")
    with store.snapshot() as snapshot:
        assert [r.name for r in snapshot.objects("Mission")] == ["a", "b", "c"]
    store.close()
    open_at(tmp_path / "0.db").close()
    open_at(tmp_path / "1.db").close()


def test_a_relative_path_keeps_its_meaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_at("state.db", create=True)
    assert (tmp_path / "state.db").exists()
    store.close()


def test_a_missing_store_is_not_made_by_accident(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"no store at .*state\.db.*remit run"):
        open_at(tmp_path / "state.db")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no" / "such" / "state.db"
    with pytest.raises(StoreUnavailable, match=f"directory {path.parent} does not exist"):
        open_at(path)
    with pytest.raises(StoreUnavailable, match=f"directory {path.parent} does not exist"):
        open_at(path, create=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("create", [False, True])
def test_a_directory_is_no_store(tmp_path: Path, create: bool) -> None:
    with pytest.raises(StoreUnavailable, match=r"is a directory|cannot be made"):
        open_at(tmp_path, create=create)


@pytest.mark.parametrize(
    "url", ["", "state.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "mysql://u:secret@h/d", "sqlite:///a\0b"]
)
def test_another_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="not a store URL") as caught:
        open_store(url, now=SettableClock(), new_id=CountedIds(), create=True)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("content", [b"x", b"kind: Mission\n" * 1_000, b"SQLite format 3\0" + b"\xff" * 5_000])
def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(content)
    for options in ({}, {"create": True}, {"exclusive": True}, {"read_only": True}):
        with pytest.raises(StoreUnavailable, match=r"state\.db"):
            open_at(path, **options)
    assert path.read_bytes() == content


def test_an_empty_file_is_no_store_until_it_is_made_one(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.touch()
    with pytest.raises(StoreUnavailable, match=r"is empty.*remit run"):
        open_at(path)
    open_at(path, create=True).close()
    open_at(path).close()


def test_a_database_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE notes (text)")
    connection.close()
    for options in ({}, {"create": True}, {"create": True, "exclusive": True}, {"read_only": True}):
        with pytest.raises(StoreUnavailable, match="not a Remit store"):
            open_at(path, **options)


def test_a_store_of_a_newer_remit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_at(path, create=True).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    for options in ({}, {"create": True}, {"create": True, "exclusive": True}, {"read_only": True}):
        with pytest.raises(StoreUnavailable, match=rf"newer Remit .*9999.*knows up to {revision.HEAD}"):
            open_at(path, **options)
    assert not path.with_name("state.db.lock").read_text()


def test_a_command_refuses_a_store_of_an_older_remit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    open_at(path, create=True).close()
    monkeypatch.setattr(revision, "REVISIONS", (*revision.REVISIONS, "0004"))
    monkeypatch.setattr(revision, "HEAD", "0004")
    for options in ({}, {"create": True}, {"read_only": True}):
        with pytest.raises(StoreUnavailable, match=r"older Remit.*remit db upgrade"):
            open_at(path, **options)


def test_reading_only_cannot_be_combined_with_creating_or_holding(tmp_path: Path) -> None:
    for option in ("create", "exclusive"):
        with pytest.raises(ValueError, match="reading only"):
            open_at(tmp_path / "state.db", read_only=True, **{option: True})


def test_a_store_opened_for_reading_only_is_never_written(tmp_path: Path) -> None:
    harness = SqliteHarness(tmp_path)
    writer = harness.open()
    with writer.transaction(ALICE) as tx:
        made = tx.create(mission())
    reader = harness.open(read_only=True)
    with reader.snapshot() as snapshot:
        assert snapshot.get(KEY) == made
    with pytest.raises(StoreUnavailable, match="reading only"), reader.transaction(ALICE):
        pass
    with pytest.raises(StoreUnavailable, match="reading only"):
        reader.cache_blobs("v1", {})
    with writer.transaction(ALICE) as tx:
        tx.put_status(made, {"n": 1})
    assert reader.cursor() == 2
    harness.close()
    alone = harness.open(read_only=True)  # nobody else has it open now
    with alone.snapshot() as snapshot:
        assert snapshot.latest_version() == 2
    alone.close()


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Path:
    """A store with one object on a file system that is mounted read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("needs root to mount")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=False).returncode:
        pytest.skip("may not mount here")
    return disk


def test_a_store_on_a_read_only_disk_can_be_read(read_only_disk: Path) -> None:
    path = read_only_disk / "state.db"
    try:
        store = open_at(path, create=True)
        with store.transaction(ALICE) as tx:
            made = tx.create(mission())
        store.close()
        subprocess.run(["mount", "-o", "remount,ro", str(read_only_disk)], check=True)
        reader = open_at(path, read_only=True)
        with reader.snapshot() as snapshot:
            assert snapshot.get(KEY) == made
            assert snapshot.verify_events().count == 0
        assert reader.cursor() == 1
        reader.close()
        with pytest.raises(StoreUnavailable, match=r"state\.db"):
            open_at(path)
        with pytest.raises(StoreUnavailable, match="lock file"):
            open_at(path, exclusive=True)
        with pytest.raises(StoreUnavailable, match=r"cannot be made.*Read-only file system"):
            open_at(path, create=True)
    finally:
        subprocess.run(["umount", str(read_only_disk)], check=True)


def test_importing_the_package_loads_no_database_library() -> None:
    code = (
        "import sys, store, store.contract; "
        "assert not {'sqlalchemy', 'sqlite3', 'alembic'} & set(sys.modules), 'too much'; "
        "store.open_store; assert 'sqlalchemy' in sys.modules; assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
