"""Run the benches: ``python -m tests.bench [NAME ...] [--json FILE] [--scale X] [--write]``.

``--write`` puts the table between the markers of docs/performance.md; it wants every bench at full size.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tests.bench.measure import Bench, Measured
from tests.bench.suite import BENCHES

PAGE = Path(__file__).parents[2] / "docs" / "performance.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"


def table(found: list[tuple[Bench, Measured]]) -> str:
    """The results as a table of the page."""
    lines = ["| bench | ours | floor | ratio | target | met |", "|---|---|---|---|---|---|"]
    for bench, got in found:
        note = f" ({got.note})" if got.note else ""
        lines.append(
            f"| `{bench.name}` | {bench.what}{note}: {got.ours} | {bench.against}: {got.floor} | {got.ratio:.2f} |"
            f" {bench.target} | {'yes' if bench.met(got) else 'no'} |"
        )
    return "\n".join(lines)


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
    if asked.write and (asked.names or asked.scale != 1.0):
        parser.error("--write wants every bench at full size")
    found = []
    for bench in BENCHES:
        if asked.names and bench.name not in asked.names:
            continue
        got = bench.run(asked.scale)
        found.append((bench, got))
        verdict = "met" if bench.met(got) else "MISSED"
        figures = f"{got.ours} / {got.floor}  {got.note}"
        print(f"{bench.name:<20}{got.ratio:>8.2f}  target {bench.target:<8}{verdict:<8}{figures}", flush=True)
    if asked.json is not None:
        rows = [
            {"name": b.name, "ratio": m.ratio, "target": b.target, "met": b.met(m), "ours": m.ours, "floor": m.floor,
             "note": m.note}
            for b, m in found
        ]  # fmt: skip
        asked.json.write_text(json.dumps({"scale": asked.scale, "benches": rows}, indent=2) + "\n")
    if asked.write:
        PAGE.write_text(between_markers(PAGE.read_text(), table(found)))


if __name__ == "__main__":
    main()
