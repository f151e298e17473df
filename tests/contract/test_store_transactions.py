"""Transactions: all or nothing, invisible until they end, one after the other; snapshots that stand still."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest

from schemas.base import Key
from schemas.errors import StoreUnavailable
from store.contract import Amounts, EntryKind, LedgerEntry, Snapshot, Store, Transaction
from tests.fakes.stores import ALICE, KEY, START, Harness, SettableClock, abandoned, mission


def write_everything(tx: Transaction) -> None:
    made = tx.create(mission())
    tx.put_status(made, {"state": "Inbox"})
    tx.event("Created", made, reason="R", message="m", data={"related": ["x"]})
    tx.enqueue("StartRun", "k", KEY, {})
    tx.set_timer(KEY, "wake", tx.now)
    tx.post(LedgerEntry("r", EntryKind.RESERVE, ("a",), Amounts(1), tx.now))
    tx.acquire_lease("leader", "me", ttl_s=15)
    tx.remove(tx.create(mission("gone")))
    tx.prune_tombstones(100)
    tx.prune_effects(tx.now, limit=100)


def everything(snapshot: Snapshot) -> list[object]:
    return [
        snapshot.objects("Mission"),
        snapshot.latest_version(),
        snapshot.oldest_cursor(),
        snapshot.changes_since(0),
        snapshot.events(),
        snapshot.events(subject_uid="x"),
        snapshot.effects(),
        snapshot.timers(),
        snapshot.ledger(),
        snapshot.open_reservations(),
        snapshot.balance("a"),
        snapshot.lease("leader"),
        snapshot.verify_events(),
    ]


def test_a_transaction_that_fails_leaves_nothing_behind(store: Store) -> None:
    with store.snapshot() as snapshot:
        before = everything(snapshot)
    with abandoned(store) as tx:
        write_everything(tx)
    with store.snapshot() as snapshot:
        assert everything(snapshot) == before
    with store.transaction(ALICE) as tx:
        write_everything(tx)
    with store.snapshot() as snapshot:
        after = everything(snapshot)
    assert all(new != old for new, old in zip(after, before, strict=True))


def test_an_interrupt_rolls_back_like_an_error(store: Store) -> None:
    with abandoned(store, by=KeyboardInterrupt) as tx:
        write_everything(tx)
    with store.transaction(ALICE) as tx:
        assert tx.get(KEY) is None
        write_everything(tx)


def test_nothing_is_visible_before_the_commit(store: Store, harness: Harness) -> None:
    elsewhere = harness.open()
    with store.transaction(ALICE) as tx:
        write_everything(tx)
        assert tx.get(KEY) is not None
        for other in (store, elsewhere):
            with other.snapshot() as snapshot:
                assert snapshot.get(KEY) is None
                assert snapshot.latest_version() == 0
                assert snapshot.events() == []
    for other in (store, elsewhere):
        with other.snapshot() as snapshot:
            assert snapshot.get(KEY) is not None


def test_a_snapshot_stands_still(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission())
    with store.snapshot() as snapshot:
        with store.transaction(ALICE) as tx:
            tx.put_status(made, {"n": 1})
            tx.event("Updated", made, reason="R", message="m")
            tx.create(mission("b"))
        assert snapshot.get(KEY) == made
        assert snapshot.objects("Mission") == [made]
        assert snapshot.latest_version() == made.resource_version
        assert snapshot.events() == []
        assert snapshot.verify_events().count == 0
    with store.snapshot() as snapshot:
        assert len(snapshot.objects("Mission")) == 2


def test_a_snapshot_sees_one_moment_from_its_first_instant(store: Store) -> None:
    with store.snapshot() as snapshot:
        with store.transaction(ALICE) as tx:
            tx.create(mission())
        assert snapshot.get(KEY) is None


def test_everything_of_a_transaction_carries_the_time_it_began(store: Store, clock: SettableClock) -> None:
    with store.transaction(ALICE) as tx:
        assert (tx.now, tx.actor) == (START, ALICE)
        clock.tick(60)
        made = tx.create(mission())
        tx.event("Created", made, reason="R", message="m")
        tx.enqueue("StartRun", "k", KEY, {})
        assert tx.now == made.created_at == START
        effect = tx.effect("k")
        assert effect is not None
        assert effect.created_at == effect.due_at == tx.events()[0].at == START
        assert tx.specs(made.uid)[0].recorded_at == START


def test_a_transaction_is_of_no_use_after_its_block(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.create(mission())
    with store.snapshot() as snapshot:
        pass
    for ended in (tx, snapshot):
        with pytest.raises(RuntimeError, match="after its block"):
            ended.get(KEY)
    with pytest.raises(RuntimeError, match="after its block"):
        tx.create(mission("b"))


def test_a_transaction_inside_another_of_the_same_thread_is_a_mistake(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        with pytest.raises(RuntimeError, match="inside another"), store.transaction(ALICE):
            pass
        tx.create(mission())
    with store.snapshot() as snapshot:
        assert snapshot.get(KEY) is not None


def test_a_clock_without_a_zone_is_refused(harness: Harness) -> None:
    store = harness.open()
    harness.clock.moment = datetime(2026, 1, 1)
    with pytest.raises(TypeError), store.transaction(ALICE):
        pass


def test_threads_that_count_up_lose_no_step(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.create(mission(), status={"n": 0})
    versions: list[int] = []
    store.subscribe(versions.append)

    def count() -> None:
        for _ in range(25):
            with store.transaction(ALICE) as tx:
                now = tx.get(KEY)
                assert now is not None
                tx.put_status(now, {"n": now.status["n"] + 1})
                tx.event("Updated", now, reason="R", message="+1")

    in_threads(*[count] * 8)
    with store.snapshot() as snapshot:
        now = snapshot.get(KEY)
        assert now is not None
        assert now.status == {"n": 200}
        assert now.resource_version == snapshot.latest_version() == 201
        report = snapshot.verify_events()
        assert (report.count, report.broken_seq) == (200, 0)
    assert sorted(versions) == list(range(2, 202))


def test_who_saw_a_version_never_sees_a_smaller_one_appear(store: Store, harness: Harness) -> None:
    """Several writers, and readers that follow the cursor: together they see every object exactly as last written."""
    elsewhere = harness.open()
    done = threading.Event()

    def write(which: Store, prefix: str) -> None:
        for i in range(40):
            with which.transaction(ALICE) as tx:
                tx.create(mission(f"{prefix}{i}"))

    def follow(which: Store, seen: list[str]) -> None:
        cursor = 0
        last = False
        while not last:
            last = done.is_set()
            with which.snapshot() as snapshot:
                for change in snapshot.changes_since(cursor):
                    seen.append(change.key.name)
                    cursor = change.resource_version

    found: list[list[str]] = [[], []]
    followers = [
        threading.Thread(target=follow, args=(s, seen)) for s, seen in zip((store, elsewhere), found, strict=True)
    ]
    for thread in followers:
        thread.start()
    in_threads(lambda: write(store, "a"), lambda: write(store, "b"), lambda: write(elsewhere, "c"))
    done.set()
    for thread in followers:
        thread.join()
    for seen in found:
        assert sorted(seen) == sorted(f"{p}{i}" for p in "abc" for i in range(40))


def test_readers_never_wait_for_a_writer(store: Store) -> None:
    """Twenty threads read while one transaction stays open; were one to wait for it, nobody would ever finish."""
    with store.transaction(ALICE) as tx:
        tx.create(mission())
        counts: list[int] = []

        def read() -> None:
            with store.snapshot() as snapshot:
                counts.append(snapshot.count("Mission"))
                counts.append(store.cursor())

        in_threads(*[read] * 20)
        assert counts == [0] * 40


def test_a_closed_store_answers_no_more(store: Store) -> None:
    store.close()
    store.close()
    for use in (store.snapshot, lambda: store.transaction(ALICE)):
        with pytest.raises(StoreUnavailable, match="closed"), use():
            pass
    with pytest.raises(StoreUnavailable, match="closed"):
        store.cursor()


def test_what_was_committed_is_there_when_the_store_is_opened_again(store: Store, harness: Harness) -> None:
    with store.transaction(ALICE) as tx:
        write_everything(tx)
    with store.snapshot() as snapshot:
        before = everything(snapshot)
    store.close()
    with harness.open().snapshot() as snapshot:
        assert everything(snapshot) == before
        assert snapshot.get(Key("Mission", "default", "gone")) is None


def in_threads(*targets: object) -> None:
    """Run all at once; raises the first error of any."""
    errors: list[BaseException] = []

    def run(target: object) -> None:
        try:
            assert callable(target)
            target()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(target,)) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
