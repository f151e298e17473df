"""A fleet at work for hours in virtual time, with workers that die, storms, jumps of the clock and killed engines. The
whole week with 20 agents is a part of `make soak`."""

from __future__ import annotations

import tempfile
from datetime import timedelta
from pathlib import Path

from tests.simulation.soak import scratch
from tests.simulation.week import Faults, Week, play

HARSH = Faults(
    deaths=0.2, kill_every=timedelta(minutes=40), storm_every=timedelta(hours=1), jump_every=timedelta(hours=2)
)


def once(seed: int) -> Week:
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        return play(seed, Path(folder), length=timedelta(hours=2), agents=3, a_day=144, faults=HARSH)


def test_whatever_happens_every_mission_ends_or_says_why_and_a_seed_can_be_replayed() -> None:
    week = once(1)
    assert week.problems == []
    assert week.events["ScheduleFired"] >= 11
    assert week.missions["Done"]
    assert week.events["RetryScheduled"], "nothing went wrong in it"
    assert once(1).history == week.history
