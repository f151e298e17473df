"""A fleet at work for days, in virtual time, with faults: ``python -m tests.simulation.week --days 7 --agents 20``.

Workers die, storms make every run fail, the clock is set forward, the engine is killed at any moment. Whatever happens:
every mission ends or says what it waits for, none starves, no agent has more runs than places, every question is asked
and reminded of once, and the same seed gives the same history.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random

from controllers.effects.runs import end_run
from controllers.runs import records
from controllers.simulation.assumptions import Assumptions, Drawn
from controllers.simulation.engine import VirtualClock, VirtualEngine, scratch_store
from schemas import condition_check
from schemas.base import Key
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES
from schemas.resource import SYSTEM, Resource
from schemas.run import ACTIVE_STATES, RunReason, RunState
from store.contract import Change, Snapshot
from tests.simulation.soak import scratch

BEGINS = datetime(2026, 11, 23, tzinfo=UTC)
STARVED = timedelta(hours=17)
"""A mission gains a point of priority every 10 minutes: after 100 of them it goes before everything that is new."""
PLACES = 2
EXECUTOR = """\
apiVersion: remit.dev/v1alpha1
kind: Executor
metadata: {name: local}
spec: {type: Command, command: {argv: [sh, -c, "true"], outputFormat: Text}, timeout: 1h}
"""
AGENT = """\
---
apiVersion: remit.dev/v1alpha1
kind: Agent
metadata: {name: NAME}
spec: {executorRef: {name: local}, autonomyLevel: Lead, maxConcurrentMissions: PLACES}
---
apiVersion: remit.dev/v1alpha1
kind: Schedule
metadata: {name: NAME}
spec:
  schedule: "MINUTES * * * *"
  concurrencyPolicy: Allow
  catchUp: Last
  missionTemplate:
    spec:
      title: "the work of NAME"
      agentRef: {name: NAME}
      priority: PRIORITY
      review: REVIEW
      retry: {maxAttempts: 3, idempotent: true, backoff: {initial: 30s}}
"""


@dataclass(frozen=True)
class Faults:
    """How often what happens: shares of runs, and mean times between."""

    deaths: float = 0.02
    kill_every: timedelta = timedelta(hours=3)
    storm_every: timedelta = timedelta(hours=12)
    storm_lasts: timedelta = timedelta(minutes=20)
    jump_every: timedelta = timedelta(hours=24)


class Fleet(VirtualEngine):
    """An engine whose workers may die, and whose runs fail in a storm."""

    chance = Random(0)
    faults = Faults()
    storm_until = BEGINS

    def _end(self, uid: str, drawn: Drawn, *, late: bool) -> None:
        if self.chance.random() < self.faults.deaths:
            with self.store.transaction(SYSTEM) as tx:
                lost = records.Ending(state=RunState.LOST, reason=RunReason.WORKER_LOST, message="its worker died")
                end_run(tx, uid, lost)
            return
        if self.clock.at < self.storm_until:
            drawn = Drawn(drawn.duration, Decimal(0), fails=True)
        super()._end(uid, drawn, late=late)


@dataclass
class Week:
    """What came of it. ``history`` is the digest of the last event, which covers all before it."""

    missions: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    longest: timedelta = timedelta()
    history: str = ""
    problems: list[str] = field(default_factory=list)


def specs(agents: int, a_day: int) -> str:
    """A fleet whose schedules make about so many missions a day."""
    hourly = max(1, round(a_day / agents / 24))
    made = EXECUTOR
    for number in range(agents):
        minutes = ",".join(str((number * 7 + k * 60 // hourly) % 60) for k in range(hourly))
        text = AGENT.replace("NAME", f"a{number:02}").replace("MINUTES", minutes).replace("PLACES", str(PLACES))
        made += text.replace("PRIORITY", str(number * 5 % 101)).replace(
            "REVIEW", "Human" if number % 7 == 0 else "None"
        )
    return made


def play(seed: int, folder: Path, *, length: timedelta, agents: int, a_day: int, faults: Faults = Faults()) -> Week:
    """One history, and what was found wrong with it."""
    (folder / "specs").mkdir()
    (folder / "specs" / "fleet.yaml").write_text(specs(agents, a_day))
    clock, week, chance = VirtualClock(BEGINS), Week(), Random(seed)
    assumed = Assumptions(timedelta(minutes=8), Decimal("0.02"), 0.6, 0.05, timedelta(hours=60))
    with scratch_store(folder, clock) as store:
        open_runs: dict[str, set[str]] = {}

        def watch(now: datetime, changes: list[Change], found: dict[Key, Resource]) -> None:
            """No agent ever has more runs than places."""
            for run in found.values():
                if run.kind == "Run":
                    mine = open_runs.setdefault(run.spec["agentRef"]["name"], set())
                    (mine.add if run.state in ACTIVE_STATES else mine.discard)(run.uid)
                    if len(mine) > PLACES:
                        week.problems.append(f"{now}: {len(mine)} runs on {run.spec['agentRef']['name']}")

        engine = Fleet(store, clock, seed=seed, assumed=assumed, watch=watch)
        engine.chance, engine.faults = chance, faults
        engine.load(folder / "specs", folder / "mirrors")
        engine.start()
        ends = BEGINS + length
        while clock.at < ends:
            engine.run_until(min(ends, clock.at + chance.uniform(0.2, 1.8) * faults.kill_every))
            engine.start()  # a new life: nothing of the old one's memory is left
            if chance.random() < faults.kill_every / faults.storm_every:
                engine.storm_until = clock.at + faults.storm_lasts
            if chance.random() < faults.kill_every / faults.jump_every:
                clock.at += timedelta(seconds=chance.uniform(1, 900))
        with store.snapshot() as snapshot:
            _judge(snapshot, week)
    return week


def _judge(snapshot: Snapshot, week: Week) -> None:
    ended = {state.value for state in TERMINAL_STATES}
    for mission in snapshot.objects("Mission"):
        week.missions[mission.state] += 1
        silent = not mission.status.get("blockedOn") and not mission.status.get("currentRun")
        if mission.state not in ended and silent:
            week.problems.append(f"{mission.key.short} is {mission.state} and says not why")
    for resource in (r for kind in ("Mission", "Run", "Agent", "Schedule") for r in snapshot.objects(kind)):
        week.problems += [f"{resource.key.short}: {text}" for text in condition_check.problems(resource)]
    events = snapshot.events(limit=1_000_000)
    week.events.update(event.type for event in events)
    week.history = events[-1].hash
    for event in events:
        if event.type == EventType.DISPATCHED:
            waited = _waited(str(event.data["waited"]))
            week.longest = max(week.longest, waited)
            if waited > STARVED:
                week.problems.append(f"{event.subject.short} waited {waited}")
    reminders = Counter(e.subject for e in events if e.type == EventType.APPROVAL_REQUESTED and e.reason == "Reminder")
    week.problems += [f"{key.short} was reminded of {n} times" for key, n in reminders.items() if n > 1]
    fires = Counter(e.data.get("mission") for e in events if e.type == EventType.SCHEDULE_FIRED)
    week.problems += [f"{name} was made {n} times" for name, n in fires.items() if name and n > 1]
    if snapshot.verify_events().broken_seq:
        week.problems.append("the chain of events is broken")


def _waited(text: str) -> timedelta:
    from schemas.quantities import parse_duration

    return parse_duration(text)


def main() -> int:
    parser = argparse.ArgumentParser(description="Let a fleet work for days, with faults.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--days", type=float, default=7)
    parser.add_argument("--agents", type=int, default=20)
    parser.add_argument("--missions", type=int, default=1000, help="about so many a day")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=scratch()) as folder:
        length = timedelta(days=wanted.days)
        week = play(wanted.seed, Path(folder), length=length, agents=wanted.agents, a_day=wanted.missions)
    made = week.events["ScheduleFired"]
    told = f"{made} missions made, left {dict(week.missions)}, longest wait {week.longest}"
    print(f"seed {wanted.seed}: {told}, history {week.history[:16]}")
    for text in week.problems[:50]:
        print(text)
    return 1 if week.problems else 0


if __name__ == "__main__":
    sys.exit(main())
