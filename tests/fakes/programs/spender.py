"""Reserves and settles in a store until it is killed: ``spender.py URL NAME LIMIT``. It prints a line after each
commit, and begins by ending what an earlier life under its name left open, as an engine does with lost runs."""

from __future__ import annotations

import itertools
import os
import sys
from datetime import UTC, datetime

from controllers.reconcilers import spending
from decisions.meters import Cap, Meter, room
from decisions.windows import Span
from schemas.budget import OnBreach
from schemas.resource import SYSTEM
from store import open_store
from store.contract import Amounts, EntryKind, LedgerEntry

WANT = Amounts(usd_micros=7, tool_calls=1)
ACCOUNTS = ("agent/shared/total", "tenant/default/day/2026-11-21")
NOW = datetime(2026, 11, 21, 9, tzinfo=UTC)


def main(url: str, name: str, limit: int) -> None:
    """Work until killed, or the limit has no room left."""
    ids = itertools.count()
    store = open_store(url, now=lambda: NOW, new_id=lambda: f"{name}-{os.getpid()}-{next(ids)}")
    meter = Meter(ACCOUNTS[0], Cap(usd_micros=limit), "limit", OnBreach.THROTTLE, Span("total"))
    with store.transaction(SYSTEM) as tx:
        for entry in tx.open_reservations():
            if entry.note["by"] == name:
                tx.post(
                    LedgerEntry(f"lost/{entry.key}", EntryKind.SETTLE, ACCOUNTS, entry.amounts, NOW, entry.key)
                )  # fmt: skip
    for number in itertools.count():
        key = f"{name}-{os.getpid()}-{number}"
        with store.transaction(SYSTEM) as tx:
            if room(meter, spending.reading(tx, meter.account), WANT) is not None:
                break
            tx.post(LedgerEntry(key, EntryKind.RESERVE, ACCOUNTS, WANT, NOW, note={"by": name}))
        print("reserved", flush=True)
        used = Amounts(usd_micros=number % 8, tool_calls=1)
        for _ in range(2):  # reported twice, as after a lost answer
            with store.transaction(SYSTEM) as tx:
                tx.post(LedgerEntry(f"end/{key}", EntryKind.SETTLE, ACCOUNTS, used, NOW, key))
        print("settled", flush=True)
    print("full", flush=True)
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
