"""Turns the validation errors of a model into diagnostics of the file that the value was read from."""

from __future__ import annotations

import functools
import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, NewType, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.alias_generators import to_camel

from controllers.sources import wording
from controllers.sources.findings import Findings, PathPart, Position, excerpt, field_path
from controllers.sources.wording import Words
from controllers.sources.yaml_document import Document, Path
from controllers.sources.yaml_guard import DEFAULT
from schemas.errors import Diagnostic

_ON_KEY = "[key]"


def from_validation(
    error: ValidationError,
    document: Document,
    path: str,
    prefix: tuple[PathPart, ...] = ("spec",),
    model: type[BaseModel] | None = None,
) -> list[Diagnostic]:
    """What ``error`` finds wrong with the value at ``prefix`` of ``document``, sorted by place.

    ``path`` names the file. ``model`` is the model that was validated; with it unknown fields get a suggestion and
    missing ones their description. Of a union the branch is reported that the value comes nearest to. Places that
    the reader already complained about are left out, so the list may be empty although ``error`` is not.
    """
    inside = _value_at(document.value, prefix)
    faults = [_locate(details, inside) for details in error.errors(include_url=False)]
    findings = Findings(path, DEFAULT.max_findings)
    fields = _Fields(model, prefix)
    faults = _nearest_branches(faults)
    renamed = {(fault.path[:-1], fields.suggestion(fault)) for fault in faults if fault.kind == "extra_forbidden"}
    for fault in faults:
        if fault.kind == "missing" and (fault.path[:-1], fault.path[-1]) in renamed:
            continue  # the misspelt field is reported, with this one as the suggestion
        place = _place(document, (*prefix, *fault.path), fault)
        if place in document.flawed:
            continue
        words = fields.describe(fault)
        findings.add(place, words.message, field=(*prefix, *fault.path), expected=words.expected, hint=words.hint)
    return list(findings.diagnostics())


@dataclass(frozen=True, slots=True)
class _Fault:
    """One validation error. ``path`` leads from the validated value; ``branches`` are the union branches on the way,
    each with the length of the path where it was entered. ``branch`` is the innermost one that was chosen."""

    kind: str
    path: Path
    value: object
    context: Mapping[str, Any]
    fallback: str
    on_key: bool = False
    branches: tuple[tuple[int, str], ...] = ()
    branch: str = ""
    alternatives: tuple[_Fault, ...] = ()


def _value_at(value: object, path: Sequence[PathPart]) -> object:
    for part in path:
        if isinstance(value, dict):
            value = value.get(part)
        elif isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
            value = value[part]
        else:
            return None
    return value


def _locate(details: Mapping[str, Any], value: object) -> _Fault:
    """Tell fields from union branches in the error's location, by what the value really has at each step."""
    path: list[PathPart] = []
    branches: list[tuple[int, str]] = []
    location = details["loc"]
    kind: str = details["type"]
    on_key = False
    for number, part in enumerate(location):
        last = number == len(location) - 1
        key = _key_in(value, part)
        if last and kind == "missing":
            path.append(part if not isinstance(part, str) or "_" not in part else to_camel(part))
        elif last and part == _ON_KEY and key is None:
            on_key = True
        elif key is not None:
            path.append(key)
            value = value[key]  # type: ignore[index]  # _key_in found it there
        else:
            branches.append((len(path), str(part)))
    return _Fault(
        kind,
        tuple(path),
        details.get("input"),
        details.get("ctx") or {},
        str(details.get("msg", "")),
        on_key,
        tuple(branches),
    )


def _key_in(value: object, part: PathPart) -> PathPart | None:
    if isinstance(value, dict):
        names = (part, str(part), to_camel(part)) if isinstance(part, str) else (part, str(part))
        return next((name for name in names if name in value), None)
    if isinstance(value, list) and isinstance(part, int) and 0 <= part < len(value):
        return part
    return None


def _nearest_branches(faults: list[_Fault]) -> list[_Fault]:
    """Of every union keep the branch that the value comes nearest to; one fault for all when none comes near."""
    kept: list[_Fault] = []
    unions: dict[Path, dict[str, list[_Fault]]] = {}
    for fault in faults:
        if fault.branches:
            depth, branch = fault.branches[0]
            rest = replace(fault, branches=fault.branches[1:], branch=branch)
            unions.setdefault(fault.path[:depth], {}).setdefault(branch, []).append(rest)
        else:
            kept.append(fault)
    for point, branches in unions.items():
        inner = [_nearest_branches(group) for group in branches.values()]
        near = [group for group in inner if not _is_other_type(group, point)]
        if near:
            kept += min(near, key=functools.partial(_distance, point=point))
        elif len(inner) == 1:
            kept += inner[0]
        else:
            first, *others = (group[0] for group in inner)
            kept.append(replace(first, alternatives=(*first.alternatives, *others)))
    return kept


def _is_other_type(group: Sequence[_Fault], point: Path) -> bool:
    """Whether the branch wants another type altogether, rather than something else inside the value."""
    return len(group) == 1 and group[0].path == point and group[0].kind.endswith(("_type", "_parsing", "from_float"))


def _distance(group: Sequence[_Fault], point: Path) -> tuple[int, int]:
    """How far a value is from a branch: faults in the very fields of the union's value weigh more than deeper ones."""
    return sum(len(fault.path) <= len(point) + 1 for fault in group), len(group)


def _place(document: Document, path: Path, fault: _Fault) -> Position:
    if fault.kind == "missing":
        return document.nearest(path[:-1])
    if fault.kind == "extra_forbidden" or fault.on_key:
        return document.nearest(path)
    return document.value_position(path) or document.nearest(path)


class _Fields:
    """What the model knows of its fields: which exist at a place, and what they are for."""

    def __init__(self, model: type[BaseModel] | None, prefix: Path) -> None:
        self._model = model
        self._prefix = prefix

    def describe(self, fault: _Fault) -> Words:
        """The words for a fault."""
        if fault.kind == "missing":
            name = fault.path[-1] if fault.path else ""
            return Words(f"the required field {excerpt(name)} is missing", hint=self._description(fault))
        if fault.kind == "extra_forbidden":
            return self._unknown(fault)
        words = wording.describe(fault.kind, fault.value, fault.context, fault.fallback)
        if fault.alternatives:
            others = (
                wording.describe(other.kind, other.value, other.context, other.fallback).expected
                for other in fault.alternatives
            )
            expected = dict.fromkeys(text for text in (words.expected, *others) if text)
            words = replace(words, expected=" or ".join(expected))
        if fault.on_key:
            return replace(words, message=f"as a key: {words.message}")
        if fault.kind == "string_pattern_mismatch" and not words.hint:
            return replace(words, hint=self._description(fault))
        return words

    def suggestion(self, fault: _Fault) -> str | None:
        """The field that an unknown field was probably meant to be."""
        return wording.closest(str(fault.path[-1]), self._at(fault.path[:-1], fault.branch)) if fault.path else None

    def _description(self, fault: _Fault) -> str:
        return self._at(fault.path[:-1], fault.branch).get(str(fault.path[-1]), "") if fault.path else ""

    def _unknown(self, fault: _Fault) -> Words:
        name = str(fault.path[-1]) if fault.path else ""
        parent = fault.path[:-1]
        known = self._at(parent, fault.branch)
        near = self.suggestion(fault)
        hint = f"did you mean {near}?" if near else self._elsewhere(name, parent)
        return Words(f"unknown field {excerpt(name)}", wording.listed(sorted(known)), hint)

    def _elsewhere(self, name: str, parent: Path) -> str:
        """Where the field does exist: around here, or one level further in. Wrong indentation is a common slip."""
        for end in range(len(parent) - 1, -1, -1):
            if name in self._at(parent[:end]):
                return f"{name} is a field of {field_path((*self._prefix, *parent[:end]))}; check the indentation"
        for child in self._at(parent):
            if name in self._at((*parent, child)):
                return f"{name} is a field of {field_path((*self._prefix, *parent, child))}; check the indentation"
        return ""

    def _at(self, path: Path, branch: str = "") -> dict[str, str]:
        """The fields that can stand at ``path``, with their descriptions; empty without a model or for free maps."""
        if self._model is None:
            return {}
        annotations: list[Any] = [self._model]
        for part in path:
            annotations = [inner for annotation in annotations for inner in _inside(annotation, part)]
        models = [found for annotation in annotations for found in _models(annotation)]
        chosen = [found for found in models if found.__name__ == branch] or models
        return {
            info.alias or name: info.description or "" for found in chosen for name, info in found.model_fields.items()
        }


def _plain_types(annotation: Any) -> Iterator[Any]:
    """The types that an annotation stands for, without unions, metadata and names around them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _plain_types(get_args(annotation)[0])
    elif origin is Union or origin is types.UnionType:
        for option in get_args(annotation):
            yield from _plain_types(option)
    elif isinstance(annotation, NewType):
        yield from _plain_types(annotation.__supertype__)
    else:
        yield annotation


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    for plain in _plain_types(annotation):
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            yield plain


def _inside(annotation: Any, part: PathPart) -> Iterator[Any]:
    """What can stand at ``part`` of a value of the annotation."""
    for plain in _plain_types(annotation):
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            for name, info in plain.model_fields.items():
                if part in (info.alias, name):
                    yield info.annotation
        elif isinstance(part, int):
            yield from (inner for inner in get_args(plain)[:1])
        elif len(get_args(plain)) == 2:
            yield get_args(plain)[1]
