"""Timers: at most one per key and purpose, found by due time."""

from __future__ import annotations

from datetime import timedelta

from schemas.base import Key
from store.contract import Store, Timer
from tests.fakes.stores import ALICE, KEY, START, mission

OTHER = Key("Budget", "", "all")


def test_a_timer_is_set_moved_and_cleared(store: Store) -> None:
    soon, later = START + timedelta(seconds=1), START + timedelta(days=400)
    with store.transaction(ALICE) as tx:
        tx.set_timer(KEY, "retry", later)
        tx.set_timer(KEY, "deadline", later)
        tx.set_timer(KEY, "retry", soon)
        tx.set_timer(KEY, "retry", soon)
        assert tx.timers() == [Timer(KEY, "retry", soon), Timer(KEY, "deadline", later)]
        tx.clear_timer(KEY, "retry")
        tx.clear_timer(KEY, "retry")
    with store.snapshot() as snapshot:
        assert snapshot.timers() == [Timer(KEY, "deadline", later)]


def test_timers_are_due_at_their_very_moment_and_in_a_fixed_order(store: Store) -> None:
    due = START + timedelta(microseconds=1)
    with store.transaction(ALICE) as tx:
        for key in (KEY, OTHER, Key("Mission", "default", "b")):
            tx.set_timer(key, "wake", due)
        tx.set_timer(KEY, "early", START)
    with store.snapshot() as snapshot:
        assert [t.key.name for t in snapshot.timers(due_before=due)] == ["a", "all", "a", "b"]
        assert [t.purpose for t in snapshot.timers(due_before=START)] == ["early"]
        assert snapshot.timers(due_before=START - timedelta(microseconds=1)) == []
        assert [t.purpose for t in snapshot.timers(limit=2)] == ["early", "wake"]
        assert snapshot.timers(limit=0) == []


def test_a_timer_needs_no_object_and_outlives_one(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission())
        tx.set_timer(KEY, "ttl", START)
        tx.remove(made)
    with store.snapshot() as snapshot:
        assert snapshot.timers() == [Timer(KEY, "ttl", START)]
