"""Objects: create, change by compare-and-swap, delete; every spec kept."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.base import Key
from schemas.errors import AlreadyExists, Conflict
from schemas.resource import RENAMED_FROM
from store.contract import Store
from tests.fakes.stores import ALICE, KEY, START, SettableClock, mission, provenance


def test_a_created_object_is_read_back_whole(store: Store) -> None:
    declared = mission(
        labels={"team": "docs"},
        annotations={"remit.dev/note": "ünïcode \u0000 and more"},
        provenance=provenance(),
        input={"paths": ["docs/**"], "n": 1.5, "none": None, "deep": {"b": [True, False], "a": "\u2028"}},
    )
    with store.transaction(ALICE) as tx:
        made = tx.create(
            declared,
            manager="git/specs",
            unit="specs/default",
            owner_uid="owner",
            finalizers=("drain", "revoke-keys"),
            status={"state": "Inbox", "attempts": 0},
        )
    assert (made.generation, made.created_at, made.key) == (1, START, KEY)
    assert made.spec == declared.spec
    assert made.state == "Inbox"
    assert made.finalizers == ("drain", "revoke-keys")
    with store.snapshot() as snapshot:
        assert snapshot.get(KEY) == made
        assert snapshot.get_by_uid(made.uid) == made
        assert snapshot.get(Key("Mission", "default", "b")) is None
        assert snapshot.get(Key("Mission", "other", "a")) is None
        assert snapshot.get_by_uid("nobody") is None


def test_what_does_not_exist_is_simply_absent_from_get_many(store: Store) -> None:
    names = [f"m{i:03d}" for i in range(300)]
    with store.transaction(ALICE) as tx:
        made = tx.create_many([mission(name) for name in names])
        other = tx.create(mission("m000", namespace="other"))
    keys = [r.key for r in made] + [other.key, Key("Agent", "default", "m000"), Key("Mission", "", "m000")]
    with store.snapshot() as snapshot:
        assert snapshot.get_many(iter(keys + keys)) == {r.key: r for r in [*made, other]}
        assert snapshot.get_many([]) == {}


def test_create_refuses_a_taken_name_and_a_used_uid(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission(), uid="one")
        with pytest.raises(AlreadyExists, match="Mission/default/a"):
            tx.create(mission(title="again"))
        with pytest.raises(AlreadyExists, match="one"):
            tx.create(mission("b"), uid="one")
        tx.remove(made)
        with pytest.raises(AlreadyExists, match="one"):
            tx.create(mission("c"), uid="one")
        tx.create(mission("d"))  # a refusal leaves the transaction usable
    with store.snapshot() as snapshot:
        assert [r.name for r in snapshot.objects("Mission")] == ["d"]


def test_create_many_creates_in_order_and_all_or_none(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create_many(
            [mission("b"), mission("a"), mission("c")], manager="git/specs", unit="u", owner_uid="owner"
        )
        assert [r.name for r in made] == ["b", "a", "c"]
        assert [r.resource_version for r in made] == [1, 2, 3]
        assert tx.get(made[1].key) == made[1]
        assert {(r.manager, r.unit, r.owner_uid) for r in made} == {("git/specs", "u", "owner")}
        assert [s.generation for s in tx.specs(made[2].uid)] == [1]
        with pytest.raises(AlreadyExists, match="Mission/default/b"):
            tx.create_many([mission("x"), mission("b"), mission("c")])
        with pytest.raises(AlreadyExists, match="Mission/default/y is declared twice"):
            tx.create_many([mission("x"), mission("y"), mission("y")])
        assert tx.get(Key("Mission", "default", "x")) is None
        assert tx.create_many([]) == []


def test_create_many_asks_for_finalizers_by_kind_and_for_status_by_key(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create_many(
            [mission("a"), mission("b")], finalizers=lambda kind: [f"of-{kind}"], status=lambda key: {"state": key.name}
        )
        assert [(r.finalizers, r.status) for r in made] == [(("of-Mission",), {"state": n}) for n in ("a", "b")]
        assert [tx.get(r.key) for r in made] == made


def test_resource_versions_are_one_sequence_over_all_objects(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        a = tx.create(mission("a"))
        b = tx.create(mission("b", kind="Agent"))
        a = tx.put_status(a, {"state": "Inbox"})
    assert (a.resource_version, b.resource_version) == (3, 2)
    with store.transaction(ALICE) as tx:
        assert tx.put_status(b, {"n": 1}).resource_version == 4
        assert tx.latest_version() == 4
    with store.snapshot() as snapshot:
        assert snapshot.latest_version() == 4


def test_generation_grows_and_the_spec_is_kept_only_when_the_canonical_spec_differs(
    store: Store, clock: SettableClock
) -> None:
    with store.transaction(ALICE) as tx:
        first = tx.create(mission(a=1, b={"x": 1, "y": 2}), manager="git/specs")
    later = clock.tick(60)
    with store.transaction(ALICE) as tx:
        same = tx.put_spec(first, mission(b={"y": 2, "x": 1}, a=1))
        assert same is first
        relabelled = tx.put_spec(first, mission(a=1, b={"x": 1, "y": 2}, labels={"k": "v"}))
        assert relabelled.generation == 1
        assert relabelled.resource_version > first.resource_version
        moved = tx.put_spec(relabelled, mission(a=1, b={"x": 1, "y": 2}, provenance=provenance(7)))
        assert (moved.generation, moved.labels, moved.provenance) == (1, {}, provenance(7))
        changed = tx.put_spec(moved, mission(a=True, b={"x": 1, "y": 2}, provenance=provenance(7)), manager="cli/x")
        assert changed.generation == 2
    with store.snapshot() as snapshot:
        assert snapshot.get(KEY) == changed
        kept = snapshot.specs(first.uid)
        assert [(s.generation, s.spec["a"], s.manager, s.recorded_at) for s in kept] == [
            (1, 1, "git/specs", START),
            (2, True, "cli/x", later),
        ]
        assert kept[1].spec["a"] is True
        assert [s.provenance for s in kept] == [None, provenance(7)]
        assert [snapshot.spec_at(first.uid, number) for number in (1, 2)] == kept
        assert snapshot.spec_at(first.uid, 3) is None


def test_the_first_spec_is_known_from_the_start_and_stays_when_its_object_goes(
    store: Store, clock: SettableClock
) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission(a=1, provenance=provenance(3)), manager="git/specs")
        (many,) = tx.create_many([mission("b", a=2)], manager="git/specs")
        first = tx.spec_at(made.uid, 1)
        assert first is not None
        assert (first.spec, first.provenance, first.manager, first.recorded_at) == (
            {"a": 1}, provenance(3), "git/specs", START,
        )  # fmt: skip
        assert tx.spec_at(many.uid, 1) == tx.specs(many.uid)[0]
        assert tx.spec_at(many.uid, 2) is None
    clock.tick(60)
    with store.transaction(ALICE) as tx:
        moved = tx.put_spec(made, mission(a=1, provenance=provenance(7)), manager="cli/x")
        assert tx.specs(made.uid) == [first]
        tx.remove(tx.put_status(moved, {"state": "Done"}))
        tx.remove(many)
    with store.snapshot() as snapshot:
        assert snapshot.specs(made.uid) == [snapshot.spec_at(made.uid, 1)] == [first]
        assert [s.spec for s in snapshot.specs(many.uid)] == [{"a": 2}]


def test_a_unit_tells_how_many_objects_of_each_kind_it_has(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.create_many([mission("a"), mission("b"), mission("c", kind="Agent")], unit="u")
        tx.create(mission("d"))
        assert tx.unit_counts("u") == {"Agent": 1, "Mission": 2}
        assert tx.unit_counts("v") == tx.unit_counts("") == {}
        assert tx.unit_keys("") == tx.list_unit("") == []
        assert [r.name for r in tx.objects("Mission", unit="")] == ["d"]
        assert [r.name for r in tx.objects("Mission", owner_uid="")] == ["a", "b", "d"]


def test_manager_and_unit_change_with_the_spec_only_when_given(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission(), manager="git/specs", unit="u1")
        kept = tx.put_spec(made, mission(title="new"))
        assert (kept.manager, kept.unit) == ("git/specs", "u1")
        given_away = tx.put_spec(kept, mission(title="new"), manager="", unit="")
        assert (given_away.manager, given_away.unit, given_away.generation) == ("", "", 2)
        assert tx.list_unit("u1") == []


def test_put_spec_leaves_status_and_ownership_alone(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission(), owner_uid="o", finalizers=("drain",), status={"state": "Done"})
        tx.put_spec(made, mission(title="new"))
        now = tx.get(KEY)
    assert now is not None
    assert (now.status, now.owner_uid, now.finalizers, now.created_at) == ({"state": "Done"}, "o", ("drain",), START)


def test_a_rename_keeps_uid_and_history(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission("old"), status={"state": "Inbox"})
        tx.create(mission("taken"))
    with store.transaction(ALICE) as tx:
        with pytest.raises(AlreadyExists, match="taken"):
            tx.put_spec(made, mission("taken"))
        renamed = tx.put_spec(made, mission("new", namespace="other", title="old", annotations={RENAMED_FROM: "old"}))
        assert (renamed.uid, renamed.generation, renamed.status) == (made.uid, 1, made.status)
        again = tx.put_spec(renamed, mission("new", namespace="other", title="changed"))
        tx.create(mission("old"))  # the old name is free
    with store.snapshot() as snapshot:
        assert snapshot.get(Key("Mission", "other", "new")) == again
        assert len(snapshot.specs(made.uid)) == 2
        assert [c.key for c in snapshot.changes_since(0) if c.uid == made.uid] == [again.key]


def test_an_object_cannot_change_its_kind(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission())
        with pytest.raises(ValueError, match="Agent"):
            tx.put_spec(made, mission(kind="Agent"))


def test_equal_status_writes_nothing(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission(), status={"a": [1, 2], "b": {"x": 1, "y": None}})
    with store.transaction(ALICE) as tx:
        assert tx.put_status(made, {"b": {"y": None, "x": 1}, "a": [1, 2]}) is made
        assert tx.latest_version() == made.resource_version
        assert tx.put_status(made, {"a": [2, 1]}).status == {"a": [2, 1]}


def test_every_write_from_a_stale_read_is_a_conflict(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        stale = tx.create(mission(), finalizers=("drain",), status={"n": 0})
        fresh = tx.put_status(stale, {"n": 1})
    with store.transaction(ALICE) as tx:
        with pytest.raises(Conflict, match=r"Mission/default/a moved.*version 1 was read, version 2 is stored"):
            tx.put_status(stale, {"n": 2})
        with pytest.raises(Conflict):
            tx.put_spec(stale, mission(title="new"))
        with pytest.raises(Conflict):
            tx.put_finalizers(stale, ())
        with pytest.raises(Conflict):
            tx.request_deletion(stale)
        with pytest.raises(Conflict):
            tx.remove(stale)
        assert tx.get(KEY) == fresh


def test_a_write_that_would_change_nothing_still_notices_that_it_is_stale(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        stale = tx.create(mission(), finalizers=("drain",), status={"n": 0})
        fresh = tx.put_status(stale, {"n": 1})
        with pytest.raises(Conflict):
            tx.put_status(stale, {"n": 0})
        with pytest.raises(Conflict):
            tx.put_spec(stale, mission())
        with pytest.raises(Conflict):
            tx.put_finalizers(stale, ("drain",))
        tx.remove(fresh)
        with pytest.raises(Conflict, match="it is gone"):
            tx.put_status(fresh, {"n": 1})


def test_the_second_of_two_writers_with_the_same_read_gets_a_conflict(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.create(mission())
    with store.snapshot() as snapshot:
        seen = snapshot.get(KEY)
    assert seen is not None
    with store.transaction(ALICE) as tx:
        tx.put_status(seen, {"by": "first"})

    def write_too() -> None:
        with store.transaction(ALICE) as tx:
            tx.event("Updated", seen, reason="R", message="lost with the conflict")
            tx.put_status(seen, {"by": "second"})

    with pytest.raises(Conflict):
        write_too()
    with store.snapshot() as snapshot:
        now = snapshot.get(KEY)
        assert now is not None
        assert now.status == {"by": "first"}
        assert snapshot.events() == []


def test_deletion_waits_for_the_finalizers(store: Store, clock: SettableClock) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission(), finalizers=("drain", "revoke-keys"))
    asked_at = clock.tick(5)
    with store.transaction(ALICE) as tx:
        going = tx.request_deletion(made)
        assert going is not None
        assert going.deletion_at == asked_at
        assert tx.request_deletion(going) is going
        assert tx.get(KEY) == going
        with pytest.raises(Conflict, match="being deleted"):
            tx.put_finalizers(going, ("drain", "more"))
        half = tx.put_finalizers(going, ("revoke-keys",))
        done = tx.put_finalizers(half, ())
        assert tx.get(KEY) == done
        assert tx.request_deletion(done) is None
        assert tx.get(KEY) is None


def test_deletion_without_finalizers_is_immediate_and_may_be_asked_for_again(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission())
        assert tx.request_deletion(made) is None
        assert tx.request_deletion(made) is None
    with store.snapshot() as snapshot:
        assert snapshot.get(KEY) is None
        assert [s.spec for s in snapshot.specs(made.uid)] == [made.spec]


def test_a_name_can_be_used_again_by_another_object(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        first = tx.create(mission(title="first"))
        tx.remove(first)
        second = tx.create(mission(title="second"))
    assert first.uid != second.uid
    with store.snapshot() as snapshot:
        assert snapshot.get(KEY) == second
        assert snapshot.get_by_uid(first.uid) is None
        assert len(snapshot.specs(first.uid)) == len(snapshot.specs(second.uid)) == 1


def test_the_state_facet_follows_the_status(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission(), status={"state": "Inbox"})
        made = tx.put_status(made, {"state": "Done"})
        assert tx.objects("Mission", states=["Inbox"]) == []
        assert tx.objects("Mission", states=["Done"]) == [made]
        made = tx.put_status(made, {"state": 7})  # not a text: no facet
        assert tx.objects("Mission", states=[""]) == [made]


def test_texts_that_are_no_unicode_are_stored_with_a_replacement_character(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        tx.create(mission(title="half \ud800 pair"), status={"said": "\udfff", "fine": "\U0001f600"})
        tx.create(mission("many", kind="Agent", title="\udc80"))
        tx.create_many([mission("more", kind="Agent", title="\udc81")])
    with store.snapshot() as snapshot:
        now = snapshot.get(KEY)
        assert now is not None
        assert now.spec == {"title": "half \ufffd pair"}
        assert now.status == {"said": "\ufffd", "fine": "\U0001f600"}
        assert snapshot.get(Key("Mission", "default", "\ud800")) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object(), b"bytes"])
def test_a_value_that_is_no_json_is_refused_before_anything_is_written(store: Store, value: object) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission())
        with pytest.raises((ValueError, TypeError)):
            tx.put_status(made, {"value": value})
        with pytest.raises((ValueError, TypeError)):
            tx.create(mission("b", value=value))
        assert tx.get(KEY) == made
        assert tx.count("Mission") == 1


def test_conflict_is_decided_by_version_and_not_by_content(store: Store) -> None:
    with store.transaction(ALICE) as tx:
        made = tx.create(mission(), status={"n": 0})
        there = tx.put_status(made, {"n": 1})
        back = tx.put_status(there, {"n": 0})
        assert replace(back, resource_version=made.resource_version) == made
        with pytest.raises(Conflict):
            tx.put_status(made, {"n": 2})
