"""Who works."""

from __future__ import annotations

from api.dashboard import links, marks
from api.dashboard.facts import missions, objects, spending
from api.dashboard.facts.shapes import (
    Act,
    Cell,
    Chart,
    Detail,
    Empty,
    Fact,
    Listing,
    Row,
    Table,
    Text,
    acts,
    cells,
    columns,
)
from api.dashboard.facts.view import PAGE, View
from api.dashboard.text import micros, moment, money, words
from schemas.base import Key
from schemas.resource import Resource


def agents(view: View) -> Listing:
    """All of them, with what they do now and what they used in the last day."""
    found, more = view.objects("Agent")
    burned = spending.burn(view.snapshot, view.now, namespace=view.namespace)
    rows = tuple(_row(a, burned) for a in found)
    names = columns(
        "State", "Agent*", "Level~", "Enforcement~", "Works on", "Burn, 24 h~", "Now/h#~", "Spent#", "Last sign~"
    )
    empty = Empty("No agent is declared.", command=view.commands.verb("explain", "agent"))
    note = "Burn is of the latest 2,000 runs." if burned.cut else ""
    return Listing("Agents", (Table("agents", names, rows, empty, more=more, note=note),))


def state_of(agent: Resource) -> marks.Mark:
    """Held before ready: whoever is stopped does nothing, however well it is."""
    held = str(agent.status.get("held") or "")
    if held:
        return marks.state("Agent", held)
    if agent.status.get("activeRuns"):
        return marks.Mark("run", "at work", marks.Tone.BUSY)
    return marks.ready(agent.status)


def _row(agent: Resource, burned: spending.Burn) -> Row:
    status, hours = agent.status, burned.of(agent.uid)
    working = [str(m) for m in status.get("currentMissions") or ()]
    beat = moment(status.get("lastHeartbeatTime"))
    first = Cell(working[0], links.page("Mission", agent.namespace, working[0])) if working else Cell("-")
    if len(working) > 1:
        first = Cell(working[0], first.href, note=f"and {len(working) - 1} more")
    return Row(
        f"row-{agent.uid}",
        cells(
            Cell(mark=state_of(agent)),
            Cell(agent.name, links.of(agent.key), note=str(agent.labels.get("team", ""))),
            Cell(words(str(agent.spec.get("autonomyLevel", "")))),
            Cell(words(str(status.get("enforcement", "Observed")))),
            first,
            Cell(spark=tuple(float(h) for h in hours)),
            Cell(micros(hours[-1])),
            Cell(spending.cost(status)),
            Cell(at=beat) if beat else Cell("-"),
        ),
        attention=bool(status.get("held")),
    )


@objects.more("Agent")
def agent_detail(view: View, agent: Resource, base: Detail) -> Detail:
    """What holds it, what it may do, what it works on, whom it spawned."""
    spec, status = agent.spec, agent.status
    model = spec.get("model") or {}
    facts = [
        Fact("State", Cell(mark=state_of(agent))),
        *objects.fact("Level", words(str(spec.get("autonomyLevel", "")))),
        *objects.ref_fact("Executor", "Executor", spec.get("executorRef"), agent.namespace),
        *objects.fact("Model", model.get("primary")),
        Fact("Places", Cell(f"{status.get('activeRuns', 0)} of {spec.get('maxConcurrentMissions', 1)} taken")),
        Fact("Today", Cell(money((status.get("spendToday") or {}).get("usd")))),
        Fact("In all", Cell(spending.cost(status))),
        Fact("Failed in a row", Cell(str(status.get("errorStreak", 0)))),
        Fact("Enforcement", Cell(words(str(status.get("enforcement", "Observed"))),
                                 note=str(status.get("enforcementMessage", "")))),
    ]  # fmt: skip
    beat = moment(status.get("lastHeartbeatTime"))
    if beat:
        facts.append(Fact("Last sign of life", Cell(at=beat)))
    main: list[Table | Text | Chart] = [_work(view, agent), _tools(agent), _policies(view, agent), _evidence(agent)]
    main += _spawned(view, agent)
    quarantine = view.commands.verb("hold", key=agent.key, end="--quarantine --reason '...'")
    return objects.widened(
        base, facts=facts, main=[p for p in main if not isinstance(p, Table) or p.rows or p.empty.text],
        acts=acts("If it does harm", Act(quarantine, label="Stop it, revoke its keys, block its missions")),
    )  # fmt: skip


def _work(view: View, agent: Resource) -> Table:
    keys = [Key("Mission", agent.namespace, str(m)) for m in agent.status.get("currentMissions") or ()]
    found = list(view.snapshot.get_many(keys[:PAGE]).values())
    return missions.table("work", found, Empty("It works on nothing now."), title="Works on")


def _tools(agent: Resource) -> Table:
    rows = []
    for index, grant in enumerate(agent.spec.get("tools") or ()):
        mcp = grant.get("mcp")
        if mcp:
            server = links.ref("ToolServer", mcp.get("serverRef"), agent.namespace)
            named = ", ".join(mcp.get("toolNames") or ()) or "all tools"
            rows.append(
                Row(f"tool-{index}", cells(Cell(named), Cell(server.name, links.of(server)) if server else Cell("-")))
            )
        else:
            rows.append(Row(f"tool-{index}", cells(Cell(str(grant.get("name", ""))), Cell("-"))))
    return Table(
        "tools", columns("Tool*", "Server"), tuple(rows), Empty("It may call no tool."), title="Tools it may call"
    )


def covers(selector: dict[str, object] | None, labels: dict[str, str]) -> bool:
    """Whether a label selector picks an object with these labels; an empty one picks all."""
    wanted = (selector or {}).get("matchLabels") or {}
    return isinstance(wanted, dict) and all(labels.get(str(k)) == v for k, v in wanted.items())


def _policies(view: View, agent: Resource) -> Table:
    found = view.snapshot.objects("Policy", namespace=agent.namespace, limit=PAGE)
    rows = tuple(
        Row(
            f"policy-{p.uid}",
            cells(
                Cell(mark=marks.ready(p.status)),
                Cell(p.name, links.of(p.key)),
                Cell(str(len(p.spec.get("rules") or ()))),
                Cell(p.provenance.place if p.provenance else "-", mono=True),
            ),
        )
        for p in found
        if covers(p.spec.get("selector"), agent.labels)
    )
    empty = Empty("No Policy picks it: the built-in table holds alone.")
    return Table(
        "policies", columns("State", "Policy*", "Rules#", "Declared at~"), rows, empty, title="Policies that apply"
    )


def _evidence(agent: Resource) -> Table:
    rows = tuple(
        Row(
            f"evidence-{i}",
            cells(
                Cell(str(e.get("run", "")), links.page("Run", agent.namespace, str(e.get("run", "")))),
                Cell(at=moment(e.get("at"))),
                Cell(", ".join(str(p.get("channel", "")) for p in e.get("passages") or ()) or "none"),
                Cell(str(e.get("unasked", 0))),
                Cell(str(e.get("sandbox") or "-")),
            ),
        )
        for i, e in enumerate(agent.status.get("evidence") or ())
    )
    names = columns("Run*", "When", "Asked through", "Unasked calls#", "Sandbox~")
    empty = Empty("No run of it used a tool yet.")
    return Table("evidence", names, rows, empty, title="How tightly it is held")


def _spawned(view: View, agent: Resource) -> list[Table]:
    found = view.snapshot.objects("Agent", namespace=agent.namespace, owner_uid=agent.uid, limit=PAGE)
    rows = tuple(
        Row(
            f"sub-{a.uid}",
            cells(
                Cell(mark=state_of(a)),
                Cell(a.name, links.of(a.key)),
                Cell(at=moment((a.status.get("spawned") or {}).get("expiresAt"))),
                Cell(spending.cost(a.status)),
            ),
        )
        for a in found
    )
    if not rows:
        return []
    return [Table("subs", columns("State", "Sub-agent*", "Ends", "Cost#"), rows, Empty(""), title="Sub-agents")]
