"""What leaves the store for other eyes: texts without what has the shape of a credential (``schemas.redaction``)."""

from __future__ import annotations

from typing import Any

from schemas.redaction import HIDDEN as HIDDEN
from schemas.redaction import Redactor

_SHAPES = Redactor()


def redact(text: str) -> str:
    """``text`` with every credential that can be told by its shape replaced. Doing it again changes nothing."""
    return _SHAPES.text(text)


def redact_all(value: Any) -> Any:
    """The same for every text in a JSON value; keys stay."""
    return _SHAPES.json(value)
