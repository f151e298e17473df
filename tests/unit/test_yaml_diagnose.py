"""Validation errors of models as diagnostics of the file: the right place, plain words, a suggestion."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any, Literal

import pydantic_core
import pytest
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic import ValidationError as PydanticError

import schemas
from controllers.sources import diagnose, wording, yaml
from schemas import quantities
from schemas.base import LabelKey, Model, ObjectRef, SpecMeta
from schemas.errors import Diagnostic
from schemas.kind import KindInfo
from schemas.quantities import Duration


class Colour(StrEnum):
    DARK_RED = "DarkRed"
    GREEN = "Green"


class Named(Model):
    name: str = Field(description="The name of a tool.")


class Served(Model):
    server_ref: ObjectRef
    tool_names: list[str] = []


class Limits(Model):
    max_attempts: int = Field(1, ge=1, le=10)
    wait: Duration = Field("1s")  # type: ignore[assignment]


class Spec(Model):
    title: str = Field(max_length=10, description="One line.")
    colour: Colour = Colour.GREEN
    mode: Literal["Fast", "Slow"] = "Fast"
    limits: Limits = Limits()
    tools: tuple[Named | Served | Annotated[str, StringConstraints(pattern="^[a-z]+$")], ...] = ()
    labels: dict[LabelKey, int] = {}
    either: int | bool | list[int] | None = None
    tagged: (
        Annotated[Annotated[Named, Tag("n")] | Annotated[Served, Tag("s")], Discriminator(lambda value: "s")] | None
    ) = None
    first: int = 0
    last: int = 10

    @model_validator(mode="after")
    def _order(self) -> Spec:
        if self.last < self.first:
            raise ValueError("last must not be less than first")
        return self


def found(text: str, model: type[BaseModel] = Spec, prefix: tuple[str, ...] = ("spec",)) -> list[Diagnostic]:
    document = yaml.load(text.encode(), path="a.yaml").documents[0]
    value = document.value
    for part in prefix:
        value = value[part]
    try:
        model.model_validate(value)
    except PydanticError as error:
        return diagnose.from_validation(error, document, "a.yaml", prefix, model)
    return []


def one(text: str) -> Diagnostic:
    (diagnostic,) = found(text)
    return diagnostic


def test_an_unknown_field_is_reported_at_its_key_with_the_field_that_was_meant() -> None:
    diagnostic = one("spec:\n  title: x\n  limits: {maxatempts: 3}\n")
    assert diagnostic == Diagnostic(
        "a.yaml",
        3,
        12,
        "spec.limits.maxatempts",
        "unknown field 'maxatempts'",
        "maxAttempts or wait",
        "did you mean maxAttempts?",
    )


def test_an_unknown_field_that_lives_elsewhere_names_that_place() -> None:
    assert "wait is a field of spec.limits" in one("spec:\n  title: x\n  wait: 3s\n").hint
    assert "mode is a field of spec;" in one("spec:\n  title: x\n  limits: {mode: Fast}\n").hint
    assert one("spec:\n  title: x\n  nothing: 3s\n").hint == ""


def test_a_missing_field_is_reported_where_its_mapping_begins_with_what_it_is_for() -> None:
    diagnostic = one("kind: X\nspec:\n  mode: Fast\n")
    assert (diagnostic.line, diagnostic.column, diagnostic.field) == (2, 1, "spec.title")
    assert diagnostic.message == "the required field 'title' is missing"
    assert diagnostic.hint == "One line."


def test_a_misspelt_required_field_is_reported_once() -> None:
    diagnostic = one("spec:\n  tittle: x\n")
    assert diagnostic.hint == "did you mean title?"


@pytest.mark.parametrize(
    ("line", "column", "field", "text"),
    [
        ("title: 5", 10, "title", "5 is a whole number; expected a text (in quotes it is a text: '5')"),
        ("title:", 9, "title", "there is no value here; expected a text (write one, or leave the field out)"),
        ("title: [a]", 10, "title", "this is a list; expected a text"),
        ("title: 'long long long'", 10, "title", "'long long long' has 14 characters; expected at most 10 characters"),
        ("colour: darkred", 11, "colour", "'darkred' is not one of the choices; expected DarkRed or Green (did you"),
        ("colour: 5", 11, "colour", "5 is not one of the choices; expected DarkRed or Green"),
        ("mode: fastt", 9, "mode", "'fastt' is not one of the choices; expected Fast or Slow (did you mean Fast?)"),
        ("limits: {maxAttempts: 0}", 25, "limits.maxAttempts", "0 is out of range; expected at least 1"),
        ("limits: {maxAttempts: x}", 25, "limits.maxAttempts", "'x' is a text; expected a whole number"),
        ("limits: {maxAttempts: 1.5}", 25, "limits.maxAttempts", "1.5 is a number; expected a whole number"),
        ("limits: {wait: soon}", 18, "limits.wait", "not a duration"),
        ("limits: 5", 11, "limits", "5 is a whole number; expected a mapping"),
        ("tools: {name: x}", 10, "tools", "this is a mapping; expected a list"),
        ("labels: {'a b': 1}", 12, "labels.'a b'", "as a key: 'a b' does not have the right form; expected a key"),
        ("labels: {a: b}", 15, "labels.a", "'b' is a text; expected a whole number"),
        ("either: x", 11, "either", "'x' is a text; expected a whole number or true or false or a list"),
        ("either: [x]", 12, "either[0]", "'x' is a text; expected a whole number"),
        ("tools: [{serverRef: {nam: x}}]", 24, "tools[0].serverRef.nam", "unknown field 'nam'; expected name or name"),
        ("tools: [{nme: x}]", 12, "tools[0].nme", "unknown field 'nme'; expected name (did you mean name?)"),
        ("tools: [7]", 11, "tools[0]", "7 is a whole number; expected a mapping or a text"),
        ("tools: ['X Y']", 11, "tools[0]", "'X Y' does not have the right form; expected a text that matches ^[a-z]+$"),
        ("tagged: {nam: x, serverRef: {name: x}}", 12, "tagged.nam", "unknown field 'nam'"),
        ("first: 11", 1, "", "last must not be less than first"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_reported_at_the_value_in_plain_words(line: str, column: int, field: str, text: str) -> None:
    title = "" if line.startswith("title") else "  title: x\n"
    diagnostic = one(f"spec:\n  {line}\n{title}")
    assert (diagnostic.line, diagnostic.column) == (2, column if field else 3)
    assert diagnostic.field == (f"spec.{field}" if field else "spec")
    assert str(diagnostic).split(f"{diagnostic.field}: ", 1)[1].startswith(text)


def test_all_errors_come_at_once_sorted_by_place() -> None:
    diagnostics = found("spec:\n  mode: x\n  limits: {maxAttempts: 0, wait: x}\n  colour: x\n  other: 1\n")
    assert [diagnostic.line for diagnostic in diagnostics] == [1, 2, 3, 3, 4, 5]


def test_a_place_that_the_reader_complained_about_is_not_reported_again() -> None:
    assert found("spec:\n  title: no\n  first: 0x_1\n") == []
    assert [d.field for d in found("spec:\n  title: x\n  first: 0x_1\n  last: x\n")] == ["spec.last"]


def test_other_parts_of_a_document_can_be_diagnosed_too() -> None:
    (diagnostic,) = found("metadata:\n  name: x\n  label: {a: b}\n", SpecMeta, ("metadata",))
    assert (diagnostic.line, diagnostic.field, diagnostic.hint) == (3, "metadata.label", "did you mean labels?")
    (diagnostic,) = found("title: x\nmod: Fast\n", Spec, ())
    assert (diagnostic.line, diagnostic.field, diagnostic.hint) == (2, "mod", "did you mean mode?")


def test_without_the_model_the_place_is_still_right() -> None:
    document = yaml.load(b"spec: {titel: 5}\n", path="a.yaml").documents[0]
    with pytest.raises(PydanticError) as caught:
        Spec.model_validate(document.value["spec"])
    diagnostics = diagnose.from_validation(caught.value, document, "a.yaml")
    assert [(d.line, d.column, d.field) for d in diagnostics] == [(1, 1, "spec.title"), (1, 8, "spec.titel")]


def test_a_value_under_an_alias_is_reported_where_it_is_written() -> None:
    diagnostic = one("base: &x {maxAttempts: 0}\nspec:\n  title: x\n  limits: *x\n")
    assert (diagnostic.line, diagnostic.column, diagnostic.field) == (1, 24, "spec.limits.maxAttempts")


def test_hostile_values_are_cut_and_made_visible() -> None:
    class Echo(Model):
        name: Annotated[str, BeforeValidator(lambda value: _refuse(value))]

    hostile = "\\e]0;owned\\a\\u202e\\u200b" + "x" * 900
    for text, model in (
        (f'spec: {{title: x, mode: "{hostile}"}}\n', Spec),
        (f'spec: {{title: x, "{hostile}": 1}}\n', Spec),
        (f'spec: {{title: x, labels: {{"{hostile}": 1}}}}\n', Spec),
        (f'spec: {{name: "{hostile}"}}\n', Echo),
    ):
        (diagnostic,) = found(text, model)
        shown = str(diagnostic)
        assert len(shown) < 700
        assert shown.isprintable()
        assert "\\u202e" in shown


def _refuse(value: str) -> str:
    raise ValueError(f"{value} is bad")


def test_very_many_errors_are_cut() -> None:
    diagnostics = found("spec:\n  title: x\n" + "".join(f"  k{number}: 1\n" for number in range(500)))
    assert len(diagnostics) == 101


def _error_types() -> list[dict[str, Any]]:
    return [dict(entry) for entry in pydantic_core._pydantic_core.list_all_errors()]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [entry["type"] for entry in _error_types()])
def test_every_error_type_of_pydantic_has_words(kind: str) -> None:
    example = next(entry for entry in _error_types() if entry["type"] == kind)
    context = example["example_context"] or {}
    for value in (None, True, 7, 1.5, "text", [1], {"a": 1}):
        words = wording.describe(kind, value, context, example["message_template_python"])
        assert words.message
        for text in dataclasses.astuple(words):
            assert "Input should" not in text
            assert "pydantic" not in text


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        yield from schema.get("patternProperties", {})
        for value in schema.values():
            yield from _patterns(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from _patterns(value)


def _specs() -> Iterator[type[BaseModel]]:
    for module in pkgutil.iter_modules(schemas.__path__):
        kind = getattr(importlib.import_module(f"schemas.{module.name}"), "KIND", None)
        if isinstance(kind, KindInfo):
            yield kind.spec


def test_every_pattern_that_a_spec_can_offend_has_words() -> None:
    """Durations, amounts and dates are checked by validators with words of their own, not by their patterns."""
    own_words = {quantities.DURATION_PATTERN, quantities.MONEY_PATTERN, quantities.DATE_PATTERN}
    patterns = {pattern for spec in _specs() for pattern in _patterns(spec.model_json_schema())} - own_words
    assert len(patterns) > 5
    words = {
        pattern: wording.describe("string_pattern_mismatch", "", {"pattern": pattern}, "").expected
        for pattern in patterns
    }
    assert [pattern for pattern, text in words.items() if text.startswith("a text that matches")] == []


def test_models_that_allow_more_do_not_disturb() -> None:
    class Loose(BaseModel):
        model_config = ConfigDict(extra="allow")
        count: int

    assert [d.field for d in found("spec: {count: x, other: 1}\n", Loose)] == ["spec.count"]
