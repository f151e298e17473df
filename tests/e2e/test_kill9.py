"""The engine is killed over and over while a fleet works: nothing is lost, nothing happens twice."""

from __future__ import annotations

import os
import random
import time
from collections import Counter

import pytest

from schemas.run import RunState
from tests.e2e.fleet import mission, workers
from tests.fakes.engine_process import Engine, Project, pause, until

MISSIONS = 200
KILLS = 21
LATE = 40
"""Missions that are declared by later commits, in parts, each followed by a kill while it is taken in."""


class Plan:
    """What is declared, and how each mission has to end."""

    def __init__(self, project: Project, chance: random.Random) -> None:
        self.files: dict[str, str] = {}
        self.ends: dict[str, str] = {}
        self.attempts: dict[str, int] = {}
        succeeding: list[str] = []
        for number in range(MISSIONS):
            name = f"m{number:03d}"
            dice = number % 20
            agent = "reporter" if dice in (3, 13) else chance.choice(["worker", "second", "third"])
            wanted = {0: 0, 5: 2, 13: 2, 15: 2, 17: 3}.get(dice, 1)
            if dice == 0 and number % 60:
                wanted = 1
            spec: dict[str, object] = {
                "review": chance.choice(["None", "Auto"]),
                "retry": {"maxAttempts": wanted or 2, "backoff": {"initial": "0.1s", "max": "1s"}},
                "priority": chance.randrange(100),
            }
            self.ends[name] = "Done" if wanted else "Failed"
            self.attempts[name] = wanted or 2
            if dice == 10:
                spec["desiredState"] = "Canceled"
                self.ends[name], self.attempts[name] = "Canceled", 0
            elif succeeding and dice % 3 == 0:
                count = min(len(succeeding), chance.randint(1, 2))
                spec["dependsOn"] = [{"name": n} for n in chance.sample(succeeding[-20:], count)]
            if self.ends[name] == "Done":
                succeeding.append(name)
            seconds = round(chance.choice([0, 0.02, 0.1, 0.5]), 2)
            text = mission(name, agent, project.effects, seconds=seconds, succeed_at=wanted, **spec)
            self.files[f"missions/{name}.yaml"] = text

    def part(self, first: int, last: int) -> dict[str, str]:
        return dict(list(self.files.items())[first:last])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_hundred_missions_survive_an_engine_that_is_killed_over_and_over(project: Project) -> None:
    seed = int(os.environ.get("REMIT_TEST_SEED", "20261121"))
    chance = random.Random(seed)
    plan = Plan(project, chance)
    project.commit({"fleet.yaml": workers(places=3, second=3, third=2), **plan.part(0, MISSIONS - LATE)})
    began = time.monotonic()
    engine = project.engine()
    start_s = time.monotonic() - began
    late = MISSIONS - LATE
    for number in range(KILLS):
        if number % 3 == 1:
            # While it starts: from its first instructions to its first passes.
            engine.kill()
            engine = project.engine(ready=False)
            pause(chance.uniform(0.0, 1.3 * start_s))
        elif number % 3 == 2 and late < MISSIONS:
            # While it takes a commit in: the watcher waits 0.2 s for more, then the sync begins.
            engine = working(project, engine, chance.randint(20, 60))
            project.commit(plan.part(late, late + 8))
            late += 8
            pause(chance.uniform(0.15, 0.5))
        else:
            engine = working(project, engine, chance.randint(1, 120))
        engine.kill()
        engine = project.engine(ready=False)
    assert late == MISSIONS
    engine.says("agents report to")
    until(lambda: len(project.objects("Mission")) == MISSIONS, "all missions to be declared")
    until(lambda: not unfinished(project), lambda: f"the end of {unfinished(project)} (seed {seed})", 900)
    # One more life, over what is finished: it has nothing to do.
    project.settles()
    engine.kill()
    before = len(project.events("Dispatched", "RunStarted", "RunFinished"))
    engine = project.engine()
    pause(2.0)
    project.settles()
    assert engine.stop() == 0
    assert len(project.events("Dispatched", "RunStarted", "RunFinished")) == before
    check(project, plan, seed)
    assert "the chain holds" in project.good("audit", "verify")
    assert "sound" in project.good("db", "check")
    project.nothing_is_left()


def working(project: Project, engine: Engine, steps: int) -> Engine:
    """Wait until the engine has made so many steps, or has nothing left to do. So kills follow the work, however fast
    the machine is."""
    engine.says("agents report to")
    first = newest(project)
    ends = time.monotonic() + 20
    while newest(project) < first + steps and time.monotonic() < ends:
        pause(0.005)
    return engine


def newest(project: Project) -> int:
    with project.look() as snapshot:
        return snapshot.events(limit=1, newest_first=True)[0].seq


def unfinished(project: Project) -> dict[str, str]:
    ended = ("Done", "Failed", "Canceled")
    return {m.name: m.state for m in project.objects("Mission") if m.state not in ended}


def check(project: Project, plan: Plan, seed: int) -> None:
    missions = {m.name: m for m in project.objects("Mission")}
    assert {name: m.state for name, m in missions.items()} == plan.ends, f"seed {seed}"
    project.is_sound()
    runs = project.objects("Run")
    by_mission = Counter(str(r.spec["missionRef"]["name"]) for r in runs)
    assert {name: by_mission[name] for name in missions} == plan.attempts, f"seed {seed}"
    # The supervisor outlived every kill, so no run was lost: each left exactly one line, in a file of its own.
    wanted = {f"{missions[r.spec['missionRef']['name']].uid}.{r.spec['attempt']}": [r.uid] for r in runs}
    assert project.lines() == wanted, f"seed {seed}"
    good = Counter(str(r.spec["missionRef"]["name"]) for r in runs if r.state == RunState.SUCCEEDED)
    assert good == Counter({name: 1 for name, end in plan.ends.items() if end == "Done"}), f"seed {seed}"
    started = Counter(e.subject_uid for e in project.events("RunStarted"))
    assert started == Counter({r.uid: 1 for r in runs}), f"seed {seed}"
    lives = project.events("EngineStarted")
    assert len(lives) > KILLS // 2, "too few engines came up for the test to mean anything"
