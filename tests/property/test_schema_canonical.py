"""Canonical specs: one form for every way of writing the same thing, on generated specs of every kind."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas import registry
from schemas.jsonschema import combined_schema, kind_schema
from schemas.resource import Declared, canonical_json
from tests.fakes.spec_strategies import documents

KINDS = registry.DECLARABLE
EXAMPLES = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def compiled(document: dict[str, Any]) -> Declared:
    checked = registry.check_document(document, default_namespace="default")
    assert isinstance(checked, Declared), [str(problem) for problem in checked]
    return checked


def shuffled(value: Any, order: random.Random) -> Any:
    """The same value with its mappings in another order."""
    if isinstance(value, dict):
        keys = list(value)
        order.shuffle(keys)
        return {key: shuffled(value[key], order) for key in keys}
    return [shuffled(item, order) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(data=st.data())
def test_a_canonical_spec_is_canonical(kind: str, data: st.DataObject) -> None:
    document = data.draw(documents(kind))
    once = compiled(document)
    again = compiled({**document, "spec": once.spec})
    assert again.spec == once.spec
    assert again.spec_hash == once.spec_hash


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(data=st.data())
def test_a_canonical_spec_survives_json_and_the_order_of_keys_means_nothing(kind: str, data: st.DataObject) -> None:
    document = data.draw(documents(kind))
    declared = compiled(document)
    assert json.loads(canonical_json(declared.spec)) == declared.spec
    other = shuffled(document, random.Random(data.draw(st.integers(0, 10**6))))
    assert compiled(other).spec_hash == declared.spec_hash


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(data=st.data())
def test_the_layout_of_a_file_means_nothing(kind: str, data: st.DataObject) -> None:
    document = data.draw(documents(kind))
    flow = yaml.safe_dump(document, default_flow_style=True, allow_unicode=True)
    block = "# a comment\n" + yaml.safe_dump(document, default_flow_style=False, indent=4, width=200)
    assert compiled(yaml.safe_load(flow)).spec_hash == compiled(yaml.safe_load(block)).spec_hash


@pytest.mark.parametrize("kind", KINDS)
@EXAMPLES
@given(data=st.data())
def test_editors_accept_what_the_model_accepts(kind: str, data: st.DataObject) -> None:
    document = data.draw(documents(kind))
    declared = compiled(document)
    validator = jsonschema.Draft7Validator(kind_schema(registry.by_kind(kind)))
    for spec in (document["spec"], declared.spec):
        faults = [f"{error.json_path}: {error.message}" for error in validator.iter_errors({**document, "spec": spec})]
        assert faults == []


@settings(max_examples=60, deadline=None)
@given(document=st.sampled_from(KINDS).flatmap(documents))
def test_the_combined_schema_accepts_documents_of_every_kind(document: dict[str, Any]) -> None:
    assert list(COMBINED.iter_errors(document)) == []


COMBINED = jsonschema.Draft7Validator(combined_schema())
