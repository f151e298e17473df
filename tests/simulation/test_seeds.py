"""Hundreds of seeds of the simulation, and that a seed can be replayed."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.scratch import scratch
from tests.simulation.history import Violation
from tests.simulation.simulation import Failed, Simulation, play

REACHING = 40
"""The first seeds, which show together that everything is tried."""
CHUNKS, EACH = 16, 10


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=scratch()) as made:
        yield Path(made)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Failures are injected; their warnings would bury the report."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


def fresh(folder: Path, name: str) -> Path:
    made = folder / name
    made.mkdir()
    return made


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_invariants_hold_whatever_happens_in_whatever_order(chunk: int, folder: Path) -> None:
    first = REACHING + chunk * EACH
    for seed in range(first, first + EACH):
        play(seed, fresh(folder, str(seed)))


def test_the_same_seed_is_the_same_history(folder: Path) -> None:
    one, two = (play(7, fresh(folder, name)) for name in ("one", "two"))
    assert one.trace == two.trace
    assert one.history.counts == two.history.counts


@pytest.mark.timeout(900)
def test_the_seeds_reach_what_they_are_meant_to_try(folder: Path) -> None:
    """And that the invariants hold over them, as over those above."""
    seen: Counter[str] = Counter()
    lines: list[str] = []
    guards: set[str] = set()
    for seed in range(REACHING):
        played = play(seed, fresh(folder, str(seed)))
        seen.update(played.history.counts)
        lines += played.trace
        guards |= played.history.guards
    wanted = {
        "RunFinished", "RetryScheduled", "CancelRequested", "HoldPlaced", "GuardRaised", "GuardConfirmed",
        "ApprovalDecided", "DecisionRefused", "SyncFailed", "RequestHandled", "DeletionRequested", "EffectFailed",
    }  # fmt: skip
    assert wanted - seen.keys() == set()
    assert guards >= {"PruneBlocked", "WideningPending"}
    text = "\n".join(lines)
    faults = (
        "committed, but timed out", "crash midway", "crash after commit", "the engine dies", "lose the answer",
        "the wall clock is set", "unrelated history", "at fetch", "report: told Refused", "late", "tokens",
        "which is another's", "the team: remove everything", "team: RepositoryUnreachable",
    )  # fmt: skip
    for fault in faults:
        assert fault in text, fault


def test_a_violation_names_the_seed_the_last_steps_and_how_to_replay_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def violated(self: Simulation) -> None:
        raise Violation("made up")

    monkeypatch.setattr(Simulation, "_converged", violated)
    with pytest.raises(Failed) as failed:
        play(3, folder)
    text = str(failed.value)
    assert "seed 3: Violation: made up" in text
    assert "--first 3 --seeds 1" in text
    assert text.count("\n") == 41
