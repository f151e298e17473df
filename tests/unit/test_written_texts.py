"""Texts that are made once and put together by hand are those that the general writer makes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from controllers.sources import compile as compiling
from controllers.sources.compile import compile_blob
from schemas.ownership import Ownership
from schemas.resource import Declared, Provenance, Resource, canonical_json
from store import rows
from store.codec import dump

FILE = """\
apiVersion: remit.dev/v1alpha1
kind: Mission
metadata: {name: a, labels: {z: "1", a: "b"}, annotations: {note: "\\u2028"}}
spec:
  title: 'a "title" \\ of ü'
  retry: {maxAttempts: 2, backoff: {max: 1m}}
  input: {list: [1, 1.5, {deep: {}}], empty: {}}
"""
PLACES = [
    Provenance("default", "default:.", "main@sha1:abc", "a/b.yaml", 7, "f" * 40),
    Provenance("teams/red", "teams/red:ü", "dir@sha256:abc", 'a "b" \\ \ud800.yaml', 0, "sha256-1", "user:ada"),
]


def declared(text: str = FILE) -> Declared:
    """What the file declares."""
    compiled = compile_blob(text.encode(), "a.yaml")
    assert compiled.diagnostics == ()
    return compiled.declared[0][0]


@pytest.mark.parametrize("place", PLACES, ids=["plain", "signed"])
def test_provenance_is_written_as_its_wire_form(place: Provenance) -> None:
    assert rows.from_provenance(place) == dump(place.to_wire())


@pytest.mark.parametrize("place", PLACES, ids=["plain", "signed"])
def test_the_row_of_a_new_object_is_the_row_of_the_object(place: Provenance) -> None:
    item = replace(declared(), provenance=place)
    assert item.written is not None
    for each in (item, replace(item, spec={"b": 1, "a": 2}), replace(item, ownership=Ownership({"title": 1}))):
        resource = Resource(
            *each.key, "uid", 1, 2, each.spec, {"state": "Inbox"}, datetime(2026, 1, 1, tzinfo=UTC), each.labels,
            each.annotations, "git/x", "u", each.provenance, "owner", ("drain",), None, each.ownership or Ownership(),
        )  # fmt: skip
        expected = rows.from_resource(resource)
        status, at = expected["status"], expected["created_at"]
        assert dict(zip(rows.OBJECT_NAMES, rows.created(resource, each, at, status), strict=True)) == expected


def test_texts_hold_for_the_very_values_that_they_were_made_of() -> None:
    item = declared()
    other = replace(item, spec={**item.spec, "title": "other"})
    relabelled = replace(item, labels={})
    for each in (item, other, relabelled):
        assert each.texts == tuple(canonical_json(value) for value in (each.spec, each.labels, each.annotations))


def test_a_compiled_file_is_packed_as_canonical_json_and_read_back() -> None:
    compiled = compile_blob((FILE + "---\n" + FILE.replace("name: a", "name: b")).encode(), "a.yaml")
    packed = compiling._pack(compiled)
    rows_of = [
        [d.kind, d.namespace, d.name, d.spec, d.labels, d.annotations, d.ownership.fields if d.ownership else {}, line]
        for d, line in compiled.declared
    ]
    assert packed == canonical_json(rows_of).encode()
    assert compiling._unpack(packed) == compiled
    assert [line for _, line in compiled.declared] == [1, 9]


def test_files_that_are_written_alike_share_who_owns_what() -> None:
    one, same = declared(), declared(FILE.replace("name: a", "name: b"))
    longer = declared("# a line\n" + FILE)
    assert one.ownership is same.ownership
    assert one.ownership is not None
    assert longer.ownership is not None
    assert (one.ownership.fields["title"], longer.ownership.fields["title"]) == (5, 6)
    assert one.ownership.fields["retry"] == {"maxAttempts": 6, "backoff": {"max": 6}}
    assert one.ownership.fields["input"] == {"list": 7, "empty": 7}


def test_the_memory_of_owners_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "_MOST_OWNERS", 3)
    monkeypatch.setattr(compiling, "_owners", {})
    for lines in range(10):
        declared("#\n" * lines + FILE)
        assert len(compiling._owners) <= 3
