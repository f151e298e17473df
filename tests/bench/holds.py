"""The stop button: how long `remit estop` takes to be in force."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from controllers.holds import estop
from store.contract import Store
from tests.bench.measure import Measured, ms, percentile, seconds, sized
from tests.fakes.stores import ALICE, SqliteHarness


def _place(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        estop.place(tx, "it writes to customers")


def _release(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        for hold in estop.standing(tx):
            estop.release(tx, hold, "fixed")


def estop_call(scale: float) -> Measured:
    """p99 of placing an e-stop, by turns with one durable row of bare sqlite3."""
    count = sized(300, scale)
    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open(exclusive=True)
        with closing(sqlite3.connect(Path(folder, "raw.db"), isolation_level=None)) as raw:
            raw.execute("PRAGMA journal_mode=WAL")
            raw.execute("PRAGMA synchronous=FULL")
            raw.execute("CREATE TABLE rows (id INTEGER PRIMARY KEY, text)")
            ours, floor = [], []
            for _ in range(count):
                ours.append(seconds(lambda: _place(store)))
                floor.append(seconds(lambda: raw.execute("INSERT INTO rows (text) VALUES (?)", ("x" * 600,))))
                _release(store)
        harness.close()
    a, b = percentile(ours, 0.99), percentile(floor, 0.99)
    return Measured(a / b, f"p99 {ms(a)}", f"p99 {ms(b)}", f"{count:,} calls, p50 {ms(percentile(ours, 0.5))}")
