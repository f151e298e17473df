"""A fleet at work for hours in virtual time: workers die, providers refuse, the clock jumps, the engine is killed. The
whole week with 20 agents is a part of `make soak`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from controllers.simulation.faults import Faults
from tests.fakes.scratch import scratch
from tests.simulation.week import ASSUMED, Week, play

HARSH = Faults(
    deaths=0.2, storms=timedelta(minutes=40), storm=timedelta(minutes=30), jumps=timedelta(hours=2),
    kills=timedelta(minutes=30),
)  # fmt: skip
LATE = replace(ASSUMED, answer_after=timedelta(hours=64))
"""People answer after the reminder."""


def once(seed: int, hours: float = 9, agents: int = 2, a_day: int = 36) -> Week:
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        return play(
            seed, Path(folder), length=timedelta(hours=hours), agents=agents, a_day=a_day, faults=HARSH, assumed=LATE
        )


def test_whatever_happens_every_mission_ends_or_says_why_and_a_seed_can_be_replayed() -> None:
    week = once(1)
    assert week.problems == []
    assert week.events["ScheduleFired"] >= 12
    assert week.missions["Done"]
    assert week.events["RetryScheduled"], "nothing went wrong in it"
    assert week.events["ProviderPaused"], "no provider refused"
    assert week.summaries == 1
    assert {"deaths", "storms", "jumps", "kills"} <= set(week.came)
    assert once(1).history == week.history


def test_people_are_reminded_once_over_all_that() -> None:
    week = once(2, hours=66, agents=1, a_day=4)
    assert week.problems == []
    assert week.reminders > 0
    assert week.summaries == 3
