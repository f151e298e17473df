"""Effects that are addressed to one of several engines."""

from __future__ import annotations

import pytest

from schemas.errors import Fenced
from store.contract import Effect, EffectState, Store
from tests.fakes.stores import ALICE, KEY, SettableClock


def claimed(store: Store, *types: str, by: str = "me") -> list[Effect]:
    with store.transaction(ALICE) as tx:
        return tx.claim_effects(by, types=list(types), limit=10, lease_s=60)


def enqueued(store: Store, *keys: str) -> None:
    with store.transaction(ALICE) as tx:
        for key in keys:
            tx.enqueue("StartRun", key, KEY, {})


def test_an_addressed_effect_is_claimed_by_nobody_else_ever_again(store: Store, clock: SettableClock) -> None:
    enqueued(store, "a")
    with store.transaction(ALICE) as tx:
        [effect] = tx.claim_effects("me", types=["StartRun"], limit=10, lease_s=60)
        tx.address_effect(effect, "StartRun@here", keep=True)
    clock.tick(1_000)
    assert claimed(store, "StartRun", by="another") == []
    [again] = claimed(store, "StartRun@here", by="my next life")
    assert (again.key, again.type, again.token) == ("a", "StartRun@here", effect.token + 1)


def test_a_claim_that_is_kept_is_finished_under_its_token(store: Store) -> None:
    enqueued(store, "a")
    [effect] = claimed(store, "StartRun")
    with store.transaction(ALICE) as tx:
        tx.address_effect(effect, "StartRun@here", keep=True)
        tx.finish_effect(effect)
    with store.snapshot() as snapshot:
        done = snapshot.effect("a")
    assert done is not None
    assert (done.state, done.type) == (EffectState.DONE, "StartRun@here")


def test_an_effect_for_somebody_else_goes_to_them_at_once(store: Store) -> None:
    enqueued(store, "a")
    [effect] = claimed(store, "StartRun")
    with store.transaction(ALICE) as tx:
        tx.address_effect(effect, "StartRun@there", keep=False)
    with pytest.raises(Fenced), store.transaction(ALICE) as tx:
        tx.finish_effect(effect)
    assert [e.key for e in claimed(store, "StartRun@there", by="them")] == ["a"]


def test_only_the_current_claim_may_address_an_effect(store: Store, clock: SettableClock) -> None:
    enqueued(store, "a")
    [effect] = claimed(store, "StartRun")
    clock.tick(61)
    claimed(store, "StartRun", by="another")
    for keep in (True, False):
        with pytest.raises(Fenced), store.transaction(ALICE) as tx:
            tx.address_effect(effect, "StartRun@here", keep=keep)


def test_claims_of_some_types_are_given_back_and_others_stay(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.enqueue("StartRun@here", "a", KEY, {})
        tx.enqueue("StartRun@there", "b", KEY, {})
    claimed(store, "StartRun@here", "StartRun@there")
    with store.transaction(ALICE) as tx:
        assert tx.release_claims(types=[]) == 0
        assert tx.release_claims(types=["StartRun@here"]) == 1
    assert [e.key for e in claimed(store, "StartRun@here", "StartRun@there")] == ["a"]
    with store.transaction(ALICE) as tx:
        assert tx.release_claims() == 2
