"""The ledger against a model: whatever is posted in whatever order, with duplicates, late ends and rollbacks, every
balance is the fold of its entries and nothing ever goes below zero."""

from __future__ import annotations

import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from schemas.errors import Conflict, NotFound
from store import maintenance
from store.contract import Amounts, Balance, EntryKind, LedgerEntry, Store
from tests.fakes.scratch import scratch
from tests.fakes.stores import ALICE, START, SqliteHarness, abandoned

ACCOUNTS = ("tenant/t", "agent/a/2026-11-21", "agent/b/2026-11-21", "mission/m/total")
amounts = st.builds(Amounts, *[st.integers(0, 9)] * 4)
accounts = st.lists(st.sampled_from(ACCOUNTS), max_size=4).map(tuple)
keys = st.integers(0, 30).map(lambda n: f"k{n}")


class Model:
    """The contract in thirty lines: a list of entries, and sums that are computed anew each time."""

    def __init__(self) -> None:
        self.entries: dict[str, LedgerEntry] = {}

    def post(self, entry: LedgerEntry) -> bool | type[Exception]:
        if entry.key in self.entries:
            return False
        if entry.kind in (EntryKind.SETTLE, EntryKind.RELEASE):
            reserved = self.entries.get(entry.reservation)
            ends = {EntryKind.RESERVE} | ({EntryKind.GRANT} if entry.kind is EntryKind.RELEASE else set())
            if reserved is None or reserved.kind not in ends:
                return NotFound
            if any(other.reservation == entry.reservation for other in self.entries.values()):
                return Conflict
        self.entries[entry.key] = entry
        return True

    def open(self, kind: EntryKind = EntryKind.RESERVE) -> list[LedgerEntry]:
        ended = {entry.reservation for entry in self.entries.values()}
        return [e for e in self.entries.values() if e.kind is kind and e.key not in ended]

    def balance(self, account: str) -> Balance:
        def total(entries: list[LedgerEntry]) -> Amounts:
            counted = [entry.amounts for entry in entries if account in entry.accounts]
            return Amounts(*(sum(getattr(a, f.name) for a in counted) for f in fields(Amounts)))

        settled = [e for e in self.entries.values() if e.kind is EntryKind.SETTLE]
        return Balance(account, total(settled), total(self.open()), total(self.open(EntryKind.GRANT)))


class LedgerMachine(RuleBasedStateMachine):
    reservations: Bundle[str] = Bundle("reservations")

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory(dir=scratch())
        self.harness = SqliteHarness(Path(self.directory.name))
        self.store: Store = self.harness.open()
        self.model = Model()

    def post(self, entry: LedgerEntry) -> None:
        expected = self.model.post(entry)
        outcome: Any
        try:
            with self.store.transaction(ALICE) as tx:
                outcome = tx.post(entry)
        except (NotFound, Conflict) as error:
            outcome = type(error)
        assert outcome == expected

    @rule(target=reservations, key=keys, accounts=accounts, amounts=amounts)
    def reserve(self, key: str, accounts: tuple[str, ...], amounts: Amounts) -> str:
        self.post(LedgerEntry(key, EntryKind.RESERVE, accounts, amounts, START))
        return key

    @rule(key=keys, reservation=reservations | keys, accounts=accounts, amounts=amounts)
    def settle(self, key: str, reservation: str, accounts: tuple[str, ...], amounts: Amounts) -> None:
        self.post(LedgerEntry(key, EntryKind.SETTLE, accounts, amounts, START, reservation))

    @rule(key=keys, reservation=reservations | keys)
    def release(self, key: str, reservation: str) -> None:
        self.post(LedgerEntry(key, EntryKind.RELEASE, (), Amounts(), START, reservation))

    @rule(key=keys, accounts=accounts, amounts=amounts)
    def grant(self, key: str, accounts: tuple[str, ...], amounts: Amounts) -> None:
        self.post(LedgerEntry(key, EntryKind.GRANT, accounts, amounts, START))

    @rule(data=st.data())
    def post_an_old_entry_again(self, data: st.DataObject) -> None:
        if self.model.entries:
            self.post(data.draw(st.sampled_from(list(self.model.entries.values()))))

    @rule(key=keys, reservation=reservations | keys, amounts=amounts)
    def post_and_fail(self, key: str, reservation: str, amounts: Amounts) -> None:
        with abandoned(self.store) as tx:
            tx.post(LedgerEntry(f"lost-{key}", EntryKind.RESERVE, ACCOUNTS, amounts, START))
            tx.post(LedgerEntry(f"lost-{key}-end", EntryKind.SETTLE, ACCOUNTS, amounts, START, f"lost-{key}"))
            if any(entry.key == reservation for entry in self.model.open()):
                tx.post(LedgerEntry(f"lost-{key}-other", EntryKind.RELEASE, ACCOUNTS, Amounts(), START, reservation))

    @rule()
    def open_the_store_again(self) -> None:
        self.store.close()
        self.store = self.harness.open()

    @invariant()
    def balances_are_the_fold_of_the_entries(self) -> None:
        with self.store.snapshot() as snapshot:
            for account in ACCOUNTS:
                assert snapshot.balance(account) == self.model.balance(account)
            assert [e.key for e in snapshot.ledger()] == list(self.model.entries)
            assert [e.key for e in snapshot.open_reservations()] == [e.key for e in self.model.open()]

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.close()
            assert maintenance.check(self.harness.url).problems == ()
            self.directory.cleanup()


LedgerMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestLedger = LedgerMachine.TestCase
