"""What the loader makes of good files: values, places, documents."""

from __future__ import annotations

import pytest

from controllers.sources import yaml
from controllers.sources.yaml import Limits, Position


def read(text: str | bytes, limits: Limits | None = None) -> yaml.LoadResult:
    data = text.encode() if isinstance(text, str) else text
    return yaml.load(data, path="team/a.yaml", limits=limits or Limits())


def value(text: str) -> object:
    result = read(text)
    assert result.diagnostics == ()
    return result.documents[0].value


MISSION = """\
# A mission.
apiVersion: remit.dev/v1alpha1
kind: Mission
metadata: {name: audit-links, labels: {team: docs}}
spec:
  title: Check every link   # all of them
  priority: 50
  share: 0.5
  suspend: false
  note:
  "quoted": 'it''s'
  paths:
    - docs/**
    - "a b"
  text: |
    one
    two
"""


def test_a_document_becomes_plain_values() -> None:
    assert value(MISSION) == {
        "apiVersion": "remit.dev/v1alpha1",
        "kind": "Mission",
        "metadata": {"name": "audit-links", "labels": {"team": "docs"}},
        "spec": {
            "title": "Check every link",
            "priority": 50,
            "share": 0.5,
            "suspend": False,
            "note": None,
            "quoted": "it's",
            "paths": ["docs/**", "a b"],
            "text": "one\ntwo\n",
        },
    }


def test_every_key_item_and_value_has_its_place() -> None:
    document = read(MISSION).documents[0]
    assert document.line == 2
    assert document.position(()) == Position(2, 1)
    assert document.position(("spec", "title")) == Position(6, 3)
    assert document.value_position(("spec", "title")) == Position(6, 10)
    assert document.position(("metadata", "labels", "team")) == Position(4, 40)
    assert document.position(("spec", "paths", 1)) == Position(14, 7)
    assert document.value_position(("spec", "paths")) == Position(13, 5)
    assert document.value_position(("spec", "note")) == Position(10, 8)
    assert document.position(("spec", "missing")) is None
    assert document.position(("spec", "title", "deeper")) is None
    assert document.position(("spec", "paths", 2)) is None
    assert document.nearest(("spec", "missing", "deeper")) == Position(5, 1)


def test_the_maps_of_places_agree_with_the_single_questions() -> None:
    document = read(MISSION).documents[0]
    assert len(document.positions) == 18
    assert all(document.position(path) == place for path, place in document.positions.items())
    assert all(document.value_position(path) == place for path, place in document.value_positions.items())


def test_columns_count_characters_and_not_bytes() -> None:
    document = read("a: {grüße😀: x, b: 1}\n").documents[0]
    assert document.position(("a", "b")) == Position(1, 16)


def test_a_byte_order_mark_at_the_start_is_passed_over() -> None:
    result = read(b"\xef\xbb\xbfa: 1\n")
    assert result.diagnostics == ()
    assert result.documents[0].value == {"a": 1}
    assert result.documents[0].position(("a",)) == Position(1, 1)


def test_windows_line_ends_give_the_same_values_and_places() -> None:
    one, other = read(MISSION).documents[0], read(MISSION.replace("\n", "\r\n")).documents[0]
    assert other.value == one.value
    assert other.positions == one.positions


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# only a comment\n", "---\n", "---\n---\n# nothing\n", "%YAML 1.2\n---\n"]
)
def test_empty_documents_are_left_out(text: str) -> None:
    assert read(text) == yaml.LoadResult((), ())


def test_documents_keep_their_number_in_the_file() -> None:
    documents = read("---\na: 1\n---\n---\n# empty\n---\nb: 2\n").documents
    assert [(document.index, document.value, document.line) for document in documents] == [
        (0, {"a": 1}, 2),
        (3, {"b": 2}, 7),
    ]


def test_a_file_without_a_first_separator_begins_with_document_zero() -> None:
    documents = read("# a file\na: 1\n---\nb: 2\n").documents
    assert [(document.index, document.line) for document in documents] == [(0, 2), (1, 4)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("~", None),
        ("null", None),
        ("Null", None),
        ("NULL", None),
        ("nUll", "nUll"),
        ("true", True),
        ("True", True),
        ("TRUE", True),
        ("false", False),
        ("tRue", "tRue"),
        ("0", 0),
        ("-0", 0),
        ("+7", 7),
        ("-12", -12),
        ("0x1F", 31),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1.5", 1.5),
        ("-1.", -1.0),
        (".5", 0.5),
        ("1.5e+3", 1500.0),
        ("1.5e-3", 0.0015),
        ("01.5", 1.5),
        ("1.2.3", "1.2.3"),
        ("v1", "v1"),
        ("1h30m", "1h30m"),
        ("06:30", "06:30"),
        ("127.0.0.1:8420", "127.0.0.1:8420"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("8420:80", "8420:80"),
        ("2026-11-21", "2026-11-21"),
        ("2026-11-21T02:17:30Z", "2026-11-21T02:17:30Z"),
        ("-", None),
        ("nothing", "nothing"),
        ("yesterday", "yesterday"),
        ("0xZZ", "0xZZ"),
        ("1e", "1e"),
        ("+", "+"),
        (".", "."),
        ("'no'", "no"),
        ('"0755"', "0755"),
        ('"\\u00e9\\n"', "é\n"),
        ("!!str 12", "12"),
        ("!!str", ""),
        ("!!int '12'", 12),
        ("!!float 1", 1.0),
        ("!!bool true", True),
        ("!!null ''", None),
        ("!!map {}", {}),
        ("!!seq []", []),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, expected: object) -> None:
    if text == "-":
        assert value("- \n- x\n") == [None, "x"]
        return
    found = value(f"a: {text}\n")
    assert found == {"a": expected}
    assert type(found["a"]) is type(expected)  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    "yes No ON off y N = << 0755 -010 0o17 0b101 -0x1F 1_000 1_0.5 22:22 1:30:00 06:00.5 1e3 1.5e3 12e4567 -.5 +.5 "
    ".inf -.Inf .NaN 9223372036854775808 0xFFFFFFFFFFFFFFFF 1.0e+999 "
    f"{'1' * 500} {'1' * 5000} 0x{'f' * 500} 0x{'f' * 5000} 1{':1' * 5000}".split(),
    ids=lambda text: text[:24],
)
def test_a_text_that_yaml_1_1_reads_otherwise_must_be_quoted(text: str) -> None:
    result = read(f"a: ok\nb: {text}\n")
    (found,) = result.diagnostics
    assert (found.path, found.line, found.column, found.field) == ("team/a.yaml", 2, 4, "b")
    assert "quotes" in found.expected
    assert len(str(found)) < 250
    assert value(f"b: '{text}'\n") == {"b": text}


@pytest.mark.parametrize("text", ["yes", "off", "n", "1", "1.5", "true", "~", "null", "0755", "22:22", "=", "<<"])
def test_a_key_that_is_no_text_must_be_quoted(text: str) -> None:
    (found,) = read(f"a:\n  {text}: 1\n").diagnostics
    assert (found.line, found.column) == (2, 3)
    assert f"'{text}' in quotes" in found.expected
    assert value(f"'{text}': 1\n") == {text: 1}


def test_an_alias_repeats_a_value_and_its_inner_places() -> None:
    document = read("a: &x {b: [1, 2]}\nc: *x\nd: [*x]\n").documents[0]
    assert document.value == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": [{"b": [1, 2]}]}
    assert document.position(("c",)) == Position(2, 1)
    assert document.value_position(("c",)) == Position(2, 4)
    assert document.position(("c", "b", 1)) == Position(1, 15)


def test_an_anchor_can_be_given_anew_and_holds_inside_its_document_only() -> None:
    assert value("a: &x 1\nb: *x\nc: &x two\nd: *x\n") == {"a": 1, "b": 1, "c": "two", "d": "two"}
    (found,) = read("a: &x 1\n---\nb: *x\n").diagnostics
    assert (found.line, found.column, found.field) == (3, 4, "b")


def test_an_anchor_on_a_key_is_a_text() -> None:
    assert value("&k name: 1\nother: *k\n") == {"name": 1, "other": "name"}


def test_documents_with_faults_are_still_handed_on_with_the_places_of_the_faults() -> None:
    document = read("a: no\nb: 1\nb: 2\n").documents[0]
    assert document.value == {"a": "no", "b": 2}
    assert document.flawed == {Position(1, 4), Position(3, 1)}


def test_limits_can_be_set_up_to_what_places_can_hold() -> None:
    assert read("a: 1\n", Limits(max_bytes=1 << 24)).diagnostics == ()
    with pytest.raises(ValueError, match="max_bytes"):
        Limits(max_bytes=(1 << 24) + 1)
