"""What of a call is kept and shown: without secrets, in one line, nothing that could deceive a terminal."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from controllers.runs import text
from decisions.fields import masked_whole
from schemas.policy import Redaction
from schemas.redaction import OFF, Redactor

REDACTORS = {level: Redactor((), level) for level in Redaction}
"""What takes credentials out, by their shape, at each level."""
STANDARD = REDACTORS[Redaction.STANDARD]
AS_IT_IS = REDACTORS[Redaction.OFF]


def redacted(args: dict[str, Any], redactor: Redactor) -> dict[str, Any]:
    """Arguments without what looks like a credential, by the name or the form of it."""
    if redactor.level == OFF or not args:
        return args
    found: dict[str, Any] = redactor.json(masked_whole(args))
    return found


@lru_cache(maxsize=512)
def words(given: str, limit: int, redactor: Redactor = STANDARD) -> str:
    """Agent text as one line for people."""
    return text.line(given, limit, redactor)
