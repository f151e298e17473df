"""Looking for ESTOP files, and at the source while the store does not answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from controllers.holds.stop_file import StopFile
from controllers.holds.stops import Stops
from controllers.holds.watch import FileWatch, SourceWatch, reach
from controllers.runtime.blocking import InlineBlocking
from controllers.runtime.lifecycle import Lifecycle
from decisions.holds import HoldFacts
from schemas.base import Key
from schemas.errors import Retry, SourceUnreadable, StoreUnavailable
from schemas.hold import HoldSpec
from schemas.resource import SYSTEM, Declared
from store.contract import Store
from tests.fakes.clock import VirtualClock
from tests.fakes.stores import BACKENDS

pytestmark = pytest.mark.asyncio


class Programs:
    """Notes what it was told to stop."""

    def __init__(self) -> None:
        self.told: list[frozenset[str] | None] = []
        self.fails = False

    async def stop_all(self, namespaces: frozenset[str] | None) -> int:
        self.told.append(namespaces)
        if self.fails:
            raise Retry("the supervisor does not answer")
        return 1


class Sulky:
    """A store that can be made to refuse every transaction."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.refuses = False

    def transaction(self, *given: object, **more: object) -> object:
        if self.refuses:
            raise StoreUnavailable("locked")
        return self.inner.transaction(*given, **more)  # type: ignore[arg-type]

    def snapshot(self) -> object:
        return self.inner.snapshot()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Sulky]:
    harness = BACKENDS["sqlite"](tmp_path)
    yield Sulky(harness.open())
    harness.close()


def holds(store: Sulky) -> list[str]:
    with store.inner.snapshot() as snapshot:
        return [str(hold.status.get("file")) for hold in snapshot.objects("Hold")]


def facts(name: str = "h", namespace: str = "default", clock: VirtualClock | None = None, **spec: object) -> HoldFacts:
    values = {"scope": "Global", "mode": "Stop", "reason": "by commit", **spec}
    now = (clock or VirtualClock()).now()
    return HoldFacts(Key("Hold", namespace, name), HoldSpec.model_validate(values), "the source", now, place="h.yaml:1")


async def test_a_file_stops_programs_at_once_and_becomes_a_hold_when_the_store_takes_it(
    tmp_path: Path, store: Sulky
) -> None:
    clock, programs = VirtualClock(), Programs()
    file = StopFile(tmp_path / "ESTOP", "here")
    watch = FileWatch(store, Stops(file), programs, clock=clock, blocking=InlineBlocking())  # type: ignore[arg-type]
    life = Lifecycle()
    task = asyncio.create_task(watch.run(life))
    await clock.advance(10)
    assert programs.told == []
    store.refuses = programs.fails = True
    file.path.touch()
    await clock.advance(0.3)
    assert programs.told == [None]
    await clock.advance(3)
    assert len(programs.told) > 2, "tried again"
    assert holds(store) == []
    store.refuses = programs.fails = False
    await clock.advance(1)
    assert holds(store) == [file.place()]
    file.remove()
    count = len(programs.told)
    await clock.advance(10)
    assert len(programs.told) == count
    life.stopping.set()
    await clock.run(task)


async def test_a_file_of_a_tenant_stops_the_programs_of_that_tenant(tmp_path: Path, store: Sulky) -> None:
    clock, programs = VirtualClock(), Programs()
    file = StopFile(tmp_path / "ESTOP", "here")
    file.of("acme").touch()
    watch = FileWatch(store, Stops(file), programs, clock=clock, blocking=InlineBlocking())  # type: ignore[arg-type]
    await watch.look()
    assert programs.told == [frozenset({"acme"})]


async def test_a_file_that_a_release_took_away_before_its_hold_was_written_leaves_none(
    tmp_path: Path, store: Sulky
) -> None:
    clock = VirtualClock()
    file = StopFile(tmp_path / "ESTOP", "here")
    file.path.touch()
    watch = FileWatch(store, Stops(file), Programs(), clock=clock, blocking=InlineBlocking())  # type: ignore[arg-type]
    await watch.look()  # the Hold is written beside it, later
    file.remove()
    await clock.advance(1)
    assert holds(store) == []


async def test_the_reach_of_holds_is_that_of_whole_stops() -> None:
    assert reach([facts(), facts("t", "acme", scope="Tenant")]) is None
    assert reach([facts("t", "acme", scope="Tenant")]) == {"acme"}
    assert reach([facts(mode="Drain"), facts(released={"percent": 10})]) == frozenset()
    assert reach([facts(scope=None, selector={"names": ["a"]})]) == frozenset()


async def test_the_source_is_read_while_the_store_does_not_answer_and_counts_until_the_store_knows(
    store: Sulky,
) -> None:
    clock, stops = VirtualClock(), Stops()
    reads: list[str] = []
    declared = [facts(clock=clock)]

    def read() -> list[HoldFacts]:
        reads.append("read")
        if not declared:
            raise SourceUnreadable("gone", reason="RepositoryUnreachable")
        return declared

    watch = SourceWatch(store, stops, read, interval_s=0, clock=clock, blocking=InlineBlocking())  # type: ignore[arg-type]
    life = Lifecycle()
    task = asyncio.create_task(watch.run(life))
    await clock.advance(30)
    assert reads == [], "a store that answers is enough"
    store.refuses = True
    await clock.advance(5)
    assert reads
    assert stops.committed == tuple(declared)
    kept, declared = declared, []
    await clock.advance(5)
    assert stops.committed == tuple(kept), "a source that cannot be read is not empty"
    declared = kept
    store.refuses = False
    await clock.advance(5)
    assert stops.committed == tuple(kept), "the store answers, and does not know it yet"
    with store.inner.transaction(SYSTEM) as tx:
        tx.create(Declared("Hold", "default", "h", kept[0].spec.to_wire()), unit="default:.")
    await clock.advance(5)
    assert stops.committed == ()
    life.stopping.set()
    await clock.run(task)


async def test_a_hold_that_the_source_takes_back_counts_no_more(store: Sulky) -> None:
    clock, stops = VirtualClock(), Stops()
    declared = [facts(clock=clock)]
    watch = SourceWatch(store, stops, lambda: declared, interval_s=0, clock=clock, blocking=InlineBlocking())  # type: ignore[arg-type]
    life = Lifecycle()
    task = asyncio.create_task(watch.run(life))
    store.refuses = True
    await clock.advance(5)
    assert stops.committed
    declared = []
    await clock.advance(5)
    assert stops.committed == ()
    life.stopping.set()
    await clock.run(task)
