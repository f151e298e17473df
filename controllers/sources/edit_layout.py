"""Where the nodes of one YAML document stand in its text, character by character."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ruamel.yaml

from controllers.sources.findings import PathPart

_AFTER_KEY = re.compile(r"[ \t]*:")
_HEADER_COMMENT = re.compile(r"[ \t]+#.*")
_COMMENT = re.compile(r"(?:^|(?<=[ \t\r\n]))#")


class NotEditable(Exception):
    """The text is written in a way that this program does not edit. The message says which."""


@dataclass(slots=True)
class Node:
    """A node and its extent ``text[start:end]``. ``kind`` is scalar, mapping, sequence or alias.

    ``start`` includes an anchor or tag. The ``end`` of a block collection is unreliable: use ``content_end``.
    ``style`` is the quote or block mark of a scalar ("" for plain). ``entries`` are (key, value) of a mapping and
    (None, item) of a sequence.
    """

    kind: str
    start: int
    end: int
    column: int
    flow: bool = False
    style: str = ""
    value: str = ""
    anchored: bool = False
    entries: list[tuple[Node | None, Node]] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether the value is left out altogether, as in ``key:``."""
        return self.kind == "scalar" and self.style == "" and self.value == ""

    @property
    def is_block(self) -> bool:
        """Whether it is a block collection."""
        return self.kind in ("mapping", "sequence") and not self.flow


class Layout:
    """The nodes of the document that begins at ``offset`` of ``text``. Raises NotEditable if it cannot be read.

    The loader must have accepted ``text``: it bounds the depth, and here keys are known to be texts and unique.
    """

    def __init__(self, text: str, offset: int) -> None:
        self.text = text
        self.root = _read(text, offset)

    def find(self, path: Sequence[PathPart]) -> tuple[Node, int]:
        """The collection that holds the last part of ``path``, and the number of that entry in it."""
        node = self.root
        number = -1
        parent = node
        for part in path:
            parent = node
            if node.kind == "alias":
                raise NotEditable("the value is shared through an alias")
            number = self._entry(node, part)
            node = node.entries[number][1]
        return parent, number

    def node(self, path: Sequence[PathPart]) -> Node:
        """The value at ``path``."""
        if not path:
            return self.root
        parent, number = self.find(path)
        return parent.entries[number][1]

    @staticmethod
    def _entry(node: Node, part: PathPart) -> int:
        for number, (key, _) in enumerate(node.entries):
            if (key.value if key is not None else number) == part:
                return number
        raise NotEditable("the file is read differently by its editor and its loader")

    def after_key(self, key: Node) -> int:
        """The offset behind the colon of ``key``; behind the key itself where it has none (``{key}``)."""
        colon = _AFTER_KEY.match(self.text, key.end)
        return key.end if colon is None else colon.end()

    def content_end(self, key: Node | None, node: Node) -> int:
        """Where the last character of a value stands, plus one. Comments and blank lines after it do not count."""
        while node.is_block and node.entries:
            key, node = node.entries[-1]
        if node.is_empty and not node.anchored:
            if key is None:
                raise NotEditable("a list item without a value")
            return self.after_key(key)
        if node.style in ("|", ">"):
            return node.start + len(self.text[node.start : node.end].rstrip(" \t\r\n"))
        return node.end

    def last_line(self, key: Node | None, node: Node) -> int:
        """An offset on the last line of a value. The blank lines that a block text keeps (``|+``) are part of it."""
        end = self.content_end(key, node)
        while node.is_block and node.entries:
            node = node.entries[-1][1]
        header = self.text[node.start : node.end].split("\n", 1)[0].split("#")[0]
        return max(end, node.end - 1) if node.style in ("|", ">") and "+" in header else end

    def header_comment(self, node: Node) -> str:
        """The comment behind the ``|`` or ``>`` of a block text, with the space before it, or ""."""
        header = _HEADER_COMMENT.search(self.text[node.start : node.end].split("\n", 1)[0])
        return header.group().rstrip() if header is not None else ""

    def line_start(self, offset: int) -> int:
        """The offset at which the line of ``offset`` begins."""
        return self.text.rfind("\n", 0, offset) + 1

    def line_end(self, offset: int) -> int:
        """The offset behind the line break that ends the line of ``offset``; the end of the text if it has none."""
        end = self.text.find("\n", offset)
        return len(self.text) if end < 0 else end + 1

    def newline(self) -> str:
        """The line break of this file."""
        first = self.text.find("\n")
        return "\r\n" if first > 0 and self.text[first - 1] == "\r" else "\n"

    def step(self, path: Sequence[PathPart]) -> int:
        """By how many columns a mapping inside the one at ``path`` is indented: as that one is, or as the first nested
        one of the document, or 2."""
        node, step = self.root, 0
        for part in path:
            key, node = node.entries[self._entry(node, part)]
            step = _indentation(key, node) or step
        todo = [] if step else [self.root]
        while todo:
            node = todo.pop(0)
            for key, value in node.entries:
                if _indentation(key, value):
                    return _indentation(key, value)
                todo.append(value)
        return step or 2

    def refuse_comments(self, start: int, end: int, node: Node | None = None) -> None:
        """Raise NotEditable if a comment stands in ``text[start:end]``; scalars of ``node`` are no comments."""
        spans = [] if node is None else sorted(_scalars(node))
        for begin, stop in spans:
            if _COMMENT.search(self.text, start, max(begin, start)):
                raise NotEditable("a comment would be lost")
            start = max(start, stop)
        if _COMMENT.search(self.text, start, end):
            raise NotEditable("a comment would be lost")


def _indentation(key: Node | None, value: Node) -> int:
    """By how much a block mapping is indented below its key; 0 for every other value."""
    if key is None or value.kind != "mapping" or not value.is_block:
        return 0
    return max(value.column - key.column, 0)


def _scalars(node: Node) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    todo = [node]
    while todo:
        one = todo.pop()
        if one.kind == "scalar":
            found.append((one.start, one.end))
        for key, value in one.entries:
            todo += [value] if key is None else [key, value]
    return found


def _read(text: str, offset: int) -> Node:
    # typ="safe" with pure=True: the Python parser, which reports extents by character, and no comment handling.
    reader = ruamel.yaml.YAML(typ="safe", pure=True)
    root = Node("sequence", offset, offset, 0)
    stack: list[tuple[Node, Node | None]] = [(root, None)]
    try:
        for event in reader.parse(io.StringIO(text[offset:])):
            kind = type(event).__name__
            if kind == "DocumentEndEvent":
                break
            if kind in ("MappingEndEvent", "SequenceEndEvent"):
                ended, _ = stack.pop()
                ended.end = offset + event.end_mark.index
            elif kind in ("ScalarEvent", "AliasEvent", "MappingStartEvent", "SequenceStartEvent"):
                _add(stack, _node(event, kind, offset))
    except ruamel.yaml.error.YAMLError as error:
        raise NotEditable("the file is read differently by its editor and its loader") from error
    if len(root.entries) != 1:
        raise NotEditable("the document is empty")
    return root.entries[0][1]


def _node(event: Any, kind: str, offset: int) -> Node:
    start, end = offset + event.start_mark.index, offset + event.end_mark.index
    node = Node(kind.removesuffix("Event").removesuffix("Start").lower(), start, end, event.start_mark.column)
    node.anchored = getattr(event, "anchor", None) is not None or getattr(event, "tag", None) is not None
    if node.kind == "scalar":
        node.value, node.style = event.value, event.style or ""
    elif node.kind != "alias":
        node.flow = bool(event.flow_style)
    return node


def _add(stack: list[tuple[Node, Node | None]], node: Node) -> None:
    parent, key = stack[-1]
    if parent.kind == "mapping" and key is None:
        stack[-1] = (parent, node)
        return
    parent.entries.append((key, node))
    stack[-1] = (parent, None)
    if node.kind in ("mapping", "sequence"):
        stack.append((node, None))
