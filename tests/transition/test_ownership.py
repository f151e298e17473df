"""Conformance scenarios of field ownership: 14 override and heal, 15 field fight, 24 a death between the two."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from controllers.sources.ownership import arrange
from decisions.ownership import take
from schemas.base import Key
from schemas.ownership import Ownership
from schemas.resource import Declared, Resource
from tests.fakes.stores import BACKENDS
from tests.fakes.world import ALICE, World, mission

pytestmark = pytest.mark.parametrize("backend", sorted(BACKENDS))


def declared(world: World, **spec: object) -> None:
    """A mission ``a`` that git declares."""
    world.commit({"a.yaml": mission("a", agent=None, **spec)})
    world.sync()


def write(world: World, field: str, value: object, *, ttl: float | None = None, by: str = "cli/alice") -> None:
    """Set one field by hand, as `remit apply` does; AssertionError when it is refused."""
    with world.store.transaction(ALICE) as tx:
        current = tx.get(Key("Mission", "default", "a"))
        assert current is not None
        wanted = Declared(*current.key, {**current.spec, field: value}, ownership=Ownership({field: 0}))
        until = tx.now + timedelta(seconds=ttl) if ttl is not None else None
        taken = take(current, wanted, by, tx.now, reason="incident", until=until)
        assert not taken.refused, taken.refused
        new = replace(wanted, spec=taken.spec, provenance=current.provenance, ownership=taken.ownership)
        arrange(tx, current.ownership, tx.put_spec(current, new))
    world.settle()


def vandalise(world: World, title: str) -> None:
    """Change a declared field past every check."""
    with world.store.transaction(ALICE) as tx:
        current = tx.get(Key("Mission", "default", "a"))
        assert current is not None
        spec = {**current.spec, "title": title}
        tx.put_spec(current, Declared(*current.key, spec, provenance=current.provenance))
    world.settle()


def a(world: World) -> Resource:
    """The mission."""
    return world.get("Mission", "a")


def wire_conditions(world: World) -> dict[str, str]:
    """Reason by type, as people see them."""
    return {c["type"]: c["reason"] for c in a(world).to_wire()["status"]["conditions"]}


def test_14_the_store_knows_the_line_of_each_declared_field(world: World) -> None:
    declared(world, title="one")
    assert a(world).ownership.fields == {"title": 5, "review": 6}
    [entry] = a(world).to_wire()["metadata"]["managedFields"]
    assert entry["manager"] == "git/default"
    assert entry["fieldsV1"] == {"f:spec": {"f:title": {}, "f:review": {}}}


def test_14_a_field_that_git_leaves_open_keeps_the_value_set_by_hand(world: World) -> None:
    declared(world, title="one")
    write(world, "priority", 90)
    declared(world, title="two")
    assert (a(world).spec["priority"], a(world).spec["title"]) == (90, "two")
    declared(world, title="two", priority=10)
    assert a(world).spec["priority"] == 10
    assert a(world).ownership.claims == ()


def test_14_an_override_reverts_at_its_ttl_without_the_source(world: World) -> None:
    declared(world, title="one")
    write(world, "title", "taken", ttl=3600)
    assert a(world).spec["title"] == "taken"
    assert wire_conditions(world)["Overridden"] == "FieldsOverridden"
    world.sync()
    assert a(world).spec["title"] == "taken"
    shutil.rmtree(world.repo.path)
    world.advance(3599)
    assert a(world).spec["title"] == "taken"
    world.advance(1)
    assert a(world).spec["title"] == "one"
    assert "Overridden" not in wire_conditions(world)
    assert len(world.events("OverrideEnded")) == 1
    world.check()


def test_14_a_commit_under_an_override_shows_when_that_ends(world: World) -> None:
    declared(world, title="one")
    write(world, "title", "taken", ttl=600)
    declared(world, title="two")
    assert a(world).spec["title"] == "taken"
    world.advance(600)
    assert a(world).spec["title"] == "two"


def test_14_a_rename_keeps_the_override_and_its_end(world: World) -> None:
    declared(world, title="one")
    write(world, "title", "taken", ttl=600)
    world.commit({"a.yaml": mission("b", agent=None, annotations="remit.dev/renamed-from: a", title="one")})
    world.sync()
    assert world.get("Mission", "b").spec["title"] == "taken"
    world.advance(600)
    assert world.get("Mission", "b").spec["title"] == "one"


def test_24_an_engine_that_dies_under_an_override_heals_after_its_start(world: World) -> None:
    declared(world, title="one")
    write(world, "title", "taken", ttl=60)
    world.clock.tick(7200)
    world.restart()
    assert a(world).spec["title"] == "one"
    assert len(world.events("OverrideEnded")) == 1
    world.restart()
    assert len(world.events("OverrideEnded")) == 1


def test_15_drift_that_comes_back_is_put_right_ever_later_and_then_stalls(world: World) -> None:
    declared(world, title="one")
    for turn in range(3):
        vandalise(world, f"drift {turn}")
        world.sync()
        assert a(world).spec["title"] == "one", turn
        world.advance(20)
    assert wire_conditions(world)["Stalled"] == "FieldFight"
    vandalise(world, "again")
    world.sync()
    assert a(world).spec["title"] == "one", "20 s passed; the third pause is 18 s"
    vandalise(world, "at once")
    world.sync()
    assert a(world).spec["title"] == "at once", "left alone for 54 s"
    world.advance(60)
    world.sync()
    assert a(world).spec["title"] == "one"
    assert len(world.events("FieldFight")) == 1
    world.advance(601)
    assert "Stalled" not in wire_conditions(world)
    assert len(world.events("FieldFightEnded")) == 1
    world.check()


def test_15_a_script_that_overrides_again_and_again_is_slowed_down(world: World) -> None:
    declared(world, title="one")
    write(world, "title", "0", ttl=3600)
    with pytest.raises(AssertionError, match="retry_at"):
        write(world, "title", "1", ttl=3600)
    for turn, pause in ((1, 2), (2, 6)):
        world.advance(pause)
        write(world, "title", str(turn), ttl=3600)
    assert wire_conditions(world)["Stalled"] == "FieldFight"
    assert a(world).spec["title"] == "2"
    world.advance(4000)
    assert a(world).spec["title"] == "one"
    assert "Stalled" not in wire_conditions(world)
