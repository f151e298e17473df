"""Objects against a model: any life of any few objects, with stale writers in between. Reads, lists, kept specs and
followed changes always tell the same story."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from schemas.base import Key
from schemas.errors import AlreadyExists, Conflict
from schemas.resource import Resource
from store.contract import Op
from tests.fakes.scratch import scratch
from tests.fakes.stores import ALICE, SqliteHarness, mission

names = st.sampled_from(["a", "b", "c", "d"])
numbers = st.integers(0, 3)
labels = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["1", "2"]))
states = st.sampled_from(["Inbox", "Done"])


class ObjectMachine(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.TemporaryDirectory(dir=scratch())
        self.harness = SqliteHarness(Path(self.directory.name))
        self.store = self.harness.open()
        self.live: dict[str, Resource] = {}  # by uid
        self.stale: list[Resource] = []
        self.history: dict[str, list[object]] = {}
        self.gone: set[str] = set()
        self.followed: dict[str, Resource | None] = {}
        self.cursor = 0

    def named(self, name: str) -> Resource | None:
        return next((r for r in self.live.values() if r.name == name), None)

    def now(self, old: Resource | None, new: Resource) -> None:
        if old is not None and new is not old:
            assert new.resource_version > old.resource_version
            self.stale.append(old)
        self.live[new.uid] = new

    @rule(name=names, n=numbers, labels=labels, state=states, finalizers=st.sampled_from([(), ("drain",)]))
    def create(self, name: str, n: int, labels: dict[str, str], state: str, finalizers: tuple[str, ...]) -> None:
        taken = self.named(name) is not None
        try:
            with self.store.transaction(ALICE) as tx:
                made = tx.create(mission(name, n=n, labels=labels), status={"state": state}, finalizers=finalizers)
        except AlreadyExists:
            assert taken
            return
        assert not taken
        assert made.uid not in self.history
        self.history[made.uid] = [{"n": n}]
        self.now(None, made)

    @rule(name=names, to=names, n=numbers, labels=labels)
    def declare(self, name: str, to: str, n: int, labels: dict[str, str]) -> None:
        old = self.named(name)
        if old is None:
            return
        taken = to != name and self.named(to) is not None
        try:
            with self.store.transaction(ALICE) as tx:
                new = tx.put_spec(old, mission(to, n=n, labels=labels))
        except AlreadyExists:
            assert taken
            return
        assert not taken
        differs = old.spec != {"n": n}
        assert new.generation == old.generation + differs
        assert (new is old) == (not differs and to == name and labels == old.labels)
        if differs:
            self.history[old.uid].append({"n": n})
        self.now(old, new)

    @rule(name=names, state=states)
    def report(self, name: str, state: str) -> None:
        old = self.named(name)
        if old is not None:
            with self.store.transaction(ALICE) as tx:
                new = tx.put_status(old, {"state": state})
            assert (new is old) == (old.state == state)
            self.now(old, new)

    @rule(name=names)
    def delete(self, name: str) -> None:
        old = self.named(name)
        if old is None:
            return
        with self.store.transaction(ALICE) as tx:
            new = tx.request_deletion(old)
        if old.finalizers:
            assert new is not None
            assert new.deletion_at is not None
            self.now(old, new)
        else:
            assert new is None
            self.forget(old)

    @rule(name=names)
    def finalize(self, name: str) -> None:
        old = self.named(name)
        if old is not None and old.finalizers:
            with self.store.transaction(ALICE) as tx:
                self.now(old, tx.put_finalizers(old, ()))

    def forget(self, old: Resource) -> None:
        del self.live[old.uid]
        self.gone.add(old.uid)
        self.stale.append(old)

    @rule(data=st.data(), n=numbers)
    def write_late(self, data: st.DataObject, n: int) -> None:
        if not self.stale:
            return
        old = data.draw(st.sampled_from(self.stale))
        writes = (
            lambda tx: tx.put_status(old, {"state": old.state}),
            lambda tx: tx.put_status(old, {"late": n}),
            lambda tx: tx.put_spec(old, mission(old.name, n=n)),
            lambda tx: tx.put_finalizers(old, old.finalizers),
            lambda tx: tx.remove(old),
        )
        try:
            with self.store.transaction(ALICE) as tx:
                data.draw(st.sampled_from(writes))(tx)
        except (Conflict, AlreadyExists):
            return
        raise AssertionError("a stale write went through")

    @rule()
    def prune(self) -> None:
        with self.store.transaction(ALICE) as tx:
            tx.prune_tombstones(self.cursor)
            assert tx.oldest_cursor() <= self.cursor

    @rule(limit=st.integers(1, 3))
    def follow(self, limit: int) -> None:
        with self.store.snapshot() as snapshot:
            while changes := snapshot.changes_since(self.cursor, limit=limit):
                for change in changes:
                    self.followed[change.uid] = snapshot.get(change.key) if change.op is Op.PUT else None
                self.cursor = changes[-1].resource_version
        assert {uid: r for uid, r in self.followed.items() if r is not None} == self.live
        assert self.cursor == self.store.cursor() or not self.history

    @invariant()
    def every_way_of_reading_agrees(self) -> None:
        expected = sorted(self.live.values(), key=lambda r: r.name)
        with self.store.snapshot() as snapshot:
            assert snapshot.objects("Mission") == expected
            assert snapshot.get_many(Key("Mission", "default", n) for n in "abcd") == {r.key: r for r in expected}
            assert snapshot.objects("Mission", states=["Done"]) == [r for r in expected if r.state == "Done"]
            assert snapshot.objects("Mission", labels={"x": "1"}) == [r for r in expected if r.labels.get("x") == "1"]
            for uid, specs in self.history.items():
                assert [s.spec for s in snapshot.specs(uid)] == specs
                found = snapshot.get_by_uid(uid)
                assert found == self.live.get(uid)
                assert found is None or found == replace(found, generation=len(specs))
            versions = [r.resource_version for r in expected]
            assert len(set(versions)) == len(versions)
            assert max(versions, default=0) <= snapshot.latest_version() == self.store.cursor()

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.harness.close()
            self.directory.cleanup()


ObjectMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestObjects = ObjectMachine.TestCase
