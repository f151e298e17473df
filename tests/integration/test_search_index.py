"""The index of search follows the store by itself, and survives a store that does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.lifecycle import Lifecycle
from controllers.status.search_index import SearchIndex
from schemas.base import Key
from schemas.errors import StoreUnavailable
from schemas.resource import SYSTEM
from store.search_text import question_of
from tests.fakes.clock import VirtualClock
from tests.fakes.stores import SqliteHarness

pytestmark = pytest.mark.asyncio


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[SqliteHarness]:
    made = SqliteHarness(tmp_path)
    yield made
    made.close()


async def test_what_is_committed_is_found_soon_also_after_trouble(
    harness: SqliteHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, clock, life = harness.open(), VirtualClock(), Lifecycle()
    task = asyncio.create_task(SearchIndex(store, clock=clock, blocking=InlineBlocking()).run(life))
    await clock.advance(20)
    assert life.is_ready.is_set()

    def write(words: str) -> None:
        with store.transaction(SYSTEM) as tx:
            tx.event("Updated", Key("Mission", "default", "m"), reason="Test", message=words)

    write("first words")
    await clock.advance(3)
    assert len(store.search(question_of("first"))) == 1

    def gone(_: int) -> int:
        raise StoreUnavailable("no")

    with monkeypatch.context() as patched:
        patched.setattr(store, "index_search", gone)
        write("second words")
        await clock.advance(3)
    assert store.search(question_of("second")) == []
    await clock.advance(20)
    assert len(store.search(question_of("second"))) == 1
    life.stopping.set()
    await clock.advance(1)
    await task
