"""Words of agents as plain text for places that are not ours: mail, chats, pages. What acts or deceives is shown as an
escape; nothing is taken away in silence."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.visible import visible

_CUT = "…"


def block(text: str, limit: int) -> str:
    """``text`` with newline as its only line end and every other character that acts as an escape, of at most ``limit``
    characters, with "…" at a cut. Doing it again changes nothing."""
    text = text[: limit + 1].replace("\r\n", "\n").replace("\r", "\n").replace("\t", "    ")
    text = "\n".join(visible(part) for part in text.split("\n"))
    return text if len(text) <= limit else text[: limit - 1] + _CUT


def line(text: str, limit: int) -> str:
    """The same on one line: no newline is left that could begin a header."""
    return block(" ".join(text[: 4 * limit].split()), limit)


def moment(when: datetime) -> str:
    """A time for people, to the minute."""
    return f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
