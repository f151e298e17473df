"""Two engines on one PostgreSQL, each with a state directory of its own, are killed at random while a fleet works: no
mission is lost, no program runs twice, and a deposed engine writes nothing."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from typing import Any

import psycopg
import pytest

from controllers.runtime.home import LEADER
from schemas.run import RunState
from tests.e2e.fleet import agent, executor, mission, together, workers
from tests.fakes import postgres
from tests.fakes.engine_process import Project, pause, until

MISSIONS = int(os.environ.get("REMIT_TEST_MISSIONS", "200"))
"""`make soak` has 2,000 of them, which takes some minutes."""
AGENTS = 8
PLACES = 4
KILLS = 12
LOOK_S = 0.2
# No interpreter to start: the line for each start of a program is all that counts.
_PROGRAM = 'echo "$REMIT_RUN" >> "$0/$REMIT_RUN"; echo done'


def fleet(project: Project, count: int) -> dict[str, str]:
    """Files with ``count`` missions, 50 a file, over several agents."""
    names = [f"worker{n}" for n in range(AGENTS)]
    program = executor("quick", ["/bin/sh", "-c", _PROGRAM, str(project.effects)])
    files = {"fleet.yaml": together(program, *(agent(name, "quick", places=PLACES) for name in names))}
    for first in range(0, count, 50):
        texts = [
            mission(f"m{n:04d}", names[n % AGENTS], project.effects, retry={"maxAttempts": 1})
            for n in range(first, min(first + 50, count))
        ]
        files[f"missions/{first:04d}.yaml"] = together(*texts)
    return files


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_engines_that_are_killed_at_random_lose_nothing_and_do_nothing_twice(
    pair: tuple[Project, Project],
) -> None:
    seed = int(os.environ.get("REMIT_TEST_SEED", "20261121"))
    chance = random.Random(seed)
    first, second = pair
    first.commit(fleet(first, MISSIONS))
    engines = {0: first.engine("--quiet", ready=False), 1: second.engine("--quiet", ready=False)}
    until(lambda: states(first).total() == MISSIONS, lambda: f"{MISSIONS} missions: {states(first)}", 300, LOOK_S)
    for number in range(KILLS):
        upto = MISSIONS * (number + 1) // (KILLS + 2)
        reached(first, upto)
        for victim in [0, 1] if number % 6 == 5 else [chance.randrange(2)]:
            engines[victim].kill()
            pause(chance.choice([0, 0, 0.5, 2]))
            engines[victim] = pair[victim].engine("--quiet", ready=False)
    until(lambda: ended(first) == MISSIONS, lambda: f"the end of all: {states(first)} (seed {seed})", 900, LOOK_S)
    first.settles()
    check(first, seed)
    for engine in engines.values():
        joined = f"engine {engine.pid} "
        until(lambda j=joined: any(e.message.startswith(j) for e in first.events("EngineStarted")), joined)
        assert engine.stop() == 0
    first.is_sound()
    for project in pair:
        project.nothing_is_left()


def test_a_leader_that_was_stopped_for_longer_than_its_lease_wakes_up_deposed_and_writes_nothing(
    pair: tuple[Project, Project],
) -> None:
    """Conformance scenario 24: a zombie. It is stopped until another one leads, and then goes on."""
    first, second = pair
    first.commit({"fleet.yaml": workers(places=2), **some(first, "a")})
    zombie = first.engine("--quiet", ready=False)
    first.comes_to("a0", "Done")
    other = second.engine("--quiet", ready=False)
    until(lambda: homes_of(first) == 2, "both engines at home")
    holder, token = lead(first)
    until(lambda: stopped_between_transactions(first, zombie), "a moment between two transactions")
    until(lambda: lead(first)[0] not in (holder, ""), "another leader")
    first.commit(some(first, "b"))
    until(lambda: any(m.name == "b0" for m in first.objects("Mission")), "the other one to read the source")
    zombie.send(signal.SIGCONT)
    until(lambda: "another engine leads now" in zombie.err, lambda: f"the zombie to notice: {zombie.err}")
    first.commit(some(first, "c"))
    names = {f"{batch}{n}" for batch in "abc" for n in range(4)}
    until(lambda: states(first) == {"Done": len(names)}, lambda: f"the end of all: {states(first)}")
    assert lead(first)[1] > token
    first.settles()
    assert zombie.stop() == 0
    assert other.stop() == 0
    runs = first.objects("Run")
    assert sorted(first.lines().values()) == sorted([r.uid] for r in runs)
    assert len(runs) == len(names)
    first.is_sound()


def some(project: Project, batch: str) -> dict[str, str]:
    """Files with four missions."""
    return {f"{batch}{n}.yaml": mission(f"{batch}{n}", "worker", project.effects) for n in range(4)}


def stopped_between_transactions(project: Project, zombie: Any) -> bool:
    """Stop it, unless it is in the middle of a batch of statements: the server waits for the rest of that for ever."""
    zombie.send(signal.SIGSTOP)
    pause(0.5)
    query = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'ClientRead'"
        " AND xact_start < now() - interval '0.4 s' AND pid <> pg_backend_pid()"
    )
    if int(postgres.execute(project.store_url, query)[0][0]):
        zombie.send(signal.SIGCONT)
        return False
    return True


def lead(project: Project) -> tuple[str, int]:
    """(holder, token) of the lead."""
    with project.look() as snapshot:
        lease = snapshot.lease(LEADER)
    return (lease.holder, lease.token) if lease is not None else ("", 0)


def homes_of(project: Project) -> int:
    """Engines that joined."""
    query = "SELECT count(*) FROM leases WHERE name LIKE 'engine/%' AND name <> 'engine/leader' AND holder <> ''"
    return int(postgres.execute(project.store_url, query)[0][0])


def states(project: Project) -> Counter[str]:
    """How many missions are in which state, counted by the server: reading thousands of them takes a core."""
    query = "SELECT state, count(*) FROM objects WHERE kind = 'Mission' GROUP BY state"
    try:
        return Counter(dict(postgres.execute(project.store_url, query)))
    except psycopg.errors.UndefinedTable:  # no engine was there yet
        return Counter()


def ended(project: Project) -> int:
    found = states(project)
    return found["Done"] + found["Failed"]


def reached(project: Project, count: int) -> None:
    """Wait until so many missions ended."""
    until(lambda: ended(project) >= count, lambda: f"{count} ended missions: {states(project)}", 600, LOOK_S)


def check(project: Project, seed: int) -> None:
    missions, runs = project.objects("Mission"), project.objects("Run")
    assert Counter(m.state for m in missions) == {"Done": MISSIONS}, f"seed {seed}"
    assert Counter(str(r.spec["missionRef"]["name"]) for r in runs) == Counter(m.name for m in missions)
    assert {r.state for r in runs} == {RunState.SUCCEEDED.value}
    assert project.lines() == {r.uid: [r.uid] for r in runs}, f"a program ran twice (seed {seed})"
    homes = Counter(str(r.status["engine"]) for r in runs)
    assert len(homes) == 2, f"both engines work: {homes}"
    for type_ in ("RunStarted", "RunFinished"):
        assert Counter(e.subject_uid for e in project.events(type_)) == {r.uid: 1 for r in runs}, type_
