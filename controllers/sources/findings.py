"""Findings: what is wrong with one file, collected in one go, worded so that hostile text stays harmless."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from schemas.errors import Diagnostic
from schemas.visible import visible as visible

PathPart = str | int

_EXCERPT_LENGTH = 80
_FIELD_LENGTH = 300
_BARE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,79}")


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in a file. Both count from 1; the column counts characters. (0, 0) means the whole file."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


WHOLE_FILE = Position(0, 0)


def cut(text: str, length: int = _EXCERPT_LENGTH) -> str:
    """``text`` made visible and cut to about ``length`` characters; an ellipsis marks the cut."""
    return visible(text) if len(text) <= length else visible(text[: length - 1]) + "…"


_PASSWORD = re.compile(r"(?<=://)[^/\s]*:[^\s]*@")
"""User and password of a URL that somebody wrote where it does not belong."""


def excerpt(value: object, length: int = _EXCERPT_LENGTH) -> str:
    """A value from a file as a message shows it: texts quoted and cut, collections only named."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{cut(_PASSWORD.sub('***@', value), length)}'"
    if isinstance(value, int | float):
        return cut(repr(value), length)
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return cut(type(value).__name__, length)


def field_path(path: Sequence[PathPart]) -> str:
    """The dotted form of a path: ``spec.rules[2].name``, ``metadata.labels.'example.org/team'``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _BARE_KEY.fullmatch(part) else excerpt(part)
            text += f".{shown}" if text else shown
        if len(text) > _FIELD_LENGTH:
            return text[: _FIELD_LENGTH - 1] + "…"
    return text


class Findings:
    """Collects the diagnostics of one file, at most ``limit`` of them.

    When ``is_full``, its reader stops: a person repairs the first hundred faults before asking for more. Not
    thread-safe; one is made for each file.
    """

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._kept: set[Diagnostic] = set()
        self._left_out = False

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept."""
        return len(self._kept) >= self._limit

    def add(
        self,
        place: Position,
        message: str,
        *,
        field: Sequence[PathPart] = (),
        expected: str = "",
        hint: str = "",
    ) -> None:
        """Record one fault; the same fault again adds nothing."""
        if self.is_full:
            self._left_out = True
            return
        self._kept.add(Diagnostic(self.path, place.line, place.column, field_path(field), message, expected, hint))

    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Everything recorded, sorted by place; the last one says so if there was more."""
        found = sorted(self._kept)
        if self._left_out:
            rest = f"there is more than these {len(found)} faults"
            found.append(Diagnostic(self.path, 0, 0, "", rest, hint="repair these first"))
        return tuple(found)
