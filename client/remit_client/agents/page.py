"""Reads one Markdown page: the links it holds, with their lines, and the anchors it offers.

Follows CommonMark where it matters for links (fences, indented code, code spans, HTML comments, reference
definitions, nested brackets, escapes) and GitHub for anchors of headings. Takes time in proportion to the text, also
for texts made to be slow.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from remit_client.agents.anchors import AnchorSet

_MAX_TARGET = 4000
_MAX_LABEL = 1000
_MAX_OPEN_BRACKETS = 200
_MAX_PARENS = 16
_MAX_TAG = 4000
_MAX_FRONT_MATTER = 500
_MAX_NESTED_ITEMS = 20
_MAX_HEADING = 2000

_QUOTE = re.compile(r" {0,3}> ?")
_LIST_ITEM = re.compile(r"( *)([-+*]|[0-9]{1,9}[.)])( +|$)")
_FENCE = re.compile(r" *(`{3,}|~{3,})(.*)$")
_HEADING = re.compile(r" {0,3}(#{1,6})(?:[ \t]+|$)")
_SETEXT = re.compile(r" {0,3}(=+|-+) *$")
_DEFINITION = re.compile(r" {0,3}\[((?:[^\[\]\\]|\\.){1,999})\]:")
_RAW_BLOCK = re.compile(r" {0,3}<(pre|script|style|textarea)(?=[\s>]|$)", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][A-Za-z0-9-]*(?=[\s/>])")
_AUTOLINK = re.compile(r"<[A-Za-z][A-Za-z0-9+.-]{1,31}:[^\s<>]*>")
# The name begins where no name goes on: tried at every letter of a long word, the search would be quadratic.
_ATTRIBUTE = re.compile(
    r"""(?<![A-Za-z0-9_:.-])([A-Za-z_:][A-Za-z0-9_:.-]*)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'=<>`]+))"""
)
_TICKS = re.compile(r"`+")
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


@dataclass(frozen=True, slots=True)
class Link:
    """A link, image, reference definition or HTML reference. ``target`` is unescaped but still percent-encoded."""

    line: int
    target: str


@dataclass(frozen=True, slots=True)
class Undefined:
    """``[text][label]`` with a label that nothing defines."""

    line: int
    label: str


@dataclass(slots=True)
class Page:
    """What a page holds, in the order of the text. ``anchors`` are those of headings and of HTML ids and names."""

    links: list[Link] = field(default_factory=list)
    undefined: list[Undefined] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)


@dataclass(slots=True)
class _Block:
    """Text that belongs together inline: a paragraph, a heading, the beginning of a list item, a table row."""

    line: int
    text: str
    heading: bool = False


def read_page(text: str) -> Page:
    """Read a whole page. ``text`` has ``\\n`` line ends."""
    definitions: dict[str, Link] = {}
    blocks = list(_Blocks(text, definitions).read())
    page = Page()
    anchors = AnchorSet()
    for block in blocks:
        reader = _Inline(block, definitions)
        reader.read()
        page.links += reader.links
        page.undefined += reader.undefined
        page.anchors |= reader.ids
        if block.heading:
            anchors.add(reader.plain(), block.text)
    page.links += definitions.values()
    page.links.sort(key=lambda link: link.line)
    page.anchors |= anchors.all()
    return page


class _Blocks:
    """Cuts a page into blocks of inline text, leaving out all kinds of code, comments and front matter."""

    def __init__(self, text: str, definitions: dict[str, Link]) -> None:
        self._lines = text.split("\n")
        self._definitions = definitions
        self._paragraph: list[str] = []
        self._first_line = 0

    def read(self) -> Iterator[_Block]:
        """The blocks in order. Fills the definitions on the way."""
        number = self._skip_front_matter()
        item_indent = nested = 0
        after_blank = True
        while number < len(self._lines):
            quotes, line = _strip_quotes(self._lines[number])
            indent = len(line) - len(line.lstrip(" "))
            if not line.strip():
                yield from self._flush()
                after_blank = True
                number += 1
                continue
            if after_blank and indent < item_indent:
                item_indent = 0
            if after_blank and not self._paragraph and indent >= item_indent + 4 and not _LIST_ITEM.match(line):
                number += 1  # indented code
                continue
            after_blank = False
            skipped = self._skip_raw(number, line, quotes, item_indent)
            if skipped > number:
                yield from self._flush()
                number = skipped
                continue
            item = _LIST_ITEM.match(line)
            if item is not None and not _SETEXT.match(line) and nested < _MAX_NESTED_ITEMS:
                yield from self._flush()
                # The line is read once more without its marker: a fence or another item may begin behind it.
                item_indent = item.end() if item.group(3) else item.end() + 1
                self._lines[number] = "> " * quotes + " " * item_indent + line[item.end() :]
                nested += 1
                continue
            yield from self._line(number, line.strip(" ") if item_indent else line)
            number += 1
            nested = 0
        yield from self._flush()

    def _line(self, number: int, line: str) -> Iterator[_Block]:
        heading = _HEADING.match(line)
        setext = _SETEXT.match(line)
        if heading is not None:
            yield from self._flush()
            yield _Block(number + 1, _without_closing(line[heading.end() :][:_MAX_HEADING]), heading=True)
        elif setext is not None and self._paragraph:
            yield from self._flush(heading=True)
        elif setext is not None:
            return  # a thematic break
        elif not self._paragraph and self._define(number, line):
            return
        elif line.lstrip().startswith("|"):
            yield from self._flush()
            yield _Block(number + 1, line)
        else:
            if not self._paragraph:
                self._first_line = number + 1
            self._paragraph.append(line)

    def _flush(self, *, heading: bool = False) -> Iterator[_Block]:
        if self._paragraph:
            text = "\n".join(self._paragraph)
            yield _Block(self._first_line, text[:_MAX_HEADING] if heading else text, heading)
            self._paragraph = []

    def _skip_front_matter(self) -> int:
        if self._lines[0].rstrip() == "---":
            for number in range(1, min(len(self._lines), _MAX_FRONT_MATTER)):
                if self._lines[number].rstrip() in ("---", "..."):
                    return number + 1
        return 0

    def _skip_raw(self, number: int, line: str, quotes: int, item_indent: int) -> int:
        """The line after a fenced block, an HTML comment or raw HTML that begins here; ``number`` when none does."""
        fence = _FENCE.match(line)
        if fence is not None and not (fence.group(1)[0] == "`" and "`" in fence.group(2)):
            inner_indent = item_indent if len(line) - len(line.lstrip(" ")) >= item_indent else 0
            return self._skip_fence(number + 1, fence.group(1), quotes, inner_indent)
        if line.lstrip().startswith("<!--"):
            return self._skip_until("-->", number, line.lstrip()[4:])
        raw = _RAW_BLOCK.match(line)
        if raw is not None:
            return self._skip_until(f"</{raw.group(1).lower()}>", number, line[raw.end() :])
        return number

    def _skip_fence(self, number: int, mark: str, quotes: int, item_indent: int) -> int:
        while number < len(self._lines):
            depth, line = _strip_quotes(self._lines[number], quotes)
            stripped = line.strip()
            outside = stripped and len(line) - len(line.lstrip(" ")) < item_indent
            if depth < quotes or outside:
                return number  # the block around it ended, and the fence with it
            number += 1
            if stripped and stripped == mark[0] * len(stripped) and len(stripped) >= len(mark):
                return number
        return number

    def _skip_until(self, end: str, number: int, rest: str) -> int:
        if end in rest.lower():
            # Text may follow on the same line, but CommonMark makes it part of the HTML block.
            return number + 1
        for later in range(number + 1, len(self._lines)):
            if end in self._lines[later].lower():
                return later + 1
        return len(self._lines)

    def _define(self, number: int, line: str) -> bool:
        match = _DEFINITION.match(line)
        if match is None or match.group(1).startswith("^"):
            return False
        place = number
        rest = line[match.end() :].strip()
        if not rest and number + 1 < len(self._lines):
            place = number + 1
            rest = _strip_quotes(self._lines[place])[1].strip()
        target, end = _destination(rest, 0)
        if end < 0 or (target == "" and not rest.startswith("<")):
            return False
        if place > number:
            self._lines[place] = ""
        self._definitions.setdefault(_label(match.group(1)), Link(place + 1, target))
        return True


class _Inline:
    """Reads the inline text of one block."""

    def __init__(self, block: _Block, definitions: dict[str, Link]) -> None:
        self._text = block.text
        self._definitions = definitions
        self._newlines = [m.start() for m in re.finditer("\n", block.text)]
        self._first_line = block.line
        self._ticks: dict[int, list[int]] = {}
        for run in _TICKS.finditer(block.text):
            self._ticks.setdefault(len(run.group()), []).append(run.start())
        self._open: deque[tuple[int, bool]] = deque(maxlen=_MAX_OPEN_BRACKETS)
        self._dropped: list[tuple[int, int]] = []
        self.links: list[Link] = []
        self.undefined: list[Undefined] = []
        self.ids: set[str] = set()

    def read(self) -> None:
        """Fill ``links``, ``undefined`` and ``ids``."""
        text, at = self._text, 0
        while at < len(text):
            char = text[at]
            if char == "\\" and text[at + 1 : at + 2] in _PUNCTUATION:
                self._drop(at, at + 1)
                at += 2
            elif char == "`":
                at = self._code(at)
            elif char == "<":
                at = self._angle(at)
            elif char == "!" and text.startswith("[", at + 1):
                self._open.append((at + 1, True))
                at += 2
            elif char == "[":
                self._open.append((at, False))
                at += 1
            elif char == "]":
                at = self._close(at)
            else:
                at += 1

    def plain(self) -> str:
        """The text as a reader sees it: without tags, link targets, images and escapes. Call after ``read``."""
        parts, at = [], 0
        for start, end in sorted(self._dropped):
            if start >= at:
                parts.append(self._text[at:start])
            at = max(at, end)
        parts.append(self._text[at:])
        return html.unescape("".join(parts))

    def _drop(self, start: int, end: int) -> None:
        self._dropped.append((start, end))

    def _line_of(self, at: int) -> int:
        return self._first_line + bisect_right(self._newlines, at)

    def _code(self, at: int) -> int:
        run = _TICKS.match(self._text, at)
        assert run is not None
        length, inside = run.end() - at, run.end()
        closers = self._ticks[length]
        index = bisect_right(closers, at)
        if index == len(closers):
            return inside
        end = closers[index] + length
        self._drop(at, inside)
        self._drop(closers[index], end)
        return end

    def _angle(self, at: int) -> int:
        text = self._text
        if text.startswith("<!--", at):
            end = text.find("-->", at + 4)
            if end < 0:
                # No comment ends behind this point, so none has to be looked for again.
                self._drop(at, len(text))
                return len(text)
            self._drop(at, end + 3)
            return end + 3
        autolink = _AUTOLINK.match(text, at, at + _MAX_TARGET)
        if autolink is not None:
            self._drop(at, at + 1)
            self._drop(autolink.end() - 1, autolink.end())
            return autolink.end()
        if _TAG.match(text, at) is None:
            return at + 1
        end = text.find(">", at, at + _MAX_TAG)
        # A second "<" before the end: not a tag, or one too odd to trust. It also keeps the search linear.
        if end < 0 or text.find("<", at + 1, end) >= 0:
            return at + 1
        for attribute in _ATTRIBUTE.finditer(text, at, end):
            name = attribute.group(1).lower()
            value = html.unescape(next((g for g in attribute.groups()[1:] if g is not None), ""))
            if name in ("href", "src"):
                self.links.append(Link(self._line_of(attribute.start()), value.strip()))
            elif name in ("id", "name"):
                self.ids.add(value)
        self._drop(at, end + 1)
        return end + 1

    def _close(self, at: int) -> int:
        if not self._open:
            return at + 1
        start, image = self._open.pop()
        text, line = self._text, self._line_of(start)
        if text.startswith("(", at + 1):
            target, end = self._inline_target(at + 2)
            if end >= 0:
                self.links.append(Link(line, target))
                return self._took(start, at, end, image)
        if text.startswith("[", at + 1):
            end = text.find("]", at + 2, at + 2 + _MAX_LABEL)
            if end >= 0 and "[" not in text[at + 2 : end]:
                label = text[at + 2 : end].strip() or text[start + 1 : at][:_MAX_LABEL]
                if _label(label) in self._definitions:
                    return self._took(start, at, end + 1, image)
                # ``array[i][j]`` in a sentence is no link.
                if not (start and (text[start - 1].isalnum() or text[start - 1] in "_])")) and label[:1] != "^":
                    self.undefined.append(Undefined(line, label))
                return end + 1
        if at - start <= _MAX_LABEL and _label(text[start + 1 : at]) in self._definitions:
            return self._took(start, at, at + 1, image)
        return at + 1

    def _took(self, start: int, at: int, end: int, image: bool) -> int:
        if image:
            self._drop(start - 1, end)
        else:
            self._drop(start, start + 1)
            self._drop(at, end)
        return end

    def _inline_target(self, at: int) -> tuple[str, int]:
        text = self._text
        at = _skip_space(text, at)
        if text.startswith(")", at):
            return "", at + 1
        target, at = _destination(text, at)
        if at < 0:
            return "", -1
        spaced = _skip_space(text, at)
        closer = {'"': '"', "'": "'", "(": ")"}.get(text[spaced : spaced + 1])
        if closer is not None and spaced > at:
            end = spaced + 1
            while True:
                end = text.find(closer, end, spaced + _MAX_TARGET)
                if end < 0:
                    return "", -1
                if text[end - 1] != "\\":
                    break
                end += 1
            spaced = _skip_space(text, end + 1)
        return (target, spaced + 1) if text.startswith(")", spaced) else ("", -1)


def _destination(text: str, at: int) -> tuple[str, int]:
    """The link target at ``at`` and where it ends; -1 when there is none."""
    limit = min(len(text), at + _MAX_TARGET)
    start = at
    if text.startswith("<", at):
        at += 1
        while at < limit and text[at] not in "<>\n":
            at += 2 if text[at] == "\\" else 1
        if at >= limit or text[at] != ">":
            return "", -1
        return _unescape(text[start + 1 : at]), at + 1
    depth = 0
    while at < limit and not text[at].isspace():
        char = text[at]
        if char == "\\":
            at += 1
        elif char == "(":
            depth += 1
            if depth > _MAX_PARENS:
                return "", -1
        elif char == ")":
            if depth == 0:
                break
            depth -= 1
        at += 1
    at = min(at, len(text))
    return (_unescape(text[start:at]), at) if depth == 0 and at - start < _MAX_TARGET else ("", -1)


def _unescape(text: str) -> str:
    if "\\" in text:
        text = re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)
    return html.unescape(text)


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\n":
        at += 1
    return at


def _strip_quotes(line: str, most: int = 100) -> tuple[int, str]:
    """How deep in block quotes, and the line without their marks and with tabs as spaces."""
    depth = 0
    while depth < most and (mark := _QUOTE.match(line)) is not None:
        line = line[mark.end() :]
        depth += 1
    return depth, line.expandtabs(4) if "\t" in line else line


def _without_closing(text: str) -> str:
    text = text.strip()
    bare = text.rstrip("#")
    return bare.rstrip() if bare != text and (not bare or bare[-1] in " \t") else text


def _label(text: str) -> str:
    return " ".join(text.split()).casefold()
