"""kill -9 of a writer at any point: what was acknowledged is there, what was not is there whole or not at all."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import maintenance
from tests.fakes.stores import ALICE, SqliteHarness, step, steps_in

ROOT = Path(__file__).parents[2]


class Victims:
    """Processes that write to a store until they die."""

    def __init__(self) -> None:
        self._server = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.stores"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            bufsize=1,
        )

    def start(self, url: str, *, statements: int = 0) -> None:
        """Begin one, which kills itself before that many statements; 0 for never."""
        assert self._server.stdin is not None
        self._server.stdin.write(f"{url} {statements}\n")

    def heard(self) -> tuple[int, int] | None:
        """The next acknowledgement (pid, n); None when the victim is dead."""
        assert self._server.stdout is not None
        line = self._server.stdout.readline()
        assert line, "the server of victims ended"
        if line == "dead\n":
            return None
        pid, n = line.split()
        return int(pid), int(n)

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(timeout=120)
        self._server.stdout.close()


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    made = Victims()
    yield made
    made.close()


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    made = SqliteHarness(tmp_path)
    made.open().close()
    yield made
    made.close()


def check(harness: SqliteHarness, acknowledged: int) -> int:
    """Everything acknowledged is there, at most the one transaction more whose acknowledgement died with its author."""
    store = harness.open(exclusive=True)
    n = steps_in(store)
    assert acknowledged <= n <= acknowledged + 1
    store.close()
    return n


def test_a_writer_killed_from_outside_loses_nothing_acknowledged(harness: SqliteHarness, victims: Victims) -> None:
    chance = random.Random(4711)
    n = 0
    for _ in range(30):
        victims.start(harness.url)
        patience = chance.randrange(1, 12)
        acknowledged = n
        while (heard := victims.heard()) is not None:
            pid, acked = heard
            acknowledged = max(acknowledged, acked)
            patience -= 1
            if patience == 0:
                for _ in range(chance.randrange(20_000)):
                    pass  # lets the victim get somewhere into its next transaction
                os.kill(pid, signal.SIGKILL)
        n = check(harness, acknowledged)
    assert n > 60
    assert maintenance.check(harness.url).problems == ()


def test_a_writer_killed_before_any_of_its_statements_loses_nothing_acknowledged(
    harness: SqliteHarness, victims: Victims
) -> None:
    n = 0
    for statements in range(1, 75):  # two transactions and the opening, statement by statement
        victims.start(harness.url, statements=statements)
        acknowledged = n
        while (heard := victims.heard()) is not None:
            acknowledged = max(acknowledged, heard[1])
        n = check(harness, acknowledged)
    assert n > 10
    assert maintenance.check(harness.url).problems == ()


def test_an_engine_killed_while_it_makes_the_store_leaves_nothing_in_the_way(tmp_path: Path, victims: Victims) -> None:
    stepped = 0
    for statements in range(1, 250, 15):
        directory = tmp_path / str(statements)
        directory.mkdir()
        harness = SqliteHarness(directory, ids="after")
        victims.start(harness.url, statements=statements)
        while victims.heard() is not None:
            pass
        store = harness.open(create=True, exclusive=True)
        n = steps_in(store)
        stepped += n > 0
        with store.transaction(ALICE) as tx:
            assert step(tx) == n + 1
        harness.close()
        assert maintenance.check(harness.url).problems == ()
    assert 0 < stepped < 17  # some died before, some after the tables were there


def test_a_killed_engine_frees_the_store_at_once(harness: SqliteHarness, victims: Victims) -> None:
    victims.start(harness.url)
    heard = victims.heard()
    assert heard is not None
    os.kill(heard[0], signal.SIGKILL)
    while victims.heard() is not None:
        pass
    assert str(heard[0]) in harness.path.with_name("state.db.lock").read_text()
    store = harness.open(exclusive=True)
    assert str(os.getpid()) in harness.path.with_name("state.db.lock").read_text()
    store.close()


def test_a_log_cut_short_loses_only_its_last_transactions(harness: SqliteHarness, victims: Victims) -> None:
    """A power failure on a disk that lied about flushing: the end of the WAL is missing, or holds rubbish."""
    victims.start(harness.url)
    while (heard := victims.heard()) is not None:
        if heard[1] == 30:
            os.kill(heard[0], signal.SIGKILL)
    wal = harness.path.with_name("state.db-wal")
    database, log = harness.path.read_bytes(), wal.read_bytes()
    found = []
    for cut in (0, 100, len(log) // 3, len(log) // 2 + 17, len(log) - 1, len(log)):
        for rubbish in (b"", b"\xaa" * 10_000):
            harness.path.write_bytes(database)
            wal.write_bytes(log[:cut] + rubbish)
            harness.path.with_name("state.db-shm").unlink(missing_ok=True)
            store = harness.open()
            found.append(steps_in(store))
            with store.transaction(ALICE) as tx:
                assert step(tx) == found[-1] + 1
            store.close()
            assert maintenance.check(harness.url).ok
    assert found == sorted(found)
    assert found[0] == 0
    assert found[-1] >= 30


def test_a_reader_outlives_the_writer_and_sees_its_last_commit(harness: SqliteHarness, victims: Victims) -> None:
    reader = harness.open(read_only=True)
    victims.start(harness.url)
    acknowledged = 0
    while (heard := victims.heard()) is not None:
        acknowledged = heard[1]
        with reader.snapshot() as snapshot:
            assert snapshot.verify_events().count >= acknowledged
        if acknowledged == 10:
            os.kill(heard[0], signal.SIGKILL)
    assert steps_in(reader) in (acknowledged, acknowledged + 1)
