"""Texts that agents write: kept as data, cut to a limit, without credentials and without what could deceive a terminal
or a page."""

from __future__ import annotations

import re

from schemas.redaction import Redactor

MESSAGE = 2_000
WORK_PLAN = 100_000
SELF_REVIEW = 20_000
WORD = 100

# Control characters but newline and tab (so no escape sequence survives), and the marks that reorder what is shown.
_UNWANTED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_SURROGATES = re.compile(r"[\ud800-\udfff]")
_CUT = "…"
_SHAPES = Redactor()


def clean(text: str, limit: int | None = None, redactor: Redactor = _SHAPES) -> str:
    """``text`` with "\\n" as its only line end, without control and reordering characters, lone surrogates as U+FFFD,
    without what ``redactor`` takes out, cut to ``limit`` characters with "…" at the cut. Cleaning again changes
    nothing."""
    if limit is not None:
        text = text[: 2 * limit + 2]  # what is dropped below must not make a long text expensive
    text = _SURROGATES.sub("\ufffd", _UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n")))
    # Before the cut: half a credential has another shape.
    text = redactor.text(text)
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + _CUT
    return text


def line(text: str, limit: int = MESSAGE, redactor: Redactor = _SHAPES) -> str:
    """``clean`` text as one line: every run of white space is one space."""
    return clean(" ".join(clean(text, 2 * limit, redactor).split()), limit, redactor)
