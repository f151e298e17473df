"""The log as JSON or CSV, row by row. Light: the command line uses it, too."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from typing import Any

from api.read import log
from schemas.columns import safe
from schemas.quantities import format_time
from store.contract import Event

COLUMNS = (
    "seq", "at", "type", "kind", "namespace", "name", "uid", "actor_kind", "actor", "transport", "reason", "message",
    "data", "prev_hash", "hash",
)  # fmt: skip


def following(query: log.LogQuery, page: log.LogPage | None) -> log.LogQuery | None:
    """The question for the next page, oldest rows first; ``page`` is the one before, None at the start. None at the
    end. Every page is read at a moment of its own: the log only grows, so together they are whole, and nothing is held
    open meanwhile."""
    if page is None:
        return replace(query, oldest_first=True, limit=log.MOST, before=None)
    return (
        None if page.more is None else replace(query, oldest_first=True, limit=log.MOST, before=None, after=page.more)
    )


def as_record(event: Event) -> dict[str, Any]:
    """One row with all that its hash covers, as a flat object."""
    return {
        "seq": event.seq,
        "at": format_time(event.at),
        "type": event.type,
        "kind": event.subject.kind,
        "namespace": event.subject.namespace,
        "name": event.subject.name,
        "uid": event.subject_uid,
        "actor_kind": event.actor.kind.value,
        "actor": event.actor.subject,
        "transport": event.actor.transport,
        "reason": event.reason,
        "message": event.message,
        "data": event.data,
        "prev_hash": event.prev_hash,
        "hash": event.hash,
    }


def json_lines(events: list[Event]) -> str:
    """One JSON object a line."""
    return "".join(json.dumps(as_record(e), ensure_ascii=True, separators=(",", ":")) + "\n" for e in events)


def csv_lines(events: list[Event], *, header: bool = False) -> str:
    """RFC 4180. A cell that a spreadsheet would take for a formula is quoted: agents write messages."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    if header:
        writer.writerow(COLUMNS)
    for event in events:
        record = as_record(event)
        record["data"] = json.dumps(record["data"], ensure_ascii=True, separators=(",", ":"), sort_keys=True)
        writer.writerow([_cell(record[name]) for name in COLUMNS])
    return text.getvalue()


def _cell(value: Any) -> str:
    text = safe(str(value))
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t") else text
