"""The glance by which a plan tells that nothing of an object changed."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from decisions import plan
from schemas.resource import canonical_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


class Mode(StrEnum):
    """A text that is none."""

    A = "a"


@given(json_values, json_values)
def test_what_looks_identical_is_written_alike(one: Any, other: Any) -> None:
    again = json.loads(canonical_json(one))
    assert plan._identical(again, json.loads(canonical_json(one)))
    for value in (other, again):
        if plan._identical(one, value):
            assert canonical_json(one) == canonical_json(value)


@pytest.mark.parametrize("pair", [(1, True), (1, 1.0), (0.0, -0.0), ({"a": [1]}, {"a": [True]}), ("a", Mode.A)])
def test_values_that_are_equal_and_not_the_same_are_not_taken_for_it(pair: tuple[Any, Any]) -> None:
    assert pair[0] == pair[1]
    assert not plan._identical(*pair)
