"""Cursors: what changed since, in one order, and who is told of it."""

from __future__ import annotations

import pytest

from schemas.base import Key
from store.contract import Change, Op, Store
from tests.fakes.stores import ALICE, KEY, Harness, abandoned, mission


def test_an_empty_store_is_at_version_nought(store: Store) -> None:
    assert store.cursor() == 0
    with store.snapshot() as snapshot:
        assert snapshot.latest_version() == 0
        assert snapshot.oldest_cursor() == 0
        assert snapshot.changes_since(0) == []


def test_each_object_shows_once_with_its_latest_change(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        a = tx.create(mission("a"), owner_uid="o")
        b = tx.create(mission("b"))
        c = tx.create(mission("c"))
        a = tx.put_status(a, {"n": 1})
        tx.remove(b)
    with store.snapshot() as snapshot:
        assert snapshot.changes_since(0) == [
            Change(c.resource_version, Op.PUT, c.key, c.uid),
            Change(a.resource_version, Op.PUT, a.key, a.uid, "o"),
            Change(5, Op.REMOVED, b.key, b.uid),
        ]
        assert [c.resource_version for c in snapshot.changes_since(3)] == [4, 5]
        assert [c.resource_version for c in snapshot.changes_since(0, limit=2)] == [3, 4]
        assert snapshot.changes_since(5) == []
        assert snapshot.changes_since(0, limit=0) == []


def test_following_the_cursor_in_small_steps_misses_nothing(store: Store) -> None:
    seen: dict[str, Change] = {}
    cursor = 0
    for round_ in range(20):
        with store.transaction(ALICE) as tx:
            for i in range(round_ % 4):
                tx.create(mission(f"m{round_}-{i}"))
            for old in tx.objects("Mission")[::5]:
                tx.remove(old) if round_ % 3 == 0 else tx.put_status(old, {"round": round_})
        with store.snapshot() as snapshot:
            while changes := snapshot.changes_since(cursor, limit=2):
                assert [c.resource_version for c in changes] == sorted({c.resource_version for c in changes})
                assert changes[0].resource_version > cursor
                cursor = changes[-1].resource_version
                seen |= {c.uid: c for c in changes}
            assert cursor == snapshot.latest_version()
            live = {r.uid: r.resource_version for r in snapshot.objects("Mission")}
    assert {uid: c.resource_version for uid, c in seen.items() if c.op is Op.PUT} == live


@pytest.mark.parametrize("number", [10**30, -(10**30)])
def test_numbers_beyond_every_column_are_only_numbers(store: Store, number: int) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission())
        tx.event("Created", made, reason="R", message="m")
        tx.enqueue("StartRun", "k", KEY, {})
        tx.set_timer(KEY, "wake", tx.now)
        assert len(tx.claim_effects("me", types=["StartRun"], limit=number, lease_s=1)) == (number > 0)
    with store.snapshot() as snapshot:
        assert len(snapshot.changes_since(number)) == (number < 0)
        assert len(snapshot.events(after=number)) == (number < 0)
        assert len(snapshot.events(before=number)) == (number > 0)
        assert snapshot.spec_at(made.uid, number) is None
        for listed in (
            snapshot.changes_since(0, limit=number),
            snapshot.events(limit=number),
            snapshot.objects("Mission", limit=number),
            snapshot.objects("Mission", labels={}, states=["", "x"], limit=number),
            snapshot.effects(limit=number),
            snapshot.timers(limit=number),
        ):
            assert len(listed) == (number > 0)
        assert snapshot.ledger(limit=number) == []


def test_pruned_removals_are_forgotten_and_the_oldest_cursor_says_so(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create_many([mission("a"), mission("b"), mission("c")])
        for r in made:
            tx.remove(r)
    with store.transaction(ALICE) as tx:
        assert tx.prune_tombstones(5) == 2
        assert tx.prune_tombstones(5) == 0
        assert tx.oldest_cursor() == 5
    with store.snapshot() as snapshot:
        assert [c.key for c in snapshot.changes_since(0)] == [made[2].key]
        assert snapshot.oldest_cursor() == 5
        assert snapshot.latest_version() == 6


def test_pruning_never_reaches_beyond_what_was_given_out(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.remove(tx.create(mission()))
        assert tx.prune_tombstones(10**12) == 1
        assert tx.oldest_cursor() == tx.latest_version() == 2


def test_pruning_leaves_objects_and_their_specs(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        kept = tx.create(mission("kept"))
        gone = tx.create(mission("gone"))
        tx.remove(gone)
        tx.prune_tombstones(tx.latest_version())
        assert tx.get(kept.key) == kept
        assert len(tx.specs(gone.uid)) == 1


def test_the_cursor_follows_every_commit_and_no_rollback(store: Store, harness: Harness) -> None:
    elsewhere = harness.open()
    with store.transaction(ALICE) as tx:
        made = tx.create(mission())
        assert store.cursor() == 0
    assert store.cursor() == elsewhere.cursor() == 1
    with abandoned(store) as tx:
        tx.put_status(made, {"n": 1})
    assert store.cursor() == elsewhere.cursor() == 1
    with elsewhere.transaction(ALICE) as tx:
        tx.put_status(made, {"n": 2})
    assert store.cursor() == elsewhere.cursor() == 2
    assert store.cursor() == 2


def test_subscribers_hear_of_each_commit_that_wrote_something(store: Store) -> None:
    heard: list[int] = []
    also: list[int] = []
    unsubscribe = store.subscribe(heard.append)
    store.subscribe(also.append)
    with store.transaction(ALICE) as tx:
        tx.create(mission())
        assert heard == []
    assert heard == [1]
    with store.transaction(ALICE) as tx:
        tx.get(KEY)
    assert heard == [1]
    with store.transaction(ALICE) as tx:
        tx.enqueue("start", "k", KEY, {})
    assert heard == [1, 1]
    with abandoned(store) as tx:
        tx.create(mission("b"))
    assert heard == [1, 1]
    unsubscribe()
    unsubscribe()
    with store.transaction(ALICE) as tx:
        tx.create(mission("c"))
    assert heard == [1, 1]
    assert also == [1, 1, 2]


def test_a_subscriber_may_begin_a_transaction_and_may_fail(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    def follow(version: int) -> None:
        with store.transaction(ALICE) as tx:
            if tx.get(Key("Mission", "default", "b")) is None:
                tx.create(mission("b"))
        raise RuntimeError("a subscriber's own trouble")

    store.subscribe(follow)
    with store.transaction(ALICE) as tx:
        tx.create(mission("a"))
    with store.snapshot() as snapshot:
        assert [r.name for r in snapshot.objects("Mission")] == ["a", "b"]
    assert "a subscriber failed on version 1" in caplog.text
