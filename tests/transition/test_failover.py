"""A store that comes back as it was a while ago: a standby that lacks the last commits took over."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from controllers.holds import stops
from controllers.reconcilers.executors import Probe
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.workqueue import Priority
from controllers.sources.readers import Readers
from controllers.term import Term
from schemas.base import Key
from schemas.errors import StoreGone
from schemas.executor import Capabilities, ExecutorReason
from schemas.resource import SYSTEM
from store.contract import Store
from tests.fakes.clock import VirtualClock
from tests.fakes.stores import SqliteHarness, mission


class Standby:
    """A store that others answer for after a failover."""

    def __init__(self, primary: Store) -> None:
        self.now = primary

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


class Seen:
    """A queue that only notes what is put into it."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def add(self, key: Key, _priority: Priority) -> None:
        self.names.append(key.name)


def write(store: Store, *names: str) -> None:
    for name in names:
        with store.transaction(SYSTEM) as tx:
            tx.create(mission(name))


@pytest.mark.asyncio
async def test_an_engine_whose_store_went_back_looks_at_everything_and_misses_no_change(tmp_path: Path) -> None:
    for name in ("primary", "standby"):
        (tmp_path / name).mkdir()
    primary, standby = (SqliteHarness(tmp_path / name) for name in ("primary", "standby"))
    clock = VirtualClock()
    readers = Readers(tmp_path, tmp_path / "mirrors")
    try:
        write(primary.open(), "both", "lost-1", "lost-2")
        write(standby.open(), "both")
        store = Standby(primary.open())

        async def rest(life: Lifecycle) -> None:
            life.ready()

        def gone(error: StoreGone) -> None:
            raise error

        term = Term(
            cast(Store, store), None, tmp_path, status=rest, runners=(), readers=readers,
            probe=lambda *_: Probe(ExecutorReason.RECONCILED, "", Capabilities()), stops=stops.NONE, clock=clock,
            random=Random(1), blocking=InlineBlocking(), woken=lambda: None, gone=gone, follow=lambda key: None,
        )  # fmt: skip
        seen = Seen()
        term.objects = cast(Any, seen)
        life = Lifecycle()
        pump = asyncio.create_task(term._pump(life))
        await clock.advance(1)
        store.now = standby.open()
        await clock.advance(1)
        assert seen.names == ["both"], "what is there is looked at once"
        write(standby.open(), "new")  # under a number that the lost ones had, too
        await clock.advance(1)
        assert "new" in seen.names
        life.stopping.set()
        await clock.run(pump)
    finally:
        readers.close()
        primary.close()
        standby.close()
