"""What limits the work: policies, budgets, tools, and the specs themselves."""

from __future__ import annotations

from datetime import timedelta

from api.dashboard import charts, links, marks
from api.dashboard.facts import objects, spending
from api.dashboard.facts.agents import covers
from api.dashboard.facts.shapes import (
    Act,
    Bar,
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
from api.dashboard.marks import Mark, Tone
from api.dashboard.text import block, micros, moment, money, number, plain, words
from schemas.event import EventType
from schemas.resource import Resource

_CALLS = 2000
_TOP = 10


# Policies.


def policies(view: View) -> Listing:
    """Each Policy with what it did, and all rules with where they stand."""
    found, more = view.objects("Policy")
    rows = tuple(
        Row(
            f"row-{p.uid}",
            cells(
                Cell(mark=marks.ready(p.status)),
                Cell(p.name, links.of(p.key), note=str(p.spec.get("description") or "")),
                Cell(_selector(p)),
                Cell(number(p.status.get("agents", 0))),
                Cell(number(p.status.get("allowed", 0))),
                Cell(number(p.status.get("asked", 0))),
                Cell(number(p.status.get("denied", 0))),
                Cell(p.provenance.place if p.provenance else "-", mono=True),
            ),
        )
        for p in found
    )
    names = columns("State", "Policy*", "Picks~", "Agents#", "Allowed#~", "Asked#", "Denied#", "Declared at~")
    empty = Empty(
        "No Policy is declared: the built-in table holds alone.", command=view.commands.verb("explain", "policy")
    )
    rules = tuple(row for p in found for row in rule_rows(p))[: 2 * PAGE]
    rule_table = Table("rules", columns("Verdict", "Rule*", "Policy", "Tools", "When~", "Reason~"), rules,
                       Empty("No Policy has rules of its own."), title="Rules")  # fmt: skip
    return Listing("Policies", (Table("policies", names, rows, empty, more=more), rule_table, _denials(view)))


def _selector(policy: Resource) -> str:
    wanted = (policy.spec.get("selector") or {}).get("matchLabels") or {}
    return ", ".join(f"{k}={v}" for k, v in wanted.items()) or "every agent"


def rule_rows(policy: Resource) -> list[Row]:
    """The rules of one Policy."""
    return [
        Row(
            f"rule-{policy.uid}-{i}",
            cells(
                Cell(mark=marks.state("Policy", str(r.get("verdict", "")))),
                Cell(str(r.get("name", ""))),
                Cell(policy.name, links.of(policy.key)),
                Cell(", ".join((r.get("match") or {}).get("tools") or ()) or "any", mono=True),
                Cell(str((r.get("match") or {}).get("when") or "-"), mono=True),
                Cell(str(r.get("reason") or "-")),
            ),
        )
        for i, r in enumerate(policy.spec.get("rules") or ())
    ]


def _denials(view: View) -> Table:
    since = view.now - timedelta(hours=24)
    found = view.snapshot.events(
        types=[EventType.CALL_DECIDED], since=since, namespace=view.namespace, limit=_CALLS, newest_first=True
    )
    hits: dict[tuple[str, str], int] = {}
    for event in found:
        key = (str(event.data.get("rule", "")), str(event.data.get("verdict", "")))
        hits[key] = hits.get(key, 0) + 1
    best = sorted(hits.items(), key=lambda item: (-item[1], item[0]))[:20]
    rows = tuple(
        Row(f"hit-{i}", cells(Cell(mark=marks.state("Policy", verdict)), Cell(rule or "-"), Cell(number(count))))
        for i, ((rule, verdict), count) in enumerate(best)
    )
    empty = Empty("Nothing was asked in the last 24 hours.")
    return Table("hits", columns("Verdict", "Decided by*", "Calls#"), rows, empty, title="What decided in 24 h")


@objects.more("Policy")
def policy_detail(view: View, policy: Resource, base: Detail) -> Detail:
    """Its rules, who is under it, what it did."""
    found = view.snapshot.objects("Agent", namespace=policy.namespace, limit=5 * PAGE)
    under = [a for a in found if covers(policy.spec.get("selector"), a.labels)]
    rows = tuple(
        Row(f"under-{a.uid}", cells(Cell(a.name, links.of(a.key)), Cell(words(str(a.spec.get("autonomyLevel", ""))))))
        for a in under[:PAGE]
    )
    status = policy.status
    facts = [
        Fact("Picks", Cell(_selector(policy))),
        Fact("Calls", Cell(f"{status.get('allowed', 0)} allowed, {status.get('asked', 0)} asked, "
                           f"{status.get('denied', 0)} denied")),
        *objects.fact("Never opened", ", ".join(words(str(s)) for s in policy.spec.get("hardStops") or ())),
    ]  # fmt: skip
    risk = tuple(
        Row(f"risk-{i}", cells(Cell(mark=marks.risk(str(level))), Cell(str(tool), mono=True)))
        for i, (tool, level) in enumerate(sorted((policy.spec.get("risk") or {}).items()))
    )
    main: list[Table | Text | Chart] = [
        Table("rules", columns("Verdict", "Rule*", "Policy~", "Tools", "When", "Reason~"), tuple(rule_rows(policy)),
              Empty("No rules: only lists and limits."), title="Rules"),
        Table("under", columns("Agent*", "Level"), rows, Empty("It picks nobody."), title="Who is under it"),
    ]  # fmt: skip
    if risk:
        main.append(Table("risk", columns("Risk", "Tool*"), risk, Empty(""), title="Risk it gives"))
    return objects.widened(base, facts=facts, main=main)


# Budgets.


def budgets(view: View) -> Listing:
    """How full they are, when they run out at this pace, who spends most."""
    found, more = view.objects("Budget")
    rows = []
    for budget in found:
        status = budget.status
        breach = moment(status.get("forecastBreachTime"))
        bar = spending.bar(budget)
        within = marks.find(status.get("conditions"), "WithinBudget")
        full = (within or {}).get("status") == "False"
        mark = Mark("stop", "used up", Tone.STOP) if full else Mark("warn", "nearly used up", Tone.WARN) if (
            bar and bar.warn) else marks.ready(status)  # fmt: skip
        rows.append(
            Row(
                f"row-{budget.uid}",
                cells(
                    Cell(mark=mark),
                    Cell(budget.name, links.of(budget.key), note=_scope(budget)),
                    Cell(str(budget.spec.get("window", ""))),
                    Cell(bar=bar) if bar else Cell("no limit in money"),
                    Cell(money((status.get("reserved") or {}).get("usd"))),
                    Cell(money(status.get("burnPerHour"))),
                    Cell(at=breach) if breach else Cell("lasts"),
                    Cell(words(str(budget.spec.get("onBreach", "")))),
                ),
                attention=full or bool(bar and bar.warn),
            )
        )
    names = columns("State", "Budget*", "Window~", "Spent", "Reserved#~", "Per hour#~", "Runs out", "At the limit~")
    empty = Empty("No Budget is declared: the built-in limits hold.", command=view.commands.verb("explain", "budget"))
    burned = spending.burn(view.snapshot, view.now, namespace=view.namespace)
    table = Table("budgets", names, tuple(rows), empty, more=more)
    return Listing("Budgets and costs", (table, _hours(view, burned), _spenders(view, burned)))


def _scope(budget: Resource) -> str:
    for name, value in (budget.spec.get("scope") or {}).items():
        if value is not None:
            if name == "tenant":
                return "everything in its namespace"
            picked = value.get("name") or value.get("matchLabels") if isinstance(value, dict) else value
            return f"{words(name)} {plain(picked)}"
    return ""


def _hours(view: View, burned: spending.Burn) -> Chart:
    begin = view.now - timedelta(hours=spending.HOURS)
    values = []
    for i, used in enumerate(burned.hours):
        at = begin + timedelta(hours=i)
        values.append((f"{at:%H}:{at:%M}", used / 1_000_000, micros(used)))
    rows = tuple(Row(f"hour-{i}", cells(Cell(name), Cell(said))) for i, (name, _, said) in enumerate(values))
    twin = Table("hours", columns("Hour from (UTC)*", "Cost#"), rows, Empty("Nothing was spent."), title="Cost by hour")
    svg = charts.columns(values, label="Cost in each of the last 24 hours")
    note = f"{micros(burned.total)} by {burned.runs} runs that ended." + (
        f" Of the latest {spending.ENDS} runs only." if burned.cut else "")  # fmt: skip
    return Chart("cost", "Cost by hour, last 24 h", svg, twin, note=note)


def _spenders(view: View, burned: spending.Burn) -> Table:
    ranked = sorted(((sum(h), uid) for uid, h in burned.agents.items() if uid), reverse=True)[:_TOP]
    rows = []
    for used, uid in ranked:
        agent = view.snapshot.get_by_uid(uid)
        if agent is None:
            continue
        share = used / burned.total if burned.total else 0.0
        rows.append(
            Row(
                f"spender-{uid}",
                cells(
                    Cell(agent.name, links.of(agent.key)),
                    Cell(bar=Bar(share, f"{share:.0%}")),
                    Cell(micros(used)),
                    Cell(spark=tuple(float(v) for v in burned.of(uid))),
                ),
            )
        )
    names = columns("Agent*", "Share", "Cost#", "24 h~")
    return Table(
        "spenders", names, tuple(rows), Empty("Nothing was spent in the last 24 hours."), title="Who spends most"
    )


@objects.more("Budget")
def budget_detail(view: View, budget: Resource, base: Detail) -> Detail:
    """Every limit of it."""
    status, spec = budget.status, budget.spec
    names = ("usd", "tokens", "toolCalls", "wallTime")
    rows = tuple(
        Row(
            f"limit-{n}",
            cells(
                Cell(words(n)),
                *(Cell(_amount(n, place)) for place in (
                    spec["limits"].get(n), *((status.get(p) or {}).get(n) for p in
                                             ("spent", "reserved", "granted", "remaining")))),
            ),
        )
        for n in names
        if (spec.get("limits") or {}).get(n) is not None
    )  # fmt: skip
    facts = [
        Fact("Counts", Cell(_scope(budget))),
        *objects.fact("Window", f"{spec.get('window', '')}, {spec.get('timeZone', '')}"),
        *objects.fact("At the limit", words(str(spec.get("onBreach", "")))),
        Fact("Per hour", Cell(money(status.get("burnPerHour")))),
    ]
    breach = moment(status.get("forecastBreachTime"))
    facts.append(Fact("Runs out", Cell(at=breach) if breach else Cell("it lasts for this window")))
    bar = spending.bar(budget)
    if bar:
        facts.insert(0, Fact("Spent", Cell(bar=bar)))
    heads = columns("Limit*", "Allowed#", "Spent#", "Reserved#~", "Granted#~", "Left#")
    return objects.widened(base, facts=facts, main=[Table("limits", heads, rows, Empty("No limits."), title="Limits")])


def _amount(name: str, value: object) -> str:
    if value is None:
        return "-"
    return money(value) if name == "usd" else number(value) if isinstance(value, int) else str(value)


# Tools.


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


# Sync.


def sync(view: View) -> Listing:
    """Sources and their units: what is in force, what is not and why, what waits to be confirmed."""
    found, more = view.objects("Source")
    parts: list[Table | Text | Chart] = [_sources(view, found, more)]
    errors = tuple(
        Row(
            f"error-{s.uid}-{u}-{i}",
            cells(Cell(_place(e)[0], mono=True), Cell(_place(e)[1]), Cell(s.name, links.of(s.key))),
        )
        for s in found
        for u, unit in enumerate(s.status.get("units") or ())
        for i, e in enumerate(unit.get("errors") or ())
    )
    none = Empty("Everything compiles.")
    parts.append(
        Table("errors", columns("Where", "What is wrong*", "Source~"), errors[: 5 * PAGE], none, title="Errors")
    )
    parts.append(_units(found))
    for source in found:
        for unit in source.status.get("units") or ():
            parts += [_plan(view, source, unit, plan) for plan in unit.get("pending") or ()]
    last = view.snapshot.events(types=[EventType.DRIFT_CORRECTED], limit=20, newest_first=True)
    drift = tuple(
        Row(f"e-{e.seq}", cells(Cell(at=e.at), Cell(f"{words(e.subject.kind)} {e.subject.name}", links.of(e.subject)),
                                Cell(e.message)))
        for e in last
    )  # fmt: skip
    parts.append(Table("drift", columns("When", "Object", "What was put back*"), drift, Empty("Nothing drifted."),
                       title="Drift put back"))  # fmt: skip
    parts.append(_parts(view))
    look = acts("Look at the source now", Act(view.commands.verb("sync")))
    return Listing("Sync", tuple(parts), acts=tuple(look))


def _parts(view: View) -> Table:
    """The parts of the engine."""
    rows = tuple(
        Row(
            f"part-{part.name}",
            cells(
                Cell(
                    mark=Mark("tick", "works", Tone.GOOD)
                    if part.ok
                    else Mark("warn", words(str(part.state)), Tone.WARN)
                ),
                Cell(part.name),
                Cell(part.problem or "-"),
                Cell(number(part.restarts)),
                Cell(at=part.since),
            ),
            attention=bool(part.problem),
        )
        for part in view.site.health()
    )
    none = Empty("This process serves pages only: the engine runs elsewhere.")
    names = columns("State", "Part*", "Problem", "Crashes#", "Since~")
    return Table("parts", names, rows, none, title="Parts of the engine")


def _place(text: object) -> tuple[str, str]:
    """``file:line:column`` and the rest of an error."""
    import re

    whole = str(text)
    found = re.match(r"^(\S+?:\d+(?::\d+)?):?\s+(.*)$", whole, re.DOTALL)
    return (found[1], found[2]) if found else ("-", whole)


def _sources(view: View, found: list[Resource], more: str) -> Table:
    rows = []
    for source in found:
        revision = str(source.status.get("revision") or "-")
        rows.append(
            Row(
                f"row-{source.uid}",
                cells(
                    Cell(mark=marks.ready(source.status)),
                    Cell(source.name, links.of(source.key), note=str(source.spec.get("url", ""))),
                    Cell(revision.replace("refs/heads/", "")[:60], mono=True),
                    Cell(at=moment(source.status.get("lastSyncTime"))) if source.status.get("lastSyncTime")
                    else Cell("never"),
                    Cell(str(source.status.get("signer") or "-")),
                    Cell(number(sum(int(u.get("driftCorrected", 0)) for u in source.status.get("units") or ()))),
                ),
            )
        )  # fmt: skip
    names = columns("State", "Source*", "Revision~", "Read", "Signed by~", "Put back#~")
    return Table("sources", names, tuple(rows), Empty("No source is configured."), more=more)


def _units(found: list[Resource]) -> Table:
    rows = tuple(
        Row(
            f"unit-{s.uid}-{i}",
            cells(
                Cell(mark=_unit_mark(u)),
                Cell(str(u.get("path", "")), mono=True, note=str(u.get("message") or "")),
                Cell(number(u.get("objects", 0))),
                Cell(str(u.get("appliedRevision") or "nothing")[-12:], mono=True),
                Cell(at=moment(u.get("appliedAt"))) if u.get("appliedAt") else Cell("never"),
            ),
            attention=bool(u.get("errors") or u.get("pending")),
        )
        for s in found
        for i, u in enumerate(s.status.get("units") or ())
    )
    names = columns("State", "Unit*", "Objects#", "In force~", "Since")
    return Table("units", names, rows[: 5 * PAGE], Empty("Nothing was read yet."), title="Units")


def _unit_mark(unit: dict[str, object]) -> Mark:
    reason = str(unit.get("reason", ""))
    if unit.get("errors"):
        return Mark("fail", "does not compile", Tone.BAD)
    if unit.get("pending"):
        return Mark("ask", "plan held", Tone.WARN)
    if unit.get("revision") == unit.get("appliedRevision"):
        return Mark("tick", "in force", Tone.GOOD)
    return Mark("drift", words(reason) or "out of sync", Tone.WARN)


def _plan(view: View, source: Resource, unit: dict[str, object], plan: dict[str, object]) -> Text:
    def listed(name: str) -> list[str]:
        value = plan.get(name)
        return [str(v) for v in value] if isinstance(value, list | tuple) else []

    lines = [f"delete {d}" for d in listed("deletes")] + [f"loosen {w}" for w in listed("widens")]
    command = view.commands.confirm(str(plan.get("digest", "")))
    lines += ["", f"To let it through: {command}"] if command else []
    body, hidden = block("\n".join(lines))
    title = f"Held plan of {source.name} {unit.get('path', '')}: {plan.get('message', '')}"
    return Text(f"plan-{source.uid}-{plan.get('digest', '')}", title, body, hidden)


@objects.more("Source")
def source_detail(view: View, source: Resource, base: Detail) -> Detail:
    """Its units, errors and held plans."""
    status = source.status
    facts = [
        *objects.fact("From", source.spec.get("url"), mono=True),
        *objects.fact("Ref", source.spec.get("ref")),
        *objects.fact("Revision", status.get("revision"), mono=True),
        *([Fact("Read", Cell(at=moment(status["lastSyncTime"])))] if status.get("lastSyncTime") else []),
        *objects.fact("Signed by", status.get("signer")),
        *objects.fact("Refused", status.get("refusedRevision"), mono=True),
    ]
    main: list[Table | Text | Chart] = [_units([source])]
    found = []
    for unit in status.get("units") or ():
        for plan in unit.get("pending") or ():
            main.insert(0, _plan(view, source, unit, plan))
            found += acts("Let the plan through", Act(view.commands.confirm(str(plan.get("digest", "")))))
        if unit.get("errors"):
            body, hidden = block("\n".join(str(e) for e in unit["errors"]))
            main.insert(0, Text(f"errors-{unit.get('path', '')}", f"Errors in {unit.get('path', '')}", body, hidden))
    return objects.widened(base, facts=facts, main=main, acts=found)
