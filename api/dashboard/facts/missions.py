"""Missions: as a board of all states, as a table, and as what ran lately."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta

from api.dashboard import links, marks, timelines
from api.dashboard.facts import waiting
from api.dashboard.facts.shapes import Cell, Chart, Choice, Column, Empty, Row, Tab, Table, cells
from api.dashboard.facts.spending import cost
from api.dashboard.facts.view import PAGE, SCAN, View
from api.dashboard.marks import Mark, Tone
from api.dashboard.text import duration, moment, money, sentence
from schemas.mission import MissionState
from schemas.resource import Resource
from schemas.run import RunState

CARDS = 50
"""Cards of a column; the others are counted."""
CLOSED = (MissionState.DONE, MissionState.FAILED, MissionState.CANCELED)
COLUMNS = (
    (MissionState.INBOX,), (MissionState.ASSIGNED,), (MissionState.IN_PROGRESS,), (MissionState.NEEDS_APPROVAL,),
    (MissionState.BLOCKED,), (MissionState.REVIEW,), CLOSED,
)  # fmt: skip
VIEWS = ("board", "table", "timeline")
SWIMLANES = ("agent", "goal")
_GROUPS = 20
"""Swimlanes that are shown; the rest share one."""
_STATES = tuple(s.value for s in MissionState)
_LANES = 60


@dataclass(frozen=True, slots=True)
class Card:
    """One mission on the board."""

    id: str
    name: str
    href: str
    title: str
    priority: int
    agent: str
    agent_href: str
    cost: str
    why: str
    mark: Mark
    drift: bool
    closed: bool
    goal: str = ""


@dataclass(frozen=True, slots=True)
class Lane:
    """One column of the board. ``more`` are not shown."""

    id: str
    title: str
    mark: Mark
    count: int
    cards: tuple[Card, ...]
    more: int
    href: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Group:
    """One swimlane: the columns of the board for one agent or goal."""

    id: str
    title: str
    count: int
    lanes: tuple[Lane, ...]


@dataclass(frozen=True, slots=True)
class Missions:
    """The page: ``lanes`` for the board, or ``groups`` of them; else ``table``, else ``chart``."""

    view: str
    tabs: tuple[Tab, ...]
    choices: tuple[Choice, ...]
    total: int
    lanes: tuple[Lane, ...] = ()
    table: Table | None = None
    chart: Chart | None = None
    note: str = ""
    groups: tuple[Group, ...] = ()


def missions(view: View) -> Missions:
    """Read the page that was asked for."""
    which = view.wanted("view", VIEWS) or "board"
    total = view.snapshot.count("Mission", namespace=view.namespace)
    kept = {k: v for k, v in view.query.items() if k in ("ns", "agent", "goal", "state", "lanes")}
    tabs = tuple(Tab(sentence(v), links.query("/missions", {**kept, "view": v}), v == which) for v in VIEWS)
    choices = _choices(view, which)
    filtered = bool(view.name("agent") or view.name("goal"))
    note = f"Filters look through the first {SCAN} missions of a state." if filtered and total > SCAN else ""
    if which == "table":
        return Missions(which, tabs, choices, total, table=_table(view), note=note)
    if which == "timeline":
        return Missions(which, tabs, choices, total, chart=_timeline(view))
    lanes = tuple(_lane(view, c) for c in COLUMNS)
    by = view.wanted("lanes", SWIMLANES)
    if not by:
        return Missions(which, tabs, choices, total, lanes=lanes, note=note)
    if any(lane.more for lane in lanes):
        note = f"{note} Of each state the first {CARDS} are shown.".strip()
    return Missions(which, tabs, choices, total, note=note, groups=_groups(lanes, by))


def _groups(lanes: tuple[Lane, ...], by: str) -> tuple[Group, ...]:
    """The same cards, apart by agent or goal: those with most work first."""
    counts: Counter[str] = Counter(getattr(c, by) for lane in lanes for c in lane.cards if not c.closed)
    for card_ in (c for lane in lanes for c in lane.cards):
        counts.setdefault(getattr(card_, by), 0)
    names = [name for name, _ in sorted(counts.items(), key=lambda item: (not item[0], -item[1], item[0]))]
    shown, rest = names[:_GROUPS], frozenset(names[_GROUPS:])
    found = [_group(lanes, by, frozenset({name}), name or ("nobody" if by == "agent" else "no goal")) for name in shown]
    return (*found, *([_group(lanes, by, rest, f"{len(rest)} others")] if rest else ()))


def _group(lanes: tuple[Lane, ...], by: str, names: frozenset[str], title: str) -> Group:
    slug = f"group-{title.replace(' ', '-')}"
    own = tuple(
        replace(lane, id=f"{slug}-{lane.id}", cards=cards_, count=len(cards_), more=0)
        for lane in lanes
        for cards_ in [tuple(c for c in lane.cards if getattr(c, by) in names)]
    )
    return Group(slug, title, sum(lane.count for lane in own), own)


def _choices(view: View, which: str) -> tuple[Choice, ...]:
    agents = [a.name for a in view.snapshot.objects("Agent", namespace=view.namespace, limit=PAGE)]
    goals = [g.name for g in view.snapshot.objects("Goal", namespace=view.namespace, limit=PAGE)]
    found = [
        Choice("agent", "Agent", view.name("agent"), tuple((a, a) for a in dict.fromkeys(agents))),
        Choice("goal", "Goal", view.name("goal"), tuple((g, g) for g in dict.fromkeys(goals))),
    ]
    if which == "board":
        by = tuple((v, f"by {v}") for v in SWIMLANES)
        found.append(Choice("lanes", "Lanes", view.wanted("lanes", SWIMLANES), by))
    if which == "table":
        states = tuple((s, sentence(s)) for s in _STATES)
        found.append(Choice("state", "State", view.wanted("state", _STATES), states))
    return tuple(found)


def _matching(view: View, found: list[Resource]) -> list[Resource]:
    agent, goal = view.name("agent"), view.name("goal")
    return [
        m
        for m in found
        if (not agent or (m.status.get("agent") or m.spec.get("agentRef") or {}).get("name") == agent)
        and (not goal or (m.spec.get("goalRef") or {}).get("name") == goal)
    ]


def _lane(view: View, states: tuple[MissionState, ...]) -> Lane:
    filtered = bool(view.name("agent") or view.name("goal"))
    limit = SCAN if filtered else CARDS
    found = view.snapshot.objects("Mission", namespace=view.namespace, states=states, limit=limit)
    count = view.snapshot.count("Mission", namespace=view.namespace, states=states)
    if filtered:
        found = _matching(view, found)
        count = len(found)
    closed = states is CLOSED
    found.sort(key=lambda m: (_ended(m) if closed else 0.0, -int(m.spec.get("priority", 50)), m.name))
    shown = found[:CARDS]
    title = "Closed" if closed else sentence(states[0])
    mark = Mark("tick", "closed", Tone.GOOD) if closed else marks.state("Mission", states[0])
    kept = {k: v for k, v in view.query.items() if k in ("ns", "agent", "goal")}
    href = links.query("/missions", {**kept, "view": "table", "state": "" if closed else states[0]})
    cards = tuple(card(view, m) for m in shown)
    return Lane(f"lane-{states[0].lower()}", title, mark, count, cards, max(0, count - len(shown)), href)


def _ended(mission: Resource) -> float:
    at = moment(mission.status.get("finishedAt"))
    return -at.timestamp() if at else 0.0


def card(view: View, mission: Resource) -> Card:
    """A mission as a card."""
    agent = links.ref("Agent", mission.status.get("agent") or mission.spec.get("agentRef"), mission.namespace)
    cap = (mission.spec.get("budget") or {}).get("usd")
    spent = cost(mission.status)
    closed = mission.state in CLOSED
    state = marks.state("Mission", mission.state)
    why = state.word if closed else waiting.stuck_for(mission)
    return Card(
        f"card-{mission.uid}",
        mission.name,
        links.of(mission.key),
        str(mission.spec.get("title", "")),
        int(mission.spec.get("priority", 50)),
        agent.name if agent else "",
        links.of(agent) if agent else "",
        f"{spent} / {money(cap)}" if cap is not None and spent != "-" else "" if spent == "-" else spent,
        why,
        state,
        outdated(mission),
        closed,
        str((mission.spec.get("goalRef") or {}).get("name") or ""),
    )


def outdated(mission: Resource) -> bool:
    """Whether what runs is not what is declared now."""
    found = marks.find(mission.status.get("conditions"), "Outdated")
    if found is not None and found.get("status") == "True":
        return True
    return mission.status.get("observedGeneration") not in (mission.generation, None)


COLUMN_NAMES = ("State", "Mission*", "Agent", "Waits for~", "Attempts#~", "Cost#", "Changed~")


def _table(view: View) -> Table:
    state = view.wanted("state", _STATES)
    filtered = bool(view.name("agent") or view.name("goal"))
    if filtered:
        found = _matching(
            view,
            view.snapshot.objects("Mission", namespace=view.namespace, states=[state] if state else None, limit=SCAN),
        )[: 2 * PAGE]
        more = ""
    else:
        found, more = view.objects("Mission", [state] if state else None)
    empty = Empty("No mission is declared.", command=view.commands.verb("explain", "mission"))
    if filtered or state:
        empty = Empty("No mission matches.", href="/missions?view=table", link="Show all missions")
    return table("missions", found, empty, more=more)


def table(id: str, found: list[Resource], empty: Empty, *, title: str = "", more: str = "") -> Table:
    """Missions as rows."""
    from api.dashboard.facts.shapes import columns

    return Table(id, columns(*COLUMN_NAMES), tuple(mission_row(m) for m in found), empty, title=title, more=more)


def mission_row(mission: Resource) -> Row:
    """A mission as a row."""
    status = mission.status
    agent = links.ref("Agent", status.get("agent") or mission.spec.get("agentRef"), mission.namespace)
    moved = status.get("transitions") or ()
    changed = moment(moved[-1].get("at")) if moved else mission.created_at
    return Row(
        f"row-{mission.uid}",
        cells(
            Cell(mark=marks.state("Mission", mission.state)),
            Cell(str(mission.spec.get("title", "")), links.of(mission.key), note=mission.name),
            Cell(agent.name, links.of(agent)) if agent else Cell("-"),
            Cell(waiting.stuck_for(mission) or "-"),
            Cell(str(status.get("attempts", 0))),
            Cell(cost(status)),
            Cell(at=changed),
        ),
        attention=mission.state in (MissionState.BLOCKED, MissionState.NEEDS_APPROVAL),
    )


def _timeline(view: View) -> Chart:
    """What ran in the last 24 hours: one lane for each agent."""
    from schemas.event import EventType

    since = view.now - timedelta(hours=24)
    started = view.snapshot.events(
        types=[EventType.RUN_STARTED], since=since, namespace=view.namespace, limit=400, newest_first=True
    )
    runs = view.snapshot.get_many(e.subject for e in started)
    bars: dict[str, list[timelines.Bar]] = {}
    rows = []
    for run in sorted(runs.values(), key=lambda r: (str(r.status.get("startedAt") or ""), r.name)):
        begin = moment(run.status.get("startedAt"))
        if begin is None:
            continue
        end = moment(run.status.get("endedAt"))
        agent = str((run.spec.get("agentRef") or {}).get("name", ""))
        mark = marks.state("Run", run.state)
        if agent in bars or len(bars) < _LANES:
            bar = timelines.Bar(begin, end or view.now, run.name, mark.tone, open=end is None)
            bars.setdefault(agent, []).append(bar)
        rows.append(
            Row(
                f"trow-{run.uid}",
                cells(
                    Cell(agent), Cell(run.name, links.of(run.key)), Cell(mark=mark), Cell(at=begin),
                    Cell(duration(begin, end or view.now)), Cell(cost(run.status)),
                ),
            )
        )  # fmt: skip
    names = ("Agent", "Run", "State", "Started", "Took", "Cost")
    columns = tuple(Column(n, number=n in ("Took", "Cost"), main=n == "Run") for n in names)
    empty = Empty("Nothing ran in the last 24 hours.")
    twin = Table("timeline-table", columns, tuple(rows), empty, title="Runs of the last 24 hours")
    fold = view.query.get("fold") != "0"
    svg = timelines.draw(
        [(a, b) for a, b in sorted(bars.items())], fold=fold, label="Runs of the last 24 hours by agent"
    )
    return Chart("timeline", "Runs of the last 24 hours", svg, twin)


ACTIVE_RUNS = (RunState.PENDING, RunState.RUNNING)
