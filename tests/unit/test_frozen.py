"""Frozen dataclasses that are made quickly are frozen dataclasses all the same."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas.frozen import quick
from schemas.resource import Declared, Provenance


@quick
@dataclass(frozen=True, slots=True)
class Place:
    path: str
    line: int = 1
    notes: list[str] = field(default_factory=list)


class Farther(Place):
    """A subclass, which has a __dict__."""


def test_it_is_of_its_class_frozen_and_has_no_other_attributes() -> None:
    place = Place("a.yaml", line=3)
    assert type(place) is Place
    assert repr(place) == "Place(path='a.yaml', line=3, notes=[])"
    with pytest.raises(dataclasses.FrozenInstanceError):
        place.line = 4  # type: ignore[misc]
    with pytest.raises((AttributeError, TypeError)):
        object.__setattr__(place, "colour", "red")


def test_defaults_are_given_and_none_is_shared() -> None:
    first, second = Place("a"), Place("a")
    assert first == second
    assert first.notes is not second.notes


def test_wrong_arguments_are_refused_under_its_name() -> None:
    make: Any = Place
    with pytest.raises(TypeError, match=r"Place\.__init__\(\) missing 1 required positional argument: 'path'"):
        make()
    with pytest.raises(TypeError, match=r"Place\.__init__\(\) got an unexpected keyword argument 'colour'"):
        make("a", colour="red")
    assert list(inspect.signature(Place).parameters) == ["path", "line", "notes"]


def test_a_subclass_stays_what_it_is() -> None:
    farther = Farther("a", 2)
    assert type(farther) is Farther
    assert (farther.path, farther.line) == ("a", 2)


def test_what_was_made_can_be_replaced_copied_and_pickled() -> None:
    origin = Provenance("platform", "platform:.", "main@sha1:0", "a.yaml", 1, "0")
    declared = Declared("Mission", "default", "a", {"title": "t"}, provenance=origin)
    other = dataclasses.replace(declared, name="b")
    assert (type(other), other.name, other.provenance) == (Declared, "b", origin)
    for twin in (copy.copy(declared), copy.deepcopy(declared), pickle.loads(pickle.dumps(declared))):
        assert type(twin) is Declared
        assert twin == declared
    assert hash(origin) == hash(copy.copy(origin))
