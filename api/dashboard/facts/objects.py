"""An object told in full: what it is, how it stands, why, what a person can do, what happened. Kinds add what only they
have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from api.dashboard import links, marks
from api.dashboard.facts import fleet, waiting
from api.dashboard.facts.shapes import (
    Act,
    Acts,
    Cell,
    Chart,
    Detail,
    Empty,
    Fact,
    Row,
    Table,
    Text,
    acts,
    cells,
    columns,
)
from api.dashboard.facts.view import View
from api.dashboard.marks import Mark
from api.dashboard.text import block, line, moment, plain, sentence, who, words, yaml_text
from decisions.fields import masked
from schemas import registry
from schemas.base import Key
from schemas.resource import Resource

EVENTS = 30
_SMALL = 24
"""Fields of status that are shown one by one."""


def detail(view: View, resource: Resource) -> Detail:
    """The page of an object of any kind."""
    more = _MORE.get(resource.kind)
    base = _base(view, resource)
    return more(view, resource, base) if more else base


def _base(view: View, resource: Resource) -> Detail:
    info = registry.by_kind(resource.kind)
    mark = marks.state(resource.kind, resource.state) if resource.state else marks.ready(resource.status)
    home = links.PAGES.get(resource.kind, f"/{info.plural}")
    title = next(
        (str(resource.spec[f]) for f in ("title", "displayName", "objective") if resource.spec.get(f)), resource.name
    )
    found = marks_of(resource, mark)
    parts: list[Table | Text | Chart] = [*_conditions(resource), events(view, resource), *spec_parts(view, resource)]
    return Detail(
        title=title,
        crumbs=((sentence(info.plural) if resource.kind not in _HOMES else _HOMES[resource.kind], home),),
        facts=tuple(_facts(view, resource)),
        marks=found,
        waits=tuple(waiting.waits(view, resource)),
        main=tuple(parts),
        side=(),
        acts=tuple(general_acts(view, resource)),
        lead=line(resource.spec.get("description") or "", 600),
        uid=resource.uid,
        json=links.wire(resource.key),
    )


_HOMES = {"ToolServer": "Skills and tools", "Source": "Sync", "Schedule": "Cron", "Session": "Chat", "Todo": "To-dos",
          "ApprovalRequest": "Approvals"}  # fmt: skip


def marks_of(resource: Resource, mark: Mark) -> tuple[Mark, ...]:
    """Two axes, never one merged word: how it stands, and whether it is as declared."""
    found = [mark]
    if resource.deletion_at is not None:
        found.append(Mark("slash", "being deleted", marks.Tone.WARN))
    observed = resource.status.get("observedGeneration")
    if resource.provenance is not None and resource.kind != "Run":
        behind = observed not in (None, resource.generation)
        found.append(
            Mark("drift", "out of sync", marks.Tone.WARN) if behind else Mark("tick", "in sync", marks.Tone.GOOD)
        )
    held = str(resource.status.get("held") or "")
    if held:
        found.append(marks.state(resource.kind, held))
    return tuple(found)


def _facts(view: View, resource: Resource) -> list[Fact]:
    found = [Fact(sentence(resource.kind), Cell(resource.name, mono=True))]
    if resource.namespace:
        found.append(Fact("Namespace", Cell(resource.namespace)))
    origin = resource.provenance
    if origin is not None:
        source = view.snapshot.get(Key("Source", "default", origin.source))
        out = links.declared(str(source.spec.get("url", "")), origin) if source is not None else None
        found.append(Fact("Declared at", Cell("" if out else origin.place, mono=True), out))
    elif resource.manager:
        found.append(Fact("Managed by", Cell(resource.manager)))
    found.append(Fact("Created", Cell(at=resource.created_at)))
    if resource.owner_uid:
        owner = view.snapshot.get_by_uid(resource.owner_uid)
        if owner is not None:
            found.append(Fact("Part of", Cell(f"{words(owner.kind)} {owner.name}", links.of(owner.key))))
    if resource.labels:
        found.append(Fact("Labels", Cell(", ".join(f"{k}={v}" for k, v in sorted(resource.labels.items())))))
    return found


def _conditions(resource: Resource) -> list[Table]:
    found = resource.to_wire()["status"].get("conditions") or []
    rows = tuple(
        Row(
            f"cond-{c.get('type')}",
            cells(
                Cell(str(c.get("type", ""))),
                Cell(mark=_condition_mark(c)),
                Cell(words(str(c.get("reason", "")))),
                Cell(str(c.get("message", ""))),
                Cell(at=moment(c.get("lastTransitionTime"))),
            ),
        )
        for c in found
    )
    names = columns("Condition", "Status", "Reason", "Message*", "Since~")
    return [Table("conditions", names, rows, Empty("None yet."), title="Conditions")] if rows else []


_WANT_FALSE = ("Suspended", "Outdated")


def _condition_mark(condition: dict[str, Any]) -> Mark:
    good = "False" if condition.get("type") in _WANT_FALSE else "True"
    status = str(condition.get("status", "Unknown"))
    if status == "Unknown":
        return Mark("unknown", "unknown", marks.Tone.CALM)
    if status == good:
        return Mark("tick", status.lower(), marks.Tone.GOOD)
    if condition.get("type") == "Succeeded" and condition.get("reason") in ("Pending", "Waiting", "Running"):
        return Mark("ring", status.lower(), marks.Tone.CALM)
    return Mark("warn", status.lower(), marks.Tone.WARN)


def events(view: View, resource: Resource, *, title: str = "What happened") -> Table:
    """The latest rows of the log about it."""
    found = view.snapshot.events(subject_uid=resource.uid, limit=EVENTS + 1, newest_first=True)
    rows = [event_row(line_) for line_ in fleet.lines(found[:EVENTS])]
    more = links.query("/events", {"uid": resource.uid}) if len(found) > EVENTS else ""
    return Table(
        "events", columns("When", "What", "On~", "Said*", "Who~"), tuple(rows), Empty("Nothing happened to it yet."),
        title=title, more=more, more_text="All events",
    )  # fmt: skip


def event_row(told: fleet.Line) -> Row:
    """An event as a row of a table."""
    event = told.event
    mark = Mark(told.glyph, words(event.type), marks.Tone(told.tone))
    return Row(
        told.id,
        cells(
            Cell(at=event.at), Cell(mark=mark), Cell(f"{words(event.subject.kind)} {event.subject.name}", told.href),
            Cell(told.text), Cell(who(event.actor.subject)),
        ),
    )  # fmt: skip


def spec_parts(view: View, resource: Resource) -> list[Text]:
    """Spec and the plain rest of status as YAML, secrets masked."""
    found = []
    if resource.spec:
        body, hidden = block(yaml_text(masked(resource.spec)))
        note = f"generation {resource.generation}"
        numbered = resource.kind != "Run"
        found.append(Text("spec", "Spec", body, hidden, open=False, numbered=True, anchored=numbered, note=note))
    rest = {k: v for k, v in resource.status.items() if k not in ("conditions", "transitions", "seenKeys")}
    if rest:
        body, hidden = block(yaml_text(masked(rest)))
        found.append(Text("status", "Status", body, hidden, open=False))
    return found


def general_acts(view: View, resource: Resource) -> list[Acts]:
    """What can be done with any object: change where it is declared, look closer from a terminal."""
    commands, key = view.commands, resource.key
    found: list[Acts] = []
    origin = resource.provenance
    if origin is not None:
        source = view.snapshot.get(Key("Source", "default", origin.source))
        out = links.declared(str(source.spec.get("url", "")), origin) if source is not None else None
        place = f"It is declared at {line(origin.place, 200)}; commit a change there."
        found += acts("Change the plan", Act(out=out) if out else Act(note=place))
    info = registry.by_kind(resource.kind)
    if resource.kind in ("Agent", "Executor", "Schedule", "Goal", "Project"):
        found += acts("Stop it for a while", Act(commands.verb("hold", key=key, end="--for 2h --reason '...'")))
    if resource.kind == "Hold":
        whole = resource.spec.get("scope") is not None and resource.spec.get("mode") == "Stop"
        command = (
            commands.verb("estop", "release", end="--reason '...'")
            if whole
            else commands.verb("release", key=key, target=resource.name, end="--reason '...'")
        )
        found = acts("End it", Act(command)) + found
    terminal = [Act(commands.verb("describe", key=key))]
    if info.object_class.value == "Intent":
        terminal.append(Act(commands.verb("timeline", key=key)))
    found += acts("From a terminal", *terminal)
    if not info.own_table:
        look = Act(commands.kubectl("describe", info.plural, key), label="What it is")
        whole_ = Act(commands.kubectl("get", info.plural, key, end="-o yaml"), label="All of it")
        found += acts("With kubectl, which only reads here", look, whole_, folded=True)
    return found


def args_text(view_id: str, title: str, value: Any) -> Text:
    """JSON exactly as it is kept, for what is approved: every character counts."""
    body, hidden = block(json.dumps(value, indent=2, ensure_ascii=False))
    return Text(view_id, title, body, hidden)


def fact(name: str, value: Any, *, href: str = "", mono: bool = False) -> list[Fact]:
    """A fact, unless there is none."""
    return [Fact(name, Cell(plain(value), href, mono=mono))] if value not in (None, "", [], {}) else []


def ref_fact(name: str, kind: str, value: Any, namespace: str) -> list[Fact]:
    """A fact that leads to another object."""
    key = links.ref(kind, value, namespace)
    return [Fact(name, Cell(key.name, links.of(key)))] if key is not None else []


def widened(
    base: Detail,
    *,
    facts: list[Fact] | None = None,
    main: list[Table | Text | Chart] | None = None,
    side: list[Table | Text | Chart] | None = None,
    acts: list[Acts] | None = None,
    crumbs: tuple[tuple[str, str], ...] = (),
    title: str = "",
) -> Detail:
    """``base`` with more in front of what every object has."""
    return replace(
        base,
        title=title or base.title,
        facts=(*base.facts[:1], *(facts or ()), *base.facts[1:]),
        main=(*(main or ()), *base.main),
        side=(*(side or ()), *base.side),
        acts=(*(acts or ()), *base.acts),
        crumbs=(*base.crumbs, *crumbs),
    )


More = Callable[[View, Resource, Detail], Detail]
_MORE: dict[str, More] = {}


def more(kind: str) -> Callable[[More], More]:
    """Registers what only a kind has."""

    def put(function: More) -> More:
        _MORE[kind] = function
        return function

    return put
