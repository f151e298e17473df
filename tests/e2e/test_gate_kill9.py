"""kill -9 of one engine, or of two on one database, while agents ask and a person answers: no leave is lost, none is
used twice, and what was reserved is settled."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter

import pytest

from tests.e2e.fleet import PROGRAMS, agent, executor, mission, together
from tests.fakes.engine_process import Engine, Project, pause, until

MISSIONS = 3
ACTS = 4
KILLS = 12


def fleet(project: Project, acts: int = ACTS) -> str:
    missions = [
        mission(f"ship-{number}", "shipper", project.effects, budget={"usd": "1"}).replace(
            '"seconds": 0', f'"acts": {acts}'
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


def check(project: Project, seed: int, acts: int = ACTS) -> None:
    project.is_sound()
    uids = [m.uid for m in project.objects("Mission")]
    done = project.lines()
    wanted = {f"{uid}.{number}" for uid in uids for number in range(acts)}
    assert set(done) == wanted, f"seed {seed}"
    assert [name for name, lines in done.items() if len(lines) != 1] == [], f"an act was done twice (seed {seed})"
    requests = [r for r in project.objects("ApprovalRequest") if r.spec["type"] == "Action"]
    assert len(requests) == MISSIONS * acts, f"a question was asked twice (seed {seed})"
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
            assert (balance.spent.usd_micros, balance.reserved.usd_micros) == (acts * 10_000, 0), f"seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_no_leave_is_lost_and_none_is_used_twice_over_two_engines_that_are_killed(
    pair: tuple[Project, Project],
) -> None:
    """One machine answers, the other one carries out; either may be the leader, and both die once."""
    seed = int(os.environ.get("REMIT_TEST_SEED", "20261121"))
    chance = random.Random(seed)
    first, second = pair
    acts = 2
    first.commit({"fleet.yaml": fleet(first, acts)})
    engines = [first.engine(), second.engine()]
    until(lambda: len(pending(first)) == MISSIONS, "the first questions")
    answered: set[str] = set()
    while not finished(first):
        open_now = sorted(set(pending(first)) - answered)
        if not open_now:
            pause(0.05)
            continue
        name = chance.choice(open_now)
        # Who dies while the question is answered, and comes back: one machine, the other one, both.
        victims = {0: [0], 2: [1], 4: [0, 1]}.get(len(answered), [])
        early = chance.random() < 0.5
        for victim in victims if early else []:
            engines[victim].kill()
        pair[len(answered) % 2].good("approve", f"approval/{name}", "--no-wait")
        pause(chance.uniform(0.0, 0.1))  # it is taken in meanwhile, or it is not
        answered.add(name)
        for victim in victims:
            engines[victim].kill()
            engines[victim] = pair[victim].engine(ready=False)
    for project, engine in zip(pair, engines, strict=True):
        engine.says("agents report to")
        until(lambda p=project: not p.agents(), "the end of the programs")
    first.settles()
    for engine in engines:
        assert engine.stop() == 0
    check(first, seed, acts)


LIVES, DIES = ("lives-0", "lives-1"), ("dies-0", "dies-1")


def reserved(project: Project) -> set[str]:
    with project.look() as snapshot:
        return {entry.key for entry in snapshot.open_reservations()}


def keys_of(project: Project, *missions: str) -> set[str]:
    """Of the reservations of these missions' runs and of the calls in them."""
    runs = {project.get("Run", f"{name}-1").uid for name in missions}
    calls = {call.uid for call in project.objects("ToolCall") if call.owner_uid in runs}
    return {f"reserve/run/{uid}" for uid in runs} | {f"reserve/call/{uid}" for uid in calls}


def test_an_engine_killed_between_the_reservation_of_a_call_and_its_end_books_it_right(project: Project) -> None:
    go = project.folder / "go"
    program = executor("calling", [sys.executable, "-P", str(PROGRAMS / "caller.py")], output="Remit")
    caller = agent("caller", "calling", places=4, tools=[{"name": "read_db"}])
    works = [
        mission(name, "caller", project.effects, until=go, budget={"usd": "1"}, retry={"maxAttempts": 1})
        for name in (*LIVES, *DIES)
    ]
    project.commit({"fleet.yaml": together(program, caller, *works)})
    engine = project.engine()
    until(lambda: [len(lines) for lines in project.lines().values()] == [2] * 4, "every call to be allowed")
    engine.kill()
    assert reserved(project) == keys_of(project, *LIVES, *DIES)
    assert len(reserved(project)) == 8, "each run, and in it each call"
    for name in DIES:
        os.kill(int(project.lines()[name][0]), signal.SIGKILL)
    engine = project.engine()
    for name in DIES:
        project.comes_to(name, "Failed")
    assert reserved(project) == keys_of(project, *LIVES), "nobody else's was touched"
    go.touch()
    for name in LIVES:
        project.comes_to(name, "Done")
    project.ends_well(engine)
    told = {call.owner_uid: call for call in project.objects("ToolCall")}
    assert len(told) == 4
    for name in (*LIVES, *DIES):
        # What the agent told, or what was estimated where nobody can know.
        state, cost = ("Succeeded", 20_000) if name in LIVES else ("Unknown", 50_000)
        assert told[project.get("Run", f"{name}-1").uid].state == state
        with project.look() as snapshot:
            balance = snapshot.balance(f"mission/{project.get('Mission', name).uid}/total")
        assert (balance.spent.usd_micros, balance.reserved.usd_micros) == (cost, 0), name
    project.good("audit", "verify")
