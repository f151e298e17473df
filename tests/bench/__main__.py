"""Run the benches: ``python -m tests.bench [NAME ...] [--json FILE] [--scale X] [--write]``.

``--write`` puts full-size results into the table of docs/performance.md; rows of benches that were not named stay
as they were. A ratio is of one run, so rows of several runs may stand side by side.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tests.bench.measure import Bench, Measured
from tests.bench.suite import BENCHES

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


HEAD = "| bench | ours | floor | ratio | target | met |\n|---|---|---|---|---|---|"


def row(bench: Bench, got: Measured) -> str:
    """One result as a row of the page."""
    note = f" ({got.note})" if got.note else ""
    return (
        f"| `{bench.name}` | {bench.what}{note}: {got.ours} | {bench.against}: {got.floor} | {got.ratio:.2f} |"
        f" {bench.target} | {'yes' if bench.met(got) else 'no'} |"
    )


def rows_of(page: str) -> dict[str, str]:
    """The rows of the page's table by bench."""
    lines = page.partition(BEGIN)[2].partition(END)[0].splitlines()
    return {line.split("`")[1]: line for line in lines if line.startswith("| `")}


def table(found: dict[str, str]) -> str:
    """The table of these rows, in the order of the suite; a bench without one says that it was not measured."""
    return "\n".join([HEAD, *(found.get(bench.name, unmeasured(bench)) for bench in BENCHES)])


def unmeasured(bench: Bench) -> str:
    """The row of a bench that was not run at full size yet."""
    return f"| `{bench.name}` | {bench.what} | {bench.against} | not measured | {bench.target} | unknown |"


def between_markers(page: str, text: str) -> str:
    """The page with another table."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{text}\n\n{END}{tail}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="benches, as ratios of one run")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; all when none is named")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--scale", type=float, default=1.0, help="a part of the full size")
    parser.add_argument("--write", action="store_true", help="rewrite the table of docs/performance.md")
    asked = parser.parse_args()
    unknown = set(asked.names) - {b.name for b in BENCHES}
    if unknown:
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(b.name for b in BENCHES)}")
    if asked.write and asked.scale != 1.0:
        parser.error("--write wants the full size")
    found = []
    for bench in BENCHES:
        if asked.names and bench.name not in asked.names:
            continue
        got = bench.run(asked.scale)
        found.append((bench, got))
        judged = f"target {bench.target:<8}{'met' if bench.met(got) else 'MISSED':<8}"
        print(f"{bench.name:<20}{got.ratio:>8.2f}  {judged}{got.ours} / {got.floor}  {got.note}", flush=True)
    if asked.json is not None:
        rows = [
            {"name": b.name, "ratio": m.ratio, "target": b.target, "met": b.met(m), "ours": m.ours, "floor": m.floor,
             "note": m.note}
            for b, m in found
        ]  # fmt: skip
        asked.json.write_text(json.dumps({"scale": asked.scale, "benches": rows}, indent=2) + "\n")
    if asked.write:
        page = PAGE.read_text()
        PAGE.write_text(between_markers(page, table(rows_of(page) | {b.name: row(b, m) for b, m in found})))


if __name__ == "__main__":
    main()
