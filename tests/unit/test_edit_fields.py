"""Editing one field of a file: the lines that change, and no others."""

from __future__ import annotations

import difflib
from typing import Any

import pytest

from controllers.sources import edit, yaml
from schemas.errors import InvalidSpec, Refused

MISSION = """\
# Audits the docs.
apiVersion: remit.dev/v1alpha1
kind: Mission
metadata:
  name: audit-links   # short
  # labels come from the team file
spec:
    title: 'Check every link'
    agentRef: {name: auditor}        # or agentSelector
    workPlan: "Read, follow, report."
    desiredState: Complete
    text: |
        one
        two

    dependsOn:
    - name: fetch
      # why
    - name: build
    paths: ["docs/**", src]
    empty:     # nothing yet

---
kind: Agent
metadata: {name: auditor}
"""


def changed(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(keepends=True), after.splitlines(keepends=True))
    return [line for line in lines if line[0] in "+-"]


def test_a_plain_value_is_replaced_on_its_line() -> None:
    after = edit.set_value(MISSION, 0, ("spec", "desiredState"), "Canceled")
    assert changed(MISSION, after) == ["-     desiredState: Complete\n", "+     desiredState: Canceled\n"]


@pytest.mark.parametrize(
    ("field", "value", "line"),
    [
        ("title", "It's done", "    title: 'It''s done'\n"),
        ("title", "two\nlines", '    title: "two\\nlines"\n'),
        ("workPlan", 'say "hi"', '    workPlan: "say \\"hi\\""\n'),
        ("desiredState", "no", '    desiredState: "no"\n'),
        ("desiredState", "22:22", '    desiredState: "22:22"\n'),
        ("desiredState", "2026-11-21T02:17:30Z", '    desiredState: "2026-11-21T02:17:30Z"\n'),
        ("desiredState", "a: b #c", "    desiredState: 'a: b #c'\n"),
        ("desiredState", "", '    desiredState: ""\n'),
        ("desiredState", 5, "    desiredState: 5\n"),
        ("desiredState", True, "    desiredState: true\n"),
        ("desiredState", None, "    desiredState: null\n"),
        ("desiredState", ["a", {"b": 1}], "    desiredState: [a, {b: 1}]\n"),
        ("desiredState", "x " * 3_000 + "x", f"    desiredState: {'x ' * 3_000}x\n"),
        ("empty", "now", "    empty: now     # nothing yet\n"),
        ("agentRef", "plain", "    agentRef: plain        # or agentSelector\n"),
    ],
)
def test_a_value_keeps_its_quotes_and_gets_them_where_needed(field: str, value: Any, line: str) -> None:
    after = edit.set_value(MISSION, 0, ("spec", field), value)
    removed, added = changed(MISSION, after)
    assert removed.startswith(f"-     {field}:")
    assert added == f"+ {line}"


def test_a_mapping_is_changed_field_by_field() -> None:
    after = edit.set_value(MISSION, 0, ("spec", "agentRef"), {"name": "other", "namespace": "team"})
    assert changed(MISSION, after)[1] == "+     agentRef: {name: other, namespace: team}        # or agentSelector\n"


def test_missing_mappings_are_made_below_the_last_field() -> None:
    path = ("metadata", "annotations", "remit.dev/retry-requested-at")
    after = edit.set_value(MISSION, 0, path, "t1")
    assert changed(MISSION, after) == ["+   annotations:\n", "+     remit.dev/retry-requested-at: t1\n"]
    again = edit.set_value(after, 0, path, "t2")
    assert len(changed(after, again)) == 2


def test_a_mapping_in_braces_grows_inside_them() -> None:
    after = edit.set_value(MISSION, 1, ("metadata", "annotations", "remit.dev/reset-requested-at"), "7")
    assert changed(MISSION, after) == [
        "- metadata: {name: auditor}\n",
        '+ metadata: {name: auditor, annotations: {remit.dev/reset-requested-at: "7"}}\n',
    ]


def test_an_empty_value_becomes_a_mapping_below_its_key() -> None:
    after = edit.set_value(MISSION, 0, ("spec", "empty", "key"), "x")
    assert changed(MISSION, after) == ["+         key: x\n"]


def test_empty_braces_and_brackets_are_filled() -> None:
    assert edit.set_value("a: {}\nb: []  # c\n", 0, ("a", "k"), 1) == "a: {k: 1}\nb: []  # c\n"
    assert edit.set_value("a: {}\nb: [ ]  # c\n", 0, ("b",), ["x"]) == "a: {}\nb: [ x]  # c\n"


def test_lists_grow_by_the_index_after_their_last_item() -> None:
    after = edit.set_value(MISSION, 0, ("spec", "dependsOn", 2), {"name": "test"})
    assert changed(MISSION, after) == ["+     - {name: test}\n"]
    after = edit.set_value(MISSION, 0, ("spec", "paths"), ["docs/**", "src", "x y"])
    assert changed(MISSION, after)[1] == '+     paths: ["docs/**", src, x y]\n'


def test_a_field_is_added_after_a_block_text_and_its_blank_line() -> None:
    before = "a:\n  text: |+\n    one\n\n# end\n"
    assert edit.set_value(before, 0, ("a", "b"), 1) == "a:\n  text: |+\n    one\n\n  b: 1\n# end\n"
    before = "a:\n  text: |\n    one\n\nb: 1\n"
    assert edit.set_value(before, 0, ("a", "c"), 1) == "a:\n  text: |\n    one\n  c: 1\n\nb: 1\n"


def test_a_block_text_is_replaced_with_all_its_lines() -> None:
    after = edit.set_value(MISSION, 0, ("spec", "text"), "short")
    assert sorted(changed(MISSION, after)) == [
        "+     text: short\n",
        "-         one\n",
        "-         two\n",
        "-     text: |\n",
    ]


def test_a_comment_behind_the_mark_of_a_block_text_stays() -> None:
    assert edit.set_value("a: |-  # why\r\n  one\r\nb: 2\r\n", 0, ("a",), "x") == "a: x  # why\r\nb: 2\r\n"


def test_deleting_a_field_takes_its_lines_and_no_comment_of_others() -> None:
    after = edit.delete_value(MISSION, 0, ("spec", "dependsOn"))
    assert changed(MISSION, after) == [
        "-     dependsOn:\n",
        "-     - name: fetch\n",
        "-       # why\n",
        "-     - name: build\n",
    ]
    after = edit.delete_value(MISSION, 0, ("spec", "dependsOn", 1))
    assert changed(MISSION, after) == ["-     - name: build\n"]
    after = edit.delete_value(MISSION, 0, ("spec", "paths", 0))
    assert changed(MISSION, after)[1] == "+     paths: [src]\n"
    after = edit.delete_value(MISSION, 0, ("spec", "paths", 1))
    assert changed(MISSION, after)[1] == '+     paths: ["docs/**"]\n'


def test_the_first_field_of_a_list_item_makes_room_for_the_second() -> None:
    before = "- a: 1\n  b: 2  # two\n- c: 3\n"
    assert edit.delete_value(before, 0, (0, "a")) == "- b: 2  # two\n- c: 3\n"


def test_a_collection_that_loses_its_last_entry_stays_empty() -> None:
    assert edit.delete_value("a:\n  b: 1\nc: 2\n", 0, ("a", "b")) == "a: {}\nc: 2\n"
    assert edit.delete_value("a:\n- b\nc: 2\n", 0, ("a", 0)) == "a: []\nc: 2\n"
    assert edit.delete_value("a: {b: 1} # x\n", 0, ("a", "b")) == "a: {} # x\n"


def test_what_is_there_already_or_gone_already_changes_nothing() -> None:
    assert edit.set_value(MISSION, 0, ("spec", "desiredState"), "Complete") is MISSION
    assert edit.delete_value(MISSION, 0, ("spec", "nothing", "here")) is MISSION
    assert edit.delete_value(MISSION, 0, ("spec", "paths", 9)) is MISSION


def test_windows_line_ends_byte_order_mark_and_a_missing_last_line_break_stay() -> None:
    assert edit.set_value("\ufeffa: 1\r\nb: 2", 0, ("b",), 3) == "\ufeffa: 1\r\nb: 3"
    assert edit.set_value("\ufeffa: 1\r\nb: 2", 0, ("c",), 3) == "\ufeffa: 1\r\nb: 2\r\nc: 3"
    assert edit.set_value("a:\r\n  b: 1\r\n\r\nc: 2\r\n", 0, ("a", "d"), 3) == "a:\r\n  b: 1\r\n  d: 3\r\n\r\nc: 2\r\n"
    assert edit.delete_value("a: 1\r\nb: 2", 0, ("b",)) == "a: 1\r\n"


def test_a_whole_document_is_changed_field_by_field() -> None:
    assert edit.set_value("a: 1 # one\nb: 2 # two\n", 0, (), {"b": 2, "c": 3}) == "b: 2 # two\nc: 3\n"


def test_numbers_and_texts_that_look_alike_differ() -> None:
    assert edit.set_value("a: 1\n", 0, ("a",), True) == "a: true\n"
    assert edit.set_value("a: 1\n", 0, ("a",), 1.0) == "a: 1.0\n"
    assert edit.set_value("a: '1'\n", 0, ("a",), 1) == "a: 1\n"
    assert edit.set_value("a: 1\n", 0, ("a",), "1") == 'a: "1"\n'


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("a: &x 1\nb: *x\n", ("a",), 2),
        ("a: &x 1\nb: *x\n", ("b",), 2),
        ("a: &x {q: 1}\nb: *x\n", ("a", "q"), 2),
        ("a: &x {q: 1}\nb: *x\n", ("b", "q"), 2),
        ("a: &x {q: 1}\nb: *x\n", ("b", "r"), 2),
        ("a: !!str 1\n", ("a",), "2"),
        ("a:\n  # keep me\n  b: 1\n", ("a",), 5),
        ("a: # keep me\n  b: 1\n", ("a",), 5),
        ("a: [1, # keep me\n  2]\n", ("a",), [2]),
        ("a: 1\n", ("a", "b"), 2),
        ("a: [1]\n", ("a", 2), 2),
        ("a: [1]\n", ("a", "b"), 2),
        ("a: 1\n", (), 5),
        ("a: 1\n", ("a",), float("inf")),
        ("a: 1\n", ("a",), "\0"),
        ("a: 1\n", ("a",), "\ud800"),
        ("- \n- x\n", (0,), 2),
        ("? a\n: 1\n", ("b",), 2),
    ],
)
def test_what_cannot_be_edited_alone_is_refused(text: str, path: tuple[str | int, ...], value: object) -> None:
    with pytest.raises(Refused, match=r"^a\.yaml: ") as caught:
        edit.set_value(text, 0, path, value, name="a.yaml")
    assert caught.value.reason == "EditUnsafe"
    assert str(caught.value).endswith("Edit the file by hand.")


def test_a_shared_value_does_not_hinder_an_edit_elsewhere() -> None:
    text = "a: &x {q: 1}\nb: *x\nc: 1\n"
    assert edit.set_value(text, 0, ("c",), 2) == "a: &x {q: 1}\nb: *x\nc: 2\n"
    assert edit.set_value(text, 0, ("d",), 2) == text + "d: 2\n"
    assert edit.delete_value(text, 0, ("b",)) == "a: &x {q: 1}\nc: 1\n"


def test_a_file_with_faults_or_without_the_document_is_not_edited() -> None:
    with pytest.raises(InvalidSpec, match=r"a\.yaml:1:4: "):
        edit.set_value("a: no\n", 0, ("a",), 1, name="a.yaml")
    with pytest.raises(Refused, match="no document 3"):
        edit.set_value(MISSION, 2, ("a",), 1)
    with pytest.raises(Refused, match="no document 1"):
        edit.delete_value("# nothing\n", 0, ("a",))
    with pytest.raises(InvalidSpec):
        edit.set_value("[" * 1_000_000, 0, ("a",), 1)


def test_only_the_named_document_changes() -> None:
    after = edit.set_value(MISSION, 1, ("metadata", "name"), "other")
    assert changed(MISSION, after) == ["- metadata: {name: auditor}\n", "+ metadata: {name: other}\n"]
    many = "---\nk: 1\n" * 300
    after = edit.set_value(many, 299, ("k",), 2)
    assert after == "---\nk: 1\n" * 299 + "---\nk: 2\n"
    assert yaml.load(after.encode(), path="a").documents[299].value == {"k": 2}
