"""Homes of engines, and the effects and runs that belong to them: what can go wrong with names, files and leases."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from controllers.effects import homes
from controllers.effects.runs import CANCEL, START
from controllers.runtime import home
from controllers.runtime.home import LEADER, TTL_S, Home, Member
from schemas.errors import StoreLocked, StoreUnavailable
from schemas.resource import SYSTEM
from store.contract import Effect, EffectState
from tests.fakes.stores import KEY, CountedIds, SettableClock, SqliteHarness

IDS = CountedIds("id")


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    made = SqliteHarness(tmp_path)
    yield made
    made.close()


def moved_in(state: Path) -> Home:
    return home.move_in(state, now=SettableClock()(), new_id=IDS)


# The directory.


@pytest.mark.parametrize("written", ["", "UPPER", "../evil", "a b", "x" * 62, "-dash", "name\n\n\nmore"])
def test_a_name_that_is_none_is_replaced_and_stays(tmp_path: Path, written: str) -> None:
    (tmp_path / "engine.name").write_text(written)
    first = moved_in(tmp_path)
    first.lock.release()
    second = moved_in(tmp_path)
    second.lock.release()
    assert first.name == second.name != written.strip()
    assert first.life != second.life
    assert second.before == first.life
    assert first.lease == f"engine/{first.name}"


def test_a_name_that_was_cut_short_by_a_crash_leaves_the_one_before(tmp_path: Path) -> None:
    first = moved_in(tmp_path)
    first.lock.release()
    (tmp_path / "engine.name.new").write_text("half")
    second = moved_in(tmp_path)
    second.lock.release()
    assert second.name == first.name


def test_a_directory_that_takes_no_file_is_reported_and_left_unlocked(tmp_path: Path) -> None:
    (tmp_path / "engine.life").mkdir()
    for _ in range(2):  # a lock that was kept would make the second one StoreLocked
        with pytest.raises(StoreUnavailable, match="Make it writable for you"):
            moved_in(tmp_path)


def test_who_cannot_join_moves_out_again(harness: SqliteHarness, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    first = moved_in(state)
    first.lock.release()
    store = harness.open()
    with store.transaction(SYSTEM) as tx:
        tx.acquire_lease(first.lease, "somebody else", ttl_s=TTL_S)
    for _ in range(2):
        with pytest.raises(StoreLocked, match=r"remove engine\.name from the state directory that is the copy"):
            Member.join(store, state, now=harness.clock(), new_id=IDS)


# Leases.


def test_a_lease_is_extended_while_it_is_ones_own_and_never_taken_back(harness: SqliteHarness, tmp_path: Path) -> None:
    store = harness.open()
    one = moved_in(tmp_path)
    with store.transaction(SYSTEM) as tx:
        lease = home.join(tx, one)
    harness.clock.tick(TTL_S * 3)
    with store.transaction(SYSTEM) as tx:
        assert home.renew(tx, lease), "it ran out, and nobody took it"
    harness.clock.tick(TTL_S * 3)
    with store.transaction(SYSTEM) as tx:
        taken = tx.acquire_lease(one.lease, "another", ttl_s=TTL_S)
        assert taken is not None
        assert taken.token > lease.token
        assert not home.renew(tx, lease)
    harness.clock.tick(TTL_S * 3)
    with store.transaction(SYSTEM) as tx:
        assert not home.renew(tx, lease), "also when the other one let it run out"
        tx.release_lease(one.lease, taken.token)
        assert not home.renew(tx, lease)
    one.lock.release()


def test_a_new_life_gives_back_only_what_the_one_before_it_held(harness: SqliteHarness, tmp_path: Path) -> None:
    store = harness.open()
    first = moved_in(tmp_path)
    with store.transaction(SYSTEM) as tx:
        home.join(tx, first)
        tx.acquire_lease(LEADER, "another home/its life", ttl_s=TTL_S)
    first.lock.release()
    second = moved_in(tmp_path)
    with store.transaction(SYSTEM) as tx:
        lease = home.join(tx, second)
        leader = tx.lease(LEADER)
    assert lease.holder == second.life
    assert leader is not None
    assert leader.holder == "another home/its life"
    second.lock.release()


# Effects.


def claimed(harness: SqliteHarness, key: str, payload: dict[str, str], type_: str = START) -> Effect:
    with harness.open().transaction(SYSTEM) as tx:
        tx.enqueue(type_, key, KEY, payload)
        (effect,) = tx.claim_effects("me", types=[type_], limit=1, lease_s=60)
    return effect


def test_an_effect_of_a_run_that_is_gone_may_be_carried_out_by_anybody(harness: SqliteHarness) -> None:
    effect = claimed(harness, "start/x", {"runUid": "nobody"})
    with harness.open().transaction(SYSTEM) as tx:
        assert homes.keeper("here")(tx, effect)
        left = tx.effect("start/x")
    assert left is not None
    assert (left.type, left.state) == (START, EffectState.CLAIMED)


def test_an_effect_that_is_addressed_is_not_addressed_again(harness: SqliteHarness) -> None:
    effect = claimed(harness, "cancel/x", {}, homes.addressed(CANCEL, "here"))
    with harness.open().transaction(SYSTEM) as tx:
        assert homes.keeper("here")(tx, effect), "not even its run is looked up"


def test_types_of_a_home_are_its_own() -> None:
    assert homes.own_types("a") == ["StartRun@a", "CancelRun@a"]
    assert not set(homes.own_types("a")) & set(homes.own_types("b"))
    assert timedelta(minutes=1) < homes.SILENCE
