"""What holds for every kind: descriptions, closed reasons, strict scalars, paths that lead somewhere."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, Strict
from pydantic.fields import FieldInfo

from schemas import registry
from schemas.base import Model, SpecMeta, StatusModel
from schemas.conditions import CommonReason
from schemas.enum_docs import member_docs, member_groups
from schemas.event import EventType
from schemas.explain import FieldDoc, object_doc
from schemas.kind import KindInfo, ObjectClass

KINDS = list(registry.KINDS)
BY_KIND = pytest.mark.parametrize("info", KINDS, ids=[info.kind for info in KINDS])
PASCAL = re.compile(r"[A-Z][A-Za-z0-9]*")


def models(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> set[type[BaseModel]]:
    """A model and every model below it."""
    seen = set() if seen is None else seen
    if model in seen:
        return seen
    seen.add(model)
    for field in model.model_fields.values():
        for part in parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                models(part, seen)
    return seen


def parts(annotation: Any) -> Iterator[Any]:
    """An annotation and everything in it."""
    yield annotation
    for inner in typing.get_args(annotation):
        yield from parts(inner)


def fields(*roots: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    for model in sorted({m for root in roots for m in models(root)}, key=lambda m: m.__qualname__):
        for name, field in model.model_fields.items():
            yield f"{model.__module__}.{model.__name__}.{name}", field


def metadata(field: FieldInfo) -> list[Any]:
    found = list(field.metadata)
    for part in parts(field.annotation):
        found += getattr(part, "__metadata__", ())
    return [inner for item in found for inner in (*getattr(item, "metadata", ()), item)]


@BY_KIND
def test_every_field_has_a_description(info: KindInfo) -> None:
    bare = [name for name, field in fields(info.spec, info.status, SpecMeta) if not (field.description or "").strip()]
    assert bare == []


@BY_KIND
def test_every_description_is_a_sentence(info: KindInfo) -> None:
    for name, field in fields(info.spec, info.status):
        text = field.description or ""
        assert text[0].isupper() or text.split()[0].strip(":").isascii(), (name, text)
        assert text.endswith((".", "?")) or ":..." in text, (name, text)


@BY_KIND
def test_every_model_and_enum_says_what_it_is(info: KindInfo) -> None:
    for model in models(info.spec) | models(info.status):
        assert model.__doc__, model
        for field in model.model_fields.values():
            for part in parts(field.annotation):
                if isinstance(part, type) and issubclass(part, StrEnum):
                    assert part.__doc__, part


@BY_KIND
def test_every_reason_is_a_word_with_a_comment_behind_it(info: KindInfo) -> None:
    for reason, text in member_docs(info.reasons).items():
        assert PASCAL.fullmatch(reason), reason
        assert text, f"{info.kind}: {reason} has no comment"
        assert "noqa" not in text


def test_the_common_reasons_and_the_events_have_a_comment_each() -> None:
    for enum in (CommonReason, EventType):
        assert all(member_docs(enum).values())
    groups = member_groups(EventType)
    assert "" not in groups
    assert sum(len(values) for values in groups.values()) == len(EventType)


@BY_KIND
def test_declared_kinds_have_a_reason_for_not_being_acted_on(info: KindInfo) -> None:
    if info.object_class is ObjectClass.INTENT and info.kind not in (
        "Mission",
        "Agent",
        "Policy",
        "ToolServer",
        "Waiver",
    ):
        assert "NotReconciledYet" in {str(reason) for reason in info.reasons}


@BY_KIND
def test_the_main_condition_is_ready_or_succeeded(info: KindInfo) -> None:
    if info.condition_types:
        assert ("Succeeded" if info.bounded else "Ready") in info.condition_types
        assert "conditions" in info.status.model_fields
    else:
        assert list(info.reasons) == []


@BY_KIND
def test_declared_kinds_say_which_generation_their_status_speaks_of(info: KindInfo) -> None:
    assert issubclass(info.spec, Model)
    assert issubclass(info.status, StatusModel)
    if info.object_class is not ObjectClass.RECORD:
        assert "observed_generation" in info.status.model_fields


@BY_KIND
def test_numbers_and_switches_of_specs_are_never_written_as_text(info: KindInfo) -> None:
    if info.object_class is ObjectClass.RECORD:
        return
    for name, field in fields(info.spec):
        scalars = {part for part in parts(field.annotation) if part in (int, float, bool)}
        if scalars:
            assert any(isinstance(item, Strict) and item.strict for item in metadata(field)), f"{name} is lax"


@BY_KIND
def test_whole_numbers_that_people_write_are_bounded(info: KindInfo) -> None:
    if info.object_class is ObjectClass.RECORD:
        return
    for name, field in fields(info.spec):
        if int in set(parts(field.annotation)):
            assert any(getattr(item, "le", None) is not None for item in metadata(field)), f"{name} has no upper bound"


def paths(field: FieldDoc) -> set[str]:
    return {child.path for _, child in field.walk()}


@BY_KIND
def test_columns_show_fields_that_exist(info: KindInfo) -> None:
    known = paths(object_doc(info))
    names = [column.name for column in info.columns]
    assert len(names) == len(set(names))
    for column in info.columns:
        for type_ in re.findall(r"conditions\[(\w+)\]", column.path):
            assert type_ in info.condition_types, column
        assert re.sub(r"\[\w+\]", "", column.path) in known, column
        assert column.type in ("string", "integer", "date", "money")


@BY_KIND
def test_disruption_and_immutability_speak_of_fields_that_exist(info: KindInfo) -> None:
    known = paths(object_doc(info))
    for path in [*info.disruption, *info.immutable]:
        assert path == "" or f"spec.{path}" in known, path
    if info.object_class is not ObjectClass.RECORD:
        assert "" in info.disruption


def test_deleting_a_limit_is_a_widening_and_deleting_an_exception_is_not() -> None:
    assert {info.kind for info in KINDS if info.guardrail} == {"Policy", "Budget", "Hold", "Tenant"}


def test_only_tables_of_their_own_are_marked_as_such() -> None:
    assert {info.kind for info in KINDS if info.own_table} == {"Event", "Timer", "Effect"}
