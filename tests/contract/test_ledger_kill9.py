"""Several processes spend under one limit and are killed at any moment, on both databases: the limit holds at every
moment anybody looks, nothing is negative, and every balance is what its entries add up to."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections import defaultdict
from typing import Any

from store.contract import Amounts, EntryKind, Store
from tests.fakes.programs import spender
from tests.fakes.stores import Harness

LIMIT = 300
KILLS = 5
ENTRIES = 100_000


def look(store: Store) -> int:
    """What is spent and reserved, after checking it against the entries."""
    with store.snapshot() as snapshot:
        balance = snapshot.balance(spender.ACCOUNTS[0])
        entries = snapshot.ledger(limit=ENTRIES)
        open_now = snapshot.open_reservations()
    sums: dict[EntryKind, Amounts] = defaultdict(Amounts)
    for entry in entries:
        sums[entry.kind] = sums[entry.kind] + entry.amounts
    ends = [entry.reservation for entry in entries if entry.reservation]
    assert len(ends) == len(set(ends)), "a reservation was ended twice"
    assert balance.spent == sums[EntryKind.SETTLE]
    assert balance.reserved == sum((e.amounts for e in open_now), Amounts())
    assert min(balance.spent.usd_micros, balance.reserved.usd_micros) >= 0
    total = balance.spent.usd_micros + balance.reserved.usd_micros
    assert total <= LIMIT
    return total


def test_a_limit_holds_whoever_is_killed(harness: Harness) -> None:
    store = harness.open()
    url: str = harness.url  # type: ignore[attr-defined]  # every harness has one
    chance = random.Random(7)
    running: dict[str, subprocess.Popen[str]] = {}

    def start(name: str) -> None:
        command = [sys.executable, "-m", "tests.fakes.programs.spender", url, name, str(LIMIT)]
        running[name] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def line(process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        return process.stdout.readline().strip()

    def end(process: subprocess.Popen[Any]) -> None:
        process.send_signal(signal.SIGKILL)
        process.communicate()

    try:
        for name in ("a", "b", "c"):
            start(name)
        for _ in range(KILLS):
            name = chance.choice(sorted(running))
            for _ in range(chance.randint(1, 6)):
                if line(running[name]) == "full":
                    break
            end(running[name])
            look(store)
            start(name)
        for process in running.values():
            while (said := line(process)) not in ("full", ""):
                assert said in ("reserved", "settled")
            assert said == "full"
            assert process.wait(60) == 0
        # Each came back once more and ended what its last life had left: what is open is nobody's.
        assert LIMIT - spender.WANT.usd_micros < look(store) <= LIMIT
        with store.snapshot() as snapshot:
            assert snapshot.open_reservations() == []
    finally:
        for process in running.values():
            end(process)
