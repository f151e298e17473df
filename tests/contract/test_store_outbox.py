"""Outbox: enqueued once, claimed by one at a time, finished only by who holds the claim."""

from __future__ import annotations

from datetime import timedelta

import pytest

from schemas.base import Key
from schemas.errors import Fenced
from store.contract import Effect, EffectState, Store
from tests.fakes.stores import ALICE, KEY, START, Harness, SettableClock, abandoned

PENDING, CLAIMED, DONE, DEAD = EffectState.PENDING, EffectState.CLAIMED, EffectState.DONE, EffectState.DEAD


def put(store: Store, *keys: str, type: str = "StartRun", due_in: float = 0.0) -> None:
    with store.transaction(ALICE) as tx:
        for key in keys:
            assert tx.enqueue(type, key, KEY, {"for": key}, due_at=tx.now + timedelta(seconds=due_in))


def claim(store: Store, holder: str = "me", *, types: tuple[str, ...] = ("StartRun",), limit: int = 10) -> list[Effect]:
    with store.transaction(ALICE) as tx:
        return tx.claim_effects(holder, types=types, limit=limit, lease_s=30)


def stored(store: Store, key: str = "k") -> Effect:
    with store.snapshot() as snapshot:
        effect = snapshot.effect(key)
    assert effect is not None
    return effect


def test_an_effect_is_enqueued_once_whatever_became_of_it(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        assert tx.enqueue("StartRun", "k", KEY, {"a": 1})
        assert not tx.enqueue("StartRun", "k", KEY, {"a": 2})
    effect = stored(store)
    assert (effect.key, effect.type, effect.subject, effect.payload) == ("k", "StartRun", KEY, {"a": 1})
    assert (effect.state, effect.due_at, effect.created_at, effect.tries, effect.token) == (PENDING, START, START, 0, 0)
    assert (effect.claimed_by, effect.claim_until, effect.done_at, effect.result) == ("", None, None, None)
    [taken] = claim(store)
    with store.transaction(ALICE) as tx:
        assert not tx.enqueue("StartRun", "k", KEY, {"a": 3})
        tx.finish_effect(taken)
        assert not tx.enqueue("StartRun", "k", KEY, {"a": 4})
    assert stored(store).payload == {"a": 1}
    with store.snapshot() as snapshot:
        assert snapshot.effect("nothing") is None


def test_claims_go_by_due_time_and_then_by_id(store: Store, clock: SettableClock) -> None:
    put(store, "late", due_in=60)
    put(store, "third", due_in=2)
    put(store, "first", "second", due_in=1)
    assert claim(store) == []
    clock.tick(2)
    assert [e.key for e in claim(store, limit=2)] == ["first", "second"]
    assert [e.key for e in claim(store)] == ["third"]
    assert claim(store) == []


def test_an_effect_due_at_this_very_moment_is_due(store: Store, clock: SettableClock) -> None:
    put(store, "k", due_in=1)
    clock.tick(1)
    assert [e.key for e in claim(store)] == ["k"]


def test_claims_take_only_the_types_asked_for(store: Store) -> None:
    put(store, "a", type="StartRun")
    put(store, "b", type="Notify")
    assert claim(store, types=("Cancel",)) == []
    assert claim(store, types=()) == []
    assert claim(store, limit=0) == []
    assert [e.key for e in claim(store, types=("Notify", "Cancel"))] == ["b"]
    assert [e.key for e in claim(store, types=("Notify", "StartRun"))] == ["a"]


def test_a_claim_counts_a_try_raises_the_token_and_ends_by_itself(store: Store, clock: SettableClock) -> None:
    put(store, "k")
    [first] = claim(store, "one")
    assert first == stored(store)
    assert (first.state, first.tries, first.token, first.claimed_by) == (CLAIMED, 1, 1, "one")
    assert first.claim_until == clock.moment + timedelta(seconds=30)
    clock.tick(29)
    assert claim(store, "two") == []
    clock.tick(1)
    [second] = claim(store, "two")
    assert (second.tries, second.token, second.claimed_by) == (2, 2, "two")


def test_only_the_current_claim_may_report(store: Store, clock: SettableClock) -> None:
    put(store, "k")
    [old] = claim(store, "one")
    clock.tick(31)
    [new] = claim(store, "two")
    for report in (
        lambda tx: tx.finish_effect(old),
        lambda tx: tx.fail_effect(old, "boom", retry_at=None),
        lambda tx: tx.extend_claim(old, 30),
    ):
        with pytest.raises(Fenced, match=r"effect k \(token 1\).*Claimed with token 2"), store.transaction(ALICE) as tx:
            report(tx)
    with store.transaction(ALICE) as tx:
        tx.finish_effect(new, {"pid": 7})
    for claimed in (old, new):
        with pytest.raises(Fenced), store.transaction(ALICE) as tx:
            tx.finish_effect(claimed)
    assert stored(store).result == {"pid": 7}


def test_a_claim_that_ran_out_but_was_not_taken_may_still_report(store: Store, clock: SettableClock) -> None:
    put(store, "k")
    [claimed] = claim(store)
    clock.tick(3_600)
    with store.transaction(ALICE) as tx:
        tx.finish_effect(claimed)
    effect = stored(store)
    assert (effect.state, effect.done_at, effect.result) == (DONE, clock.moment, None)
    clock.tick(3_600)
    assert claim(store) == []


def test_an_extended_claim_lasts_longer(store: Store, clock: SettableClock) -> None:
    put(store, "k")
    [claimed] = claim(store)
    clock.tick(20)
    with store.transaction(ALICE) as tx:
        tx.extend_claim(claimed, 30)
    clock.tick(29)
    assert claim(store, "two") == []
    clock.tick(1)
    assert [e.token for e in claim(store, "two")] == [2]


def test_a_failed_effect_comes_again_when_it_should(store: Store, clock: SettableClock) -> None:
    put(store, "k")
    [claimed] = claim(store)
    retry_at = clock.moment + timedelta(seconds=10)
    with store.transaction(ALICE) as tx:
        tx.fail_effect(claimed, "refused \ud800", retry_at=retry_at)
    effect = stored(store)
    assert (effect.state, effect.due_at, effect.last_error) == (PENDING, retry_at, "refused \ufffd")
    assert (effect.claimed_by, effect.claim_until, effect.tries) == ("", None, 1)
    assert claim(store) == []
    clock.tick(10)
    [again] = claim(store)
    assert (again.tries, again.token, again.last_error) == (2, 2, "refused \ufffd")
    with store.transaction(ALICE) as tx:
        tx.finish_effect(again)
    assert stored(store).last_error == ""


def test_a_dead_effect_stays_dead(store: Store, clock: SettableClock) -> None:
    put(store, "k")
    [claimed] = claim(store)
    with store.transaction(ALICE) as tx:
        tx.fail_effect(claimed, "never", retry_at=None)
    effect = stored(store)
    assert (effect.state, effect.done_at, effect.last_error) == (DEAD, clock.moment, "never")
    clock.tick(10_000)
    assert claim(store) == []
    with pytest.raises(Fenced), store.transaction(ALICE) as tx:
        tx.finish_effect(claimed)


def test_only_a_pending_effect_can_be_withdrawn(store: Store) -> None:
    put(store, "k", "held")
    with store.transaction(ALICE) as tx:
        assert tx.drop_effect("k")
        assert not tx.drop_effect("k")
        assert not tx.drop_effect("nothing")
    effect = stored(store)
    assert (effect.state, effect.last_error) == (DEAD, "withdrawn")
    [held] = claim(store)
    with store.transaction(ALICE) as tx:
        assert not tx.drop_effect("held")
        tx.finish_effect(held)
        assert not tx.drop_effect("held")


def test_a_pending_effect_can_be_made_due_at_once(store: Store, clock: SettableClock) -> None:
    put(store, "k")
    told: list[frozenset[str] | None] = []
    with store.transaction(ALICE) as tx:
        (claimed,) = tx.claim_effects("me", types=["StartRun"], limit=1, lease_s=60)
        assert not tx.hasten_effect("k")
        tx.fail_effect(claimed, "later", retry_at=tx.now + timedelta(hours=1))
    stop = store.subscribe_effects(told.append)
    with store.transaction(ALICE) as tx:
        assert tx.hasten_effect("k")
        assert tx.hasten_effect("k")
        assert not tx.hasten_effect("nothing")
    stop()
    assert frozenset({"StartRun"}) in told
    assert stored(store).due_at == clock.moment
    assert [effect.key for effect in claim(store)] == ["k"]


def test_an_effect_is_gone_with_the_transaction_that_wanted_it(store: Store) -> None:
    with abandoned(store) as tx:
        tx.enqueue("StartRun", "k", KEY, {})
        assert [e.key for e in tx.claim_effects("me", types=["StartRun"], limit=1, lease_s=1)] == ["k"]
    with store.snapshot() as snapshot:
        assert snapshot.effects() == []


def test_effects_are_listed_by_state_subject_and_type(store: Store) -> None:
    other = Key("Mission", "default", "b")
    put(store, "a", "b")
    with store.transaction(ALICE) as tx:
        tx.enqueue("Notify", "c", other, {}, due_at=tx.now - timedelta(seconds=1))
    claim(store, limit=1)
    with store.snapshot() as snapshot:
        assert [e.key for e in snapshot.effects()] == ["c", "a", "b"]
        assert [e.key for e in snapshot.effects(states=[CLAIMED])] == ["a"]
        assert [e.key for e in snapshot.effects(states=[PENDING, CLAIMED], type="StartRun")] == ["a", "b"]
        assert [e.key for e in snapshot.effects(subject=other)] == ["c"]
        assert [e.key for e in snapshot.effects(limit=2)] == ["c", "a"]
        assert snapshot.effects(states=[]) == []
        assert snapshot.effects(states=[DONE]) == []


def test_two_holders_never_hold_the_same_effect(store: Store, harness: Harness, clock: SettableClock) -> None:
    other = harness.open()
    put(store, *(f"k{i:03d}" for i in range(100)))
    mine, theirs = [], []
    while batch := claim(store, "me", limit=7):
        mine += batch
        theirs += claim(other, "they", limit=3)
    keys = [e.key for e in mine + theirs]
    assert len(keys) == len(set(keys)) == 100


def test_what_ended_long_ago_is_forgotten_and_what_is_open_never(store: Store, clock: SettableClock) -> None:
    put(store, "done", "dead", "withdrawn", "open", "held")
    put(store, "far", due_in=10_000)
    for effect in claim(store):
        with store.transaction(ALICE) as tx:
            if effect.key == "done":
                tx.finish_effect(effect)
            elif effect.key == "dead":
                tx.fail_effect(effect, "no", retry_at=None)
            elif effect.key != "held":
                tx.fail_effect(effect, "later", retry_at=tx.now)
    with store.transaction(ALICE) as tx:
        assert tx.drop_effect("withdrawn")
        assert tx.prune_effects(tx.now - timedelta(seconds=1), limit=10) == 0
    clock.tick(100)
    with store.transaction(ALICE) as tx:
        assert tx.prune_effects(tx.now - timedelta(seconds=100), limit=2) == 2
        assert tx.prune_effects(tx.now - timedelta(seconds=100), limit=2) == 1
        assert tx.prune_effects(tx.now, limit=0) == 0
    with store.snapshot() as snapshot:
        assert {e.key for e in snapshot.effects()} == {"open", "held", "far"}
    with store.transaction(ALICE) as tx:
        assert tx.enqueue("StartRun", "done", KEY, {}), "its key is free again"


def test_who_asked_is_told_which_effects_are_due_once_they_are_committed(store: Store) -> None:
    told: list[frozenset[str]] = []
    unsubscribe = store.subscribe_effects(told.append)
    put(store, "a", "b")
    put(store, "later", type="Later", due_in=60)
    with pytest.raises(ZeroDivisionError), store.transaction(ALICE) as tx:  # noqa: PT012
        tx.enqueue("Never", "c", KEY, {})
        raise ZeroDivisionError
    with store.transaction(ALICE) as tx:
        tx.enqueue("StartRun", "a", KEY, {})  # is there
        tx.enqueue("CancelRun", "d", KEY, {})
        tx.enqueue("Notify", "e", KEY, {})
    unsubscribe()
    put(store, "f")
    assert told == [frozenset({"StartRun"}), frozenset({"CancelRun", "Notify"})]


def test_a_subscriber_that_fails_harms_nobody(store: Store) -> None:
    told: list[frozenset[str]] = []

    def fail(types: frozenset[str]) -> None:
        raise RuntimeError

    ends = [store.subscribe_effects(fail), store.subscribe_effects(told.append)]
    put(store, "a")
    for end in ends:
        end()
    assert told == [frozenset({"StartRun"})]
    assert stored(store, "a").state is PENDING


def test_the_types_that_wait_are_those_of_effects_that_are_pending_and_due(store: Store, clock: SettableClock) -> None:
    put(store, "a", "b")
    put(store, "later", type="Later", due_in=60)
    put(store, "claimed", type="CancelRun")
    claim(store, types=("CancelRun",))
    with store.snapshot() as snapshot:
        assert snapshot.waiting_effects(clock()) == {"StartRun"}
        assert snapshot.waiting_effects(clock() + timedelta(seconds=61)) == {"StartRun", "Later"}
