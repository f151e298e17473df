"""Field ownership under any order of writes, syncs and expiries."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from decisions.ownership import FIGHT_WINDOW, heal, in_force, laid_over, take, value_at
from schemas.ownership import Ownership, leaves
from schemas.resource import Declared, Resource

START = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = st.sampled_from(["a", "b", "c.d"])
VALUES = st.one_of(st.integers(0, 3), st.lists(st.integers(0, 2), max_size=2))
SPECS = st.dictionaries(NAMES, st.one_of(VALUES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=2)), max_size=3)


def tree(spec: dict[str, Any]) -> dict[str, Any]:
    """Every leaf, at line 1."""
    return {k: tree(v) if isinstance(v, dict) else 1 for k, v in spec.items()}


def declare(spec: dict[str, Any]) -> Declared:
    """As a source does."""
    return Declared("Mission", "default", "m", spec, ownership=Ownership(tree(spec)))


def live(spec: dict[str, Any], ownership: Ownership | None = None) -> Resource:
    """As stored."""
    known = ownership or Ownership(tree(spec))
    return Resource("Mission", "default", "m", "u", 1, 1, spec, {}, START, manager="git/s", unit="s:", ownership=known)


def anything(kind: str, spec: dict[str, Any]) -> bool:
    """Every spec is fine."""
    return True


@given(SPECS, SPECS)
def test_without_an_override_no_declared_field_changes(declared: dict[str, Any], wanted: dict[str, Any]) -> None:
    taken = take(live(declared), declare(wanted), "cli/a", START)
    if not taken.refused:
        for path, _ in leaves(tree(declared)):
            assert value_at(taken.spec, path) == value_at(declared, path)


@given(SPECS, SPECS)
def test_an_override_ends_in_exactly_what_is_declared(declared: dict[str, Any], wanted: dict[str, Any]) -> None:
    until = START + timedelta(hours=1)
    taken = take(live(declared), declare(wanted), "cli/a", START, reason="r", until=until)
    healed = heal(live(taken.spec, taken.ownership), until + FIGHT_WINDOW, anything)
    plain = [c for c in taken.ownership.claims if c.until is None]
    assert healed.spec == in_force(declared, plain)
    assert healed.ownership.overrides == ()
    for path, _ in leaves(tree(declared)):
        assert value_at(healed.spec, path) == value_at(declared, path)


@given(SPECS, SPECS, st.booleans())
def test_writing_the_same_again_changes_nothing(declared: dict[str, Any], wanted: dict[str, Any], over: bool) -> None:
    until = START + timedelta(hours=1) if over else None
    first = take(live(declared), declare(wanted), "cli/a", START, reason="r", until=until)
    if first.refused:
        return
    again = take(live(first.spec, first.ownership), declare(wanted), "cli/a", START, reason="r", until=until)
    assert (again.spec, again.ownership, again.refused) == (first.spec, first.ownership, ())


@given(SPECS, SPECS, SPECS)
def test_a_sync_loses_no_declared_field_and_is_idempotent(
    before: dict[str, Any], wanted: dict[str, Any], after: dict[str, Any]
) -> None:
    taken = take(live(before), declare(wanted), "cli/a", START)
    if taken.refused:
        return
    once = laid_over(declare(after), live(taken.spec, taken.ownership), anything)
    for path, _ in leaves(tree(after)):
        assert value_at(once.spec, path) == value_at(after, path)
    assert once.ownership is not None
    assert once.ownership.fields == tree(after)
    assert laid_over(declare(after), live(once.spec, once.ownership), anything) == once


@given(SPECS, SPECS)
def test_ownership_survives_the_store(declared: dict[str, Any], wanted: dict[str, Any]) -> None:
    until = START + timedelta(hours=1)
    taken = take(live(declared), declare(wanted), "cli/a", START, reason="r", until=until)
    known = replace(taken.ownership, base=taken.ownership.base if taken.ownership.claims else None)
    assert Ownership.from_wire(known.to_wire()) == known
