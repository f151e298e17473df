"""Events as verbs find and print them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli import common, output
from cli.failures import Failure
from cli.output import Format, safe
from schemas.quantities import format_time

if TYPE_CHECKING:
    from datetime import datetime

    from store.contract import Event, Snapshot


def seconds_of(text: str) -> float:
    """A ``--since`` option in seconds."""
    from schemas.quantities import parse_duration

    try:
        return parse_duration(text).total_seconds()
    except ValueError as error:
        raise Failure(f"--since {text[:40]!r}: {error}") from None


def begin_of(text: str) -> datetime:
    """The moment that a ``--since`` option means: a while ago (2h, 7d), or the beginning of a day (UTC)."""
    from datetime import UTC, datetime, timedelta

    from cli import moment
    from schemas.quantities import parse_date

    if text.count("-") == 2:
        try:
            day = parse_date(text)
        except ValueError as error:
            raise Failure(f"--since {text[:40]!r}: {error}") from None
        return datetime(day.year, day.month, day.day, tzinfo=UTC)
    return moment.now() - timedelta(seconds=seconds_of(text))


def uid_of(snapshot: Snapshot, target: str | None, namespace: str) -> str | None:
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


def print_events(found: list[Event], form: Format) -> None:
    """Print them, one line each unless ``form`` says otherwise."""
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
