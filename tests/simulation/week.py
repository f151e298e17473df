"""A fleet at work for days, in virtual time, with faults: ``python -m tests.simulation.week --days 7 --agents 20``.

Workers die, providers refuse everything for a while, the clock jumps, the engine is killed between any two of its
transactions and stays away. Whatever happens: every mission ends or says what it waits for, none starves, no cap is
exceeded, nothing starts on a provider that asked to be left alone, people are asked, reminded and told of their day
once, and the same seed gives the same history.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

from controllers.simulation.assumptions import Assumptions
from controllers.simulation.engine import VirtualClock, VirtualEngine, scratch_store
from controllers.simulation.faults import LONGEST_BACK, LONGEST_DOWN, MANY, Faults
from decisions.dispatch import longest_wait
from schemas import condition_check
from schemas.base import Key
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES
from schemas.quantities import from_micros, parse_duration, parse_time
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES
from store.contract import Change, Event, Snapshot
from tests.fakes.scratch import scratch
from tests.simulation import fleet

BEGINS = datetime(2026, 11, 23, tzinfo=UTC)
ASSUMED = Assumptions(timedelta(minutes=8), Decimal("0.02"), 0.6, 0.05, timedelta(hours=6))
SLACK = timedelta(minutes=15) + LONGEST_DOWN + LONGEST_BACK
"""A moment may pass by so much before anybody looks: the clock jumps over it, or the engine is away."""
_ENDED = frozenset(state.value for state in TERMINAL_STATES)
_ONCE = ("ApprovalRequired", "ApprovalReminder", "DailySummary")
_CLOCK_PROBLEMS = ("changed before the object was made", "ends before it began")
"""What a clock that was set back makes of honest times."""


@dataclass
class Week:
    """What came of it. ``history`` is the digest of the last event, which covers all before it."""

    missions: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    came: Counter[str] = field(default_factory=Counter)
    longest: timedelta = timedelta()
    reminders: int = 0
    summaries: int = 0
    history: str = ""
    problems: list[str] = field(default_factory=list)


class Watch:
    """Follows every change, and notes what may never be."""

    def __init__(self, week: Week) -> None:
        self._week = week
        self._open: dict[str, tuple[str, str]] = {}
        self._waiting: dict[str, dict[str, tuple[datetime, int]]] = defaultdict(dict)
        self.providers: dict[str, str] = {}
        self.priorities: dict[str, int] = {}
        self.requests: dict[str, Resource] = {}

    def __call__(self, now: datetime, changes: list[Change], found: dict[Key, Resource]) -> None:
        """See ``VirtualEngine``."""
        for resource in found.values():
            if resource.kind == "Run":
                self._run(now, resource)
            elif resource.kind == "ApprovalRequest":
                self.requests[resource.uid] = resource
        self._caps(now)
        started = [r for r in found.values() if r.kind == "Run" and r.state == "Pending"]
        missions = [r for r in found.values() if r.kind == "Mission"]
        for mission in missions:
            self.priorities[mission.name] = int(mission.spec.get("priority", 50))
        began = {run.name: self._waiting[_agent(run)].pop(run.spec["missionRef"]["name"], None) for run in started}
        for mission in missions:
            if mission.status.get("currentRun") or mission.state in _ENDED:
                self._waiting[_agent(mission)].pop(mission.name, None)
        for run in started:
            known = began[run.name]
            if known is not None:
                self._passed_by(now, run, known[0])
        for mission in missions:
            self._note(mission)

    def _run(self, now: datetime, run: Resource) -> None:
        provider = str((run.spec.get("providerRef") or {}).get("name", ""))
        self.providers[run.uid] = provider
        if run.state in ACTIVE_STATES:
            self._open[run.uid] = (str(run.spec["agentRef"]["name"]), provider)
        else:
            self._open.pop(run.uid, None)

    def _caps(self, now: datetime) -> None:
        agents, providers = (Counter(pair[n] for pair in self._open.values()) for n in (0, 1))
        wrong = [f"{n} runs on {name}" for name, n in agents.items() if n > fleet.PLACES]
        wrong += [f"{n} runs at {name}" for name, n in providers.items() if n > fleet.SLOTS]
        if len(agents) > fleet.ACTIVE:
            wrong.append(f"{len(agents)} agents at work")
        self._week.problems += [f"{now}: {text}" for text in wrong]

    def _note(self, mission: Resource) -> None:
        since, blockers = mission.status.get("readySince"), mission.status.get("blockedOn") or ()
        only_its_turn = all(blocker["type"] == "Capacity" for blocker in blockers)
        waits = self._waiting[_agent(mission)]
        if since and only_its_turn and not mission.status.get("currentRun") and mission.state not in _ENDED:
            waits[mission.name] = (parse_time(since), self.priorities[mission.name])
        else:
            waits.pop(mission.name, None)

    def _passed_by(self, now: datetime, run: Resource, came: datetime) -> None:
        """Of what waits for the same agent, nothing that waited as long as the ageing rule lets it came earlier."""
        for name, (since, priority) in self._waiting[_agent(run)].items():
            if now - since > longest_wait(priority) + SLACK and since < came:
                self._week.problems.append(f"{now}: {run.name} went before {name}, which waits since {since}")


def _agent(resource: Resource) -> str:
    return str((resource.spec.get("agentRef") or {}).get("name", ""))


def play(seed: int, folder: Path, *, length: timedelta, agents: int, a_day: int, faults: Faults = MANY,
         assumed: Assumptions = ASSUMED) -> Week:  # fmt: skip
    """One history, and what was found wrong with it."""
    (folder / "specs").mkdir()
    (folder / "specs" / "fleet.yaml").write_text(fleet.specs(agents, a_day))
    clock, week = VirtualClock(BEGINS), Week()
    with scratch_store(folder, clock) as store:
        watch = Watch(week)
        engine = VirtualEngine(store, clock, seed=seed, assumed=assumed, faults=faults, watch=watch)
        engine.load(folder / "specs", folder / "mirrors")
        engine.start()
        engine.run_until(BEGINS + length)
        week.came = engine.weather.came
        with store.snapshot() as snapshot:
            _judge(snapshot, week, watch, clock.at, set_back=engine.weather.set_back)
    return week


def _judge(snapshot: Snapshot, week: Week, watch: Watch, ends: datetime, *, set_back: bool) -> None:
    for mission in snapshot.objects("Mission"):
        week.missions[mission.state] += 1
        silent = not mission.status.get("blockedOn") and not mission.status.get("currentRun")
        if mission.state not in _ENDED and silent:
            week.problems.append(f"{mission.key.short} is {mission.state} and says not why")
    for resource in (r for kind in ("Mission", "Run", "Agent", "Schedule") for r in snapshot.objects(kind)):
        found = condition_check.problems(resource)
        if set_back:
            found = [text for text in found if not any(known in text for known in _CLOCK_PROBLEMS)]
        week.problems += [f"{resource.key.short}: {text}" for text in found]
    events = snapshot.events(limit=10_000_000)
    week.events.update(event.type for event in events)
    week.history = events[-1].hash
    _turns(events, week, watch)
    _told(events, week, watch, ends)
    _money(snapshot, events, week, ends)
    fires = Counter(e.data.get("mission") for e in events if e.type == EventType.SCHEDULE_FIRED)
    week.problems += [f"{name} was made {n} times" for name, n in fires.items() if name and n > 1]
    if snapshot.verify_events().broken_seq:
        week.problems.append("the chain of events is broken")


def _turns(events: Sequence[Event], week: Week, watch: Watch) -> None:
    """Nobody waited longer than the ageing rule lets them, and nothing began while its provider was left alone."""
    paused: dict[str, datetime] = {}
    for event in events:
        if event.type == EventType.PROVIDER_PAUSED:
            paused[event.subject.name] = parse_time(str(event.data["until"]))
        elif event.type == EventType.DISPATCHED:
            waited = parse_duration(str(event.data["waited"]))
            week.longest = max(week.longest, waited)
            if waited > longest_wait(watch.priorities[str(event.data["mission"])]) + SLACK:
                week.problems.append(f"{event.subject.short} waited {waited}")
            provider = watch.providers[event.subject_uid]
            if event.at < paused.get(provider, event.at) - timedelta(milliseconds=1):  # statuses hold no less
                week.problems.append(f"{event.subject.short} began while {provider} was left alone")


def _told(events: Sequence[Event], week: Week, watch: Watch, ends: datetime) -> None:
    """People are asked, reminded, and told of their day: once each."""
    told = Counter(
        (event.reason, event.data.get("related", [""])[0] if event.data.get("related") else event.subject.name)
        for event in events
        if event.subject.kind == "Notification" and event.type in (EventType.NOTIFIED, EventType.CREATED)
    )
    week.problems += [f"{what} of {about} was told {n} times" for (what, about), n in told.items()
                      if n > 1 and what in _ONCE]  # fmt: skip
    reminded = Counter(
        e.subject_uid for e in events if e.type == EventType.APPROVAL_REQUESTED and e.reason == "Reminder"
    )
    week.reminders = sum(reminded.values())
    for uid, request in watch.requests.items():
        remind = parse_time(request.spec["remindAt"])
        decided = request.status.get("decidedAt")
        until = parse_time(decided) if decided else ends
        open_then = request.state in ("Pending", "Approved")
        wanted = 1 if open_then and until > remind + SLACK else 0 if until < remind - SLACK else None
        if reminded[uid] > 1 or (wanted is not None and reminded[uid] != wanted):
            week.problems.append(f"{request.key.short} was reminded of {reminded[uid]} times, not {wanted}")
        elif told["ApprovalReminder", uid] != reminded[uid]:
            week.problems.append(f"people heard {told['ApprovalReminder', uid]} times of {request.key.short}")
    summaries = {about for what, about in told if what == "DailySummary"}
    week.summaries = len(summaries)
    days = {f"daily-{day:%Y-%m-%d}" for day in _mornings(BEGINS + SLACK, ends - SLACK)}
    week.problems += [f"no {name}" for name in sorted(days - summaries)]


def _mornings(first: datetime, last: datetime) -> list[date]:
    """Days whose 09:00 in the tenant's zone lies between the two."""
    found, day = [], first.date()
    while day <= last.date():
        nine = datetime(day.year, day.month, day.day, 9, tzinfo=ZoneInfo(fleet.ZONE))
        if first <= nine <= last:
            found.append(day)
        day += timedelta(days=1)
    return found


def _money(snapshot: Snapshot, events: Sequence[Event], week: Week, ends: datetime) -> None:
    """What was booked is what the runs came to, and no budget is exceeded."""
    settled = sum(int(e.data.get("settledUsdMicros") or 0) for e in events if e.type == EventType.RUN_FINISHED)
    booked, day = 0, BEGINS.date()
    while day <= ends.date():
        booked += snapshot.balance(f"tenant/default/day/{day:%Y-%m-%d}").spent.usd_micros
        day += timedelta(days=1)
    if booked != settled:
        week.problems.append(f"booked {from_micros(booked)} USD, settled {from_micros(settled)}")


def main() -> int:
    """Play, and say what was found."""
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
    faults = ", ".join(f"{n} {name}" for name, n in sorted(week.came.items()))
    print(f"seed {wanted.seed}: {told}; {faults}; {week.events['ProviderPaused']} pauses of providers; "
          f"{week.reminders} reminders, {week.summaries} summaries; history {week.history[:16]}")  # fmt: skip
    for text in week.problems[:50]:
        print(text)
    return 1 if week.problems else 0


if __name__ == "__main__":
    sys.exit(main())
