"""The single changes that an edit consists of, each a splice into the text at one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controllers.sources import edit_fragment
from controllers.sources.edit_layout import Layout, Node, NotEditable
from controllers.sources.findings import PathPart

Path = tuple[PathPart, ...]


@dataclass(frozen=True, slots=True)
class Replace:
    """Another value at ``path``."""

    path: Path
    value: Any

    def splice(self, layout: Layout) -> str:
        """The text after the change."""
        if not self.path:
            raise NotEditable("the whole document would change")
        parent, number = layout.find(self.path)
        key, node = parent.entries[number]
        if node.kind == "alias" or node.anchored:
            raise NotEditable("the value has an anchor, alias or tag")
        if node.is_empty:
            return self._fill(layout, parent, key)
        text = edit_fragment.inline(self.value, node.style if node.style in ("'", '"') else "")
        end = layout.content_end(key, node)
        if node.style in ("|", ">"):
            text += layout.header_comment(node)
        if not node.is_block:
            return layout.text[: node.start] + text + layout.text[end:]
        start = node.start
        if key is not None:
            start = layout.after_key(key)
            text = f" {text}"
        layout.refuse_comments(start, end, node)
        return layout.text[:start] + text + layout.text[end:]

    def _fill(self, layout: Layout, parent: Node, key: Node | None) -> str:
        if key is None:
            raise NotEditable("a list item without a value")
        if isinstance(self.value, dict) and self.value and parent.is_block:
            step = layout.step(self.path[:-1])
            lines = [
                line for name, inner in self.value.items() for line in edit_fragment.block_lines(name, inner, step)
            ]
            return _insert_lines(layout, layout.after_key(key), key.column + step, lines)
        at = layout.after_key(key)
        mark = " " if layout.text[at - 1 : at] == ":" else ": "
        return layout.text[:at] + mark + edit_fragment.inline(self.value) + layout.text[at:]


@dataclass(frozen=True, slots=True)
class Insert:
    """A new field ``key`` at the end of the mapping at ``path``."""

    path: Path
    key: str
    value: Any

    def splice(self, layout: Layout) -> str:
        """The text after the change."""
        node = layout.node(self.path)
        if node.kind == "alias":
            raise NotEditable("the value is shared through an alias")
        if node.flow:
            return _append_flow(layout, node, edit_fragment.pair(self.key, self.value))
        lines = edit_fragment.block_lines(self.key, self.value, layout.step(self.path))
        first = node.entries[0][0]
        assert first is not None
        return _insert_lines(layout, layout.last_line(*node.entries[-1]), first.column, lines)


@dataclass(frozen=True, slots=True)
class Append:
    """A new item at the end of the list at ``path``."""

    path: Path
    value: Any

    def splice(self, layout: Layout) -> str:
        """The text after the change."""
        node = layout.node(self.path)
        if node.kind == "alias":
            raise NotEditable("the value is shared through an alias")
        text = edit_fragment.inline(self.value)
        if node.flow:
            return _append_flow(layout, node, text)
        dash = _dash(layout, node, 0)
        column = dash - layout.line_start(dash)
        return _insert_lines(layout, layout.last_line(*node.entries[-1]), column, [f"- {text}"])


@dataclass(frozen=True, slots=True)
class Delete:
    """No field or item at ``path`` any more; another one stays beside it."""

    path: Path

    def splice(self, layout: Layout) -> str:
        """The text after the change."""
        parent, number = layout.find(self.path)
        key, node = parent.entries[number]
        text = layout.text
        if parent.flow:
            return self._from_flow(layout, parent, number)
        start = _dash(layout, parent, number) if key is None else key.start
        line = layout.line_start(start)
        if not text[line:start].strip(" "):
            return text[:line] + text[layout.line_end(layout.last_line(key, node)) :]
        if number + 1 == len(parent.entries):
            raise NotEditable("the field shares its line with another")
        following = parent.entries[number + 1][0]
        after = _dash(layout, parent, number + 1) if following is None else following.start
        layout.refuse_comments(start, after, node)
        return text[:start] + text[after:]

    @staticmethod
    def _from_flow(layout: Layout, parent: Node, number: int) -> str:
        key, node = parent.entries[number]
        start = node.start if key is None else key.start
        end = layout.content_end(key, node)
        if number + 1 < len(parent.entries):
            following, item = parent.entries[number + 1]
            end = item.start if following is None else following.start
        elif number > 0:
            start = layout.content_end(*parent.entries[number - 1])
        layout.refuse_comments(start, end, node)
        return layout.text[:start] + layout.text[end:]


def _dash(layout: Layout, parent: Node, number: int) -> int:
    """Where the ``-`` of a block list's item stands."""
    item = parent.entries[number][1]
    start = item.start
    floor = layout.content_end(*parent.entries[number - 1]) if number > 0 else layout.line_start(parent.start)
    gap = layout.text[floor:start]
    dash = gap.rfind("-")
    if dash < 0 or gap[dash + 1 :].strip():
        raise NotEditable("a list that is laid out in an unusual way")
    return floor + dash


def _append_flow(layout: Layout, node: Node, text: str) -> str:
    if node.entries:
        at = layout.content_end(*node.entries[-1])
        text = f", {text}"
    else:
        at = node.end - 1
    return layout.text[:at] + text + layout.text[at:]


def _insert_lines(layout: Layout, offset: int, column: int, lines: list[str]) -> str:
    """Lines, indented to ``column``, below the line of ``offset``."""
    newline = layout.newline()
    at = layout.line_end(offset)
    block = newline.join(" " * column + line for line in lines)
    before, after = layout.text[:at], layout.text[at:]
    if before.endswith("\n"):
        return f"{before}{block}{newline}{after}"
    return f"{before}{newline}{block}{after}"
