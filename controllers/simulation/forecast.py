"""What a simulation comes to: how much work there would be, how long it would wait and for what, what it would cost,
which limits would be hit, what people would be asked."""

from __future__ import annotations

import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from controllers.simulation.assumptions import COST, DURATION, FAILURES, Assumptions
from controllers.simulation.engine import VirtualClock, VirtualEngine, scratch_store
from controllers.simulation.faults import Faults
from schemas.base import Key
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES
from schemas.quantities import format_duration, format_money, format_time, from_micros
from schemas.resource import Resource
from store.contract import Change, Snapshot

_MEMORY = Path("/dev/shm")  # noqa: S108  a folder of our own is made in it
_LIMITS = (EventType.BUDGET_EXCEEDED, EventType.BUDGET_WARNING)
_MOST = 100_000
_ENDED = {state.value for state in TERMINAL_STATES}


@dataclass(slots=True)
class _Mission:
    """What was seen of one mission. ``waited`` is by what it waited for, up to its first run."""

    key: Key
    owner_uid: str
    manager: str
    made_at: datetime
    seen_at: datetime
    agent: str = ""
    state: str = ""
    blocker: str = ""
    started_at: datetime | None = None
    ended_at: datetime | None = None
    waited: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))


@dataclass(slots=True)
class Group:
    """Missions of one agent, maker or day. ``waits_s`` are the waits up to the first run of those that had one;
    ``waited_for`` adds up all waiting, in seconds, by what it was for."""

    missions: int = 0
    done: int = 0
    failed: int = 0
    open: int = 0
    runs: int = 0
    cost_usd: Decimal = Decimal(0)
    asked: int = 0
    waits_s: list[float] = field(default_factory=list)
    waited_for: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def to_wire(self) -> dict[str, Any]:
        """As JSON."""
        waits = sorted(self.waits_s)
        longest = sorted(self.waited_for.items(), key=lambda item: (-item[1], item[0]))
        return {
            "missions": self.missions,
            "done": self.done,
            "failed": self.failed,
            "open": self.open,
            "runs": self.runs,
            "costUsd": format_money(self.cost_usd),
            "asked": self.asked,
            "waitP50": _shown(statistics.median(waits)) if waits else None,
            "waitMax": _shown(waits[-1]) if waits else None,
            "waitedFor": {name: _shown(seconds) for name, seconds in longest[:5] if seconds >= 1},
        }


@dataclass(slots=True)
class LimitHit:
    """A limit that came near or left no room: when first, how often, and what was said."""

    at: datetime
    subject: str
    kind: str
    message: str
    times: int = 1


class Watcher:
    """Takes in changes as they happen."""

    def __init__(self) -> None:
        self.missions: dict[str, _Mission] = {}
        self.requests: dict[str, Resource] = {}
        self.most_spent: defaultdict[Key, Decimal] = defaultdict(Decimal)
        """By budget: the most USD that were spent in any of its windows."""

    def __call__(self, now: datetime, changes: list[Change], found: dict[Key, Resource]) -> None:
        """See ``VirtualEngine``."""
        for resource in found.values():
            if resource.kind == "Mission":
                self._mission(now, resource)
            elif resource.kind == "ApprovalRequest":
                self.requests[resource.uid] = resource
            elif resource.kind == "Budget":
                spent = Decimal(str((resource.status.get("spent") or {}).get("usd") or 0))
                self.most_spent[resource.key] = max(self.most_spent[resource.key], spent)

    def _mission(self, now: datetime, mission: Resource) -> None:
        seen = self.missions.get(mission.uid)
        if seen is None:
            seen = _Mission(
                mission.key, mission.owner_uid, mission.manager, mission.created_at, mission.created_at
            )  # fmt: skip
            self.missions[mission.uid] = seen
        if seen.started_at is None and seen.ended_at is None and seen.blocker:
            seen.waited[seen.blocker] += (now - seen.seen_at).total_seconds()
        seen.seen_at, seen.state = now, mission.state
        blockers = mission.status.get("blockedOn") or ()
        seen.blocker = str(blockers[0]["type"]) if blockers else ""
        assigned = mission.status.get("agent")
        if assigned:
            seen.agent = f"{assigned.get('namespace') or mission.namespace}/{assigned['name']}"
        if seen.started_at is None and mission.status.get("currentRun"):
            seen.started_at = now
        if mission.state in _ENDED:
            seen.ended_at = seen.ended_at or now
        else:
            seen.ended_at = None


def _maker(snapshot: Snapshot, seen: _Mission) -> str:
    """What made it."""
    owner = snapshot.get_by_uid(seen.owner_uid) if seen.owner_uid else None
    if owner is not None:
        return owner.key.short
    return seen.manager.removeprefix("controller/") if seen.manager.startswith("controller/") else "declared"


@dataclass(frozen=True, slots=True)
class Forecast:
    """Everything that a simulation found; ``to_wire`` is the same for the same specs, seed and assumptions."""

    seed: int
    begins: datetime
    ends: datetime
    assumed: Assumptions
    total: Group
    agents: dict[str, Group]
    makers: dict[str, Group]
    days: dict[str, Group]
    budgets: list[dict[str, Any]]
    limits: list[LimitHit]
    approvals: dict[str, int]
    told: dict[str, int]
    faults: Faults
    went_wrong: dict[str, int]
    open_missions: list[dict[str, Any]]
    problems: list[str]

    def to_wire(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "seed": self.seed,
            "from": format_time(self.begins),
            "to": format_time(self.ends),
            "assumptions": {**assumptions_to_wire(self.assumed), "faults": faults_to_wire(self.faults)},
            "total": self.total.to_wire(),
            "agents": {name: group.to_wire() for name, group in sorted(self.agents.items())},
            "makers": {name: group.to_wire() for name, group in sorted(self.makers.items())},
            "days": {name: group.to_wire() for name, group in sorted(self.days.items())},
            "budgets": self.budgets,
            "limits": [{**asdict(hit), "at": format_time(hit.at)} for hit in self.limits],
            "approvals": dict(sorted(self.approvals.items())),
            "told": dict(sorted(self.told.items())),
            "wentWrong": dict(sorted(self.went_wrong.items())),
            "open": self.open_missions,
            "problems": self.problems,
        }


def assumptions_to_wire(assumed: Assumptions) -> dict[str, Any]:
    """What was assumed, with the flag or annotation that changes it."""
    answers = "never" if assumed.answer_after is None else format_duration(assumed.answer_after)
    return {
        "duration": {"median": format_duration(assumed.duration), "flag": "--duration", "annotation": DURATION},
        "costUsd": {"median": format_money(assumed.cost_usd), "flag": "--cost", "annotation": COST},
        "spread": {"value": assumed.spread, "flag": "--spread"},
        "failures": {"share": assumed.failures, "flag": "--failures", "annotation": FAILURES},
        "answers": {"after": answers, "verdict": "Approve", "flag": "--answer-after"},
    }


def faults_to_wire(faults: Faults) -> dict[str, Any]:
    """What was let go wrong: the share of runs whose worker dies, and mean times between the others; None for never."""

    def every(time: timedelta | None) -> str | None:
        return None if time is None else format_duration(time)

    return {
        "deaths": faults.deaths,
        "storms": every(faults.storms),
        "jumps": every(faults.jumps),
        "kills": every(faults.kills),
        "flag": "--faults",
    }


def forecast(
    folder: Path, *, begins: datetime, length: timedelta, seed: int, assumed: Assumptions, faults: Faults = Faults()
) -> Forecast:
    """Simulate the specs of a folder. Blocks: about a minute for every 10,000 missions. Raises Refused."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as scratch:
        clock, watcher = VirtualClock(begins), Watcher()
        with scratch_store(Path(scratch), clock) as store:
            engine = VirtualEngine(store, clock, seed=seed, assumed=assumed, faults=faults, watch=watcher)
            engine.load(folder, Path(scratch) / "mirrors")
            engine.start()
            engine.run_until(begins + length)
            with store.snapshot() as snapshot:
                return _gather(snapshot, watcher, engine, seed, begins, begins + length, assumed)


def _gather(
    snapshot: Snapshot, watcher: Watcher, engine: VirtualEngine, seed: int, begins: datetime, ends: datetime,
    assumed: Assumptions,
) -> Forecast:  # fmt: skip
    total = Group()
    agents: defaultdict[str, Group] = defaultdict(Group)
    makers: defaultdict[str, Group] = defaultdict(Group)
    days: defaultdict[str, Group] = defaultdict(Group)
    for seen in watcher.missions.values():
        if seen.started_at is None and seen.ended_at is None and seen.blocker:
            seen.waited[seen.blocker] += (ends - seen.seen_at).total_seconds()
        groups = [
            total,
            agents[seen.agent or "(nobody)"],
            makers[_maker(snapshot, seen)],
            days[f"{seen.made_at:%Y-%m-%d}"],
        ]
        for group in groups:
            _count(group, seen)
    _runs(snapshot, watcher, total, agents, makers, days)
    approvals = _approvals(watcher, total, agents, days)
    return Forecast(
        seed=seed,
        begins=begins,
        ends=ends,
        assumed=assumed,
        total=total,
        agents=dict(agents),
        makers=dict(makers),
        days=dict(days),
        budgets=_budgets(snapshot, watcher),
        limits=_limits(snapshot),
        approvals=approvals,
        told=_told(snapshot),
        faults=engine.weather.faults,
        went_wrong=dict(engine.weather.came),
        open_missions=_open(watcher, ends),
        problems=_problems(snapshot, engine),
    )


def _count(group: Group, seen: _Mission) -> None:
    group.missions += 1
    group.done += seen.state == "Done"
    group.failed += seen.state == "Failed"
    group.open += seen.state not in _ENDED
    for what, seconds in seen.waited.items():
        group.waited_for[what] += seconds
    if seen.started_at is not None:
        group.waits_s.append((seen.started_at - seen.made_at).total_seconds())


def _runs(
    snapshot: Snapshot, watcher: Watcher, total: Group, agents: dict[str, Group], makers: dict[str, Group],
    days: dict[str, Group],
) -> None:  # fmt: skip
    for event in _events(snapshot, EventType.RUN_FINISHED):
        micros = event.data.get("settledUsdMicros")
        cost = from_micros(int(micros)) if micros is not None else Decimal(0)
        seen = next((watcher.missions[uid] for uid in event.data.get("related", ()) if uid in watcher.missions), None)
        groups = [total, days[f"{event.at:%Y-%m-%d}"]]
        if seen is not None:
            groups += [agents[seen.agent or "(nobody)"], makers[_maker(snapshot, seen)]]
        for group in groups:
            group.runs += 1
            group.cost_usd += cost


def _approvals(watcher: Watcher, total: Group, agents: dict[str, Group], days: dict[str, Group]) -> dict[str, int]:
    asked: Counter[str] = Counter()
    for request in watcher.requests.values():
        asked[str(request.spec["type"])] += 1
        total.asked += 1
        days[f"{request.created_at:%Y-%m-%d}"].asked += 1
        kind, _, who = str(request.spec.get("requester", "")).partition(":")
        if kind == "agent":
            agents[who].asked += 1
    return dict(asked)


def _told(snapshot: Snapshot) -> dict[str, int]:
    """Notifications by what they are about."""
    made = _events(snapshot, EventType.NOTIFIED, EventType.CREATED)
    return dict(Counter(event.reason for event in made if event.subject.kind == "Notification"))


def _budgets(snapshot: Snapshot, watcher: Watcher) -> list[dict[str, Any]]:
    return [
        {
            "budget": budget.key.short,
            "window": budget.spec.get("window"),
            "limits": budget.spec.get("limits", {}),
            "mostSpentUsd": format_money(watcher.most_spent[budget.key]),
            "spent": budget.status.get("spent") or {},
            "atTheEnd": next(
                (c.get("message", "") for c in budget.status.get("conditions", ()) if c["status"] == "False"), ""
            ),
        }
        for budget in snapshot.objects("Budget")
    ]


def _limits(snapshot: Snapshot) -> list[LimitHit]:
    found: dict[tuple[str, str, str], LimitHit] = {}
    for event in _events(snapshot, *_LIMITS):
        kind = "no room" if event.type == EventType.BUDGET_EXCEEDED else "near"
        origin = str(event.data.get("budget") or event.data.get("origin") or event.subject.short)
        known = found.get((origin, kind, event.reason))
        if known is None:
            found[origin, kind, event.reason] = LimitHit(event.at, origin, kind, event.message)
        else:
            known.times += 1
    return sorted(found.values(), key=lambda hit: (hit.at, hit.subject, hit.kind))


def _open(watcher: Watcher, ends: datetime) -> list[dict[str, Any]]:
    waiting = [m for m in watcher.missions.values() if m.state not in _ENDED and m.blocker]
    oldest = sorted(waiting, key=lambda m: (m.made_at, m.key))[:20]
    return [
        {
            "mission": m.key.short,
            "state": m.state,
            "waitsFor": m.blocker,
            "since": format_time(m.made_at),
            "age": _shown((ends - m.made_at).total_seconds()),
        }
        for m in oldest
    ]


def _problems(snapshot: Snapshot, engine: VirtualEngine) -> list[str]:
    """What keeps this from being the whole truth."""
    found = [f"{source.key.short} is not followed: it comes from elsewhere" for source in snapshot.objects("Source")
             if source.name != "default" or source.namespace != "default"]  # fmt: skip
    for kind in ("Agent", "Executor", "Schedule", "Goal"):
        for resource in snapshot.objects(kind):
            ready = next((c for c in resource.status.get("conditions", ()) if c["type"] == "Ready"), None)
            if ready is not None and ready["status"] == "False":
                found.append(f"{resource.key.short} is not ready at the end: {ready.get('message') or ready['reason']}")
    if engine.unanswered:
        found.append(f"{len(engine.unanswered)} question(s) that only a merge answers stay open")
    return found


def _events(snapshot: Snapshot, *types: EventType) -> Iterable[Any]:
    after = 0
    while True:
        batch = snapshot.events(after=after, types=[t.value for t in types], limit=_MOST)
        yield from batch
        if len(batch) < _MOST:
            return
        after = batch[-1].seq


def _shown(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds)))
