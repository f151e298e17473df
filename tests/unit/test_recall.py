"""What passes had read, and when their answers still count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from controllers.runtime.controller import Controller
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.recall import LIFE, Memory, Recall, Watched
from controllers.runtime.result import DONE, RequeueAfter, RequeueAt, Result, Verdict
from controllers.runtime.workqueue import Priority, WorkQueue
from schemas.base import Key
from schemas.resource import Resource
from store.contract import Store, Transaction
from tests.fakes import world
from tests.fakes.clock import VirtualClock
from tests.fakes.stores import ALICE, SettableClock, SqliteHarness, mission
from tests.fakes.world import World

ONE = Key("Mission", "default", "one")
NONE = Key("Mission", "default", "none")


class Place:
    """A store with one mission, and a reader of its changes."""

    def __init__(self, folder: Path) -> None:
        self.harness = SqliteHarness(folder)
        self.clock: SettableClock = self.harness.clock
        self.store: Store = self.harness.open()
        self.recall = Recall()
        with self.write() as tx:
            tx.create(mission("one"))
            tx.create(mission("two"))
        self.cursor = self.version
        self.recall.begin(self.cursor)

    @property
    def version(self) -> int:
        with self.store.snapshot() as snapshot:
            return snapshot.latest_version()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self.store.transaction(ALICE) as tx:
            yield tx

    @contextmanager
    def watching(self) -> Iterator[Watched]:
        with self.store.transaction(ALICE) as tx:
            yield Watched(tx)

    def memory(self, result: Result = DONE, *keys: Key) -> Memory:
        """Of a pass that reads these."""
        with self.watching() as watched:
            for key in keys or (ONE,):
                watched.get(key)
            made = watched.memory(result)
        assert made is not None
        return made

    def take_in(self) -> None:
        with self.store.snapshot() as snapshot:
            changes = snapshot.changes_since(self.cursor)
        self.recall.take_in(changes)
        self.cursor = self.version

    def touch(self, name: str, **status: object) -> None:
        with self.write() as tx:
            found = tx.get(Key("Mission", "default", name))
            assert found is not None
            tx.put_status(found, {"n": self.version, **status})

    def answer(self) -> Result | None:
        return self.recall.answer(ONE, self.clock())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.harness.close()


def test_a_pass_over_what_did_not_change_is_recalled(place: Place) -> None:
    place.recall.keep(ONE, place.memory())
    place.touch("two")
    place.take_in()
    assert place.answer() is DONE


def test_a_change_of_what_was_read_ends_the_memory(place: Place) -> None:
    place.recall.keep(ONE, place.memory())
    place.touch("one")
    assert place.answer() is DONE, "as if the pass had been made before the change"
    place.take_in()
    assert place.answer() is None


def test_what_changed_and_was_taken_in_before_a_pass_is_remembered_counts(place: Place) -> None:
    memory = place.memory()
    place.touch("one")
    place.take_in()
    place.recall.keep(ONE, memory)
    assert place.answer() is None


def test_an_object_that_appears_where_none_was_ends_the_memory(place: Place) -> None:
    place.recall.keep(ONE, place.memory(DONE, ONE, NONE))
    with place.write() as tx:
        tx.create(mission("none"))
    place.take_in()
    assert place.answer() is None


def test_an_object_that_is_renamed_or_removed_ends_the_memory(place: Place) -> None:
    two = Key("Mission", "default", "two")
    for change in ("rename", "remove"):
        place.recall.keep(ONE, place.memory(DONE, ONE, two))
        with place.write() as tx:
            found = tx.get(two)
            assert found is not None
            if change == "rename":
                tx.put_spec(found, mission("three"))
                two = Key("Mission", "default", "three")
            else:
                tx.remove(found)
        place.take_in()
        assert place.answer() is None, change


@pytest.mark.parametrize("change", ["rename", "remove"])
def test_of_an_object_that_only_has_to_be_there_other_changes_do_not_count(place: Place, change: str) -> None:
    two = Key("Mission", "default", "two")
    with place.watching() as watched:
        found = watched.get(two)
    assert found is not None
    place.recall.keep(ONE, replace(place.memory(), there=((found.uid, two),)))
    place.touch("two")
    place.take_in()
    assert place.answer() is DONE
    with place.write() as tx:
        found = tx.get(two)
        assert found is not None
        if change == "rename":
            tx.put_spec(found, mission("three"))
        else:
            tx.remove(found)
    place.take_in()
    assert place.answer() is None


@pytest.mark.parametrize("read", ["objects", "count"])
def test_any_change_of_a_kind_that_was_listed_ends_the_memory(place: Place, read: str) -> None:
    with place.watching() as watched:
        getattr(watched, read)("Mission")
        memory = watched.memory(DONE)
    assert memory is not None
    place.recall.keep(ONE, memory)
    assert place.answer() is DONE
    place.touch("two")
    place.take_in()
    assert place.answer() is None


def test_many_are_noted_one_by_one(place: Place) -> None:
    with place.watching() as watched:
        watched.get_many([ONE, NONE])
        memory = watched.memory(DONE)
    assert memory is not None
    assert NONE in memory.read
    assert len(memory.read) == 2


def test_the_moment_that_was_asked_for_ends_the_memory(place: Place) -> None:
    at = RequeueAt(place.clock() + timedelta(seconds=60))
    place.recall.keep(ONE, place.memory(at))
    place.clock.tick(59)
    assert place.answer() == at
    place.clock.tick(1)
    assert place.answer() is None


def test_a_memory_ends_with_its_life_and_when_the_clock_is_set_back(place: Place) -> None:
    place.recall.keep(ONE, place.memory())
    place.clock.tick(-1)
    assert place.answer() is None
    far = RequeueAt(place.clock() + 3 * LIFE)
    for result in (DONE, far):
        place.recall.keep(ONE, place.memory(result))
        place.clock.tick(LIFE.total_seconds())
        assert place.answer() is None


def test_what_is_forgotten_is_made_again(place: Place) -> None:
    place.recall.keep(ONE, place.memory())
    place.recall.forget(ONE)
    assert place.answer() is None


def test_nothing_is_recalled_before_changes_are_taken_in(place: Place) -> None:
    fresh = Recall()
    fresh.keep(ONE, place.memory())
    assert fresh.answer(ONE, place.clock()) is None


def test_too_many_changes_forget_everything(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = place.memory()
    place.recall.keep(ONE, memory)
    monkeypatch.setattr("controllers.runtime.recall.MOST", 2)
    place.touch("two")
    place.take_in()
    assert place.answer() is None
    place.recall.keep(ONE, memory)
    assert place.answer() is None, "it is older than what is known of changes"


def test_passes_that_write_or_read_more_than_objects_are_not_kept(place: Place) -> None:
    def status(watched: Watched) -> None:
        found = watched.get(ONE)
        assert isinstance(found, Resource)
        watched.put_status(found, {"n": 1})

    def event(watched: Watched) -> None:
        watched.as_transaction().event("Created", ONE, reason="Testing", message="")

    def balance(watched: Watched) -> None:
        watched.as_transaction().balance("mission/1/total")

    for act in (status, event, balance):
        with place.watching() as watched:
            act(watched)
            assert watched.memory(DONE) is None, act.__name__
    with place.watching() as watched:
        assert watched.memory(RequeueAfter(1)) is None


def test_the_same_status_written_again_is_nothing_written(place: Place) -> None:
    with place.watching() as watched:
        found = watched.get(ONE)
        assert found is not None
        watched.put_status(found, dict(found.status))
        assert watched.memory(DONE) is not None


def test_a_controller_gives_recalled_answers_without_a_pass() -> None:
    async def run() -> None:
        clock, life, made = VirtualClock(), Lifecycle(), []
        queue: WorkQueue[str] = WorkQueue(clock, Random(0))
        soon = RequeueAt(clock.now() + timedelta(seconds=60))
        answers: dict[str, Result] = {"done": DONE, "soon": soon}

        async def reconcile(key: str) -> Result:
            made.append(key)
            life.stopping.set()
            return DONE

        def recall(key: str) -> Result | None:
            if key == "broken":
                raise ValueError(key)
            return answers.get(key)

        controller = Controller("objects", reconcile, queue=queue, clock=clock, workers=1, recall=recall)
        for key in ("done", "soon", "broken"):
            queue.add(key)
        await controller.run(life)
        stats = controller.stats()
        assert made == ["broken"]
        assert (stats.recalled, stats.passes[Verdict.DONE], stats.passes[Verdict.REQUEUED]) == (2, 2, 1)
        assert stats.queue.in_flight == 0

    asyncio.run(run())


def test_missions_at_rest_are_recalled_and_those_that_a_change_concerns_are_not(tmp_path: Path) -> None:
    made = World(tmp_path)
    rest = {f"{name}.yaml": world.mission(name, agent=None) for name in ("a", "b", "c")}
    made.commit({"executor.yaml": world.executor(), "agent.yaml": world.agent(), **rest})
    made.sync()
    keys = [Key("Mission", "default", name) for name in ("a", "b", "c")]
    made.pending.update(dict.fromkeys(keys, Priority.RESYNC))
    made.settle()
    assert all(made.recall.answer(key, made.now) is DONE for key in keys)
    recalled = made.recalled
    made.act("Hold", "stop", {"selector": {"kinds": ["Mission"], "names": ["a"]}, "reason": "wait"})
    assert made.recalled == recalled, "every mission asks for Holds"
    made.pending.update(dict.fromkeys(keys, Priority.RESYNC))
    made.settle()
    assert made.recalled == recalled + len(keys)
    made.close()
