"""Label and field selectors, as kubectl writes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from api.read.kube.status import bad_request
from schemas.columns import value_at

_LONGEST = 10_000
_MOST = 100
_SET = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s+(?P<op>in|notin)\s*\((?P<values>[^()]*)\)\s*$")
_EQUAL = re.compile(r"^\s*(?P<key>[^\s!=,()]+)\s*(?P<op>==|=|!=)\s*(?P<value>[^\s=!,()]*)\s*$")
_EXISTS = re.compile(r"^\s*(?P<not>!?)\s*(?P<key>[^\s!=,()]+)\s*$")
_FIELD = re.compile(r"^\s*(?P<path>[A-Za-z0-9_.\[\]-]+)(?P<op>==|=|!=)(?P<value>.*)$", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement. ``values`` None asks whether the key is there at all; ``negated`` turns it round."""

    key: str
    values: frozenset[str] | None
    negated: bool = False

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil it."""
        found = self.key in labels if self.values is None else labels.get(self.key) in self.values
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Labels:
    """All of them must hold."""

    requirements: tuple[Requirement, ...] = ()

    @property
    def equal(self) -> dict[str, str]:
        """Those pairs that must be there, for the store to look for."""
        return {
            r.key: next(iter(r.values))
            for r in self.requirements
            if r.values is not None and len(r.values) == 1 and not r.negated
        }

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels fulfil all."""
        return all(r.matches(labels) for r in self.requirements)


@dataclass(frozen=True, slots=True)
class Fields:
    """(path, value, negated) of each; all must hold. Any scalar of an object can be asked for."""

    requirements: tuple[tuple[str, str, bool], ...] = ()

    def equal(self, path: str) -> str | None:
        """The value that a path must have; None when it is not asked for."""
        return next((value for at, value, negated in self.requirements if at == path and not negated), None)

    def matches(self, document: dict[str, Any]) -> bool:
        """Whether a whole object fulfils all."""
        return all((_text(value_at(document, path)) == value) is not negated
                   for path, value, negated in self.requirements)  # fmt: skip


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def labels(text: str) -> Labels:
    """``a=b,c!=d,e in (f,g),h notin (i),j,!k``. Raises StatusProblem (400)."""
    return Labels(tuple(_requirement(part) for part in _parts(text)))


def fields(text: str) -> Fields:
    """``metadata.name=a,status.state!=Done``. Raises StatusProblem (400)."""
    found = []
    for part in _parts(text):
        match = _FIELD.match(part)
        if match is None:
            raise bad_request("a field selector is PATH=VALUE or PATH!=VALUE, with commas between several")
        found.append((match["path"], match["value"].strip(), match["op"] == "!="))
    return Fields(tuple(found))


def _requirement(text: str) -> Requirement:
    if match := _SET.match(text):
        values = frozenset(value.strip() for value in match["values"].split(","))
        return Requirement(match["key"], values, negated=match["op"] == "notin")
    if match := _EQUAL.match(text):
        return Requirement(match["key"], frozenset({match["value"]}), negated=match["op"] == "!=")
    if match := _EXISTS.match(text):
        return Requirement(match["key"], None, negated=match["not"] == "!")
    raise bad_request("a label selector is KEY=VALUE, KEY!=VALUE, KEY in (A,B), KEY notin (A), KEY or !KEY")


def _parts(text: str) -> list[str]:
    """Split at the commas outside of parentheses."""
    if len(text) > _LONGEST:
        raise bad_request("the selector is too long")
    parts, depth, start = [], 0, 0
    for position, character in enumerate(text):
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    parts.append(text[start:])
    found = [part for part in parts if part.strip()]
    if len(found) > _MOST:
        raise bad_request(f"a selector has at most {_MOST} requirements")
    return found
