"""``make bench-peers``: missions a second of this engine, and jobs a second of other queues, in one run on one machine.

Each peer works in an environment of its own (``.peers``, from ``requirements.lock``) on the same PostgreSQL, or on a
SQLite file; both sides by turns. The jobs of the peers do nothing and keep a state and a result; what a mission keeps
beside that is told in docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.bench.noop import NoOpEngine
from tests.bench.peers.programs import PLACES
from tests.fakes import postgres

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".peers" / "bin" / "python"


@dataclass(frozen=True, slots=True)
class Peer:
    """Another queue, and how many times its rate ours is to be."""

    name: str
    target: float
    on_postgres: bool = True


PEERS = (Peer("huey", 1.0, on_postgres=False), Peer("procrastinate", 10.0), Peer("dbos", 10.0), Peer("pgqueuer", 1.0))
Program = Callable[[str, str, int], float]
"""(peer, address, count) to seconds."""


def program(name: str, address: str, count: int) -> float:
    """Seconds that a peer takes, as it says itself."""
    script = Path(__file__).with_name("programs.py")
    done = subprocess.run(
        [str(PYTHON), str(script), name, address, str(count)], capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout.split()[-1])


async def ours(count: int, *, on_postgres: bool) -> float:
    """Seconds that we take."""
    store = postgres.store_database() if on_postgres else None
    with tempfile.TemporaryDirectory() as folder:
        async with NoOpEngine(Path(folder, "ours"), store, places=min(count, PLACES)) as engine:
            await engine.lined_up(count)
            return await engine.worked_off()


def compare(peer: Peer, count: int, rounds: int, run: Program = program) -> str:
    """A line about one peer."""
    pairs = []
    for _ in range(rounds):
        mine = asyncio.run(ours(count, on_postgres=peer.on_postgres))
        with tempfile.TemporaryDirectory() as folder:
            address = postgres.store_database() if peer.on_postgres else str(Path(folder, "peer.db"))
            pairs.append((mine, run(peer.name, address, count)))
    a, b = (statistics.median(side) for side in zip(*pairs, strict=True))
    judged = "met" if b / a >= peer.target else "MISSED"
    return (
        f"{peer.name:<16}{b / a:>8.2f}  target >= {peer.target:<6g}{judged:<8}{count / a:,.0f}/s / {count / b:,.0f}/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.peers", description="this engine beside other queues")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; all when none is named")
    parser.add_argument("--count", type=int, default=1_000, help="missions, or jobs, of each round")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    for peer in PEERS:
        if not asked.names or peer.name in asked.names:
            print(compare(peer, asked.count, asked.rounds), flush=True)


if __name__ == "__main__":
    main()
