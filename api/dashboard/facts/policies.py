"""What is allowed: policies, their rules, and what they refused."""

from __future__ import annotations

from datetime import timedelta

from api.dashboard import links, marks
from api.dashboard.facts import objects
from api.dashboard.facts.agents import covers
from api.dashboard.facts.shapes import (
    Cell,
    Chart,
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
from api.dashboard.facts.view import PAGE, View
from api.dashboard.text import number, words
from schemas.event import EventType
from schemas.resource import Resource

_CALLS = 2000


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
