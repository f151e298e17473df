"""A process that gets no more memory, and a disk that does not say that it keeps what was written: nothing acknowledged
is lost, and nothing is acknowledged that is not on disk."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from store import maintenance
from tests.fakes.stores import ALICE, SqliteHarness, step, steps_in

ROOT = Path(__file__).parents[2]

BEGIN = """\
import sys
from schemas.errors import StoreError, StoreGone
from tests.fakes.stores import *
store = open_store(sys.argv[1], now=SettableClock(), new_id=CountedIds())
def do():
    with store.transaction(ALICE) as tx:
        return step(tx)
do()
"""

OUT_OF_MEMORY = """\
import resource
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, resource.RLIM_INFINITY))
for size in (48, 96, 200):
    try:
        with store.transaction(ALICE) as tx:
            step(tx)
            tx.create(mission("large", text="x" * (size * 2**20)))
            steps = bytearray(size * 2**20)
    except (MemoryError, StoreError) as error:
        print("failed", type(error).__name__)
    assert steps_in(store) == 1, size
assert do() == 2, "it goes on with what there is"
"""

LOST_WRITES = """\
from tests.fakes.failing_sync import break_syncs
break_syncs()
for act in (do, do, lambda: steps_in(store), store.cursor):
    try:
        print("acknowledged", act())
    except StoreGone as error:
        print("failed", type(error).__name__, error)
"""


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    made = SqliteHarness(tmp_path)
    made.open().close()
    yield made
    made.close()


def run(harness: SqliteHarness, code: str) -> str:
    """What a process says that does this with the store."""
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, harness.url], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_gets_no_more_memory_loses_that_transaction_and_goes_on(harness: SqliteHarness) -> None:
    said = run(harness, OUT_OF_MEMORY)
    assert said.count("failed") == 3
    assert steps_in(harness.open()) == 2
    assert maintenance.check(harness.url).ok


def test_a_disk_that_fails_to_sync_acknowledges_nothing_and_leaves_a_sound_store(harness: SqliteHarness) -> None:
    """Whether such a transaction is there is unknown, as its error says: it stands in the log of SQLite, and whoever
    recovers that takes it in. It is there whole or not at all, and nobody was told that it is. Who met it reads and
    writes nothing more: the disk may confirm the next write and have lost this one."""
    said = run(harness, LOST_WRITES)
    assert "acknowledged" not in said
    assert said.count("failed StoreUnsafe") == 4
    assert said.count("SQLITE_IOERR_FSYNC") == 4
    assert "of its disk" in said
    store = harness.open()
    assert steps_in(store) in (1, 2)
    with store.transaction(ALICE) as tx:
        step(tx)
    assert maintenance.check(harness.url).ok
