"""Telling the story of an object: timeline."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common, completion, output
from cli.event_log import print_events, uid_of
from cli.output import Format, safe
from schemas.base import DEFAULT_NAMESPACE
from schemas.quantities import format_time

if TYPE_CHECKING:
    from schemas.resource import Resource


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("timeline")(timeline)


def timeline(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="KIND/NAME; a bare name is a mission.", metavar="KIND/NAME", autocompletion=completion.target
        ),
    ],
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    form: common.Output = Format.TABLE,
) -> None:
    """Tell the story of one object: what happened, who did it, why, what it cost, what comes next.

    Examples:
      remit timeline check-links
      remit timeline agent/links -o json
    """
    key = common.key_named(target, namespace, default_kind="mission")
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        uid = uid_of(snapshot, f"{key.kind}/{key.name}", key.namespace)
        resource = snapshot.get(key)
        found = snapshot.events(subject_uid=uid, limit=10_000)
        if form in (Format.JSON, Format.YAML):
            print_events(found, form)
            return
        previous: datetime | None = None
        for event in found:
            gap = "" if previous is None else f"+{output.age(previous, event.at)}"
            previous = event.at
            name = "" if event.subject == key else f" {event.subject.short}"
            what = f"{event.type}{name}: {event.message or event.reason}"
            print(safe(f"{format_time(event.at)}  {gap:>7}  {what}  [{event.actor}]"))
        if resource is not None:
            print()
            for line in _outlook(resource):
                print(safe(line))


def _outlook(resource: Resource) -> list[str]:
    """Cost so far and what comes next."""
    status = resource.status
    lines = [f"now: {resource.state}"] if resource.state else []
    spend = status.get("spend") or {}
    if spend:
        usd = spend.get("usd")
        tokens = int(spend.get("inputTokens", 0)) + int(spend.get("outputTokens", 0))
        cost = f"{usd} USD" if usd is not None else "unknown"
        lines.append(f"cost: {cost} ({spend.get('source')}), {tokens} tokens, {status.get('attempts', 0)} attempt(s)")
    for blocker in status.get("blockedOn") or []:
        until = f", until {blocker['until']}" if blocker.get("until") else ""
        lines.append(f"next: {blocker.get('hint') or blocker.get('type')}{until}")
    return lines
