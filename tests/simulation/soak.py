"""Plays as many seeds as you like: ``python -m tests.simulation.soak --seeds 10000 [--first 0] [--steps 150]``.

Exit code 1 when a seed failed; each one that did is printed with its last steps and how to replay it.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

from tests.fakes.scratch import scratch
from tests.simulation.simulation import STEPS, Failed, play


def main() -> int:
    parser = argparse.ArgumentParser(description="Play seeds of the simulation.")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--first", type=int, default=0, help="the first one")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each")
    parser.add_argument("--traceback", action="store_true", help="show where it failed")
    wanted = parser.parse_args()
    logging.disable(logging.ERROR)  # failures are injected; their warnings would bury the report
    failed = 0
    seen: Counter[str] = Counter()
    for seed in range(wanted.first, wanted.first + wanted.seeds):
        with tempfile.TemporaryDirectory(dir=scratch()) as folder:
            try:
                seen.update(play(seed, Path(folder), steps=wanted.steps).history.counts)
            except Failed as failure:
                failed += 1
                print(failure, "\n", flush=True)
                if wanted.traceback:
                    traceback.print_exception(failure.__cause__)
    print(f"{wanted.seeds} seeds, {failed} failed, {sum(seen.values()):,} events: {dict(seen.most_common())}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
