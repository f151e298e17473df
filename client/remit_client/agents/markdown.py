"""Writes Markdown around text that nobody vouches for: it cannot break a table, open a fence or become a tag."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from remit_client.agents.tree import show

_SPECIAL = re.compile(r"([\\`*_\[\]<>|#~&!])")
_RUN = re.compile(r"`+")


def code(text: str, limit: int = 200, *, cell: bool = False) -> str:
    """``text`` as inline code on one line; ``cell`` for a table, where a bar would end the cell even in code."""
    text = cut(show(text), limit)
    if cell:
        text = text.replace("|", "\\|")
    longest = max((len(run) for run in _RUN.findall(text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if not text or text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def plain(text: str, limit: int = 200) -> str:
    """``text`` as words on one line that mean nothing to Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", cut(" ".join(show(text.replace("\n", " ")).split()), limit))


def cut(text: str, limit: int) -> str:
    """``text``, or its beginning and a mark when it is longer than ``limit``."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def count(number: int, one: str, many: str = "") -> str:
    """``1 file``, ``2 files``, ``10,000 files``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    """Lines of a table. Cells are Markdown already; columns in ``right`` are aligned to the right."""
    lines = ["| " + " | ".join(head) + " |"]
    lines.append("|" + "|".join(" ---: " if i in right else " --- " for i in range(len(head))) + "|")
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    return lines


def passed_over(notes: Iterable[tuple[str, int]], incomplete: str) -> list[str]:
    """The lines that say what was not looked at; empty when everything was."""
    lines = [f"- {reason}: {number:,}" for reason, number in sorted(notes)]
    if incomplete:
        lines.insert(0, f"- **Not everything was looked at: {incomplete}.**")
    return ["", "## Not looked at", "", *lines] if lines else []


def document(lines: Iterable[str]) -> str:
    """The lines as a text with one final newline."""
    return "\n".join(lines).rstrip("\n") + "\n"
