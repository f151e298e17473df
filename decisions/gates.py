"""Checks on a deliverable before it goes to review."""

from __future__ import annotations

import re
from dataclasses import dataclass

from schemas.mission import Gate

_MAX_FINDINGS = 20
_MAX_LINE = 2000

# Requirement A3: a stub or placeholder fails; a documented TODO (with an owner or an issue) is only a remark.
_DOCUMENTED = re.compile(r"\b(?:TODO|FIXME)\s*(?:\([^)\s][^)]{0,80}\)|:?\s*#\d+|:?\s*https?://)")
_STUB = re.compile(
    r"\bPLACEHOLDER\b|\bTODO\b|\bFIXME\b|\bXXX\b|\blorem ipsum\b|\bTBD\b|<insert[^>]{0,80}>|\[insert[^\]]{0,80}\]|"
    r"\braise NotImplementedError\b|\bnot implemented yet\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One remark. ``fatal`` ones keep the deliverable from review."""

    gate: Gate
    line: int
    word: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.gate} line {self.line}: {self.word}{'' if self.fatal else ' (documented, allowed)'}"


def check(gates: tuple[Gate, ...], text: str) -> list[Finding]:
    """What the gates find in the text of a deliverable, by line, at most 20. Words are fixed strings of ours or up to
    40 characters of the text."""
    findings: list[Finding] = []
    if Gate.NO_PLACEHOLDERS in gates:
        for number, line in enumerate(text.splitlines(), 1):
            part = line[:_MAX_LINE]
            match = _STUB.search(part)
            if match is None:
                continue
            findings.append(
                Finding(Gate.NO_PLACEHOLDERS, number, match.group(0)[:40], _DOCUMENTED.search(part) is None)
            )
            if len(findings) >= _MAX_FINDINGS:
                break
    return findings
