"""kill -9 of the engine while agents ask and a person answers: no leave is lost, none is used twice, and what was
reserved is settled."""

from __future__ import annotations

import os
import random
import sys
from collections import Counter

import pytest

from tests.e2e.fleet import PROGRAMS, agent, executor, mission, together
from tests.fakes.engine_process import Engine, Project, pause, until

MISSIONS = 3
ACTS = 4
KILLS = 12


def fleet(project: Project) -> str:
    missions = [
        mission(f"ship-{number}", "shipper", project.effects, budget={"usd": "1"}).replace(
            '"seconds": 0', f'"acts": {ACTS}'
        )
        for number in range(MISSIONS)
    ]
    return together(
        executor("gated", [sys.executable, "-P", str(PROGRAMS / "gated.py")], output="Remit"),
        agent("shipper", "gated", places=MISSIONS, autonomyLevel="Specialist", tools=[{"name": "push_tag"}]),
        *missions,
    )


def pending(project: Project) -> list[str]:
    return [r.name for r in project.objects("ApprovalRequest") if r.state == "Pending"]


def finished(project: Project) -> bool:
    return project.states() == Counter({"Done": MISSIONS})


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_leave_is_lost_and_none_is_used_twice_when_the_engine_is_killed(project: Project) -> None:
    seed = int(os.environ.get("REMIT_TEST_SEED", "20261121"))
    chance = random.Random(seed)
    project.commit({"fleet.yaml": fleet(project)})
    engine = project.engine()
    until(lambda: len(pending(project)) == MISSIONS, "the first questions")
    answered: set[str] = set()
    kills = 0
    while not finished(project):
        open_now = [name for name in pending(project) if name not in answered]
        if not open_now:
            if kills < KILLS and chance.random() < 0.3:
                engine = killed(project, engine, chance)  # while an agent asks, or takes its leave
                kills += 1
            pause(0.05)
            continue
        name = chance.choice(open_now)
        if kills < KILLS and chance.random() < 0.5:
            engine.kill()  # the answer is given while no engine runs
            kills += 1
            project.good("approve", f"approval/{name}", "--no-wait")
            engine = project.engine(ready=False)
        else:
            project.good("approve", f"approval/{name}", "--no-wait")
            if kills < KILLS and chance.random() < 0.7:
                engine = killed(project, engine, chance)  # while it takes the answer in
                kills += 1
        answered.add(name)
    until(lambda: not project.agents(), "the end of the programs")
    engine.says("agents report to")
    project.settles()
    assert engine.stop() == 0
    check(project, seed)
    assert kills >= KILLS // 2, "too few kills for the test to mean anything"


def killed(project: Project, engine: Engine, chance: random.Random) -> Engine:
    pause(chance.uniform(0.0, 0.15))
    engine.kill()
    return project.engine(ready=False)


def check(project: Project, seed: int) -> None:
    project.is_sound()
    uids = [m.uid for m in project.objects("Mission")]
    done = project.lines()
    wanted = {f"{uid}.{number}" for uid in uids for number in range(ACTS)}
    assert set(done) == wanted, f"seed {seed}"
    assert [name for name, lines in done.items() if len(lines) != 1] == [], f"an act was done twice (seed {seed})"
    requests = [r for r in project.objects("ApprovalRequest") if r.spec["type"] == "Action"]
    assert len(requests) == MISSIONS * ACTS, f"a question was asked twice (seed {seed})"
    assert all(r.status.get("consumedAt") for r in requests), f"a leave was lost (seed {seed})"
    calls = {c.uid: c for c in project.objects("ToolCall")}
    assert {c.state for c in calls.values()} == {"Succeeded"}
    used = Counter(c.status["approvalRequest"] for c in calls.values())
    assert used == Counter({r.name: 1 for r in requests}), f"a leave was used twice (seed {seed})"
    assert {lines[0] for lines in done.values()} == set(calls), f"seed {seed}"
    with project.look() as snapshot:
        assert snapshot.open_reservations() == []
        for uid in uids:
            balance = snapshot.balance(f"mission/{uid}/total")
            assert (balance.spent.usd_micros, balance.reserved.usd_micros) == (ACTS * 10_000, 0), f"seed {seed}"
