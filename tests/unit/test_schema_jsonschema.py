"""JSON Schema for editors: draft-07, flat, with descriptions, and no looser than it looks."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from schemas import registry
from schemas.jsonschema import combined_schema, kind_schema

KINDS = pytest.mark.parametrize("kind", registry.DECLARABLE)


def faults(schema: dict[str, Any], document: dict[str, Any]) -> list[str]:
    return [error.json_path for error in jsonschema.Draft7Validator(schema).iter_errors(document)]


def nodes(value: Any) -> Any:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


@KINDS
def test_every_schema_is_a_draft_07_schema(kind: str) -> None:
    schema = kind_schema(registry.by_kind(kind))
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema)


@KINDS
def test_every_schema_is_flat_and_holds_none_of_our_own_words(kind: str) -> None:
    for node in nodes(kind_schema(registry.by_kind(kind))):
        assert not {"$ref", "$defs"} & set(node)
        assert not [key for key in node if key.startswith("x-remit-")]
        assert node.get("type") != "null"


@KINDS
def test_every_property_of_an_object_is_described_and_no_other_is_allowed(kind: str) -> None:
    for node in nodes(kind_schema(registry.by_kind(kind))):
        properties = node.get("properties")
        if isinstance(properties, dict) and node.get("type") == "object":
            assert node["additionalProperties"] is False
            assert all(value.get("description") for value in properties.values())


def test_values_of_enums_come_with_what_they_mean() -> None:
    field = kind_schema(registry.by_kind("Schedule"))["properties"]["spec"]["properties"]["catchUp"]
    assert field["enum"] == ["Skip", "Last", "All"]
    assert len(field["enumDescriptions"]) == 3
    assert field["default"] == "Last"


def document(kind: str, **spec: Any) -> dict[str, Any]:
    return {"apiVersion": "remit.dev/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (document("Mission", title="x", titel="y"), "$.spec"),
        (document("Mission"), "$.spec"),
        (document("Mission", title="x", priority="Urgent"), "$.spec.priority"),
        (document("Mission", title="x", deadline=5), "$.spec.deadline"),
        (document("Executor", type="Http"), "$.spec"),
        (document("Channel", type="Email"), "$.spec"),
        (document("Budget", scope={}, limits={}), "$.spec.scope"),
        (document("Policy", risk={"shell exec": "Red"}), "$.spec.risk"),
        ({**document("Policy"), "status": {}}, "$"),
        ({**document("Policy"), "metadata": {"name": "A"}}, "$.metadata.name"),
        ({**document("Tenant"), "metadata": {"name": "a", "namespace": "b"}}, "$.metadata"),
        ({**document("Policy"), "kind": "Polcy"}, "$.kind"),
        ({**document("Policy"), "kind": "Run"}, "$.kind"),
    ],
)
def test_an_editor_marks_what_the_engine_would_refuse(value: dict[str, Any], place: str) -> None:
    assert place in faults(combined_schema(), value)


def test_the_combined_schema_can_be_narrowed_to_some_kinds() -> None:
    schema = combined_schema(["Mission", "Agent"])
    assert schema["properties"]["kind"]["enum"] == ["Mission", "Agent"]
    assert faults(schema, document("Policy")) == ["$.kind"]
    assert faults(schema, document("Mission", title="x")) == []


def test_building_a_schema_twice_gives_the_same_and_shares_nothing() -> None:
    first = kind_schema(registry.by_kind("Mission"))
    first["properties"]["spec"]["properties"].clear()
    assert kind_schema(registry.by_kind("Mission"))["properties"]["spec"]["properties"]
