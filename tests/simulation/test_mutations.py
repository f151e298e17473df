"""Planted defects: the history checker finds each within a few seeds, or it would find none of its kind."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from controllers.dispatch.executor import RunOrder
from controllers.effects import runs as run_effects
from controllers.reconcilers import dispatcher, facts
from controllers.runs import records
from controllers.sources import planning
from decisions import plan as plans
from schemas.run import RunStatus
from store.events import EventWrites
from tests.fakes.scratch import scratch
from tests.simulation.simulation import Failed, play

SEEDS = 25
Patch = pytest.MonkeyPatch


@dataclass(frozen=True)
class Defect:
    """A fault of the product, planted by ``plant``."""

    name: str
    plant: Callable[[Patch], None]


def forget_release(patch: Patch) -> None:
    patch.setattr(records, "settle", lambda *args, **kwargs: None)


def ignore_holds(patch: Patch) -> None:
    patch.setattr(facts, "strictest", lambda *args, **kwargs: None)


def book_the_outcome_twice(patch: Patch) -> None:
    real = records.finish

    def twice(tx: Any, uid: str, ending: Any) -> Any:
        run = real(tx, uid, ending)
        tx.event(
            "RunFinished", run, reason="Again", message="", data={"state": RunStatus.model_validate(run.status).state}
        )
        return run

    patch.setattr(run_effects.records, "finish", twice)


def start_under_another_key(patch: Patch) -> None:
    """What is delivered again is asked for under a name of its own, so that no worker can know it is the same."""
    real_start, real_prepare = run_effects.RunEffects.start, run_effects.RunEffects._prepare
    tries: list[int] = []

    async def start(self: Any, effect: Any) -> Any:
        tries.append(effect.tries)
        return await real_start(self, effect)

    def prepare(self: Any, uid: str) -> Any:
        order = real_prepare(self, uid)
        again = isinstance(order, RunOrder) and tries[-1] > 1
        return dataclasses.replace(order, run_uid=f"{uid}-{tries[-1]}") if again else order

    patch.setattr(run_effects.RunEffects, "start", start)
    patch.setattr(run_effects.RunEffects, "_prepare", prepare)


def forget_dependencies(patch: Patch) -> None:
    patch.setattr(facts, "_dependencies", lambda *args: ())


def give_out_a_place_too_many(patch: Patch) -> None:
    real = dispatcher._Pass.__post_init__

    def blind(self: Any) -> None:
        real(self)
        self.open = Counter()

    patch.setattr(dispatcher._Pass, "__post_init__", blind)


def delete_without_asking(patch: Patch) -> None:
    patch.setattr(plans.Plan, "blocked", lambda self, confirmed: frozenset())


def lose_an_event(patch: Patch) -> None:
    real = EventWrites.event

    def event(self: Any, type_: Any, *args: Any, **kwargs: Any) -> Any:
        return None if type_ == "Transitioned" else real(self, type_, *args, **kwargs)

    patch.setattr(EventWrites, "event", event)


def take_what_is_anothers(patch: Patch) -> None:
    patch.setattr(planning, "_claimed_twice", lambda *args: {})


DEFECTS = [
    Defect("a run keeps its reservation", forget_release),
    Defect("a Hold is not seen", ignore_holds),
    Defect("an outcome is booked twice", book_the_outcome_twice),
    Defect("a start that follows again has another key", start_under_another_key),
    Defect("dependencies are not seen", forget_dependencies),
    Defect("an agent gets a run too many", give_out_a_place_too_many),
    Defect("a guard holds nothing back", delete_without_asking),
    Defect("a transition is not written down", lose_an_event),
    Defect("a source takes what is another's", take_what_is_anothers),
]


@pytest.fixture
def folder() -> Iterator[Path]:
    logging.disable(logging.ERROR)
    with tempfile.TemporaryDirectory(dir=scratch()) as made:
        yield Path(made)
    logging.disable(logging.NOTSET)


def first_failure(folder: Path) -> tuple[int, str]:
    """The first seed that fails, and what it says; (-1, "") when none does."""
    for seed in range(SEEDS):
        place = folder / str(seed)
        place.mkdir()
        try:
            play(seed, place)
        except Failed as failed:
            return seed, str(failed)
    return -1, ""


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.name)
def test_a_planted_defect_is_found(defect: Defect, folder: Path, monkeypatch: Patch) -> None:
    defect.plant(monkeypatch)
    seed, text = first_failure(folder)
    assert seed >= 0, f"{SEEDS} seeds did not notice"
    assert f"--first {seed} --seeds 1" in text, "it can be replayed"
