"""What work is for: goals as a tree down to tool calls, to-dos of people, projects."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from api.dashboard import links, marks
from api.dashboard.facts import missions, objects, waiting
from api.dashboard.facts.shapes import (
    Bar,
    Cell,
    Chart,
    Choice,
    Detail,
    Empty,
    Fact,
    Listing,
    Row,
    Table,
    Text,
    cells,
    columns,
)
from api.dashboard.facts.spending import cost
from api.dashboard.facts.view import PAGE, SCAN, View
from api.dashboard.marks import Mark
from api.dashboard.text import moment, number, sentence, words
from schemas.mission import TERMINAL_STATES
from schemas.resource import Resource
from schemas.todo import TodoState

TREE = 300
"""Rows of the tree; then it says how many more."""
_GOALS = 40
_RUNS = 20
_CALLS = 20
_OPEN = ("Blocked", "NeedsApproval", "Failed", "InProgress", "Review")
"""States whose branch stands open."""


@dataclass(frozen=True, slots=True)
class Node:
    """One row of the tree. ``level`` counts from 1; ``open`` is None for leaves."""

    id: str
    level: int
    open: bool | None
    mark: Mark
    name: str
    href: str
    title: str
    agent: str
    cost: str
    strong: bool = False


@dataclass(frozen=True, slots=True)
class Tree:
    """Goals, their missions, runs and tool calls, in the order of a tree walk."""

    nodes: tuple[Node, ...]
    cut: bool
    goals: int
    loose: int
    empty: Empty


def goals(view: View) -> Tree:
    """The tree, what wants attention opened. Reads no more than it shows."""
    snapshot = view.snapshot
    found = snapshot.objects("Goal", namespace=view.namespace, limit=_GOALS)
    by_goal: dict[str, list[Resource]] = {}
    loose = 0
    if found:
        for mission in snapshot.objects("Mission", namespace=view.namespace, limit=SCAN):
            key = links.ref("Goal", mission.spec.get("goalRef"), mission.namespace)
            if key is None:
                loose += 1
            else:
                by_goal.setdefault(f"{key.namespace}/{key.name}", []).append(mission)
    nodes: list[Node] = []
    for goal in found:
        below = by_goal.get(f"{goal.namespace}/{goal.name}", [])
        below.sort(key=lambda m: (m.state in TERMINAL_STATES, m.state not in _OPEN, m.name))
        progress = goal.status.get("progress")
        share = f", {float(progress):.0%}" if isinstance(progress, int | float) else ""
        attention = any(m.state in _OPEN for m in below)
        nodes.append(
            Node(
                goal.uid, 1, attention or None if not below else True, marks.ready(goal.status), goal.name,
                links.of(goal.key), f"{goal.spec.get('objective', '')} ({len(below)} missions{share})",
                str(goal.spec.get("owner") or ""), cost(goal.status), strong=True,
            )
        )  # fmt: skip
        for mission in below:
            if len(nodes) >= TREE:
                break
            nodes += _mission_nodes(view, mission, TREE - len(nodes))
    empty = Empty("No goal is declared.", command=view.commands.verb("explain", "goal"))
    return Tree(tuple(nodes[:TREE]), len(nodes) >= TREE, len(found), loose, empty)


def _mission_nodes(view: View, mission: Resource, room: int) -> list[Node]:
    agent = links.ref("Agent", mission.status.get("agent") or mission.spec.get("agentRef"), mission.namespace)
    runs = []
    if mission.status.get("totalRuns") or mission.status.get("lastRun"):
        runs = view.snapshot.objects("Run", namespace=mission.namespace, owner_uid=mission.uid, limit=_RUNS)
        runs.sort(key=lambda r: int(r.spec.get("number", 0)))
    name = agent.name if agent else ""
    is_open = mission.state in _OPEN
    why = waiting.stuck_for(mission)
    title = f"{mission.spec.get('title', '')}" + (f" ({why})" if why else "")
    nodes = [
        Node(
            mission.uid, 2, is_open if runs else None, marks.state("Mission", mission.state), mission.name,
            links.of(mission.key), title, name, cost(mission.status),
        )
    ]  # fmt: skip
    for run in runs:
        calls = []
        if run.status.get("toolCalls") or run.state == "Running":
            calls = view.snapshot.objects("ToolCall", namespace=run.namespace, owner_uid=run.uid, limit=_CALLS)
        nodes.append(
            Node(
                run.uid, 3, run.state in ("Running",) if calls else None, marks.state("Run", run.state), run.name,
                links.of(run.key), f"attempt {run.spec.get('attempt', '')}, {words(str(run.status.get('reason', '')))}",
                name, cost(run.status),
            )
        )  # fmt: skip
        nodes += [
            Node(
                call.uid, 4, None, marks.state("ToolCall", call.state), str(call.spec.get("tool", "")),
                links.of(call.key), str(call.spec.get("target") or ""), name, cost(call.status),
            )
            for call in calls
        ]  # fmt: skip
        if len(nodes) >= room:
            break
    return nodes[:room]


@objects.more("Goal")
def goal_detail(view: View, goal: Resource, base: Detail) -> Detail:
    """How far it is, and what is made for it."""
    spec, status = goal.spec, goal.status
    metric = spec.get("metric") or {}
    counts = status.get("missions") or {}
    progress = status.get("progress")
    share = float(progress) if isinstance(progress, int | float) else 0.0
    facts = [
        Fact("Progress", Cell(bar=Bar(share, f"{share:.0%}"))),
        *objects.fact("Metric", metric.get("source") or "missions.done"),
        *objects.fact("Value", f"{number(status.get('value'))} of {number(metric.get('target', 1))}"),
        Fact("Missions", Cell(f"{counts.get('done', 0)} done, {counts.get('active', 0)} active, "
                              f"{counts.get('failed', 0)} failed")),
        Fact("Cost", Cell(cost(status))),
        *objects.fact("Owner", spec.get("owner")),
        *([Fact("Deadline", Cell(at=moment(spec["deadline"])))] if spec.get("deadline") else []),
        *([Fact("Looked at next", Cell(at=moment(status["nextReviewTime"])))] if status.get("nextReviewTime") else []),
    ]  # fmt: skip
    mine = _of(view, goal, "goalRef")
    main: list[Table | Text | Chart] = [
        missions.table("missions", mine, Empty("No mission serves it yet."), title="Missions")
    ]
    return objects.widened(base, facts=facts, main=main)


def _of(view: View, owner: Resource, field: str) -> list[Resource]:
    """Missions that refer to it, among the first of its namespace."""
    found = view.snapshot.objects("Mission", namespace=owner.namespace, limit=SCAN)
    return [m for m in found if links.ref(owner.kind, m.spec.get(field), m.namespace) == owner.key][:PAGE]


def projects(view: View) -> Listing:
    """All of them by stage."""
    found, more = view.objects("Project")
    rows = tuple(
        Row(
            f"row-{p.uid}",
            cells(
                Cell(mark=marks.ready(p.status)),
                Cell(str(p.spec.get("displayName") or p.name), links.of(p.key), note=p.name),
                Cell(sentence(str(p.status.get("stage") or p.spec.get("stage", "")))),
                Cell(str(p.spec.get("owner") or "-")),
                Cell(number(p.status.get("openMissions", 0))),
                Cell(number(p.status.get("doneMissions", 0))),
                Cell(cost(p.status)),
            ),
        )
        for p in found
    )
    names = columns("State", "Project*", "Stage", "Owner~", "Open#", "Done#", "Cost#~")
    empty = Empty("No project is declared.", command=view.commands.verb("explain", "project"))
    return Listing("Projects", (Table("projects", names, rows, empty, more=more),))


@objects.more("Project")
def project_detail(view: View, project: Resource, base: Detail) -> Detail:
    """What belongs to it. Its links lead outside, and say where."""
    spec, status = project.spec, project.status
    facts = [
        *objects.fact("Stage", sentence(str(status.get("stage") or spec.get("stage", "")))),
        *objects.fact("Owner", spec.get("owner")),
        Fact("Missions", Cell(f"{status.get('openMissions', 0)} open, {status.get('doneMissions', 0)} done")),
        Fact("Cost", Cell(cost(status))),
    ]
    for link in (spec.get("links") or ())[:20]:
        out = links.https(str(link.get("title", "")), link.get("url"))
        facts.append(Fact("Link", Cell("" if out else str(link.get("title", ""))), out))
    mine = _of(view, project, "projectRef")
    main: list[Table | Text | Chart] = [
        missions.table("missions", mine, Empty("No mission belongs to it."), title="Missions")
    ]
    return objects.widened(base, facts=facts, main=main)


_TODO_STATES = tuple(s.value for s in TodoState)


def todos(view: View) -> Listing:
    """What people do themselves."""
    found, more = view.objects("Todo")
    state = view.wanted("state", _TODO_STATES)
    who = view.query.get("who", "")[:200]
    subjects = sorted({str(t.spec["assignee"]) for t in found if t.spec.get("assignee")})
    if who in subjects:
        found = [t for t in found if t.spec.get("assignee") == who]
    if state:
        found = [t for t in found if _todo_state(t) == state]
    found.sort(key=lambda t: (_todo_state(t) == "Done", str(t.spec.get("dueDate") or "9999"), t.name))
    rows = tuple(_todo_row(view, t) for t in found)
    names = columns("State", "To-do*", "Who", "Due", "For~", "Mission~")
    empty = Empty("Nobody has anything to do by hand.", command=view.commands.verb("explain", "todo"))
    choices = (
        Choice("who", "Who", who if who in subjects else "", tuple((s, s) for s in subjects)),
        Choice("state", "State", state, tuple((s, sentence(s)) for s in _TODO_STATES)),
    )
    return Listing("To-dos", (Table("todos", names, rows, empty, more=more),), choices=choices)


def _todo_state(todo: Resource) -> str:
    done = marks.find(todo.status.get("conditions"), "Done")
    return "Done" if (done or {}).get("status") == "True" or todo.spec.get("state") == "Done" else "Open"


def _todo_row(view: View, todo: Resource) -> Row:
    due = str(todo.spec.get("dueDate") or "")
    state = _todo_state(todo)
    late = bool(due) and state == "Open" and due < date.isoformat(view.now.date())
    goal = links.ref("Goal", todo.spec.get("goalRef"), todo.namespace)
    made = str(todo.status.get("mission") or "")
    mark = Mark("warn", "late", marks.Tone.WARN) if late else marks.state("Todo", state)
    return Row(
        f"row-{todo.uid}",
        cells(
            Cell(mark=mark),
            Cell(str(todo.spec.get("title", "")), links.of(todo.key)),
            Cell(str(todo.spec.get("assignee") or "nobody")),
            Cell(due or "-"),
            Cell(goal.name, links.of(goal)) if goal else Cell("-"),
            Cell(made, links.page("Mission", todo.namespace, made)) if made else Cell("-"),
        ),
        attention=late,
    )
