"""What a tree brings against another, read from the folders that differ, is what a comparison of both whole listings
finds, or nothing is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controllers.sources import git_delta, git_objects, git_repository, git_tree, increment, tree
from schemas.errors import SourceUnreadable
from tests.fakes.repos import Repo

LIMITS = tree.Limits(max_files=7, max_blob_bytes=20, max_path_bytes=12, max_depth=3, max_nodes=30, max_links=2)

NAMES = (
    b"a", b"A", b"d", b"a.yaml", b"A.yaml", b"b.yml", b"\xc3\xa9.yaml", b"e\xcc\x81.yaml", b"\xff.yaml", b".h", b"t.md",
)  # fmt: skip
PLAIN = (b"a.yaml", b"b.yml", b"d/a.yaml", b"d/e/a.yaml", b"d/t.md", b"t.md")
paths = st.one_of(
    st.sampled_from(PLAIN),
    st.sampled_from(PLAIN),
    st.sampled_from(PLAIN),
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=5).map(b"/".join),
)
rows = st.one_of(
    st.tuples(st.sampled_from(["100644"] * 6 + ["100755", "100664"]), st.sampled_from([b"x", b"y", b"z" * 19])),
    st.tuples(st.just("100644"), st.sampled_from([b"1", b"2", b"3", b"4"])),
    st.tuples(st.just("100644"), st.sampled_from([b"5", b"6", b"7", b"8"])),
    st.just(("100644", b"x" * 21)),
    st.tuples(st.just("120000"), st.sampled_from([b"a.yaml", b"../t.md", b"d"])),
    st.just(("160000", b"")),
    st.none(),
)
edits = st.lists(st.tuples(paths, rows), min_size=1, max_size=4)

Files = dict[bytes, tuple[str, bytes]]


class Planted:
    """A repository of which only trees count."""

    def __init__(self, folder: Path) -> None:
        self.repo = Repo(folder, bare=True)
        self.repository = git_repository.Repository(folder)
        self.objects: git_objects.ObjectReader = self.repository.objects

    def plant(self, files: Files) -> str:
        """The id of a tree that holds these files."""
        below: dict[bytes, Files] = {}
        held: list[tuple[bytes, bytes]] = []
        for path, (mode, content) in files.items():
            head, _, rest = path.partition(b"/")
            if rest:
                below.setdefault(head, {})[rest] = (mode, content)
            else:
                oid = "1" * 40 if mode == "160000" else self.repo.store("blob", content)
                held.append((head, b"%s %s\0%s" % (mode.encode(), head, bytes.fromhex(oid))))
        for name, inner in below.items():
            held.append((name + b"/", b"40000 %s\0%s" % (name, bytes.fromhex(self.plant(inner)))))
        return self.repo.store("tree", b"".join(row for _, row in sorted(held)))

    def listing(self, root: str) -> git_tree.Listing | None:
        """All that a tree declares, listed from nothing; None when it is too large."""
        try:
            return git_tree.TreeLister(self.objects, tree.is_manifest, LIMITS).listing(root)
        except SourceUnreadable as error:
            if error.reason != tree.LIMIT_EXCEEDED:
                raise
            return None

    def comparer(self, limits: tree.Limits = LIMITS) -> git_delta.Comparer:
        return git_delta.Comparer(self.objects, tree.is_manifest, limits)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    made = Planted(tmp_path_factory.mktemp("planted"))
    yield made
    made.repository.close()


def edited(files: Files, path: bytes, row: tuple[str, bytes] | None) -> Files:
    """With that file, and without what cannot be beside it."""
    kept = {p: r for p, r in files.items() if p != path and not p.startswith(path + b"/")}
    if row is None:
        return kept
    parents = {path[:at] for at, byte in enumerate(path) if byte == ord("/")}
    return {p: r for p, r in kept.items() if p not in parents} | {path: row}


def texts(files: Files) -> dict[str, tuple[str, bytes]]:
    """Files in sight that are not listed."""
    return {
        path.decode("utf-8", "surrogateescape"): (mode.replace("664", "644"), content)
        for path, (mode, content) in files.items()
        if mode.startswith("100") and not tree.is_manifest(path.decode("utf-8", "replace"))
        and not any(part.startswith(b".") for part in path.split(b"/"))
    }  # fmt: skip


def whole(listing: git_tree.Listing) -> tree.Tree:
    return tree.Tree("r", "c", listing.tree_id, listing.entries, listing.problems, listing.extent)


@given(st.lists(edits, min_size=2, max_size=5))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_delta_is_what_both_listings_tell(
    planted: Planted, steps: list[list[tuple[bytes, tuple[str, bytes]]]]
) -> None:
    files: Files = {}
    comparer, root, before = planted.comparer(), planted.plant({}), planted.listing(planted.plant({}))
    for step in steps:
        old_files, old_root = files, root
        for path, row in step:
            files = edited(files, path, row)
        root, after = planted.plant(files), planted.listing(planted.plant(files))
        if before is not None and before.extent is not None:
            found = comparer.compare(old_root, root, before.extent)
            if found is not None:
                assert after is not None
                expected = increment.compared(whole(before), whole(after))
                assert expected is not None
                assert after.extent == found.extent
                assert list(found.changed) == [c for c in expected.changed if c in found.changed]
                same = {c.entry for c in found.changed if c.before == c.entry.blob}
                assert {c.entry for c in found.changed} - same == {c.entry for c in expected.changed} - same
                old, new = texts(old_files), texts(files)
                differ = {p for p in old.keys() | new.keys() if old.get(p, ("", b""))[1] != new.get(p, ("", b""))[1]}
                assert differ <= found.touched <= old.keys() | new.keys()
        before = after


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({b"a/x.yaml": b"2"}, ["a/x.yaml"]),
        ({b"a/new.yaml": b"2", b"n/n/n.yaml": b"3"}, ["a/new.yaml", "n/n/n.yaml"]),
        ({b"t.md": b"2", b"a/x.yaml": b"2"}, ["a/x.yaml"]),
        ({b"t.md": None, b".hidden/x.yaml": b"1"}, []),
        ({b"a/x.yaml": None}, None),
        ({b"a": None}, None),
        ({b"A/z.yaml": b"1"}, None),
        ({b"B.YAML": b"1"}, None),
    ],
)  # fmt: skip
def test_ordinary_changes_are_told_and_others_are_not(
    planted: Planted, change: dict[bytes, bytes | None], expected: list[str] | None
) -> None:
    files: Files = dict.fromkeys((b"a/x.yaml", b"a/y.yaml", b"b.yaml", b"t.md", b"z/z.yaml"), ("100644", b"1"))
    old = planted.plant(files)
    listing = planted.listing(old)
    assert listing is not None
    assert listing.extent is not None
    for path, content in change.items():
        files = edited(files, path, None if content is None else ("100644", content))
    found = planted.comparer(tree.DEFAULT_LIMITS).compare(old, planted.plant(files), listing.extent)
    assert (None if found is None else [c.entry.path for c in found.changed]) == expected


def test_a_broken_row_is_no_tree(planted: Planted) -> None:
    row = b"100644 a.yaml\0" + b"1" * 20
    assert git_objects.split_tree(row * 2, 20) == [(b"100644", b"a.yaml", b"1" * 20)] * 2
    for bad in (row[:-1], row + b"1", b"100644 \0" + b"1" * 20, b"100644 a/b\0" + b"1" * 20, b"\0" * 100_000):
        with pytest.raises(ValueError, match="cut"):
            git_objects.split_tree(bad, 20)
