"""Words of agents as plain text for places that are not ours: mail, chats, pages. What acts or deceives is shown, as
Python writes it; nothing is taken away in silence."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_CUT = "…"
# Control characters but newline, marks that change the direction, and characters without a width.
_ACTS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)


def block(text: str, limit: int) -> str:
    """``text`` with newline as its only line end and every other character that acts as an escape, of at most ``limit``
    characters, with "…" at a cut. Doing it again changes nothing."""
    text = text[: limit + 1].replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    text = _ACTS.sub(_escape, text)
    return text if len(text) <= limit else text[: limit - 1] + _CUT


def line(text: str, limit: int) -> str:
    """The same on one line: no newline is left that could begin a header."""
    return block(" ".join(text[: 4 * limit].split()), limit)


def moment(when: datetime) -> str:
    """A time for people, to the minute."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
