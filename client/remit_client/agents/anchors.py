"""The anchors that GitHub gives to headings."""

from __future__ import annotations

import re
import unicodedata

_EMPHASIS = re.compile(r"(?<!\w)(_{1,3})(?=\S)([^_]{1,500}?)(?<=\S)\1(?!\w)")
_MAX_HEADING = 2000


def slug(text: str) -> str:
    """``What's new?`` -> ``whats-new``: lower case; letters, marks, digits, ``_`` and ``-`` stay, spaces become ``-``,
    everything else goes."""
    kept = []
    for char in text.strip()[:_MAX_HEADING].lower():
        if char in " \t\n":
            kept.append("-")
        elif char == "-" or unicodedata.category(char)[0] in "LMN" or unicodedata.category(char) == "Pc":
            kept.append(char)
    return "".join(kept)


class AnchorSet:
    """The anchors of one page. Equal headings are numbered from the second on: ``use``, ``use-1``, ``use-2``."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._more: set[str] = set()

    def add(self, shown: str, source: str) -> None:
        """A heading: as a reader sees it, and as it is written. ``_words_`` in emphasis lose their underscores; where
        that is a guess, the anchor with them is accepted too."""
        self._take(slug(_EMPHASIS.sub(r"\2", shown)))
        if "_" in source:
            self._more.add(slug(shown))

    def _take(self, wanted: str) -> None:
        anchor = wanted
        while anchor in self._taken:
            self._taken[wanted] += 1
            anchor = f"{wanted}-{self._taken[wanted]}"
        self._taken[anchor] = 0

    def all(self) -> set[str]:
        """Every anchor."""
        return set(self._taken) | self._more
