"""What is due when: calendar."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion, feeds, output, span
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from decisions.feed import Entry


class CalendarFormat(StrEnum):
    """Values of ``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    ICS = "ics"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("calendar")(calendar)


def calendar(
    context: typer.Context,
    since: Annotated[
        str | None, typer.Option("--from", help="Begin: a day (2026-11-21), or a moment (2026-11-21T09:00Z); now.")
    ] = None,
    length: Annotated[str, typer.Option("--for", help="How far to look, such as 12h or 7d.")] = "7d",
    agent: Annotated[
        str | None,
        typer.Option("--agent", help="Only what this agent does.", autocompletion=completion.of("agent")),
    ] = None,
    time_zone: Annotated[str, typer.Option("--time-zone", "-z", help="Zone of the times that are shown.")] = "UTC",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
    form: Annotated[CalendarFormat, typer.Option("--output", "-o", help="How to print it.")] = CalendarFormat.TABLE,
) -> None:
    """Show what is due when: schedules that fire, work under way, deadlines, to-dos, looks at goals.

    -o ics gives a file for any calendar program. An end with ~ is expected from how long such work took lately.

    Examples:
      remit calendar --for 24h
      remit calendar --agent auditor -z Europe/Berlin
      remit calendar -A --for 30d -o ics > remit.ics
    """
    from controllers.calendars import entries, ics

    zone = span.zone_of(time_zone)
    begin, end = span.window(since, length, zone)
    scope = None if all_namespaces else namespace
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        found = entries.gather(snapshot, begin, end, namespace=scope)
        if agent is not None:
            key = common.key_named(agent, namespace, default_kind="agent")
            common.object_named(snapshot, key)
    shown = [entry for entry in found.entries if agent is None or entry.agent == key]
    if form is CalendarFormat.ICS:
        from cli import moment

        typer.echo(ics.render(shown, f"Remit {scope or 'all namespaces'}", moment.now()), nl=False)
    elif form is CalendarFormat.TABLE:
        _print(shown, zone, namespaces=all_namespaces)
    else:
        document = feeds.as_document(shown, found, begin, end)
        print(output.dump_json(document) if form is CalendarFormat.JSON else output.dump_yaml(document))
    for schedule, first in sorted(found.cut.items()):
        typer.echo(
            f"{schedule.short} fires more often: nothing of it is shown from {first:%Y-%m-%d %H:%M} UTC", err=True
        )


def _print(shown: list[Entry], zone: Any, *, namespaces: bool) -> None:
    if not shown:
        print("nothing is due in this time; schedules stand in files of kind Schedule: remit explain schedule")
        return
    body = []
    for entry in shown:
        start = entry.start if entry.all_day else entry.start.astimezone(zone)
        day, clock = f"{start:%a %Y-%m-%d}", "all day" if entry.all_day else f"{start:%H:%M}"
        if entry.end is not None and not entry.all_day:
            clock += f" - {'~' if entry.expected else ''}{entry.end.astimezone(zone):%H:%M}"
        place = [entry.subject.namespace or "-"] if namespaces else []
        agent = entry.agent.name if entry.agent is not None else "-"
        body.append([day, clock, entry.sort.value, *place, entry.subject.short, agent, output.safe(entry.title)[:60]])
    last = ""
    for row in body:
        row[0], last = ("" if row[0] == last else row[0]), row[0]
    header = ["DAY", "TIME", "WHAT", *(["NAMESPACE"] if namespaces else []), "OBJECT", "AGENT", "TITLE"]
    print(output.table(body, header))
