"""What the loader says of faulty files: every fault at once, with its place, in plain words."""

from __future__ import annotations

import pytest

from controllers.sources import yaml
from schemas.errors import Diagnostic


def faults(text: str) -> tuple[Diagnostic, ...]:
    return yaml.load(text.encode(), path="a.yaml").diagnostics


def test_all_faults_of_a_file_are_reported_at_once() -> None:
    text = """\
spec:
  suspend: no
  mode: 0755
  suspend: true
  tags: !custom x
  list: [1, 2, *missing]
1: x
---
other: {a: 1, a: 2}
---
broken: [1, 2
---
<<: {b: 1}
---
later: a: b
---
fine: 1
"""
    result = yaml.load(text.encode(), path="a.yaml")
    assert [(fault.line, fault.column, fault.field) for fault in result.diagnostics] == [
        (2, 12, "spec.suspend"),
        (3, 9, "spec.mode"),
        (4, 3, "spec.suspend"),
        (5, 9, "spec.tags"),
        (6, 16, "spec.list[2]"),
        (7, 1, ""),
        (9, 15, "other.a"),
        (11, 9, ""),
        (13, 1, "'<<'"),
        (15, 9, ""),
    ]
    assert [document.value for document in result.documents][-1] == {"fine": 1}


def test_a_repeated_key_names_the_place_of_the_first() -> None:
    (fault,) = faults("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n")
    assert str(fault) == (
        "a.yaml:5:3: b.c: the same key twice; expected each key once (the first is at line 3, column 3)"
    )


def test_keys_are_compared_after_quotes_and_escapes() -> None:
    assert len(faults('a: 1\n"a": 2\n')) == 1
    assert len(faults('a: 1\n"\\x61": 2\n')) == 1


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("a: b: c\n", (1, 5), "a ':' does not fit here"),
        ("a: [1, 2\n", (1, 4), "the [ that opens here is not closed"),
        ("a:\n  b: {c: 1\n", (2, 6), "the { that opens here is not closed"),
        ("a: [1, 2\nb: 3\n", (2, 2), "the list is not closed before this"),
        ('a: "x\nb: 1\n', (1, 4), "the quoted text that opens here is not closed"),
        ("a: 'x\n---\nb: 1\n", (1, 4), "the quoted text that opens here is not closed"),
        ("a: 'it's'\n", (1, 8), "text after the closing '"),
        ("a:\n\tb: 1\n", (2, 1), "a tab in the indentation"),
        ("a: @x\n", (1, 4), "a value cannot begin with @"),
        ("a: %x\n", (1, 4), "a value cannot begin with %"),
        ("a: 1\n b: 2\n", (2, 3), "a ':' does not fit here"),
        ("a:\n  b: 1\n c: 2\n", (3, 2), "this does not fit the mapping around it, which begins at line 1"),
        ("- a\nb: c\n", (2, 1), "this does not fit the list around it, which begins at line 1"),
        ("a: 1\nb\nc: 2\n", (2, 1), "this line is neither a field nor the rest of a text"),
        ("a: |x\n b\n", (1, 5), "text on the line of | or >"),
        ('a: "\\q"\n', (1, 5), "not an escape"),
        ('a: "\\ud800"\n', (1, 7), "this escape names no character"),
        ('a: "\\0"\n', (1, 4), "a NUL character in a text"),
        ('"\\0": 1\n', (1, 1), "a NUL character in a key"),
        ("a: !foo b\n", (1, 4), "the tag !foo is not supported"),
        ("a: !!binary b\n", (1, 4), "the tag !!binary is not supported"),
        ("a: !!int b\n", (1, 4), "'b' is not of the type !!int"),
        ("a: !!bool 1\n", (1, 4), "'1' is not of the type !!bool"),
        ("a: !!int yes\n", (1, 4), "'yes' is not of the type !!int"),
        ("a: !!set {b}\n", (1, 4), "the tag !!set is not supported"),
        ("a: ! 12\n", (1, 4), "the tag ! is not supported"),
        ("a: &x ! 12\n", (1, 4), "the tag ! is not supported"),
        ("a: !x!y z\n", (1, 4), "an unknown tag"),
        ("a: *x\n", (1, 4), "the alias *x names no anchor"),
        ("a: &x [*x]\n", (1, 8), "the alias *x stands inside what it names"),
        ("? [a]\n: b\n", (1, 3), "a key that is no text"),
        ("a: &x b\n*x : c\n", (2, 1), "a key that is no text"),
        (": b\n", (1, 1), "this does not fit the mapping around it"),
        ("?\n: b\n", (1, 2), "an empty key is no text"),
        ("a: , b\n", (1, 4), "a value is missing"),
        ("a: {b: [1, 2}\n", (1, 13), "the list is not closed before this"),
        ("a: 1\n...\nb: 2\n", (3, 1), "a document ends and more text follows"),
        ("%YAML 3.0\n---\na: 1\n", (1, 1), "a YAML version that is not supported"),
        ("%FOO\n---\na: 1\n", (1, 5), "an unknown directive"),
    ],
)
def test_a_fault_has_its_place_and_says_what_is_wrong(text: str, place: tuple[int, int], words: str) -> None:
    first = faults(text)[0]
    assert (first.line, first.column) == place
    assert first.message.startswith(words)


def test_a_value_missing_in_a_bracket_that_is_never_closed_names_the_bracket() -> None:
    (fault,) = faults("a: 1\nb: {c: [\n---\nd: 1\n")
    assert (fault.line, fault.hint) == (3, "the collection around it begins at line 2, column 8")


def test_reading_goes_on_at_the_next_document_after_a_syntax_error() -> None:
    result = yaml.load(b"--- - a\n---\nb: 1\n--- - c\n---\nd: 2\n---\ne: no\n", path="a.yaml")
    assert [fault.line for fault in result.diagnostics] == [1, 4, 8]
    assert [document.value for document in result.documents] == [{"b": 1}, {"d": 2}, {"e": "no"}]
    assert [document.line for document in result.documents] == [3, 6, 8]


def test_hostile_names_are_cut_and_made_visible() -> None:
    key = "\\e[2J\\u202e" + "x" * 900
    (fault,) = faults(f'"{key}": 1\n"{key}": 2\n')
    text = str(fault)
    assert len(text) < 300
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "\\u001b" in text


def test_of_very_many_faults_the_first_hundred_are_kept() -> None:
    found = faults("".join(f"k{number}: no\n" for number in range(1000)))
    assert len(found) == 101
    assert found[99].line == 100
    assert found[-1].message == "there is more than these 100 faults"
    assert len(faults("".join(f"k{number}: no\n" for number in range(100)))) == 100


def test_the_same_fault_is_reported_once() -> None:
    found = faults("a: 1\n--- - x\n---\nb: 1\n")
    assert len(found) == 1
