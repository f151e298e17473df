"""The benches run, and the page about performance names them. Nothing here is timed."""

from __future__ import annotations

import pytest

from tests.bench.__main__ import BEGIN, END, PAGE, between_markers, row, rows_of
from tests.bench.measure import Bench, Measured
from tests.bench.suite import BENCHES

# With the tests that have a cluster already: its start takes longer than these.
CLUSTER = {"watch-to-pass", "cluster-writes"}
SIZED = [pytest.param(b, marks=[pytest.mark.xdist_group("kubernetes")] * (b.name in CLUSTER)) for b in BENCHES]


@pytest.mark.parametrize("bench", SIZED, ids=lambda bench: bench.name)
def test_each_bench_runs_in_a_tiny_size(bench: Bench) -> None:
    assert bench.run(0.001).ratio > 0


def test_the_page_has_one_row_and_one_explanation_for_each_bench() -> None:
    page = PAGE.read_text()
    floors = page.partition("## What the floors are")[2].partition("\n## ")[0]
    assert list(rows_of(page)) == [b.name for b in BENCHES]
    assert [b.name for b in BENCHES if f"`{b.name}`" not in floors] == []


def test_names_are_given_once() -> None:
    assert len({bench.name for bench in BENCHES}) == len(BENCHES)


def test_a_table_replaces_the_one_between_the_markers() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert between_markers(page, "new") == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"


def test_a_row_says_whether_the_target_is_met_from_its_own_side() -> None:
    below = Bench("a", "a", "b", 1.5, lambda scale: Measured(1.0, "", ""))
    above = Bench("b", "a", "b", 0.5, lambda scale: Measured(0.4, "", ""), at_least=True)
    rows = [row(bench, bench.run(1.0)) for bench in (below, above)]
    assert [text.rsplit("|", 2)[1].strip() for text in rows] == ["yes", "no"]
