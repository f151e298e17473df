"""Edits of files in every style: the result is the old values with the one change, every other line as it was."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controllers.sources import edit, yaml
from schemas.errors import Refused

words = st.sampled_from(["alpha", "beta", "gamma", "delta", "x-1", "a.b/c", "Zeta9"])
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-1000, 1000),
    words,
    st.sampled_from(["no", "22:22", "", "it's", 'say "hi"', "a: b", "a #b", "- x", "two\nlines", " pad ", "é😀", "1"]),
)
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, min_size=1, max_size=3) | st.dictionaries(words, inner, min_size=1, max_size=3),
    max_leaves=10,
)
documents = st.dictionaries(words, trees, min_size=1, max_size=4)


class Writer:
    """Writes a value as YAML, every choice of style drawn, every comment with a number of its own."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._comments = 0
        self.step = draw(st.sampled_from([2, 3, 4]))
        self.list_step = draw(st.sampled_from([0, 2]))

    def _chance(self) -> bool:
        return self._draw(st.integers(0, 3)) == 0

    def _comment(self) -> str:
        self._comments += 1
        return f"# c{self._comments}"

    def _tail(self) -> str:
        return f"   {self._comment()}" if self._chance() else ""

    def flow(self, value: Any) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key}: {self.flow(inner)}" for key, inner in value.items()) + "}"
        if isinstance(value, list):
            return "[" + ", ".join(map(self.flow, value)) + "]"
        if isinstance(value, str):
            if value.isalpha() and value not in ("no",) and self._chance():
                return value
            if "\n" not in value and self._chance():
                return "'" + value.replace("'", "''") + "'"
        return json.dumps(value, ensure_ascii=False)

    def block(self, value: Any, indent: int) -> list[str]:
        pad = " " * indent
        lines: list[str] = []
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if self._chance():
                lines.append(pad + self._comment() if self._chance() else "")
            head = f"{pad}{key}:" if isinstance(value, dict) else f"{pad}-"
            if inner is None and isinstance(value, dict):
                lines.append(head + self._tail())
            elif isinstance(inner, str) and inner.count("\n") == 1 and self._chance():
                mark = self._draw(st.sampled_from(["|-", ">-\n"]))
                rows = inner.split("\n") if mark == "|-" else inner.replace("\n", "\n\n").split("\n")
                lines += [f"{head} {mark.strip()}{self._tail()}", *(f"{pad}    {row}".rstrip() for row in rows)]
            elif not isinstance(inner, dict | list) or self._chance():
                lines.append(f"{head} {self.flow(inner)}{self._tail()}")
            elif isinstance(value, dict):
                step = self.step if isinstance(inner, dict) else self.list_step
                lines += [head + self._tail(), *self.block(inner, indent + step)]
            else:
                first, *rest = self.block_without_lead(inner, indent + 2)
                lines += [f"{head} {first.lstrip()}", *rest]
        return lines

    def block_without_lead(self, value: Any, indent: int) -> list[str]:
        lines = self.block(value, indent)
        while not lines[0].strip() or lines[0].lstrip().startswith("#"):
            lines = lines[1:]
        return lines


@st.composite
def files(draw: st.DrawFn) -> tuple[list[Any], str]:
    values = draw(st.lists(documents, min_size=1, max_size=3))
    writer = Writer(draw)
    lines: list[str] = []
    for number, value in enumerate(values):
        if number or draw(st.booleans()):
            lines.append("---")
        lines += writer.block(value, 0)
    newline = draw(st.sampled_from(["\n", "\r\n"]))
    return values, newline.join(lines) + (newline if draw(st.booleans()) else "")


def paths(value: Any, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    found = [at] if at else []
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        found += paths(inner, (*at, key))
    return found


def value_at(value: Any, path: tuple[str | int, ...]) -> Any:
    for part in path:
        value = value[part]
    return value


def with_value(value: Any, path: tuple[str | int, ...], new: Any) -> Any:
    if not path:
        return new
    if isinstance(value, list):
        return [with_value(inner, path[1:], new) if at == path[0] else inner for at, inner in enumerate(value)]
    return {**(value or {}), path[0]: with_value((value or {}).get(path[0]), path[1:], new)}


def same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def read(text: str) -> list[Any]:
    result = yaml.load(text.encode(), path="a.yaml")
    assert result.diagnostics == ()
    return [document.value for document in result.documents]


def lines_of(text: str) -> list[str]:
    return text.split("\n")


def touched(before: str, after: str) -> tuple[int, list[str], list[str]]:
    """Where the texts begin to differ (a line number from 0), the lines that went, and those that came."""
    old, new = lines_of(before), lines_of(after)
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    end = 0
    while end < min(len(old), len(new)) - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return start, old[start : len(old) - end], new[start : len(new) - end]


relaxed = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@relaxed
@given(files(), st.data())
def test_setting_a_single_value_changes_its_lines_only(file: tuple[list[Any], str], data: st.DataObject) -> None:
    values, text = file
    assert same(read(text), values)
    index = data.draw(st.integers(0, len(values) - 1))
    leaves = [path for path in paths(values[index]) if not isinstance(value_at(values[index], path), dict | list)]
    if not leaves:
        return
    path = data.draw(st.sampled_from(leaves))
    new = data.draw(scalars)
    after = edit.set_value(text, index, path, new)
    wanted = copy.deepcopy(values)
    value_at(wanted[index], path[:-1])[path[-1]] = new
    assert same(read(after), wanted)
    _, old_lines, new_lines = touched(text, after)
    old = value_at(values[index], path)
    assert len(new_lines) <= 1
    assert len(old_lines) <= (5 if isinstance(old, str) and "\n" in old else 1)
    assert after.count("# c") == text.count("# c")
    assert after.count("\r\n") == text.count("\r\n") - (len(old_lines) - len(new_lines)) * ("\r\n" in text)


@relaxed
@given(files(), st.data())
def test_adding_a_field_adds_lines_or_grows_one(file: tuple[list[Any], str], data: st.DataObject) -> None:
    values, text = file
    index = data.draw(st.integers(0, len(values) - 1))
    mappings = [()] + [path for path in paths(values[index]) if isinstance(value_at(values[index], path), dict | None)]
    path = (
        *data.draw(st.sampled_from(mappings)),
        *data.draw(st.lists(st.just("new"), max_size=1)),
        "remit.dev/token-at",
    )
    new = data.draw(scalars)
    wanted = copy.deepcopy(values)
    wanted[index] = with_value(wanted[index], path, new)
    try:
        after = edit.set_value(text, index, path, new)
    except Refused:
        # Only the item of a list that is left out altogether cannot take a field.
        assert isinstance(path[-2 if path[-2:-1] != ("new",) else -3], int)
        return
    assert same(read(after), wanted)
    _, old_lines, new_lines = touched(text, after)
    assert len(old_lines) <= 1
    assert len(new_lines) <= 3
    if len(old_lines) == 1 and len(new_lines) == 1:
        assert len(new_lines[0]) > len(old_lines[0])
    assert after.count("# c") == text.count("# c")


@relaxed
@given(files(), st.data())
def test_deleting_a_field_takes_nothing_else_with_it(file: tuple[list[Any], str], data: st.DataObject) -> None:
    values, text = file
    index = data.draw(st.integers(0, len(values) - 1))
    path = data.draw(st.sampled_from(paths(values[index])))
    wanted = copy.deepcopy(values)
    del value_at(wanted[index], path[:-1])[path[-1]]
    refused, after = "", text
    try:
        after = edit.delete_value(text, index, path)
    except Refused as refusal:
        refused = str(refusal)
    if refused:
        assert any(word in refused for word in ("comment", "list item", "shares its line", "whole document"))
        return
    assert same(read(after), wanted)
    start, _, new_lines = touched(text, after)
    assert len(new_lines) <= 1
    # Nothing above the field is touched but the line of a collection that it was the only entry of.
    place = yaml.load(text.encode(), path="a").documents[index].positions[path]
    parent = yaml.load(text.encode(), path="a").documents[index].positions[path[:-1]]
    assert start >= min(place.line, parent.line) - 1


@relaxed
@given(files(), st.data())
def test_replacing_any_part_by_any_other_gives_it_or_is_refused(
    file: tuple[list[Any], str], data: st.DataObject
) -> None:
    values, text = file
    index = data.draw(st.integers(0, len(values) - 1))
    path = data.draw(st.sampled_from(paths(values[index])))
    new = data.draw(trees)
    wanted = copy.deepcopy(values)
    value_at(wanted[index], path[:-1])[path[-1]] = new
    try:
        after = edit.set_value(text, index, path, new)
    except Refused:
        return
    assert same(read(after), wanted)
    assert edit.set_value(after, index, path, new) is after
