"""Benches of the ledger: what it costs to keep to a limit, against a commit that keeps nothing."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path

from controllers.reconcilers import spending
from decisions.meters import Cap, Meter, room
from decisions.windows import Span
from schemas.budget import OnBreach
from store.contract import Amounts, EntryKind, LedgerEntry, Store
from tests.bench.measure import Measured, by_turns, per_second, sized
from tests.fakes.stores import ALICE, KEY, START, SqliteHarness

ACCOUNTS = (
    "mission/m/total",
    "agent/a/total",
    "agent/a/day/2026-11-21",
    "tenant/default/day/2026-11-21",
    "budget/default/team/month/2026-11",
)
WANT, USED = Amounts(250_000, 0, 0, 1_800_000), Amounts(30_000, 12_000, 4, 60_000)
METERS = tuple(
    Meter(account, Cap(usd_micros=2**52), "budget/team", OnBreach.THROTTLE, Span("total")) for account in ACCOUNTS[2:]
)
NOTE = {"run": "links-1", "for": {"agent": "default/worker", "mission": "default/links", "missionType": "Docs"}}


def _pair(store: Store, numbers: Iterator[int]) -> None:
    """Two transactions: one reserves in every window if each limit has room, one settles."""
    key = f"reserve/run/{next(numbers)}"
    with store.transaction(ALICE) as tx:
        assert all(room(meter, spending.reading(tx, meter.account), WANT) is None for meter in METERS)
        tx.post(LedgerEntry(key, EntryKind.RESERVE, ACCOUNTS, WANT, START, note=NOTE))
    with store.transaction(ALICE) as tx:
        reserved = tx.open_reservation(key)
        assert reserved is not None
        tx.post(LedgerEntry(f"settle/{key}", EntryKind.SETTLE, reserved.accounts, USED, START, key))


def transactions(scale: float) -> Measured:
    """Reserving and settling in five windows, each in a transaction of its own, against transactions of the same store
    that write one timer. Both are durable."""
    count, rounds = sized(250, scale), 1 if scale < 0.5 else 9
    with tempfile.TemporaryDirectory() as folder:
        harness = SqliteHarness(Path(folder))
        store = harness.open(exclusive=True)
        numbers, times = itertools.count(), itertools.count()

        def commit() -> None:
            with store.transaction(ALICE) as tx:
                tx.set_timer(KEY, f"wake-{next(times)}", START)

        a, b = by_turns(
            lambda: [_pair(store, numbers) for _ in range(count)],
            lambda: [commit() for _ in range(2 * count)],
            rounds,
        )
        harness.close()
    return Measured(b / a, per_second(2 * count, a), per_second(2 * count, b), "five windows, three limits")
