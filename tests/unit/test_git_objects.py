"""Tree objects from anybody, object ids, and where a chain of symlinks leads."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controllers.sources import git_objects, tree
from schemas.errors import Diagnostic


def test_object_ids_are_those_of_git() -> None:
    assert git_objects.object_id("blob", b"", 40) == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert git_objects.object_id("tree", b"", 40) == "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
    assert git_objects.object_id("blob", b"", 64) == "473a0f4c3be8a93681a267e3b1e9a7dcda1185436fe141f7749120a303721813"


names = st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name and b"/" not in name)
rows = st.tuples(
    st.sampled_from([b"100644", b"40000", b"120000", b"160000"]), names, st.binary(min_size=20, max_size=20)
)


@given(st.lists(rows, max_size=5))
def test_the_rows_of_a_tree_are_read_as_written(written: list[tuple[bytes, bytes, bytes]]) -> None:
    data = b"".join(b"%s %s\0%s" % row for row in written)
    assert [(r.mode, r.name, bytes.fromhex(r.oid)) for r in git_objects.parse_tree(data, 20)] == written


@given(st.binary(max_size=80), st.sampled_from([20, 32]))
def test_any_bytes_are_rows_or_a_value_error(data: bytes, id_bytes: int) -> None:
    try:
        found = git_objects.parse_tree(data, id_bytes)
    except ValueError:
        return
    assert all(row.name and b"/" not in row.name and len(row.oid) == 2 * id_bytes for row in found)


def test_what_is_no_object_id_never_reaches_git(tmp_path: Path) -> None:
    reader = git_objects.ObjectReader(tmp_path)
    for oid in ("HEAD", "a" * 39, "A" * 40, "a" * 40 + "\nHEAD", "main:secret"):
        with pytest.raises(ValueError, match="no object id"):
            reader.content(git_objects.Wanted(oid, "blob", "x", 10))
    assert reader.pids == ()


segments = st.sampled_from(["a", "b", "c", "..", "."])
targets = st.lists(segments, min_size=1, max_size=3).map("/".join)
places = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(places, st.one_of(st.none(), targets), max_size=7), places)
def test_links_lead_where_the_system_says_or_are_refused(links: dict[str, str | None], asked: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outer = Path(folder).resolve()
        root = outer / "root"
        root.mkdir()
        for place, target in links.items():
            path = root / place
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("x") if target is None else path.symlink_to(target)
            except OSError:
                continue

        def look(place: str) -> tree.Node:
            path = root / place
            if path.is_symlink():
                return tree.Node(tree.NodeKind.LINK, os.readlink(path))
            if not path.exists():
                return tree.Node(tree.NodeKind.MISSING)
            return tree.Node(tree.NodeKind.FOLDER if path.is_dir() else tree.NodeKind.FILE)

        found = tree.resolve(asked, look)
        if isinstance(found, Diagnostic):
            return
        real = (root / asked).resolve(strict=True)
        assert real == root / found.path
        assert real.is_relative_to(root)
        assert (found.kind is tree.NodeKind.FOLDER) == real.is_dir()


def test_paths_are_judged_by_their_bytes() -> None:
    limits = tree.Limits(max_path_bytes=10)
    assert tree.check_path(b"a/b.yaml", limits) == "a/b.yaml"
    for bad in (
        b"",
        b"/a",
        b"a//b",
        b"a/",
        b"./a",
        b"../a",
        b"a/..",
        b"a\x00",
        b"a\x7f",
        b"\xff",
        b"x" * 11,
        "\u2028".encode(),
    ):
        assert isinstance(tree.check_path(bad, limits), Diagnostic)


@given(st.binary(max_size=40))
def test_what_is_printed_of_a_name_moves_no_cursor(name: bytes) -> None:
    shown = tree.printable(name)
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in shown)
    shown.encode("utf-8")
