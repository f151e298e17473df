"""What the comparison with other queues consists of, as far as it needs none of them."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.bench.peers import programs
from tests.bench.peers.__main__ import PEERS, Peer, compare

FOLDER = Path(programs.__file__).parent


def test_ours_is_compared_with_what_a_peer_says() -> None:
    asked = []

    def program(name: str, address: str, count: int) -> float:
        asked.append((name, Path(address).name, count))
        return 1000.0

    line = compare(Peer("slow", 1.0, on_postgres=False), 3, 1, program)
    assert line.split()[0] == "slow"
    assert "met" in line
    assert asked == [("slow", "peer.db", 3)]


def test_every_peer_has_a_program_and_is_locked_with_hashes() -> None:
    assert [peer.name for peer in PEERS] == list(programs.PROGRAMS)
    lock = (FOLDER / "requirements.lock").read_text()
    for peer in PEERS:
        assert f"\n{peer.name}==" in f"\n{lock}"
    assert lock.count("==") <= lock.count("--hash=sha256:")
    assert "http" not in lock


def test_programs_of_peers_import_nothing_of_ours() -> None:
    tree = ast.parse((FOLDER / "programs.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"__future__", "collections.abc"}
