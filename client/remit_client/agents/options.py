"""Reads ``mission.input`` field by field; an error says which field, what was given and what is expected."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from remit_client.errors import Failure

_MAX_TEXT = 4096
_MAX_ITEMS = 100


class Options:
    """The input of a mission. Each reader notes the field as known; ``finish`` then refuses all others, so that a
    misspelt option is an error and not a default. Every method raises Failure (InvalidInput), which no retry cures."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        self._known: set[str] = set()

    def _take(self, name: str) -> Any:
        self._known.add(name)
        return self._given.get(name)

    def text(self, name: str, default: str) -> str:
        """A text without control characters, at most 4,096 characters."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > _MAX_TEXT or any(c < " " for c in value):
            raise invalid(name, value, "a text on one line")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """true or false."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise invalid(name, value, "true or false")
        return value

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from ``low`` to ``high``."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise invalid(name, value, f"a whole number from {low} to {high}")
        return value

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        """One of ``choices``."""
        value = self._take(name)
        if value is None:
            return default
        if not isinstance(value, str) or value not in choices:
            raise invalid(name, value, "one of " + ", ".join(choices))
        return value

    def texts(self, name: str, default: Sequence[str]) -> tuple[str, ...]:
        """A list of at most 100 texts, each as in ``text``."""
        value = self._take(name)
        if value is None:
            return tuple(default)
        if not isinstance(value, list) or len(value) > _MAX_ITEMS:
            raise invalid(name, value, f"a list of at most {_MAX_ITEMS} texts")
        for item in value:
            if not isinstance(item, str) or not item or len(item) > _MAX_TEXT or any(c < " " for c in item):
                raise invalid(name, item, "a list of texts, each on one line")
        return tuple(value)

    def finish(self) -> None:
        """Refuse fields that nobody asked for."""
        for name in sorted(str(name) for name in self._given):
            if name not in self._known:
                close = difflib.get_close_matches(name, sorted(self._known), n=1)
                hint = f"; did you mean {close[0]}?" if close else f"; known are {', '.join(sorted(self._known))}"
                raise Failure("InvalidInput", f"input.{name[:100]} is not an option of this agent{hint}")


def invalid(name: str, value: object, expected: str) -> Failure:
    """The failure for a field of the wrong kind."""
    return Failure("InvalidInput", f"input.{name} must be {expected}, not {value!r:.100}")
