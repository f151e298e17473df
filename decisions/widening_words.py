"""Comparing two values of a limit: which of them leaves more room."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from schemas.quantities import parse_duration


def more(words: Mapping[str, int], old: Any, new: Any) -> bool:
    """Whether the new word leaves more room, by the rank of each."""
    return words.get(str(new), 0) > words.get(str(old), 0)


def looser_number(old: Any, new: Any) -> bool:
    """Whether a limit grew or went away."""
    if old is None:
        return False
    return new is None or Decimal(str(new)) > Decimal(str(old))


def looser_duration(old: Any, new: Any) -> bool:
    """Whether a time grew or went away."""
    if old is None:
        return False
    return new is None or parse_duration(new) > parse_duration(old)


def flat(value: Any, prefix: str = "") -> set[str]:
    """Leaves of nested lists and maps as ``name:value`` texts."""
    if isinstance(value, Mapping):
        return {leaf for k, v in value.items() for leaf in flat(v, f"{prefix}{k}:")}
    if isinstance(value, list | tuple):
        return {leaf for v in value for leaf in flat(v, prefix)}
    return {f"{prefix}{value}"}
