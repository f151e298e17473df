"""Leases: one holder at a time, tokens that only grow, and writers that are stopped when theirs is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.errors import Fenced
from store.contract import Fence, Lease, Store
from tests.fakes.stores import ALICE, KEY, Harness, SettableClock


def acquire(store: Store, holder: str, ttl_s: float = 15.0, *, name: str = "leader") -> Lease | None:
    with store.transaction(ALICE) as tx:
        return tx.acquire_lease(name, holder, ttl_s=ttl_s)


def release(store: Store, token: int) -> bool:
    with store.transaction(ALICE) as tx:
        return tx.release_lease("leader", token)


def write(store: Store, token: int, *, name: str = "leader") -> None:
    with store.transaction(ALICE, fence=Fence(name, token)) as tx:
        tx.event("Updated", KEY, reason="R", message=str(token))


def test_a_free_lease_is_taken_and_kept(store: Store, clock: SettableClock) -> None:
    lease = acquire(store, "one")
    assert lease == Lease("leader", "one", 1, clock.moment + timedelta(seconds=15))
    with store.snapshot() as snapshot:
        assert snapshot.lease("leader") == lease
        assert snapshot.lease("other") is None
    assert acquire(store, "two") is None
    assert acquire(store, "two", name="other") is not None


def test_extending_ones_own_lease_keeps_the_token(store: Store, clock: SettableClock) -> None:
    acquire(store, "one")
    clock.tick(10)
    assert acquire(store, "one") == Lease("leader", "one", 1, clock.moment + timedelta(seconds=15))
    clock.tick(14)
    assert acquire(store, "two") is None


def test_an_expired_lease_can_be_taken_over_with_a_new_token(store: Store, clock: SettableClock) -> None:
    acquire(store, "one")
    clock.tick(15)
    with store.snapshot() as snapshot:
        old = snapshot.lease("leader")
        assert old is not None
        assert old.token == 1
    taken = acquire(store, "two")
    assert taken is not None
    assert (taken.holder, taken.token) == ("two", 2)
    assert acquire(store, "one") is None


def test_a_late_holder_that_nobody_replaced_goes_on_under_its_token(store: Store, clock: SettableClock) -> None:
    acquire(store, "one")
    clock.tick(1_000)
    write(store, 1)
    extended = acquire(store, "one")
    assert extended is not None
    assert extended.token == 1


def test_a_released_lease_is_free_and_its_token_never_comes_back(store: Store) -> None:
    acquire(store, "one")
    assert not release(store, 7)
    assert release(store, 1)
    assert not release(store, 1)
    with pytest.raises(Fenced, match="given up"):
        write(store, 1)
    again = acquire(store, "one")
    assert again is not None
    assert again.token == 2
    with pytest.raises(Fenced, match=r"token 2, this writer has 1"):
        write(store, 1)
    write(store, 2)


def test_a_release_with_an_old_token_takes_nothing_from_the_new_holder(store: Store, clock: SettableClock) -> None:
    acquire(store, "one")
    clock.tick(20)
    acquire(store, "two")
    assert not release(store, 1)
    write(store, 2)


def test_a_fenced_writer_writes_nothing(store: Store, clock: SettableClock) -> None:
    acquire(store, "one")
    write(store, 1)
    clock.tick(20)
    acquire(store, "two")
    with pytest.raises(Fenced, match=r"the lease leader went to two"):
        write(store, 1)
    with pytest.raises(Fenced, match="never given out"):
        write(store, 1, name="unknown")
    with store.snapshot() as snapshot:
        assert [e.message for e in snapshot.events()] == ["1"]
        assert snapshot.get(KEY) is None


def test_a_clock_that_jumps_back_does_not_free_a_lease(store: Store, clock: SettableClock) -> None:
    acquire(store, "one")
    clock.tick(-3_600)
    assert acquire(store, "two") is None
    write(store, 1)


def test_of_two_processes_one_gets_the_lease(store: Store, harness: Harness) -> None:
    other = harness.open()
    assert acquire(store, "one") is not None
    assert acquire(other, "two") is None
    assert release(store, 1)
    assert acquire(other, "two") is not None
    with pytest.raises(Fenced):
        write(store, 1)


def test_a_lease_needs_a_holder(store: Store) -> None:
    with pytest.raises(ValueError, match="holder"):
        acquire(store, "")
