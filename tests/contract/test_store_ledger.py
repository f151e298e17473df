"""Ledger: reservations end once, balances move with their entries and never go below zero."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from schemas.errors import Conflict, NotFound
from store.contract import Amounts, Balance, EntryKind, LedgerEntry, Store
from tests.fakes.stores import ALICE, START, abandoned

ACCOUNTS = ("mission/m/total", "agent/a/2026-11-21")
TEN = Amounts(10, 20, 30, 40)
FOUR = Amounts(4, 5, 6, 7)


def reserve(key: str = "r", amounts: Amounts = TEN, accounts: tuple[str, ...] = ACCOUNTS, **more: Any) -> LedgerEntry:
    return LedgerEntry(key, EntryKind.RESERVE, accounts, amounts, START, **more)


def settle(key: str = "s", amounts: Amounts = FOUR, accounts: tuple[str, ...] = ACCOUNTS) -> LedgerEntry:
    return LedgerEntry(key, EntryKind.SETTLE, accounts, amounts, START, "r")


def release(key: str = "x") -> LedgerEntry:
    return LedgerEntry(key, EntryKind.RELEASE, ACCOUNTS, Amounts(), START, "r")


def post(store: Store, *entries: LedgerEntry) -> list[bool]:
    with store.transaction(ALICE) as tx:
        return [tx.post(entry) for entry in entries]


def balances(store: Store, *accounts: str) -> list[Balance]:
    with store.snapshot() as snapshot:
        return [snapshot.balance(account) for account in accounts]


def test_an_account_that_nobody_used_is_empty(store: Store) -> None:
    assert balances(store, "nobody") == [Balance("nobody")]


def test_a_reservation_counts_in_every_account(store: Store) -> None:
    assert post(store, reserve()) == [True]
    assert balances(store, *ACCOUNTS, "other") == [
        Balance(ACCOUNTS[0], reserved=TEN),
        Balance(ACCOUNTS[1], reserved=TEN),
        Balance("other"),
    ]


def test_settling_frees_the_whole_reservation_and_spends_what_it_cost(store: Store) -> None:
    post(store, reserve(), reserve("r2"))
    assert post(store, settle()) == [True]
    assert balances(store, ACCOUNTS[0]) == [Balance(ACCOUNTS[0], spent=FOUR, reserved=TEN)]


def test_settling_may_cost_more_than_was_reserved(store: Store) -> None:
    post(store, reserve(amounts=FOUR), settle(amounts=TEN))
    assert balances(store, ACCOUNTS[0]) == [Balance(ACCOUNTS[0], spent=TEN)]


def test_settling_in_other_accounts_frees_the_old_and_spends_in_the_new(store: Store) -> None:
    post(store, reserve(), settle(accounts=("agent/a/2026-11-22",)))
    assert balances(store, *ACCOUNTS, "agent/a/2026-11-22") == [
        Balance(ACCOUNTS[0]),
        Balance(ACCOUNTS[1]),
        Balance("agent/a/2026-11-22", spent=FOUR),
    ]


def test_a_release_frees_and_spends_nothing(store: Store) -> None:
    post(store, reserve(), release())
    assert balances(store, *ACCOUNTS) == [Balance(ACCOUNTS[0]), Balance(ACCOUNTS[1])]


def test_a_grant_is_kept_apart(store: Store) -> None:
    grant = LedgerEntry("g", EntryKind.GRANT, ACCOUNTS[:1], FOUR, START, note={"by": "user:alice"})
    assert post(store, grant, replace(grant, key="g2"), grant) == [True, True, False]
    assert balances(store, ACCOUNTS[0]) == [Balance(ACCOUNTS[0], granted=FOUR + FOUR)]


def test_a_grant_ends_once_and_leaves_what_was_spent(store: Store) -> None:
    grant = LedgerEntry("g", EntryKind.GRANT, ACCOUNTS, FOUR, START)
    end = LedgerEntry("e", EntryKind.RELEASE, ACCOUNTS, FOUR, START, "g")
    assert post(store, reserve(), settle(), grant, end, end) == [True, True, True, True, False]
    assert balances(store, ACCOUNTS[0]) == [Balance(ACCOUNTS[0], spent=FOUR)]
    with pytest.raises(Conflict, match="was ended by e"):
        post(store, replace(end, key="e2"))


def test_posting_the_same_key_again_changes_nothing(store: Store) -> None:
    assert post(store, reserve(), reserve()) == [True, False]
    assert post(store, settle(), settle(), settle()) == [True, False, False]
    assert post(store, reserve()) == [False]
    assert post(store, replace(settle(), amounts=TEN)) == [False]
    assert balances(store, ACCOUNTS[0]) == [Balance(ACCOUNTS[0], spent=FOUR)]


def test_a_reservation_ends_once(store: Store) -> None:
    post(store, reserve(), settle())
    for late in (settle("s2"), release()):
        with pytest.raises(Conflict, match="reservation r was ended by s"):
            post(store, late)
    assert balances(store, ACCOUNTS[0]) == [Balance(ACCOUNTS[0], spent=FOUR)]


def test_an_unknown_reservation_cannot_end(store: Store) -> None:
    post(store, LedgerEntry("g", EntryKind.GRANT, ACCOUNTS, FOUR, START))
    for end in (settle(), release(), replace(settle(), reservation="g"), replace(settle(), reservation="")):
        with pytest.raises(NotFound, match="does not exist"):
            post(store, end)
    with store.transaction(ALICE) as tx:
        with pytest.raises(NotFound):
            tx.post(settle())
        assert tx.post(reserve())  # a refusal leaves the transaction usable
        assert tx.post(settle())


def test_open_reservations_are_those_that_nothing_ended(store: Store) -> None:
    post(store, reserve("r0"), reserve("r"), reserve("r2", accounts=("other",)), settle())
    with store.snapshot() as snapshot:
        assert snapshot.open_reservations() == [reserve("r0"), reserve("r2", accounts=("other",))]
        assert snapshot.open_reservations(account=ACCOUNTS[1]) == [reserve("r0")]
        assert snapshot.open_reservations(account="nobody") == []


def test_entries_are_read_back_whole_and_oldest_first(store: Store) -> None:
    entries = [
        reserve(note={"run": "u1"}, accounts=("b", "a", "c")),
        replace(settle(), at=START - timedelta(days=1), note={"source": "Reported"}),
        reserve("r2", accounts=("a",)),
        reserve("r3", accounts=()),
    ]
    post(store, *entries)
    with store.snapshot() as snapshot:
        assert snapshot.ledger() == entries
        assert snapshot.ledger(limit=2) == entries[:2]
        assert snapshot.ledger(account="a") == [entries[0], entries[2]]
        assert snapshot.ledger(account="nobody") == []


def test_an_account_named_twice_counts_once(store: Store) -> None:
    post(store, reserve(accounts=("a", "b", "a")))
    with store.snapshot() as snapshot:
        assert snapshot.ledger()[0].accounts == ("a", "b")
        assert snapshot.balance("a").reserved == TEN


def test_many_entries_are_read_with_their_accounts(store: Store) -> None:
    entries = [reserve(f"r{i}", Amounts(i), (f"a{i}", "all")) for i in range(700)]
    post(store, *entries)
    with store.snapshot() as snapshot:
        assert snapshot.open_reservations(account="all") == entries
        assert snapshot.balance("all").reserved == Amounts(sum(range(700)))


@pytest.mark.parametrize("field", [f.name for f in fields(Amounts)])
@pytest.mark.parametrize("value", [-1, 2**53 + 1, 10**30])
def test_an_absurd_amount_is_refused(store: Store, field: str, value: int) -> None:
    with store.transaction(ALICE) as tx:
        with pytest.raises(ValueError, match=field):
            tx.post(reserve(amounts=replace(TEN, **{field: value})))
        assert tx.ledger() == []
        assert tx.post(reserve(amounts=replace(TEN, **{field: 2**53})))


@pytest.mark.parametrize("kind", [EntryKind.RESERVE, EntryKind.GRANT])
def test_an_entry_that_ends_nothing_names_no_reservation(store: Store, kind: EntryKind) -> None:
    with pytest.raises(ValueError, match="ends no reservation"):
        post(store, LedgerEntry("k", kind, ACCOUNTS, TEN, START, "r"))


def test_nothing_is_booked_by_a_transaction_that_fails(store: Store) -> None:
    with abandoned(store) as tx:
        tx.post(reserve())
        assert tx.balance(ACCOUNTS[0]).reserved == TEN
    assert balances(store, *ACCOUNTS) == [Balance(ACCOUNTS[0]), Balance(ACCOUNTS[1])]
    assert post(store, reserve()) == [True]
