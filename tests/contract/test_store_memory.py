"""What write transactions remember is what the database says: after others' writes, failures, and everything held
back."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.base import Key
from schemas.errors import AlreadyExists, Conflict
from schemas.resource import Declared
from store.contract import Amounts, Balance, EntryKind, LedgerEntry, Store, Transaction
from store.memory import MOST
from tests.fakes.stores import ALICE, START, Harness, abandoned

KEY = Key("Mission", "default", "a")
ACCOUNT = "mission/m/total"


def made(tx: Transaction, name: str = "a", **spec: Any) -> None:
    tx.create(Declared("Mission", "default", name, {"title": name, **spec}), status={"state": "Inbox"})


def reserve(key: str, usd: int = 5) -> LedgerEntry:
    return LedgerEntry(key, EntryKind.RESERVE, (ACCOUNT,), Amounts(usd), START)


def move(store: Store, state: str) -> None:
    with store.transaction(ALICE) as tx:
        found = tx.get(KEY)
        assert found is not None
        tx.put_status(found, {"state": state})


def test_what_another_process_wrote_is_seen_by_the_next_transaction(harness: Harness) -> None:
    ours, theirs = harness.open(), harness.open()
    with ours.transaction(ALICE) as tx:
        made(tx)
        assert tx.objects("Hold") == []
        assert tx.balance(ACCOUNT) == Balance(ACCOUNT)
        assert tx.open_reservation("r") is None
    for state in ("Planned", "InProgress"):
        move(ours, "Inbox")
        with theirs.transaction(ALICE) as tx:
            tx.create(Declared("Hold", "default", f"stop-{state.lower()}", {}))
            tx.post(reserve(f"r{state}"))
        move(theirs, state)
        with ours.transaction(ALICE) as tx:
            found = tx.get(KEY)
            assert found is not None
            assert found.state == state
            assert tx.get_by_uid(found.uid) == found
            assert f"stop-{state.lower()}" in [hold.name for hold in tx.objects("Hold")]
            assert tx.open_reservation(f"r{state}") is not None
            assert tx.balance(ACCOUNT).reserved.usd_micros == (5 if state == "Planned" else 10)


def test_a_transaction_that_failed_is_forgotten(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made(tx)
        tx.post(reserve("kept"))
    with abandoned(store) as tx:
        found = tx.get(KEY)
        assert found is not None
        tx.put_status(found, {"state": "Lost"})
        made(tx, "b")
        tx.post(reserve("lost"))
        assert tx.objects("Mission", states=["Lost"]) != []
        raise_it()
    with store.transaction(ALICE) as tx:
        found = tx.get(KEY)
        assert found is not None
        assert found.state == "Inbox"
        assert tx.get(KEY._replace(name="b")) is None
        assert tx.objects("Mission", states=["Lost"]) == []
        assert tx.balance(ACCOUNT).reserved == Amounts(5)
        assert tx.post(reserve("lost"))


def raise_it() -> None:
    from tests.fakes.stores import Abandoned

    raise Abandoned


def test_what_is_held_back_is_in_every_reading(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made(tx)
        found = tx.get(KEY)
        assert found is not None
        moved = tx.put_status(found, {"state": "Planned"})
        assert [m.state for m in tx.objects("Mission")] == ["Planned"]
        assert tx.count("Mission", states=["Planned"]) == 1
        assert [change.uid for change in tx.changes_since(0)] == [found.uid]
        assert len(tx.specs(found.uid)) == 1
        made(tx, "b")
        assert len(tx.objects("Mission")) == 2
        with pytest.raises(AlreadyExists):
            made(tx, "b")
        with pytest.raises(Conflict):
            tx.put_status(found, {"state": "Done"})
        tx.post(reserve("r"))
        assert not tx.post(reserve("r"))
        assert [entry.key for entry in tx.open_reservations()] == ["r"]
        assert [entry.key for entry in tx.ledger(account=ACCOUNT)] == ["r"]
        assert tx.get(KEY) == moved
    with store.snapshot() as snapshot:
        assert snapshot.get(KEY) == moved
        assert snapshot.balance(ACCOUNT).reserved == Amounts(5)


def test_what_is_remembered_is_what_was_written_and_not_what_was_given(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made(tx, "a", said="zero\0 and half a pair \ud800", several=("one", "two"))
    with store.transaction(ALICE) as tx, store.snapshot() as snapshot:
        found = tx.get(KEY)
        assert found is not None
        assert found == snapshot.get(KEY)
        assert found.spec["several"] == ["one", "two"]
        assert found.spec["said"] == "zero\0 and half a pair \ufffd"


def test_renaming_and_removing_leave_nothing_behind(store: Store) -> None:
    other = KEY._replace(name="b")
    with store.transaction(ALICE) as tx:
        made(tx)
        found = tx.get(KEY)
        assert tx.get(other) is None
        assert found is not None
        renamed = tx.put_spec(found, Declared("Mission", "default", "b", found.spec))
        assert (tx.get(KEY), tx.get(other)) == (None, renamed)
        made(tx)
        tx.remove(renamed)
        assert tx.get(other) is None
        assert tx.get_by_uid(renamed.uid) is None
        tx.create_many([Declared("Mission", "default", "b", {})])
    with store.transaction(ALICE) as tx:
        assert [m.name for m in tx.objects("Mission")] == ["a", "b"]
        assert tx.get(other) is not None


def test_more_objects_than_a_memory_holds_are_written_and_found(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        for number in range(MOST + 20):
            made(tx, f"m{number}")
        last = tx.get(KEY._replace(name=f"m{MOST + 19}"))
        assert last is not None
        tx.put_status(last, {"state": "Done"})
    with store.transaction(ALICE) as tx:
        assert tx.count("Mission") == MOST + 20
        assert [m.name for m in tx.objects("Mission", states=["Done"])] == [last.name]


def test_an_account_that_came_back_to_nothing_counts_on(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.post(reserve("r"))
        tx.post(LedgerEntry("x", EntryKind.RELEASE, (ACCOUNT,), Amounts(), START, "r"))
    again = store
    with again.transaction(ALICE) as tx:
        tx.post(reserve("r2", 7))
    with store.snapshot() as snapshot:
        assert snapshot.balance(ACCOUNT).reserved == Amounts(7)


def test_what_is_held_back_goes_out_in_an_order_that_loses_nothing(store: Store) -> None:
    """More rows than are held back at a time, so that what belongs together is cut apart anywhere."""
    for first in range(3):
        with store.transaction(ALICE) as tx:
            for number in range(first):
                made(tx, f"shift-{first}-{number}")
            for number in range(150):
                made(tx, f"m-{first}-{number}")
                tx.post(reserve(f"r-{first}-{number}", 1), fresh=True)
                subject = Key("Mission", "default", f"m-{first}-{number}")
                tx.enqueue("StartRun", f"e-{first}-{number}", subject, {}, fresh=True)
    with store.snapshot() as snapshot:
        assert len(snapshot.open_reservations()) == 450
        assert all(entry.accounts == (ACCOUNT,) for entry in snapshot.ledger())
        assert snapshot.balance(ACCOUNT).reserved == Amounts(450)
        assert len(snapshot.effects()) == 450


def test_lists_are_what_the_database_would_find_after_every_write(store: Store) -> None:
    def lists(snapshot: Any) -> list[list[str]]:
        queries: tuple[dict[str, Any], ...] = (
            {"states": ["Inbox"]}, {"states": ["Inbox", "Done"]}, {"namespace": "default"}, {"namespace": "other"},
            {"owner_uid": "o"}, {"owner_uid": "o", "states": ["Done"]}, {"labels": {"a": "b"}}, {},
        )  # fmt: skip
        return [[f"{m.name}={m.state}@{m.resource_version}" for m in snapshot.objects("Mission", **q)] for q in queries]

    def agree() -> None:
        with store.transaction(ALICE) as tx:
            remembered = lists(tx)
        with store.snapshot() as snapshot:
            assert remembered == lists(snapshot)

    agree()
    with store.transaction(ALICE) as tx:
        lists(tx)
        tx.create(Declared("Mission", "default", "b", {}, {"a": "b"}), status={"state": "Inbox"}, owner_uid="o")
        first = lists(tx)
        tx.create(Declared("Mission", "default", "a", {}), status={"state": "Done"})
        tx.create(Declared("Mission", "other", "a", {}), status={"state": "Inbox"}, owner_uid="o")
        assert lists(tx) != first
    agree()
    for name, state in (("b", "Done"), ("a", "Inbox"), ("b", "Inbox"), ("b", "Lost")):
        with store.transaction(ALICE) as tx:
            lists(tx)
            found = tx.get(Key("Mission", "default", name))
            assert found is not None
            tx.put_status(found, {"state": state})
            lists(tx)
        agree()
    with store.transaction(ALICE) as tx:
        lists(tx)
        found = tx.get(Key("Mission", "default", "b"))
        assert found is not None
        tx.remove(tx.put_spec(found, Declared("Mission", "default", "c", {"title": "moved"})))
    agree()


def test_what_a_new_object_owns_is_found_by_whoever_asks(harness: Harness) -> None:
    ours, theirs = harness.open(), harness.open()

    def owned(tx: Transaction) -> list[str]:
        return [run.name for run in tx.objects("Run", owner_uid=uid)]

    with ours.transaction(ALICE) as tx:
        uid = tx.create(Declared("Mission", "default", "a", {})).uid
        assert owned(tx) == []
        run = tx.create(Declared("Run", "default", "a-1", {}), owner_uid=uid)
        assert owned(tx) == ["a-1"]
        tx.remove(run)
        assert owned(tx) == []
        (other,) = tx.create_many([Declared("Mission", "default", "b", {})])
        tx.create_many([Declared("Run", "default", "b-1", {})], owner_uid=other.uid)
        assert [run.name for run in tx.objects("Run", owner_uid=other.uid)] == ["b-1"]
        uid = tx.create(Declared("Mission", "default", "c", {})).uid
    with theirs.transaction(ALICE) as tx:
        tx.create(Declared("Run", "default", "c-1", {}), owner_uid=uid)
    with ours.transaction(ALICE) as tx:
        assert owned(tx) == ["c-1"]


def test_a_mark_is_another_one_after_every_write_of_its_kinds_by_anybody(harness: Harness) -> None:
    ours, theirs = harness.open(), harness.open()
    kinds = ("Hold", "Mission")

    def mark(store: Store) -> object:
        with store.transaction(ALICE) as tx:
            return tx.mark(kinds)

    seen = [mark(ours)]

    def moved() -> bool:
        seen.append(mark(ours))
        return all(seen[-1] is not other for other in seen[:-1])

    with ours.transaction(ALICE) as tx:
        made(tx)
        assert tx.mark(kinds) is not seen[-1], "within a transaction, too"
    assert moved()
    move(ours, "Planned")
    assert moved()
    with theirs.transaction(ALICE) as tx:
        tx.create(Declared("Hold", "default", "stop", {}))
    assert moved()
    with ours.transaction(ALICE) as tx:
        hold = tx.get(Key("Hold", "default", "stop"))
        assert hold is not None
        tx.put_spec(hold, Declared("Hold", "default", "stop", {"reason": "r"}))
    assert moved()
    with ours.transaction(ALICE) as tx:
        hold = tx.get(Key("Hold", "default", "stop"))
        assert hold is not None
        tx.remove(hold)
    assert moved()
    with abandoned(ours) as tx:
        made(tx, "b")
    assert moved()


def test_a_memory_that_grew_forgets_first_what_was_made_and_never_read(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made(tx)
        for number in range(MOST - 500):
            made(tx, f"m{number}")
    with store.transaction(ALICE) as tx:
        found = tx.get(Key("Mission", "default", "m7"))
        assert found is not None
        assert tx.get_by_uid(found.uid) == found
        assert tx.get(Key("Mission", "default", "none")) is None
        with pytest.raises(AlreadyExists):
            made(tx, "m8")
