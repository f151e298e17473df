"""The specs themselves: sources, their plans, and what is wrong with them."""

from __future__ import annotations

from api.dashboard import links, marks
from api.dashboard.facts import objects
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
from api.dashboard.marks import Mark, Tone
from api.dashboard.text import block, moment, number, words
from schemas.event import EventType
from schemas.resource import Resource


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
