"""Printing the log of everything that happened: events."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from cli import common, completion
from cli.event_log import print_events, seconds_of, uid_of
from cli.failures import Failure
from cli.output import Format
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("events")(events)


def events(
    context: typer.Context,
    target: Annotated[
        str | None,
        typer.Argument(help="Only those of KIND/NAME.", metavar="[KIND/NAME]", autocompletion=completion.target),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option("--types", "-t", help="Only these types, with commas.", autocompletion=completion.event_types),
    ] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only the last while: 10m, 2h, 7d.")] = None,
    tail: Annotated[int, typer.Option("--tail", min=1, max=100_000, help="At most the last so many.")] = 50,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
    form: common.Output = Format.TABLE,
    watch: common.Watch = False,
) -> None:
    """Show the log of everything that happened, oldest first.

    Examples:
      remit events --since 1h -w
      remit events mission/check-links -o json
      remit events --types SyncFailed,GuardRaised -A
    """
    from controllers.runtime.clock import SystemClock

    wanted = _types(types)
    begin = SystemClock().now() - timedelta(seconds=seconds_of(since)) if since else None
    with common.store_of(context, read_only=True) as store:
        with store.snapshot() as snapshot:
            uid = uid_of(snapshot, target, namespace)
            scope = None if all_namespaces or uid else namespace
            found = snapshot.events(
                subject_uid=uid, types=wanted, namespace=scope, since=begin, limit=tail, newest_first=True
            )
        found.reverse()
        print_events(found, form)
        if not watch:
            return
        last = found[-1].seq if found else 0
        for _ in common.follow(store):
            with store.snapshot() as snapshot:
                fresh = snapshot.events(after=last, subject_uid=uid, types=wanted, namespace=scope, limit=10_000)
            if fresh:
                last = fresh[-1].seq
                print_events(fresh, form)


def _types(text: str | None) -> list[str] | None:
    from difflib import get_close_matches

    from schemas.event import EventType

    if not text:
        return None
    known = {t.value.lower(): t.value for t in EventType}
    chosen = []
    for part in (p.strip() for p in text.split(",") if p.strip()):
        if part.lower() not in known:
            near = get_close_matches(part.lower(), list(known), n=2)
            hint = (
                f"did you mean {' or '.join(known[n] for n in near)}?"
                if near
                else "types: " + ", ".join(known.values())
            )
            raise Failure(f"there is no event type {part[:40]!r}", hint)
        chosen.append(known[part.lower()])
    return chosen
