"""What work may cost, and what it did."""

from __future__ import annotations

from datetime import timedelta

from api.dashboard import charts, links, marks
from api.dashboard.facts import objects, spending
from api.dashboard.facts.shapes import (
    Bar,
    Cell,
    Chart,
    Detail,
    Empty,
    Fact,
    Listing,
    Row,
    Table,
    cells,
    columns,
)
from api.dashboard.facts.view import View
from api.dashboard.marks import Mark, Tone
from api.dashboard.text import micros, moment, money, number, plain, words
from schemas.resource import Resource

_TOP = 10


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
