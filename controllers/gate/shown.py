"""What of a call is kept and shown: without secrets, in one line, nothing that could deceive a terminal."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from controllers.runs import text
from controllers.status.redaction import redact_all
from decisions.fields import masked


def redacted(args: dict[str, Any]) -> dict[str, Any]:
    """Arguments without what looks like a credential, by the name or the form of it."""
    found: dict[str, Any] = redact_all(masked(args))
    return found


@lru_cache(maxsize=512)
def words(given: str, limit: int) -> str:
    """Agent text as one line for people."""
    return text.line(str(redact_all(given)), limit)
