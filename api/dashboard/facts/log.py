"""What happened, as a grid; what people are told; what can be found; what is configured."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from api.dashboard import links, marks
from api.dashboard.facts import fleet, objects
from api.dashboard.facts.frame import TOLD
from api.dashboard.facts.shapes import Act as ActOf
from api.dashboard.facts.shapes import Cell, Choice, Empty, Listing, Row, Tab, Table, acts, cells, columns
from api.dashboard.facts.view import PAGE, View
from api.dashboard.text import moment, sentence, who, words
from schemas import registry
from schemas.event import EventType
from store.contract import Event

_TYPES = tuple(t.value for t in EventType)
_SPANS = {"1h": 1, "24h": 24, "7d": 168}
_LOOKED = 2000
"""Rows that are looked through for a text or a kind."""


def events(view: View) -> Listing:
    """The log, newest first, by pages; filters of the store, and of the latest rows for a text."""
    query = view.query
    type_ = view.wanted("type", _TYPES)
    kind = view.wanted("kind", tuple(n.kind for n in registry.NAMES))
    since = _SPANS.get(view.wanted("since", tuple(_SPANS)), 0)
    text = query.get("q", "")[:200].strip().lower()
    uid = query.get("uid", "")[:64]
    before = int(query["before"]) if query.get("before", "").isdigit() and len(query["before"]) < 16 else None
    looks = bool(text or kind)
    found = view.snapshot.events(
        before=before,
        subject_uid=uid or None,
        types=[type_] if type_ else None,
        namespace=view.namespace,
        since=view.now - timedelta(hours=since) if since else None,
        limit=_LOOKED if looks else PAGE + 1,
        newest_first=True,
    )
    looked = found
    if looks:
        found = [e for e in found if (not kind or e.subject.kind == kind) and (not text or text in _all(e))]
    shown = found[:PAGE]
    last = shown[-1].seq if len(found) > PAGE else looked[-1].seq if looks and len(looked) == _LOOKED else None
    more = links.query("/events", {**query, "before": str(last)}) if last else ""
    rows = tuple(_row(line) for line in fleet.lines(shown))
    heads = columns("Number#~", "When", "What", "On", "Said*", "Who~", "Why~")
    empty = Empty("No event matches.", href="/events", link="Show all events")
    note = f"Texts and kinds are looked for in the next {_LOOKED:,} rows." if looks else ""
    table = Table("log", heads, rows, empty, more=more, more_text="Older events", note=note)
    choices = (
        Choice("type", "What", type_, tuple((t, sentence(t)) for t in _TYPES)),
        Choice("kind", "On", kind, tuple((n.kind, sentence(n.kind)) for n in registry.NAMES)),
        Choice("since", "Since", view.wanted("since", tuple(_SPANS)), tuple((s, f"last {s}") for s in _SPANS)),
        Choice("q", "Text", query.get("q", "")[:200]),
    )
    export = acts("Take it along", ActOf(view.commands.verb("events", end="-o json")))
    asked = {"types": type_, "namespace": view.namespace or "", "uid": uid}
    files = tuple(
        Tab(text, links.query("/api/v1/events/export", {"format": form, **asked}), False)
        for text, form in (("CSV", "csv"), ("JSON lines", "jsonl"))
    )
    return Listing("Event log", (table,), choices=choices, acts=tuple(export), files=files)


def _all(event: Event) -> str:
    return " ".join((event.message, event.reason, event.subject.name, event.actor.subject)).lower()


def _row(line: fleet.Line) -> Row:
    event = line.event
    mark = marks.Mark(line.glyph, words(event.type), marks.Tone(line.tone))
    return Row(
        line.id,
        cells(
            Cell(str(event.seq)),
            Cell(at=event.at),
            Cell(mark=mark),
            Cell(event.subject.name, line.href, note=words(event.subject.kind)),
            Cell(line.text),
            Cell(who(event.actor.subject)),
            Cell(words(event.reason)),
        ),
    )


def notifications(view: View) -> Listing:
    """What people are told: open alerts, then what happened that wants eyes. Unread ones are marked by the browser."""
    alerts = view.snapshot.objects("Alert", namespace=view.namespace, states=["Open", "Acknowledged"], limit=PAGE)
    order = {"Critical": 0, "High": 1, "Medium": 2, "Low": 3}
    alerts.sort(key=lambda a: (order.get(str(a.spec.get("severity")), 9), a.name))
    rows = tuple(
        Row(
            f"alert-{a.uid}",
            cells(
                Cell(mark=marks.severity(str(a.spec.get("severity", "")))),
                Cell(str(a.spec.get("title", "")), links.of(a.key), note=str(a.spec.get("message", ""))),
                Cell(str(a.spec.get("subject", "")).rpartition("/")[2], links.to(str(a.spec.get("subject", "")))),
                Cell(str(a.status.get("count", 1))),
                Cell(at=moment(a.status.get("lastSeen")) or a.created_at),
                Cell(str(a.status.get("acknowledgedBy") or "-")),
            ),
            attention=a.state == "Open",
        )
        for a in alerts
    )
    heads = columns("Severity", "Alert*", "About", "Times#~", "Last", "Looked after by~")
    told = view.snapshot.events(types=TOLD, namespace=view.namespace, limit=60, newest_first=True)
    lines = tuple(objects.event_row(line) for line in fleet.lines(told))
    return Listing(
        "Notifications",
        (
            Table("alerts", heads, rows, Empty("No alert is open."), title="Alerts"),
            Table("told", columns("When", "What", "On", "Said*", "Who~"), lines,
                  Empty("Nothing happened that people are told about."), title="Told lately"),
        ),
    )  # fmt: skip


def settings(view: View) -> Listing:
    """What is configured, and where each value comes from. It is changed in remit.yaml."""
    rows = tuple(
        Row(f"setting-{s.key}", cells(Cell(s.key, mono=True), Cell(s.value, mono=True), Cell(s.origin or "-")))
        for s in view.site.settings
    )
    kinds = tuple(
        Row(f"kind-{n.kind}", cells(Cell(n.kind, links.PAGES.get(n.kind, f"/{n.plural}")),
                                    Cell(f"{view.snapshot.count(n.kind):,}"),
                                    Cell(words(n.object_class.value))))
        for n in registry.NAMES
        if n.kind not in ("Event", "Timer", "Effect")
    )  # fmt: skip
    figures = tuple(
        Row(f"figure-{name}", cells(Cell(sentence(name.replace("_", " "))), Cell(f"{value:,.10g}")))
        for name, value in view.site.figures().items()
    )
    first = acts(
        "Change it", ActOf(note="Edit remit.yaml, or set REMIT_* or a flag; then start the engine again."),
        ActOf(view.commands.verb("doctor"), label="Look for what is wrong"),
    )  # fmt: skip
    version = f"Remit {view.site.version}" if view.site.version else "Remit"
    none = Empty("This engine was started without telling its configuration to the pages.")
    return Listing(
        "Settings",
        (
            Table("settings", columns("Setting*", "Value", "From~"), rows, none, title="Configuration in force"),
            Table(
                "figures",
                columns("Figure*", "Now#"),
                figures,
                Empty("This engine leads no queues now."),
                title="The process now",
            ),
            Table("kinds", columns("Kind*", "Objects#", "Class~"), kinds, Empty(""), title="What the store holds"),
        ),
        lead=f"{version}. Nothing here can be changed from this page.",
        acts=tuple(first),
    )


FOUND = 50
"""Hits that are asked for."""


def search(view: View) -> Listing:
    """Objects and rows of the log by words; ``kind: agent: state: ns:`` narrow it."""
    text = view.query.get("q", "")[:200].strip()
    choices = (Choice("q", "Find", text),)
    lead = "Words of names, titles, texts and the log. kind: agent: state: ns: narrow it (kind:mission state:blocked)."
    if not text:
        return Listing("Search", (), lead=lead, choices=choices)
    rows = []
    for index, hit in enumerate(view.find(text)):
        title, piece = hit["title"], hit["snippet"]
        seq = hit["seq"]
        href = f"/events?before={seq + 1}#e-{seq}" if seq else links.page(hit["kind"], hit["namespace"], hit["name"])
        state = Cell(mark=marks.state(hit["kind"], hit["state"])) if hit["state"] else Cell("-")
        rows.append(
            Row(
                f"hit-{hit['uid']}-{seq or index}",
                cells(
                    Cell("event" if seq else words(hit["kind"])),
                    Cell(title["text"] or hit["name"], href, ranges=_ranges(title), note=hit["name"]),
                    Cell(piece["text"], ranges=_ranges(piece)),
                    state,
                    Cell(at=moment(hit["at"])),
                ),
            )
        )
    note = f"The best {FOUND}: add a word for others." if len(rows) == FOUND else ""
    empty = Empty(f"Nothing was found for: {text}", command=view.commands.verb("get", "missions"))
    table = Table("found", columns("Kind", "Name*", "Text~", "State", "When~"), tuple(rows), empty, note=note)
    return Listing("Search", (table,), choices=choices)


def _ranges(piece: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in piece["ranges"])


def others(view: View) -> Listing:
    """The list of a kind that has no page of its own, by its printer columns."""
    info = registry.by_name(view.place.get("plural", ""))
    found, more = view.objects(info.kind)
    rows = tuple(
        Row(
            f"row-{r.uid}",
            cells(
                Cell(mark=marks.state(info.kind, r.state) if r.state else marks.ready(r.status)),
                Cell(r.name, links.of(r.key), note=r.namespace),
                Cell(at=r.created_at),
            ),
        )
        for r in found
    )
    title = sentence(info.plural)
    return Listing(title, (Table(info.plural, columns("State", "Name*", "Created"), rows,
                                 Empty(f"There are no {words(info.plural)}."), more=more),),
                   lead=info.description)  # fmt: skip
