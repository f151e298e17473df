"""Skills and tool servers: what was called, what is granted, and what is pinned."""

from __future__ import annotations

from datetime import timedelta

from api.dashboard import links, marks
from api.dashboard.facts import objects
from api.dashboard.facts.shapes import (
    Act,
    Cell,
    Detail,
    Empty,
    Listing,
    Row,
    Table,
    acts,
    cells,
    columns,
)
from api.dashboard.facts.view import PAGE, View
from api.dashboard.text import moment, number
from schemas.event import EventType
from schemas.resource import Resource

_CALLS = 2000


def skills(view: View) -> Listing:
    """Tools that were used lately, and the servers that offer tools."""
    since = view.now - timedelta(hours=24)
    found = view.snapshot.events(
        types=[EventType.CALL_DECIDED], since=since, namespace=view.namespace, limit=_CALLS, newest_first=True
    )
    used: dict[str, dict[str, int]] = {}
    risks: dict[str, str] = {}
    for event in found:
        tool = str(event.data.get("tool", ""))
        row = used.setdefault(tool, {"calls": 0, "Deny": 0, "RequireApproval": 0, "Allow": 0})
        row["calls"] += 1
        verdict = str(event.data.get("verdict", ""))
        row[verdict] = row.get(verdict, 0) + 1
        risks.setdefault(tool, str(event.data.get("risk", "")))
    rows = tuple(
        Row(
            f"used-{i}",
            cells(
                Cell(tool, mono=True), Cell(mark=marks.risk(risks[tool])), Cell(number(row["calls"])),
                Cell(number(row["Allow"])), Cell(number(row["RequireApproval"])), Cell(number(row["Deny"])),
            ),
        )
        for i, (tool, row) in enumerate(sorted(used.items(), key=lambda item: (-item[1]["calls"], item[0]))[:PAGE])
    )  # fmt: skip
    heads = columns("Tool*", "Risk", "Calls#", "Allowed#~", "Asked#", "Denied#")
    tools = Table("used", heads, rows, Empty("No tool was asked for in the last 24 hours."), title="Used in 24 h")
    return Listing("Skills and tools", (tools, _servers(view), _granted(view)))


def _servers(view: View) -> Table:
    found, more = view.objects("ToolServer")
    rows = tuple(
        Row(
            f"row-{s.uid}",
            cells(
                Cell(mark=marks.ready(s.status)),
                Cell(s.name, links.of(s.key), note=str(s.spec.get("description") or "")),
                Cell(str(s.spec.get("type", ""))),
                Cell(number(s.status.get("accepted", 0))),
                Cell(number(s.status.get("quarantined", 0))),
                Cell(at=moment(s.status.get("lastSeen"))) if s.status.get("lastSeen") else Cell("never"),
            ),
            attention=bool(s.status.get("quarantined")),
        )
        for s in found
    )
    names = columns("State", "Server*", "Type~", "Accepted#", "Held back#", "Last seen~")
    empty = Empty("No tool server is declared.", command=view.commands.verb("explain", "toolserver"))
    return Table("servers", names, rows, empty, title="Tool servers", more=more)


def _granted(view: View) -> Table:
    who: dict[str, list[Resource]] = {}
    for agent in view.snapshot.objects("Agent", namespace=view.namespace, limit=5 * PAGE):
        for grant in agent.spec.get("tools") or ():
            mcp = grant.get("mcp")
            server = ((mcp or {}).get("serverRef") or {}).get("name", "")
            names = [f"mcp:{server}/{t}" for t in (mcp.get("toolNames") or ("*",))] if mcp else [str(grant.get("name"))]
            for name in names:
                who.setdefault(name, []).append(agent)
    rows = tuple(
        Row(
            f"granted-{i}",
            cells(
                Cell(tool, mono=True), Cell(str(len(agents))),
                Cell(agents[0].name, links.of(agents[0].key),
                     note=f"and {', '.join(a.name for a in agents[1:6])}" if len(agents) > 1 else ""),
            ),
        )
        for i, (tool, agents) in enumerate(sorted(who.items())[:PAGE])
    )  # fmt: skip
    empty = Empty("No agent may call any tool.")
    return Table("granted", columns("Tool*", "Agents#", "Allowed to"), rows, empty, title="Allowed to whom")


@objects.more("ToolServer")
def server_detail(view: View, server: Resource, base: Detail) -> Detail:
    """Its tools, which are accepted, and what changed in the others."""
    rows = tuple(
        Row(
            f"tool-{i}",
            cells(
                Cell(mark=marks.state("ToolServer", str(t.get("state", "")))),
                Cell(str(t.get("name", "")), mono=True),
                Cell(", ".join(t.get("changed") or ()) or "-"),
                Cell(at=moment(t.get("firstSeen"))),
            ),
            attention=t.get("state") in ("New", "Changed"),
        )
        for i, t in enumerate(server.status.get("tools") or ())
    )
    table = Table("tools", columns("State", "Tool*", "What changed", "First seen~"), rows,
                  Empty("Nobody saw its tools yet."), title="Its tools")  # fmt: skip
    pin = view.commands.verb("pin", key=server.key, target=server.name)
    found = acts("Accept its tools", Act(pin)) if server.status.get("quarantined") else []
    return objects.widened(base, main=[table], acts=found)
