"""One engine per store: the second is turned away with the name of the first, and nothing else is in the way."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.errors import StoreLocked, StoreUnavailable
from store.lock import EngineLock, holder_of
from tests.fakes.stores import ALICE, KEY, START, SqliteHarness, mission

ROOT = Path(__file__).parents[2]


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    made = SqliteHarness(tmp_path)
    yield made
    made.close()


def lock_file(harness: SqliteHarness) -> Path:
    return harness.path.with_name("state.db.lock")


def test_a_second_engine_is_refused_and_told_who_holds_the_store(harness: SqliteHarness) -> None:
    first = harness.open(exclusive=True)
    with pytest.raises(StoreLocked) as caught:
        harness.open(exclusive=True)
    text = str(caught.value)
    assert f"pid {os.getpid()} on host {socket.gethostname()}" in text
    assert "since 2026-11-21T09:00:00.000Z" in text
    assert f"kill {os.getpid()}" in text
    assert str(harness.path) in text
    first.close()
    harness.open(exclusive=True).close()


def test_an_engine_in_another_process_is_refused_too(harness: SqliteHarness) -> None:
    harness.open(exclusive=True)
    code = (
        "import sys\n"
        "from tests.fakes.stores import *\n"
        "open_store(sys.argv[1], now=SettableClock(), new_id=CountedIds(), exclusive=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, harness.url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"StoreLocked: {harness.path} is held by another engine: pid {os.getpid()}" in done.stderr


def test_commands_read_and_write_while_an_engine_holds_the_store(harness: SqliteHarness) -> None:
    engine = harness.open(exclusive=True)
    command = harness.open()
    with command.transaction(ALICE) as tx:
        tx.create(mission())
    assert engine.cursor() == 1
    with harness.open(read_only=True).snapshot() as snapshot:
        assert snapshot.get(KEY) is not None


def test_the_lock_file_says_who_holds_the_store(harness: SqliteHarness) -> None:
    store = harness.open(exclusive=True)
    wire = json.loads(lock_file(harness).read_text())
    assert set(wire) == {"pid", "host", "user", "started_at", "command"}
    assert (wire["pid"], wire["started_at"]) == (os.getpid(), "2026-11-21T09:00:00.000Z")
    assert lock_file(harness).stat().st_mode & 0o777 == 0o600
    found = holder_of(harness.path)
    assert found is not None
    assert found.pid == os.getpid()
    store.close()
    assert lock_file(harness).read_text() == ""
    assert holder_of(harness.path) is None


@pytest.mark.parametrize("content", ["", "rubbish", "[]", '{"pid": "x"}', '{"pid": 1}', "\0" * 100_000])
def test_a_file_left_behind_is_no_obstacle(harness: SqliteHarness, content: str) -> None:
    harness.path.parent.joinpath("state.db.lock").write_text(content)
    assert holder_of(harness.path) is None
    harness.open(exclusive=True).close()


def test_the_pid_in_the_file_is_never_believed(harness: SqliteHarness) -> None:
    living = {"pid": os.getppid(), "host": socket.gethostname(), "user": "x", "started_at": "x", "command": "remit run"}
    lock_file(harness).write_text(json.dumps(living))
    assert holder_of(harness.path) is None
    harness.open(exclusive=True).close()


@pytest.mark.parametrize("content", ["", "rubbish", '{"pid": 1}'])
def test_a_held_lock_without_a_readable_name_still_refuses(harness: SqliteHarness, content: str) -> None:
    harness.open(exclusive=True)
    lock_file(harness).write_text(content)
    with pytest.raises(StoreLocked, match="has not written down who it is"):
        harness.open(exclusive=True)
    assert holder_of(harness.path) is not None


def test_a_holder_on_another_host_is_not_to_be_killed_here(harness: SqliteHarness) -> None:
    harness.open(exclusive=True)
    wire = json.loads(lock_file(harness).read_text()) | {"host": "elsewhere", "pid": 4711}
    lock_file(harness).write_text(json.dumps(wire))
    with pytest.raises(StoreLocked, match=r"on host elsewhere.*stop it there \(pid 4711\)"):
        harness.open(exclusive=True)


def test_a_refused_engine_leaves_the_file_of_the_holder_alone(harness: SqliteHarness) -> None:
    harness.open(exclusive=True)
    before = lock_file(harness).read_text()
    for _ in range(3):
        with pytest.raises(StoreLocked):
            harness.open(exclusive=True)
    assert lock_file(harness).read_text() == before


def test_a_child_process_does_not_inherit_the_lock(harness: SqliteHarness) -> None:
    store = harness.open(exclusive=True)
    child = subprocess.Popen(
        [sys.executable, "-c", "input(print('up', flush=True))"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    )
    try:
        assert child.stdout is not None
        child.stdout.readline()
        store.close()
        harness.open(exclusive=True).close()
    finally:
        child.communicate(b"\n")


def test_an_engine_that_cannot_open_the_store_lets_go_of_it(harness: SqliteHarness) -> None:
    harness.path.write_bytes(b"")
    with pytest.raises(StoreUnavailable, match="is empty"):
        harness.open(exclusive=True)
    assert holder_of(harness.path) is None


def test_a_link_in_the_place_of_the_lock_file_is_not_followed(harness: SqliteHarness, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("precious")
    lock_file(harness).symlink_to(precious)
    with pytest.raises(StoreUnavailable, match="lock file"):
        harness.open(exclusive=True)
    assert precious.read_text() == "precious"


def test_arguments_of_the_command_stay_out_of_the_file(harness: SqliteHarness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/remit", "run", "--store", "secret"])
    harness.open(exclusive=True)
    assert json.loads(lock_file(harness).read_text())["command"] == "remit run"


def test_looking_who_holds_the_store_turns_no_engine_away(harness: SqliteHarness) -> None:
    lock_file(harness).write_text("{}")
    script = "import sys\nfrom pathlib import Path\nfrom store.lock import holder_of\nprint('up', flush=True)\n"
    script += "while True: holder_of(Path(sys.argv[1]))\n"
    looking = subprocess.Popen([sys.executable, "-c", script, str(harness.path)], cwd=ROOT, stdout=subprocess.PIPE)
    try:
        assert looking.stdout is not None
        looking.stdout.readline()
        for _ in range(300):
            EngineLock.take(harness.path, now=START).release()
            lock_file(harness).write_text("{}")
    finally:
        looking.kill()
        looking.communicate()
