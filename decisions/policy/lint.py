"""What is wrong with a Policy or a Waiver before any call is judged: expressions and entries of allowlists."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from decisions.policy import commands, expressions
from decisions.policy.expression_tokens import BadExpression, place


class Problem(NamedTuple):
    """One fault. ``field`` is the path below the document; ``hint`` may be ""."""

    field: tuple[str | int, ...]
    message: str
    hint: str = ""


def problems(kind: str, spec: Mapping[str, Any]) -> list[Problem]:
    """Every fault of a canonical spec of a Policy or Waiver, in field order; of other kinds none."""
    if kind == "Policy":
        return list(_policy(spec))
    return list(_match(spec.get("match", {}), ("spec", "match"))) if kind == "Waiver" else []


def _policy(spec: Mapping[str, Any]) -> Iterator[Problem]:
    for index, rule in enumerate(spec.get("rules", ())):
        yield from _match(rule.get("match", {}), ("spec", "rules", index, "match"))
    for index, text in enumerate(spec.get("allowlists", {}).get("shell", ())):
        try:
            commands.compile_entry(text)
        except commands.BadEntry as error:
            yield Problem(("spec", "allowlists", "shell", index), str(error))


def _match(match: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Problem]:
    source = match.get("when")
    if source is None:
        return
    error = _checked(source)
    if error is not None:
        where = f"{place(source, error.at)} of the expression: " if error.at >= 0 else ""
        yield Problem((*path, "when"), f"{where}{error}", error.hint)


@functools.lru_cache(maxsize=4096)
def _checked(source: str) -> BadExpression | None:
    return expressions.check(source)
