"""Minted ids are UUIDv7, strictly growing, and carry the time, whatever the wall clock does."""

from __future__ import annotations

import random
import threading
import uuid
from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
from hypothesis import given

from controllers.runtime.ids import IdMint

times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))


def millis(uid: str) -> int:
    return uuid.UUID(uid).int >> 80


@given(st.lists(times, min_size=1), st.integers(0, 2**32))
def test_ids_grow_strictly_even_when_the_clock_jumps_back(moments: list[datetime], seed: int) -> None:
    clock = iter(moments)
    mint = IdMint(lambda: next(clock), random.Random(seed))
    ids = [mint.new() for _ in moments]
    assert ids == sorted(set(ids))
    for uid in ids:
        parsed = uuid.UUID(uid)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, uid)


@given(st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)), st.integers(0, 2**32))
def test_the_first_id_of_a_millisecond_carries_it(moment: datetime, seed: int) -> None:
    uid = IdMint(lambda: moment, random.Random(seed)).new()
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    assert millis(uid) == since // timedelta(milliseconds=1)


def test_a_millisecond_that_runs_over_borrows_the_next_one() -> None:
    frozen = datetime(2026, 1, 5, tzinfo=UTC)
    mint = IdMint(lambda: frozen, random.Random(0))
    first = mint.new()
    mint._tail = (1 << 74) - 2  # one step before the counter runs over
    second = mint.new()
    assert second > first
    assert millis(second) == millis(first) + 1
    assert mint.new() > second


def test_threads_never_get_the_same_id() -> None:
    frozen = datetime(2026, 1, 5, tzinfo=UTC)
    mint = IdMint(lambda: frozen, random.Random(0))
    ids: list[list[str]] = [[] for _ in range(4)]

    def work(out: list[str]) -> None:
        out.extend(mint.new() for _ in range(2_000))

    threads = [threading.Thread(target=work, args=(out,)) for out in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({uid for out in ids for uid in out}) == 8_000
    assert all(out == sorted(out) for out in ids)


def test_the_same_clock_and_seed_give_the_same_ids() -> None:
    def three() -> list[str]:
        mint = IdMint(lambda: datetime(2026, 1, 5, tzinfo=UTC), random.Random(3))
        return [mint.new() for _ in range(3)]

    assert three() == three()
