"""When a Provider gives no slot, why, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from decisions.pools import LONGEST, PoolFacts, pause, standing, used
from schemas.base import Key
from schemas.mission import Backoff
from schemas.provider import MinuteUse, ProviderReason, ProviderSpec, ProviderStatus

NOW = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
LAB = Key("Provider", "default", "lab")
FIRM = Backoff(jitter=0)


def pool(in_use: int = 0, *, declared: bool = True, status: dict[str, Any] | None = None, **spec: Any) -> PoolFacts:
    return PoolFacts(
        LAB, ProviderSpec.model_validate(spec), ProviderStatus.model_construct(**(status or {})), in_use, declared
    )


def test_a_pool_has_three_slots_where_nobody_says_how_many() -> None:
    assert [standing(pool(n, declared=False), NOW).free for n in range(5)] == [3, 2, 1, 0, 0]
    assert "declare provider/lab to set how many" in standing(pool(3, declared=False), NOW).message
    assert "all 2 slots of provider/lab are taken" in standing(pool(2, maxConcurrency=2), NOW).message


def test_no_slots_are_no_slots() -> None:
    assert standing(pool(0, maxConcurrency=0), NOW).free == 0


def test_a_suspended_pool_gives_none_and_says_how_to_go_on() -> None:
    found = standing(pool(suspend=True), NOW)
    assert (found.free, found.reason, found.until) == (0, ProviderReason.SUSPENDED, None)
    assert "set it to false" in found.message


def test_a_pause_ends_by_itself_at_its_time() -> None:
    until = NOW + timedelta(seconds=5)
    paused = pool(status={"backoff_until": until, "last_error": "429 slow down"})
    found = standing(paused, NOW)
    assert (found.free, found.reason, found.until) == (0, ProviderReason.BACKING_OFF, until)
    assert "429 slow down" in found.message
    assert standing(paused, until).free == 3


def test_a_clock_that_was_set_back_makes_no_pause_longer_than_one_can_be() -> None:
    paused = pool(status={"backoff_until": NOW + LONGEST + timedelta(days=1)})
    assert standing(paused, NOW).free == 3


@pytest.mark.parametrize(("limit", "reached"), [({"requestsPerMinute": 5}, True), ({"tokensPerMinute": 100}, True),
                                                ({"tokensPerMinute": 101}, False), ({}, False)])  # fmt: skip
def test_a_minute_that_is_used_up_waits_for_the_next(limit: dict[str, int], reached: bool) -> None:
    minute = MinuteUse(began=NOW - timedelta(seconds=20), requests=5, tokens=100)
    found = standing(pool(rateLimit=limit, status={"minute": minute}), NOW)
    if reached:
        assert (found.free, found.reason) == (0, ProviderReason.RATE_LIMITED)
        assert found.until == NOW + timedelta(seconds=40)
        assert standing(pool(rateLimit=limit, status={"minute": minute}), NOW + timedelta(seconds=40)).free == 3
    else:
        assert found.free == 3


def test_a_minute_begins_with_the_first_use_after_the_last_one() -> None:
    first = used(None, NOW, 1, 10)
    assert (first.began, first.requests, first.tokens) == (NOW, 1, 10)
    second = used(first, NOW + timedelta(seconds=59), 2, 5)
    assert (second.began, second.requests, second.tokens) == (NOW, 3, 15)
    assert used(second, NOW + timedelta(seconds=60), 1, 1).requests == 1
    assert used(second, NOW - timedelta(days=1), 1, 1).requests == 1  # a clock that was set back


def test_each_pause_in_a_row_is_twice_as_long_up_to_the_longest() -> None:
    status, now, lengths = ProviderStatus(), NOW, []
    for _ in range(9):
        found = pause(FIRM, status, "u", None, now)
        lengths.append((found.until - now).total_seconds())
        status = ProviderStatus(backoff_until=found.until, streak=found.streak)
        now = found.until
    assert lengths == [2, 4, 8, 16, 32, 64, 128, 256, 300]


def test_answers_to_runs_that_were_at_it_together_are_one() -> None:
    first = pause(FIRM, ProviderStatus(), "u", None, NOW)
    status = ProviderStatus(backoff_until=first.until, streak=first.streak)
    again = pause(FIRM, status, "u", None, NOW + timedelta(seconds=1))
    assert again == first
    later = pause(FIRM, status, "u", timedelta(seconds=30), NOW + timedelta(seconds=1))
    assert later.until == NOW + timedelta(seconds=31)
    sooner = pause(FIRM, ProviderStatus(backoff_until=later.until, streak=1), "u", timedelta(0), NOW)
    assert sooner.until == later.until


def test_what_a_provider_asks_for_counts_up_to_an_hour() -> None:
    assert pause(FIRM, ProviderStatus(), "u", timedelta(days=3), NOW).until == NOW + LONGEST
    assert pause(FIRM, ProviderStatus(), "u", timedelta(seconds=45), NOW).until == NOW + timedelta(seconds=45)


def test_a_long_calm_makes_the_next_pause_a_first_one() -> None:
    status = ProviderStatus(backoff_ended=NOW - timedelta(minutes=6), streak=7)
    assert pause(FIRM, status, "u", None, NOW).streak == 1
    recent = ProviderStatus(backoff_ended=NOW - timedelta(minutes=4), streak=7)
    assert pause(FIRM, recent, "u", None, NOW).streak == 8
