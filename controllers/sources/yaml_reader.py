"""Builds values from the parser's events: every value with its place, every fault with its path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import yaml
from yaml.cyaml import CParser  # type: ignore[attr-defined]  # the stubs leave it out
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from controllers.sources import yaml_scalars, yaml_syntax
from controllers.sources.findings import Findings, Position, cut, excerpt
from controllers.sources.yaml_document import SHIFT, Document, Path, Places, position
from controllers.sources.yaml_guard import Limits

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, type] = {
    _TAG + "null": type(None),
    _TAG + "bool": bool,
    _TAG + "int": int,
    _TAG + "float": float,
}


class Stop(Exception):
    """A limit is broken, or there are very many faults: the rest of the file is not read."""


class _Anchored(NamedTuple):
    """What an alias stands for, and what it adds: levels of collections, values, characters of text."""

    value: Any
    places: Places | None
    height: int
    values: int
    characters: int


class _Opened(NamedTuple):
    """An anchored collection that has not ended: its name, and the counts when it began."""

    name: str
    start: int
    values: int
    repeated: int
    deepest: int


class _Frame(NamedTuple):
    """A collection around the one that is being read, and the key that leads there (None in a list)."""

    container: Any
    places: Any
    key: str | None
    opened: _Opened | None


class Reader:
    """Adds the documents of one file to ``documents``. The counts that have a limit run over the whole file."""

    def __init__(self, findings: Findings, limits: Limits, documents: list[Document]) -> None:
        self._findings = findings
        self._limits = limits
        self._documents = documents
        self._count = 0
        self._values = 0
        self._repeated = 0  # characters that aliases repeat
        # Of the text being read:
        self._text = ""
        self._base = 0
        # Of the document being read:
        self._anchors: dict[str, _Anchored | None] = {}
        self._stack: list[_Frame] = []
        self._flawed: set[Position] = set()
        self._deepest = 0  # since the innermost open anchor

    def read(self, data: bytes, text: str, line: int) -> yaml_syntax.SyntaxFault | None:
        """Add the documents of ``text`` (``data`` in bytes), which begins at ``line`` (from 0) of the file.

        Returns the syntax error that ended it, if one did. Raises Stop when nothing more is to be read.
        """
        self._text = text
        self._base = line << SHIFT
        parser = CParser(data)
        try:
            while True:
                event: Any = parser.get_event()
                kind = type(event)
                if kind is StreamEndEvent:
                    return None
                if kind is DocumentStartEvent:
                    self._begin(self._place(event))
                    self._document(parser.get_event)
        except yaml.YAMLError as error:
            fault = yaml_syntax.explain(error, text, line)
            if fault.message == yaml_syntax.MISSING and self._stack:
                around = self._stack[-1]
                entry = around.places[-1 if around.key is None else around.key]
                fault = replace(fault, hint=f"the collection around it begins at {position(entry[1])}")
            fault.report(self._findings)
            return fault
        finally:
            parser.dispose()

    def _place(self, event: Any) -> int:
        mark = event.start_mark
        return int(self._base + (mark.line << SHIFT | mark.column))

    def _begin(self, at: int) -> None:
        self._count += 1
        if self._count > self._limits.max_documents:
            raise self._stop(at, (), f"the file has more than {self._limits.max_documents} documents")
        self._anchors = {}
        self._stack = []
        self._flawed = set()
        self._deepest = 0

    def _document(self, get_event: Callable[[], Any]) -> None:
        """Read the events of a document into values. This loop is the hot path: common cases are handled in line."""
        # The document is the one item of a list, so that every node has a collection around it.
        container: Any = []
        places: Any = []
        roots, root_places = container, places
        in_mapping = False
        key: str | None = None
        key_at = 0
        value: Any
        stack, base, max_values = self._stack, self._base, self._limits.max_values
        numeric, words = yaml_scalars.NUMERIC_START, yaml_scalars.WORDS
        while True:
            event = get_event()
            kind = type(event)
            if kind is ScalarEvent:
                mark = event.start_mark
                at = base + (mark.line << SHIFT | mark.column)
                value = event.value
                is_text = event.implicit[0] and event.anchor is None and value[:1] not in numeric and value not in words
                if in_mapping and key is None:
                    if not is_text or value in container:
                        self._check_key(event, at, container, places)
                    key, key_at = value, at
                    continue
                if not is_text:
                    value = self._scalar(event, at, container, key)
                inside: Any = None
            elif kind is MappingEndEvent or kind is SequenceEndEvent:
                value, inside = container, places
                container, places, _, opened = stack.pop()
                if opened is not None:
                    self._end_anchored(opened, event, value, inside)
                in_mapping = type(container) is dict
                continue
            elif kind is DocumentEndEvent:
                break
            else:
                at = self._place(event)
                if in_mapping and key is None:
                    self._report(at, self._path(container, None), "a key that is no text", expected="a text as key")
                    while type(get_event()) is not DocumentEndEvent:
                        pass
                    return
                if kind is AliasEvent:
                    value, inside = self._alias(event, at, container, key)
                else:
                    opened = self._begin_collection(event, at, container, key)
                    value, inside = ({}, {}) if kind is MappingStartEvent else ([], [])
            self._values += 1
            if self._values > max_values:
                raise self._stop(at, self._path(container, key), f"the file has more than {max_values} values")
            if in_mapping:
                container[key] = value
                places[key] = (key_at, at, inside)
            else:
                container.append(value)
                places.append((at, at, inside))
            if kind is not ScalarEvent and kind is not AliasEvent:
                stack.append(_Frame(container, places, key, opened))
                container, places = value, inside
                in_mapping = kind is MappingStartEvent
            key = None
        if roots[0] is not None:
            root = root_places[0]
            line = position(root[0]).line
            self._documents.append(Document(self._count - 1, roots[0], line, frozenset(self._flawed), root))

    # Everything below runs rarely: for quoted and number-like scalars, anchors, aliases and faults.

    def _scalar(self, event: Any, at: int, container: Any, key: str | None) -> yaml_scalars.Scalar:
        text: str = event.value
        value: yaml_scalars.Scalar = text
        if event.implicit[0]:
            resolved = yaml_scalars.resolve(text) if event.style == "" else text
            if isinstance(resolved, yaml_scalars.Trap):
                self._report(at, self._path(container, key), resolved.message, expected=resolved.expected)
            elif isinstance(resolved, str) or not self._has_bare_tag(event):
                value = resolved
            else:
                self._report(at, self._path(container, key), "the tag ! is not supported", expected="a quoted text")
        elif event.tag is not None and event.tag != _TAG + "str":
            value = self._tagged(event, at, container, key)
        if "\0" in text:
            self._report(at, self._path(container, key), "a NUL character in a text", hint="remove the escape")
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, None, 0, 1, len(text))
        return value

    def _has_bare_tag(self, event: Any) -> bool:
        # The parser drops the tag "!", which makes a text of what follows: `! 12`. No number or word contains one.
        return "!" in self._text[event.start_mark.index : event.end_mark.index]

    def _tagged(self, event: Any, at: int, container: Any, key: str | None) -> yaml_scalars.Scalar:
        wanted = _SCALAR_TAGS.get(event.tag)
        if wanted is None:
            self._unknown_tag(event, at, container, key)
            return str(event.value)
        value = yaml_scalars.resolve(event.value)
        if wanted is float and type(value) is int:
            value = float(value)
        if type(value) is not wanted or isinstance(value, yaml_scalars.Trap):
            name = event.tag.removeprefix(_TAG)
            self._report(at, self._path(container, key), f"{excerpt(event.value)} is not of the type !!{name}")
            return str(event.value)
        return value

    def _unknown_tag(self, event: Any, at: int, container: Any, key: str | None) -> None:
        tag = cut(event.tag.replace(_TAG, "!!"))
        self._report(
            at,
            self._path(container, key),
            f"the tag {tag} is not supported",
            expected="a plain value",
            hint="quote a text that begins with !",
        )

    def _check_key(self, event: Any, at: int, container: Any, places: Any) -> None:
        text: str = event.value
        if event.implicit[0]:
            resolved = yaml_scalars.resolve(text) if event.style == "" else text
            if isinstance(resolved, yaml_scalars.Trap):
                self._report(
                    at,
                    self._path(container, text),
                    f"as a key: {resolved.message}",
                    expected=f"'{cut(text)}' in quotes",
                )
            elif not isinstance(resolved, str):
                shown, expected = (cut(text), f"'{cut(text)}' in quotes as key") if text else ("an empty key", "a text")
                self._report(at, self._path(container, None), f"{shown} is no text", expected=expected)
        elif event.tag is not None and event.tag != _TAG + "str":
            self._unknown_tag(event, at, container, text)
        if "\0" in text:
            self._report(at, self._path(container, None), "a NUL character in a key", hint="remove the escape")
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(text, None, 0, 1, len(text))
        if text in container:
            first = position(places[text][0])
            self._report(
                at,
                self._path(container, text),
                "the same key twice",
                expected="each key once",
                hint=f"the first is at line {first.line}, column {first.column}",
            )

    def _begin_collection(self, event: Any, at: int, container: Any, key: str | None) -> _Opened | None:
        depth = len(self._stack) + 1
        if depth > self._limits.max_depth:
            raise self._stop(
                at, self._path(container, key), f"more than {self._limits.max_depth} collections inside one another"
            )
        if event.tag is not None and event.tag != _TAG + ("map" if type(event) is MappingStartEvent else "seq"):
            self._unknown_tag(event, at, container, key)
        if event.anchor is None:
            self._deepest = max(self._deepest, depth)
            return None
        opened = _Opened(event.anchor, event.start_mark.index, self._values, self._repeated, self._deepest)
        self._anchors[event.anchor] = None  # until it ends, an alias to it would make it contain itself
        self._deepest = depth
        return opened

    def _end_anchored(self, opened: _Opened, event: Any, value: Any, places: Any) -> None:
        self._anchors[opened.name] = _Anchored(
            value,
            places,
            self._deepest - len(self._stack),
            self._values - opened.values,
            # The length in the file stands for the length of the texts inside: never less, and nothing to add up.
            self._repeated - opened.repeated + event.end_mark.index - opened.start,
        )
        self._deepest = max(self._deepest, opened.deepest)

    def _alias(self, event: Any, at: int, container: Any, key: str | None) -> tuple[Any, Places | None]:
        path = self._path(container, key)
        anchored = self._anchors.get(event.anchor)
        if anchored is None:
            name = cut(event.anchor)
            if event.anchor in self._anchors:
                self._report(at, path, f"the alias *{name} stands inside what it names")
            else:
                self._report(at, path, f"the alias *{name} names no anchor", expected=f"&{name} before it")
            return None, None
        limits = self._limits
        depth = len(self._stack) + anchored.height
        self._deepest = max(self._deepest, depth)
        self._values += anchored.values - 1
        self._repeated += anchored.characters
        if depth > limits.max_depth:
            raise self._stop(at, path, f"with aliases, more than {limits.max_depth} collections inside one another")
        if self._values > limits.max_values:
            raise self._stop(at, path, f"with aliases, the file has more than {limits.max_values} values")
        if self._repeated > limits.max_bytes:
            raise self._stop(at, path, f"aliases repeat more than {limits.max_bytes} characters")
        return anchored.value, anchored.places

    def _path(self, container: Any, key: str | None) -> Path:
        """The path of ``key`` in the collection being read (None: of the next item of a list, or of the mapping)."""
        if not self._stack:
            return ()
        above = (len(frame.container) - 1 if frame.key is None else frame.key for frame in self._stack[1:])
        if type(container) is list:
            return (*above, len(container))
        return tuple(above) if key is None else (*above, key)

    def _report(self, at: int, path: Path, message: str, *, expected: str = "", hint: str = "") -> None:
        place = position(at)
        self._flawed.add(place)
        full = self._findings.is_full
        self._findings.add(place, message, field=path, expected=expected, hint=hint)
        if full:
            raise Stop

    def _stop(self, at: int, path: Path, message: str) -> Stop:
        self._report(at, path, message, hint="split it, or repeat less")
        return Stop(message)
