"""Wildcards without backtracking: the time is bounded by the length of the pattern times that of the text.

Texts come from agents. A pattern of ``re`` with a few stars can be made to take minutes by a thousand letters.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Letters:
    """One character of ``[...]``: single ones and ranges; ``negated``: any other."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool

    def hold(self, letter: str) -> bool:
        """Whether the letter is meant."""
        return any(low <= letter <= high for low, high in self.ranges) is not self.negated


Piece = str | Letters | None
"""A literal character; any one character is ``Letters((), True)``; None is any number of characters."""
ANY_ONE = Letters((), True)


@functools.lru_cache(maxsize=8192)
def compile_wild(pattern: str) -> tuple[Piece, ...]:
    """``*`` is any characters, ``?`` one, ``[abc]``, ``[a-z]`` and ``[!a]`` one of a choice; anything else itself."""
    found: list[Piece] = []
    at = 0
    while at < len(pattern):
        mark = pattern[at]
        at += 1
        if mark == "*":
            if not found or found[-1] is not None:
                found.append(None)
        elif mark == "?":
            found.append(ANY_ONE)
        elif mark == "[" and (end := pattern.find("]", at + (2 if pattern[at : at + 1] in ("!", "^") else 1))) > 0:
            found.append(_letters(pattern[at:end]))
            at = end + 1
        else:
            found.append(mark)
    return tuple(found)


def _letters(inner: str) -> Letters:
    negated = inner[0] in "!^"
    text = inner[1:] if negated else inner
    ranges: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            ranges.append((text[at], text[at + 2]))
            at += 3
        else:
            ranges.append((text[at], text[at]))
            at += 1
    return Letters(tuple(ranges), negated)


def fits(pieces: Sequence[Piece], text: str) -> bool:
    """Whether the whole text is what the pieces stand for. After a star fails, only the latest one is tried longer: an
    earlier one could not do better."""
    at = piece = 0
    star = retry = -1
    while at < len(text):
        if piece < len(pieces):
            wanted = pieces[piece]
            if wanted is None:
                star, retry = piece, at
                piece += 1
                continue
            if wanted == text[at] if isinstance(wanted, str) else wanted.hold(text[at]):
                piece += 1
                at += 1
                continue
        if star < 0:
            return False
        retry += 1
        piece, at = star + 1, retry
    return all(wanted is None for wanted in pieces[piece:])


def fits_path(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    """The same over the parts of a path: ``**`` stands for any number of them, for at least one at the end."""
    at = part = 0
    star = retry = -1
    while at < len(parts):
        if part < len(pattern):
            if pattern[part] == "**":
                if part == len(pattern) - 1:
                    return True
                star, retry = part, at
                part += 1
                continue
            if fits(compile_wild(pattern[part]), parts[at]):
                part += 1
                at += 1
                continue
        if star < 0:
            return False
        retry += 1
        part, at = star + 1, retry
    return part == len(pattern)
