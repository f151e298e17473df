"""Redaction of output as it comes: chunks of any size in, the same bytes without credentials out.

Whole lines go on at once; the rest of a line waits for its end, so that no credential slips through in two halves.
A line beyond ``LIMIT`` goes on in pieces that overlap.
"""

from __future__ import annotations

import re
from typing import Final

from schemas.redaction import Redactor, replaced

LIMIT: Final = 64 * 1024
"""Bytes of one line that are held back."""
SLACK: Final = 8 * 1024
"""Bytes that are looked at and not shown where what came before them is unknown: more than a
private key has."""
_OVERLAP: Final = 4096
_ARMOURED = re.compile(r"(?:[A-Za-z0-9+/=\t :,.\\-]*)(?:\r\n?|\n)")
_OPEN_ARMOUR = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_CLOSED_ARMOUR = re.compile(r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_VALUE_ENDS = re.compile(r"[\s\"'\\,;]")


class StreamRedactor:
    """One stream. Not for several threads. What was fed and not given back is at most LIMIT bytes."""

    __slots__ = ("_armoured", "_held", "_redactor", "_size", "_swallows")

    def __init__(self, redactor: Redactor) -> None:
        """``redactor`` must be one for octets."""
        self._redactor = redactor
        self._held: list[str] = []
        self._size = 0
        self._armoured = False  # inside a private key that began in an earlier piece
        self._swallows = False  # inside a credential that is longer than a piece

    @property
    def held(self) -> int:
        """Bytes that wait."""
        return self._size

    def feed(self, data: bytes) -> bytes:
        """What can go on now."""
        self._held.append(data.decode("latin-1"))
        self._size += len(data)
        if self._size < LIMIT and b"\n" not in data and b"\r" not in data:
            return b""
        return self._process(last=False)

    def finish(self) -> bytes:
        """The rest. The stream has ended."""
        return self._process(last=True)

    def _process(self, *, last: bool) -> bytes:
        text = "".join(self._held)
        before, text = self._continued(text)
        cut = len(text) if last else self._cut(text)
        spans = self._redactor.spans(text)
        out: list[str] = [before]
        if cut < 0:
            cut, spans = self._forced(text, spans)
        elif not last:
            spans = [(start, min(end, cut)) for start, end in spans if start < cut]
        head = text[:cut]
        out.append(replaced(head, spans))
        if self._redactor.level != "Off" and spans and not last:
            start, end = spans[-1]
            if end == cut and _opens_armour(head[start:end]):
                self._armoured = True
        self._held, self._size = [text[cut:]], len(text) - cut
        return "".join(out).encode("latin-1")

    def _continued(self, text: str) -> tuple[str, str]:
        """Drop what belongs to a credential that began earlier."""
        if self._swallows:
            end = _VALUE_ENDS.search(text)
            if end is None:
                return "", ""
            self._swallows = False
            text = text[end.start() :]
        if self._armoured:
            closing = _CLOSED_ARMOUR.search(text)
            at = 0
            while at < len(text):
                if closing is not None and closing.start() <= at + len(_line(text, at)) and closing.start() >= at:
                    self._armoured = False
                    return "", text[closing.end() :]
                line = _ARMOURED.match(text, at)
                if line is None:
                    # Not a whole line yet: it may still become one of the key's.
                    self._armoured = "\n" not in text[at:] and len(text) - at < LIMIT
                    break
                at = line.end()
            text = text[at:]
        return "", text

    def _cut(self, text: str) -> int:
        """After the last whole line, -1 when there is none and the line is too long to wait for."""
        cut = max(text.rfind("\n"), text.rfind("\r")) + 1
        if cut == 0:
            return -1 if len(text) >= LIMIT else 0
        if self._armoured:
            return cut
        for needle in self._redactor.over_lines:
            # The beginning of a secret of several lines waits for the rest of it.
            at = needle.rfind("\n")
            while at >= 0:
                if text.startswith(needle[: at + 1], cut - at - 1) and cut > at:
                    return cut - at - 1 if len(text) - cut + at < LIMIT else cut
                at = needle.rfind("\n", 0, at)
        if len(text) - cut >= LIMIT:
            return -1
        return cut

    def _forced(self, text: str, spans: list[tuple[int, int]]) -> tuple[int, list[tuple[int, int]]]:
        """Where to cut inside a line, and the spans before the cut."""
        cut = len(text) - max(_OVERLAP, self._redactor.longest)
        kept = []
        for start, end in spans:
            if start >= cut:
                break
            kept.append((start, end))
            if end > cut:
                cut = end
                self._swallows = end == len(text)
        return max(cut, 0), kept


def clean_end(redactor: Redactor, data: bytes, skip: int) -> tuple[bytes, int]:
    """The end of a stream whose beginning is unknown: ``data`` without its first ``skip`` bytes, or a few more so that
    no credential is cut, and how many bytes that were. ``redactor`` must be one for octets."""
    text = data.decode("latin-1")
    spans = redactor.spans(text)
    skip = next((end for start, end in spans if start < skip < end), skip)
    shown = [(start - skip, end - skip) for start, end in spans if start >= skip]
    return replaced(text[skip:], shown).encode("latin-1"), skip


def _line(text: str, at: int) -> str:
    end = text.find("\n", at)
    return text[at:] if end < 0 else text[at : end + 1]


def _opens_armour(text: str) -> bool:
    begins = [match.end() for match in _OPEN_ARMOUR.finditer(text)]
    return bool(begins) and _CLOSED_ARMOUR.search(text, begins[-1]) is None
