"""The project's own Markdown as data, for the tests that keep the documents true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^(?P<indent> *)(?P<mark>`{3,})(?P<info>[^`]*)$")
_HEADING = re.compile(r"^(#{1,6}) +(.*?) *$")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``line`` is that of its first line of content, counted from 1; ``info`` is what follows the
    fence; ``heading`` the heading it stands under."""

    path: str
    line: int
    info: str
    text: str
    heading: str

    @property
    def place(self) -> str:
        """``path:line``."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Page:
    """One Markdown file of the project. ``path`` is relative to its root."""

    path: str
    text: str

    @property
    def blocks(self) -> list[Block]:
        """Its fenced blocks, in order."""
        return [block for block in self._parts() if isinstance(block, Block)]

    @property
    def inline(self) -> list[tuple[int, str]]:
        """(line, text) of each piece of inline code; ``line`` is the first one of its paragraph or table row."""
        found: list[tuple[int, str]] = []
        paragraph: list[str] = []
        first = 0
        for part in [*self._parts(), (0, "")]:
            line, text = (0, "") if isinstance(part, Block) else part
            if not text.strip() or text.startswith("|"):
                found += [(first, match) for match in _INLINE.findall(" ".join(paragraph))]
                found += [(line, match) for match in _INLINE.findall(text)]
                paragraph, first = [], 0
            else:
                first = first or line
                paragraph.append(text.strip())
        return found

    def section(self, heading: str) -> str:
        """The text below a heading, up to the next one of its level or above. Raises KeyError."""
        lines, level = [], 0
        for part in self._parts():
            if isinstance(part, Block):
                if level:
                    lines.append(f"```{part.info}\n{part.text}\n```")
                continue
            match = _HEADING.match(part[1])
            if level and match and len(match[1]) <= level:
                return "\n".join(lines)
            if level:
                lines.append(part[1])
            elif match and match[2].strip("`") == heading:
                level = len(match[1])
        if not level:
            raise KeyError(f"{self.path} has no heading {heading!r}")
        return "\n".join(lines)

    def _parts(self) -> Iterator[Block | tuple[int, str]]:
        lines = self.text.splitlines()
        heading, number = "", 0
        while number < len(lines):
            fence = _FENCE.match(lines[number])
            if fence is None:
                match = _HEADING.match(lines[number])
                heading = match[2] if match else heading
                yield number + 1, lines[number]
                number += 1
                continue
            start = number + 1
            number = start
            while number < len(lines) and lines[number].strip() != fence["mark"]:
                number += 1
            indent = len(fence["indent"])
            body = "\n".join(line[indent:] for line in lines[start:number])
            yield Block(self.path, start + 1, fence["info"].strip(), body, heading)
            number += 1


def page(path: str) -> Page:
    """One page by its path."""
    return Page(path, (ROOT / path).read_text(encoding="utf-8"))


def pages() -> list[Page]:
    """Every page that people read: those at the top and all of docs/."""
    paths = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return [page(path.relative_to(ROOT).as_posix()) for path in sorted(paths)]


def written_pages() -> list[Page]:
    """Those that people wrote; the generated ones say so in their first line."""
    return [p for p in pages() if not p.text.startswith("<!-- Generated")]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row in ``text``, heads included, rules left out. A ``|`` inside a cell is ``\\|``."""
    found = []
    for line in text.splitlines():
        if line.startswith("|") and not re.fullmatch(r"[|:\- ]+", line):
            cells = re.split(r"(?<!\\)\|", line.strip())[1:-1]
            found.append([cell.strip().replace("\\|", "|") for cell in cells])
    return found
