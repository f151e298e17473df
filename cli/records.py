"""Reading what happened: events, timeline, logs."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, output
from cli.failures import Failure
from cli.output import Format, safe
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.quantities import format_time

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Event, Snapshot


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.command("events")(events)
    app.command("timeline")(timeline)
    app.command("logs")(logs)


def events(
    context: typer.Context,
    target: Annotated[str | None, typer.Argument(help="Only those of KIND/NAME.", metavar="[KIND/NAME]")] = None,
    types: Annotated[str | None, typer.Option("--types", "-t", help="Only these types, with commas.")] = None,
    since: Annotated[str | None, typer.Option("--since", help="Only the last while: 10m, 2h, 7d.")] = None,
    tail: Annotated[int, typer.Option("--tail", min=1, max=100_000, help="At most the last so many.")] = 50,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
    form: common.Output = Format.TABLE,
    watch: common.Watch = False,
) -> None:
    """Show the log of everything that happened, oldest first.

    Examples: remit events --since 1h -w; remit events mission/check-links -o json
    """
    from controllers.runtime.clock import SystemClock

    wanted = _types(types)
    begin = SystemClock().now() - timedelta(seconds=_seconds(since)) if since else None
    with common.store_of(context, read_only=True) as store:
        with store.snapshot() as snapshot:
            uid = _uid(snapshot, target, namespace)
            scope = None if all_namespaces or uid else namespace
            found = snapshot.events(
                subject_uid=uid, types=wanted, namespace=scope, since=begin, limit=tail, newest_first=True
            )
        found.reverse()
        _print(found, form)
        if not watch:
            return
        last = found[-1].seq if found else 0
        for _ in common.follow(store):
            with store.snapshot() as snapshot:
                fresh = snapshot.events(after=last, subject_uid=uid, types=wanted, namespace=scope, limit=10_000)
            if fresh:
                last = fresh[-1].seq
                _print(fresh, form)


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


def _seconds(text: str) -> float:
    from schemas.quantities import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise Failure(f"--since {text[:40]!r}: {error}") from None


def _uid(snapshot: Snapshot, target: str | None, namespace: str) -> str | None:
    """The uid of the object, or of the last one of that name when it is gone."""
    if target is None:
        return None
    key = common.key_named(target, namespace)
    found = snapshot.get(key)
    if found is not None:
        return found.uid
    past = snapshot.events(subject=key, limit=1, newest_first=True)
    if past:
        return past[0].subject_uid
    raise Failure(f"there is no {key.short} and never was", hint=f"remit get {key.kind.lower()}s -A")


def _wire(event: Event) -> dict[str, Any]:
    return {
        "seq": event.seq,
        "at": format_time(event.at),
        "type": event.type,
        "subject": {
            "kind": event.subject.kind,
            "namespace": event.subject.namespace,
            "name": event.subject.name,
            "uid": event.subject_uid,
        },
        "actor": {"kind": event.actor.kind, "subject": event.actor.subject, "transport": event.actor.transport},
        "reason": event.reason,
        "message": event.message,
        "data": event.data,
        "hash": event.hash,
    }


def _print(found: list[Event], form: Format) -> None:
    if form is Format.JSON:
        print(output.dump_json(output.as_list([_wire(e) for e in found])))
    elif form is Format.YAML:
        print(output.dump_yaml(output.as_list([_wire(e) for e in found])))
    elif form is Format.NAME:
        print("\n".join(f"event/{e.seq}" for e in found))
    else:
        for e in found:
            who = f"  [{e.actor}]" if form is Format.WIDE else ""
            line = f"{format_time(e.at)}  {e.type:<18} {e.subject.short:<30} {e.reason}: {e.message}{who}"
            print(safe(line), flush=True)


def timeline(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="KIND/NAME; a bare name is a mission.", metavar="KIND/NAME")],
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    form: common.Output = Format.TABLE,
) -> None:
    """Tell the story of one object: what happened, who did it, why, what it cost, what comes next."""
    key = common.key_named(target, namespace, default_kind="mission")
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        uid = _uid(snapshot, f"{key.kind}/{key.name}", key.namespace)
        resource = snapshot.get(key)
        found = snapshot.events(subject_uid=uid, limit=10_000)
        if form in (Format.JSON, Format.YAML):
            _print(found, form)
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


def logs(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="run/NAME, or mission/NAME for its latest run.", metavar="RUN|MISSION")],
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run ends.")] = False,
    tail: Annotated[int, typer.Option("--tail", min=0, help="Only the last so many lines; 0 for all.")] = 0,
    stderr: Annotated[bool, typer.Option("--stderr", help="Only its standard error.")] = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Only its standard output.")] = False,
) -> None:
    """Print what a run's program wrote. Control characters are shown, never sent to the terminal."""
    from schemas.run import ACTIVE_STATES

    project = common.project_of(context)
    with common.store_of(context, read_only=True) as store:
        with store.snapshot() as snapshot:
            run = _run(snapshot, target, namespace)
        folder = project.state / "runs" / run.uid
        names = [n for n, on in (("stdout.log", stdout or not stderr), ("stderr.log", stderr or not stdout)) if on]
        tails = [_Tail(folder / name) for name in names]
        if not any(t.path.exists() for t in tails) and not follow:
            raise Failure(f"{run.key.short} has no log here: it was not started, or its files were cleaned up")
        for t in tails:
            t.print(last=tail)
        while follow:
            with store.snapshot() as snapshot:
                current = snapshot.get_by_uid(run.uid)
            ended = current is None or current.state not in ACTIVE_STATES
            for t in tails:
                t.print()
            if ended:
                return
            common.pause(common.POLL_S)


def _run(snapshot: Snapshot, target: str, namespace: str) -> Resource:
    key = common.key_named(target, namespace, default_kind="mission")
    found = common.object_named(snapshot, key)
    if found.kind == "Run":
        return found
    if found.kind != "Mission":
        raise Failure(f"{found.key.short} has no log: name a run or a mission", hint="remit get runs")
    name = found.status.get("currentRun") or found.status.get("lastRun")
    if not name:
        raise Failure(f"{found.key.short} has no run yet", hint=f"remit describe {found.key.short}")
    return common.object_named(snapshot, Key("Run", found.namespace, name))


class _Tail:
    """Prints a growing file from where it was left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0

    def print(self, *, last: int = 0) -> None:
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read()
                self._offset = file.tell()
        except FileNotFoundError:
            return
        text = data.decode("utf-8", "replace")
        if last:
            text = "".join(text.splitlines(keepends=True)[-last:])
        sys.stdout.write(safe(text, lines=True))
        sys.stdout.flush()
