"""The outbox runners share one table; none of them may hide the work of another."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from controllers.effects.runner import Commit, EffectRunner
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.lifecycle import Lifecycle
from schemas.base import Key
from schemas.errors import StoreUnavailable
from schemas.resource import SYSTEM
from store.contract import Effect, EffectState, Transaction
from tests.fakes.clock import VirtualClock
from tests.fakes.stores import SqliteHarness


@pytest.mark.asyncio
async def test_a_cancel_is_delivered_at_once_however_many_starts_wait_before_it(tmp_path: Path) -> None:
    harness, clock = SqliteHarness(tmp_path), VirtualClock()
    harness.clock.moment = clock.now()
    store = harness.open()
    with store.transaction(SYSTEM) as tx:
        for number in range(1000):
            tx.enqueue("StartRun", f"start/{number}", Key("Run", "default", f"r{number}"), {"runUid": str(number)})
        tx.enqueue("CancelRun", "cancel/1", Key("Run", "default", "r1"), {"runUid": "1"})
    delivered: list[str] = []

    async def cancel(effect: Effect) -> None:
        delivered.append(effect.key)

    runner = EffectRunner(
        "cancel-runs", store, {"CancelRun": cancel}, holder="me", blocking=InlineBlocking(), clock=clock,
        random=random.Random(1),
    )  # fmt: skip
    life = Lifecycle()
    task = asyncio.create_task(runner.run(life))
    await clock.advance(2)
    assert delivered == ["cancel/1"]
    life.stopping.set()
    await clock.run(task)
    harness.close()


@pytest.mark.asyncio
async def test_what_cannot_be_booked_while_the_disk_is_full_is_booked_when_it_has_room_and_done_once(
    tmp_path: Path,
) -> None:
    harness, clock = SqliteHarness(tmp_path), VirtualClock()
    harness.clock.moment = clock.now()
    store = harness.open()
    with store.transaction(SYSTEM) as tx:
        tx.enqueue("StartRun", "start/1", Key("Run", "default", "r1"), {"runUid": "1"})
    done: list[str] = []
    tried = 0

    async def start(effect: Effect) -> Commit:
        done.append(effect.key)
        return write

    def write(tx: Transaction) -> None:
        nonlocal tried
        tried += 1
        if tried <= 90:
            raise StoreUnavailable("no room")

    runner = EffectRunner(
        "start-runs", store, {"StartRun": start}, holder="me", blocking=InlineBlocking(), clock=clock,
        random=random.Random(1),
    )  # fmt: skip
    life = Lifecycle()
    task = asyncio.create_task(runner.run(life))
    for _ in range(95):
        await clock.advance(1)
        harness.clock.moment = clock.now()
    with store.snapshot() as snapshot:
        assert [e.state for e in snapshot.effects()] == [EffectState.DONE]
    assert done == ["start/1"]
    life.stopping.set()
    await clock.run(task)
    harness.close()
