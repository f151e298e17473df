"""What a value looks like in a column: moments as whole microseconds, JSON as canonical text, text as Unicode."""

from __future__ import annotations

import json
import json.scanner
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.resource import canonical_json

Mask = Callable[[Any, str], Any]
"""(value, namespace): a JSON value without what must not be kept there; the given one is left alone."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_LARGEST = 2**62
_scan = json.scanner.make_scanner(json.JSONDecoder())  # type: ignore[arg-type]  # without the look for spaces around


def unmasked(value: Any, namespace: str) -> Any:
    """The mask that takes out nothing."""
    return value


def to_micros(moment: datetime) -> int:
    """Whole microseconds since 1970 in UTC. Raises TypeError for a moment without a zone."""
    return (moment - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """Inverse of to_micros; always in UTC."""
    return EPOCH + timedelta(0, 0, micros)


def maybe_micros(moment: datetime | None) -> int | None:
    """to_micros, None for None."""
    return None if moment is None else to_micros(moment)


def maybe_moment(micros: int | None) -> datetime | None:
    """from_micros, None for None."""
    return None if micros is None else from_micros(micros)


def in_micros(seconds: float) -> int:
    """A length of time as microseconds."""
    return round(seconds * 1_000_000)


def bounded(number: int) -> int:
    """A number to compare with: beyond what a column can hold, the largest one compares alike. Numbers that clients
    send as cursors or limits come through here."""
    return max(-_LARGEST, min(number, _LARGEST))


def clean(text: str) -> str:
    """Text that every database can hold: a lone surrogate or a NUL becomes U+FFFD.

    Agents write both, by accident or to see what breaks; a log that refused them could not tell of it.
    """
    if text.isascii():
        return text.replace("\0", "\ufffd") if "\0" in text else text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\0", "\ufffd")


def dump(value: Any) -> str:
    """Canonical JSON, as Unicode (see clean). Raises ValueError for NaN and infinities, TypeError for no JSON."""
    if not value and isinstance(value, dict):  # most labels, annotations and data are
        return "{}"
    text = canonical_json(value)
    return text if text.isascii() else clean(text)


def clean_json(text: str) -> str:
    """Canonical JSON that was made elsewhere, as ``dump`` gives it."""
    return text if text.isascii() else clean(text)


def load(text: str) -> Any:
    """Inverse of dump."""
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        end = -1
    if end != len(text):  # canonical text begins with its value and ends with it, unless somebody wrote to the file
        return json.loads(text)
    return value


def load_object(text: str) -> dict[str, Any]:
    """Inverse of dump for JSON objects; most are empty, which costs no parsing."""
    return {} if text == "{}" else load(text)
