"""Reads YAML files: plain values with a place for every node, and every fault of a file at once.

The parser is libyaml through PyYAML, driven by its events: building values from events needs no recursion, so no
nesting can exhaust the C stack, and costs the same as composing nodes. What it may see is decided before
(``yaml_guard``); what a plain scalar means is YAML 1.2 (``yaml_scalars``).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from controllers.sources import yaml_guard
from controllers.sources.findings import Findings, Position
from controllers.sources.yaml_document import Document, LoadResult, Path
from controllers.sources.yaml_guard import Limits
from controllers.sources.yaml_reader import Reader, Stop

__all__ = ["Document", "Limits", "LoadResult", "Path", "Position", "load"]

_BOUNDARY = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.MULTILINE)


def load(data: bytes, *, path: str, limits: Limits = yaml_guard.DEFAULT) -> LoadResult:
    """Read the file ``path`` whose content is ``data``. Never raises for what the content is.

    A syntax error ends its document; reading goes on at the next ``---``. A broken limit ends the file. Empty
    documents are left out. Pure: the file system is not touched, ``path`` only names the file in messages.
    """
    findings = Findings(path, limits.max_findings)
    documents: list[Document] = []
    admitted = yaml_guard.admit(data, findings, limits)
    if admitted is not None:
        reader = Reader(findings, limits, documents)
        try:
            fault = reader.read(*admitted, 0)
            if fault is not None:
                for line, text in _chunks(admitted[1], fault.line):
                    reader.read(text.encode(), text, line)
        except Stop:
            pass
    return LoadResult(tuple(documents), findings.diagnostics())


def _chunks(text: str, first_line: int) -> Iterator[tuple[int, str]]:
    """The documents of ``text`` that begin with ``---`` on ``first_line`` or below, each with its line, all from 0."""
    offset = 0
    for _ in range(first_line):
        offset = text.find("\n", offset) + 1
        if offset == 0:
            return
    line = first_line
    starts = [match.start() for match in _BOUNDARY.finditer(text, offset)]
    for start, end in itertools.pairwise([*starts, len(text)]):
        line += text.count("\n", offset, start)
        offset = start
        yield line, text[start:end]
