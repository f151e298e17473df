"""How ``remit describe`` tells of a session and a thread: what waits, what was decided, who has read how far."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from cli import limits
from cli.output import age
from schemas.base import Key
from schemas.session import SessionStatus
from schemas.thread import ThreadStatus

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Snapshot

Sections = list[tuple[str, list[str]]]
_DECIDED = 10
_TEXT = 80


def session(snapshot: Snapshot, resource: Resource, now: datetime) -> Sections:
    """Titles and their lines, of a session."""
    status = SessionStatus.model_validate(resource.status)
    waits = []
    if status.queue:
        waits.append(f"to go out, in this order: {_texts(snapshot, resource, status.queue)}")
    if status.inbound:
        waits.append(f"not seen by its agent: {_texts(snapshot, resource, status.inbound)}")
    for follow_up in status.follow_ups:
        word = "said" if follow_up.say else "told to its agent"
        due = age(now, follow_up.due_at) if follow_up.due_at > now else "now"
        waits.append(f"{word} in {due}: {_cut(follow_up.text)}")
    if status.blocked:
        waits.append(f"stopped by a limit so far: {status.blocked}")
    commands = [f"/{c.name}: {c.description or 'no description'}" for c in status.commands]
    events = [
        e for e in snapshot.events(subject_uid=resource.uid, newest_first=True, limit=200) if "sequence" in e.data
    ]
    decided = [
        f"{event.data['sequence']}  {age(event.at, now)} ago  {event.type} {event.reason}: {_cut(event.message)}"
        for event in reversed(events[:_DECIDED])
    ]
    found = [
        ("Autonomy", limits.session_lines(resource.status, now)),
        ("Waits", waits),
        ("Commands", commands),
        (f"What was decided, by its number (the last {len(decided)})", decided),
    ]
    return [(title, lines) for title, lines in found if lines]


def thread(resource: Resource) -> Sections:
    """Of a thread: who has read how far."""
    status = ThreadStatus.model_validate(resource.status)
    readers = [
        f"{r.subject}: read {r.read} of {status.messages}"
        + (f", mentioned {r.mentions} times since" if r.mentions else "")
        + ("" if r.subscribed else " (left)")
        for r in status.readers
    ]
    return [("Readers", readers)] if readers else []


def _texts(snapshot: Snapshot, resource: Resource, names: Iterable[str]) -> str:
    keys = [Key("Message", resource.namespace, name) for name in names]
    there = snapshot.get_many(keys)
    return "; ".join(_cut(str(there[key].spec["text"])) for key in keys if key in there)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TEXT else line[: _TEXT - 3] + "..."
