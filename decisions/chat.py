"""What a line of chat asks for: a command, and who is mentioned."""

from __future__ import annotations

import re
from dataclasses import dataclass

MOST_MENTIONS = 20
HELP = "help"
STATUS = "status"
ASKING = frozenset({HELP, STATUS})
"""Commands that every thread knows, and that change nothing of what an agent was going to do."""

_COMMAND = re.compile(r"/([a-z][a-z0-9-]{0,30})(?:\s+(.*))?", re.DOTALL)
# Not inside a word, so that an address is no mention. A dot or dash at the end belongs to the sentence.
_MENTION = re.compile(r"(?<![\w@/.+-])@((?:user:|agent:)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)")


@dataclass(frozen=True, slots=True)
class Command:
    """``/name arguments``."""

    name: str
    arguments: str = ""


def command_of(text: str) -> Command | None:
    """The command that a text is, None for any other. One that is to be said begins with another sign, or a space."""
    match = _COMMAND.fullmatch(text.rstrip())
    return Command(match.group(1), (match.group(2) or "").strip()) if match is not None else None


def mentioned(text: str) -> tuple[str, ...]:
    """The names behind ``@`` in a text, each once, in their order, as written: ``alice``, ``user:alice``,
    ``agent:auditor``. At most MOST_MENTIONS."""
    found = dict.fromkeys(match.group(1) for match in _MENTION.finditer(text))
    return tuple(found)[:MOST_MENTIONS]
