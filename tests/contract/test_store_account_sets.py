"""Entries that were written before there were sets of accounts stay what they are, and so do later ones on the way
back."""

from __future__ import annotations

from schemas.errors import Conflict
from store import maintenance, migrate, revision
from store.contract import Amounts, Balance, EntryKind, LedgerEntry, Store
from tests.fakes.stores import ALICE, START, Harness

ACCOUNTS = ("tenant/t/total", "agent/a/total")
TEN, FOUR = Amounts(10), Amounts(4)


def reserve(key: str) -> LedgerEntry:
    return LedgerEntry(key, EntryKind.RESERVE, ACCOUNTS, TEN, START, note={"n": 1})


def settle(key: str, accounts: tuple[str, ...] = ACCOUNTS) -> LedgerEntry:
    return LedgerEntry(f"settle-{key}", EntryKind.SETTLE, accounts, FOUR, START, key)


def post(store: Store, *entries: LedgerEntry) -> list[bool]:
    with store.transaction(ALICE) as tx:
        return [tx.post(entry) for entry in entries]


def test_older_entries_are_read_settled_and_summed_like_new_ones(harness: Harness) -> None:
    store = harness.open()
    post(store, reserve("a"), reserve("b"), settle("b", ("agent/a/total", "x")))
    store.close()
    assert migrate.downgrade(harness.url, "0005", now=harness.clock) == "0005"
    assert migrate.upgrade(harness.url, now=harness.clock) == revision.HEAD
    store = harness.open()
    with store.snapshot() as snapshot:
        before = [reserve("a"), reserve("b"), settle("b", ("agent/a/total", "x"))]
        assert snapshot.ledger() == before
        assert snapshot.ledger(account=ACCOUNTS[0]) == before[:2]
        assert snapshot.open_reservations(account=ACCOUNTS[1]) == [reserve("a")]
    assert post(store, settle("a"), reserve("a"), reserve("c")) == [True, False, True]
    with store.snapshot() as snapshot:
        assert snapshot.ledger(account="agent/a/total") == [*before, settle("a"), reserve("c")]
        assert snapshot.ledger(account="agent/a/total", limit=2) == before[:2]
        assert snapshot.open_reservation("c") == reserve("c")
        assert snapshot.balance(ACCOUNTS[0]) == Balance(ACCOUNTS[0], spent=FOUR, reserved=TEN)
    store.close()
    assert maintenance.check(harness.url).problems == ()
    migrate.downgrade(harness.url, "0005", now=harness.clock)
    migrate.upgrade(harness.url, now=harness.clock)
    store = harness.open()
    with store.snapshot() as snapshot:
        assert snapshot.ledger(account="agent/a/total") == [*before, settle("a"), reserve("c")]
    store.close()
    assert maintenance.check(harness.url).problems == ()


def test_names_that_a_database_cannot_hold_are_in_the_set_as_it_can(store: Store) -> None:
    twice = LedgerEntry("r", EntryKind.RESERVE, ("a\0", "a\ufffd", "b\ud800"), TEN, START)
    again = LedgerEntry("s", EntryKind.RESERVE, ("a\ufffd", "b\ufffd"), TEN, START)
    assert post(store, twice, again) == [True, True]
    with store.snapshot() as snapshot:
        assert [entry.accounts for entry in snapshot.ledger()] == [("a\ufffd", "b\ufffd")] * 2
        assert [entry.key for entry in snapshot.ledger(account="b\ufffd")] == ["r", "s"]
        assert snapshot.balance("a\ufffd").reserved == TEN + TEN


def test_a_set_of_a_lost_transaction_is_made_again(store: Store) -> None:
    try:
        with store.transaction(ALICE) as tx:
            tx.post(reserve("a"))
            raise Conflict("not this time")
    except Conflict:
        pass
    assert post(store, reserve("a"), reserve("b")) == [True, True]
    with store.snapshot() as snapshot:
        assert snapshot.ledger(account=ACCOUNTS[0]) == [reserve("a"), reserve("b")]
