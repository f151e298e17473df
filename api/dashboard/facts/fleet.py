"""The first page: how it all stands, what wants a person, what happens now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from api.dashboard import links, marks
from api.dashboard.facts import spending, waiting
from api.dashboard.facts.shapes import Bar, Cell, Column, Empty, Row, Table, Tile
from api.dashboard.facts.view import View
from api.dashboard.facts.waiting import Needs
from api.dashboard.marks import Mark, Tone
from api.dashboard.text import micros, words
from schemas.event import EventType
from schemas.mission import MissionState
from schemas.run import RunState
from store.contract import Event

EVENTS = 14
_GOALS = 8
_NEEDS = 12
_AGENTS = 500
_TRANSITIONS = 1000
_QUIET = (EventType.RUN_PROGRESSED, EventType.CONDITION_CHANGED, EventType.REQUEST_HANDLED, EventType.FINALIZED)
"""Too small to be told on the first page; the event log has them."""
_TOLD = tuple(t for t in EventType if t not in _QUIET)
_GLYPHS = {
    EventType.TRANSITIONED: "missions", EventType.DISPATCHED: "half", EventType.RUN_STARTED: "run",
    EventType.RUN_FINISHED: "tick", EventType.APPROVAL_REQUESTED: "ask", EventType.APPROVAL_DECIDED: "tick",
    EventType.CALL_DECIDED: "policy", EventType.SYNCED: "sync", EventType.SYNC_FAILED: "drift",
    EventType.BUDGET_WARNING: "warn", EventType.BUDGET_EXCEEDED: "stop", EventType.ALERT_RAISED: "warn",
    EventType.HOLD_PLACED: "stop", EventType.USAGE_RECORDED: "money", EventType.MESSAGE_POSTED: "chat",
    EventType.SCHEDULE_FIRED: "clock",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Phase:
    """One state of missions and how many are in it."""

    mark: Mark
    count: int
    href: str


@dataclass(frozen=True, slots=True)
class Line:
    """One event, told in a line."""

    id: str
    seq: int
    event: Event
    glyph: str
    tone: str
    subject: str
    href: str
    text: str


@dataclass(frozen=True, slots=True)
class Fleet:
    """All of the first page."""

    tiles: tuple[Tile, ...]
    phases: tuple[Phase, ...]
    needs: Needs
    more_needs: int
    goals: Table
    done: Table
    lines: tuple[Line, ...]
    empty: bool


def fleet(view: View) -> Fleet:
    """Read it."""
    snapshot = view.snapshot
    needs = waiting.needs(view, limit=_NEEDS)
    by_state = {s: snapshot.count("Mission", namespace=view.namespace, states=[s]) for s in MissionState}
    burned = spending.burn(snapshot, view.now, namespace=view.namespace)
    shown = needs.items[:_NEEDS]
    return Fleet(
        _tiles(view, needs, by_state, burned),
        tuple(_phase(view, s, n) for s, n in by_state.items()),
        Needs(needs.approvals, needs.blocked, needs.plans, shown),
        max(0, needs.total - len(shown)),
        _goals(view),
        _done(view, burned),
        tuple(line(e) for e in snapshot.events(types=_TOLD, namespace=view.namespace, limit=EVENTS, newest_first=True)),
        not any(by_state.values()) and not snapshot.count("Agent", namespace=view.namespace),
    )


def _phase(view: View, state: MissionState, count: int) -> Phase:
    return Phase(marks.state("Mission", state), count, _table(view, state))


def _table(view: View, state: str) -> str:
    """The missions in a state, as narrowed as the page is."""
    return links.query("/missions", {"view": "table", "state": state, "ns": view.namespace or ""})


def _tiles(view: View, needs: Needs, by_state: dict[MissionState, int], burned: spending.Burn) -> tuple[Tile, ...]:
    snapshot, place = view.snapshot, view.namespace
    drift = failed = 0
    for source in snapshot.objects("Source", limit=waiting.SOURCES):
        units = source.status.get("units", ())
        drift += sum(1 for u in units if u.get("revision") != u.get("appliedRevision") or u.get("errors"))
    since = view.now - timedelta(hours=24)
    moved = snapshot.events(types=[EventType.TRANSITIONED], since=since, namespace=place,
                            limit=_TRANSITIONS, newest_first=True)  # fmt: skip
    failed = sum(1 for e in moved if e.data.get("to") == "Failed")
    agents = snapshot.objects("Agent", namespace=place, limit=_AGENTS)
    up = sum(1 for a in agents if marks.ready(a.status).tone is Tone.GOOD)
    budgets = [(spending.share(b) or 0.0, b) for b in snapshot.objects("Budget", namespace=place, limit=_AGENTS)]
    tightest = max(budgets, key=lambda found: found[0], default=None)
    bar = spending.bar(tightest[1]) if tightest else None
    running = snapshot.count("Run", namespace=place, states=[RunState.RUNNING])
    blocked = by_state[MissionState.BLOCKED]
    warn = Mark("ask", "waits for you", Tone.WARN)
    return (
        Tile("Needs you", f"{needs.total:,}", "/approvals", warn, needs.total > 0,
             note=f"{needs.approvals} to answer" if needs.approvals else ""),
        Tile("Blocked", f"{blocked:,}", _table(view, "Blocked"), marks.state("Mission", "Blocked"),
             blocked > 0),
        Tile("Failed, 24 h", f"{failed:,}", _table(view, "Failed"), marks.state("Mission", "Failed"),
             failed > 0),
        Tile("Out of sync", f"{drift:,}", "/sync", Mark("drift", "out of sync", Tone.WARN), drift > 0),
        Tile("Running", f"{running:,}", "/missions?view=timeline", marks.state("Run", "Running")),
        Tile("Agents ready", f"{up:,}", "/agents", Mark("agents", "agents", Tone.CALM),
             note=f"of {len(agents):,}" + ("+" if len(agents) == _AGENTS else "")),
        Tile("Burn, last hour", micros(burned.last_hour), "/budgets", Mark("money", "cost", Tone.CALM)),
        Tile("Spent, 24 h", micros(burned.total), "/budgets", Mark("money", "cost", Tone.CALM), bar=bar,
             note=f"{tightest[1].name}: {bar.label}" if bar and tightest else ""),
    )  # fmt: skip


def _goals(view: View) -> Table:
    found = view.snapshot.objects("Goal", namespace=view.namespace, limit=_GOALS)
    rows = []
    for goal in found:
        counts = goal.status.get("missions") or {}
        progress = goal.status.get("progress")
        share = float(progress) if isinstance(progress, int | float) else 0.0
        rows.append(
            Row(
                f"goal-{goal.uid}",
                (
                    Cell(str(goal.spec.get("objective", "")), links.of(goal.key), marks.ready(goal.status)),
                    Cell(bar=Bar(share, f"{share:.0%}")),
                    Cell(f"{counts.get('done', 0)} of {counts.get('total', 0)}"),
                ),
            )
        )
    empty = Empty("No goal is declared.", href="/goals", link="What a goal does")
    columns = (Column("Goal", main=True), Column("Progress"), Column("Missions done", number=True))
    return Table("goals", columns, tuple(rows), empty, title="Goals")


def _done(view: View, burned: spending.Burn) -> Table:
    best = sorted(burned.done.items(), key=lambda item: (-item[1], item[0]))[:5]
    rows = []
    for uid, count in best:
        agent = view.snapshot.get_by_uid(uid)
        if agent is None:
            continue
        rows.append(
            Row(
                f"done-{uid}",
                (
                    Cell(agent.name, links.of(agent.key)),
                    Cell(f"{count:,}"),
                    Cell(micros(sum(burned.of(uid)))),
                    Cell(spark=tuple(float(v) for v in burned.of(uid))),
                ),
            )
        )
    columns = (Column("Agent", main=True), Column("Runs", number=True), Column("Cost", number=True), Column("24 h"))
    return Table("done", columns, tuple(rows), Empty("No run ended well in the last 24 hours."), title="Done in 24 h")


def line(event: Event) -> Line:
    """An event as one line: what, on what, and what was said."""
    tone = "calm"
    glyph = _GLYPHS.get(EventType(event.type), "log") if event.type in _KNOWN else "log"
    state = str(event.data.get("to") or event.data.get("state") or "")
    if event.type in (EventType.TRANSITIONED, EventType.RUN_FINISHED) and state:
        mark = marks.state(event.subject.kind, state)
        glyph, tone = mark.glyph, mark.tone.value
    elif event.type in _LOUD:
        tone = "warn"
    said = event.message or words(event.reason)
    text = f"{words(state)}: {said}" if event.type == EventType.TRANSITIONED and state else said
    return Line(f"e-{event.seq}", event.seq, event, glyph, tone, event.subject.name, links.of(event.subject), text)


_KNOWN = frozenset(EventType)
_LOUD = frozenset(
    {
        EventType.SYNC_FAILED, EventType.BUDGET_WARNING, EventType.BUDGET_EXCEEDED, EventType.ALERT_RAISED,
        EventType.HOLD_PLACED, EventType.APPROVAL_REQUESTED, EventType.APPROVAL_EXPIRED, EventType.GUARD_RAISED,
        EventType.EFFECT_FAILED, EventType.FIELD_FIGHT, EventType.DECISION_REFUSED, EventType.TRANSITION_REFUSED,
    }
)  # fmt: skip


def lines(events: Sequence[Event]) -> tuple[Line, ...]:
    """Several of them."""
    return tuple(line(e) for e in events)
