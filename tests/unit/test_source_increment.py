"""The parts of a pass that follows what a commit changed."""

from __future__ import annotations

import gc
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from controllers.sources import collector, increment
from controllers.sources.checked import Checked
from controllers.sources.tree import Entry, Tree

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHECKED = Checked("main@sha1:a", 1, NOW, True, frozenset({"d"}), "")

listings = st.dictionaries(st.text("ab/", min_size=1, max_size=3), st.sampled_from("xyz"), max_size=12)


def listing(files: dict[str, str]) -> Tree:
    entries = tuple(Entry(path, blob, 1, "100644") for path, blob in sorted(files.items()))
    return Tree("main@sha1:a", "a", "t", entries, ())


def changes(old: Tree, new: Tree) -> list[Entry] | None:
    delta = increment.compared(old, new)
    return None if delta is None else [changed.entry for changed in delta.changed]


@given(listings, listings)
def test_the_changed_entries_are_those_that_a_comparison_one_by_one_finds(
    old: dict[str, str], new: dict[str, str]
) -> None:
    expected = [e for e in listing(new).entries if old.get(e.path) != e.blob]
    found = changes(listing(old), listing(new))
    assert found == (None if old.keys() - new.keys() else expected)


@given(listings)
def test_equal_listings_differ_in_nothing(files: dict[str, str]) -> None:
    assert changes(listing(files), listing(files)) == []


def test_more_files_than_a_few_are_looked_at_with_everything() -> None:
    old = listing({})
    assert increment.compared(old, listing({f"{n:04d}": "x" for n in range(increment.MOST + 1)})) is None


def test_a_look_stands_for_as_long_as_nothing_around_it_changes() -> None:
    longest = timedelta(minutes=10)
    assert CHECKED.stands(replace(CHECKED, at=NOW + timedelta(minutes=9)), longest)
    assert not CHECKED.stands(replace(CHECKED, at=NOW + longest), longest)
    assert not CHECKED.stands(replace(CHECKED, at=NOW - timedelta(seconds=1)), longest), "a clock that was set back"
    for other in (
        replace(CHECKED, head="main@sha1:b"),
        replace(CHECKED, generation=2),
        replace(CHECKED, confirmations=frozenset()),
        replace(CHECKED, trust="keys"),
    ):
        assert not CHECKED.stands(other, longest)
    assert not replace(CHECKED, settled=False).stands(CHECKED, longest)


def test_the_collector_pauses_until_the_last_block_ends() -> None:
    assert gc.isenabled()
    with collector.paused():
        with collector.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with collector.paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()
