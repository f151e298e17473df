"""The event log: one shape for everybody (an Event of the core group of Kubernetes, with what Remit knows beside it
under ``remit``), filters, and pages by the number of the row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from starlette.datastructures import QueryParams

from api.problems import Problem
from api.read.kube import selectors
from api.read.kube.shape import META, Form, Wanted
from api.read.kube.status import bad_request
from schemas.base import API_VERSION, DEFAULT_NAMESPACE, Key
from schemas.columns import age, safe, value_at
from schemas.event import EventType
from schemas.quantities import format_time, parse_duration, parse_time
from store.contract import Event, Snapshot

MOST = 1_000
USUAL = 100
_BATCH = 1_000
_MOST_LOOKED_AT = 200_000
_WARNINGS = frozenset(
    {
        EventType.SYNC_FAILED, EventType.HISTORY_REWRITTEN, EventType.FIELD_FIGHT, EventType.TRANSITION_REFUSED,
        EventType.REQUEST_IGNORED, EventType.APPROVAL_EXPIRED, EventType.BUDGET_EXCEEDED, EventType.BUDGET_WARNING,
        EventType.DECISION_REFUSED, EventType.KEY_REVOKED, EventType.HOLD_PLACED, EventType.EFFECT_FAILED,
        EventType.ALERT_RAISED, EventType.GUARD_RAISED,
    }
)  # fmt: skip
_COLUMNS = (("Last Seen", 0), ("Type", 0), ("Reason", 0), ("Object", 0), ("Message", 0), ("By", 1), ("Seq", 1))

_FILTERS = {
    "types": "Only these types, with commas between them.",
    "kinds": "Only about objects of these kinds.",
    "namespace": "Only this one.",
    "uid": "Only what concerns this object.",
    "actor": "Only what this one did: user:..., agent:..., controller:...",
    "since": "A time, or a while such as 24h.",
    "until": "A time, or a while such as 1h.",
    "fieldSelector": "As kubectl writes it: involvedObject.name=...",
    "order": "oldest, or else the newest first.",
    "limit": "Rows in one answer, at most 1,000.",
    "continue": "What metadata.continue of the page before says.",
}
MOMENT = "^[1-9][0-9]{0,3}[smhd]$|^20[0-9]{2}-0[1-9]-[12][0-9]T[01][0-9]:[0-5][0-9]:[0-5][0-9]Z$"
"""For OpenAPI: a time, or a while. Narrower than what is taken."""
_PATTERNS = {
    "types": f"^({'|'.join(EventType)})(,({'|'.join(EventType)}))*$",
    "since": MOMENT,
    "until": MOMENT,
    "fieldSelector": "^[A-Za-z.]{1,100}!?=[A-Za-z0-9-]{0,100}$",
    "order": "^(oldest|newest)$",
    "limit": "^[0-9]{1,4}$",
    "continue": "^[0-9]{1,15}$",
}
PARAMETERS: list[dict[str, Any]] = [
    {
        "name": name,
        "in": "query",
        "description": text,
        "schema": {"type": "string", **({"pattern": _PATTERNS[name]} if name in _PATTERNS else {})},
    }
    for name, text in _FILTERS.items()
]
"""For OpenAPI."""
REFUSED: dict[int | str, dict[str, Any]] = {
    400: {
        "description": "A Status that says what is wrong.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}


def to_wire(event: Event) -> dict[str, Any]:
    """One row."""
    at = format_time(event.at)
    namespace = event.subject.namespace or DEFAULT_NAMESPACE
    return {
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": f"event-{event.seq}",
            "namespace": namespace,
            "uid": f"event-{event.seq}",
            "resourceVersion": str(event.seq),
            "creationTimestamp": at,
        },
        "involvedObject": {
            "kind": event.subject.kind,
            "namespace": event.subject.namespace,
            "name": event.subject.name,
            "uid": event.subject_uid,
            "apiVersion": API_VERSION,
        },
        "reason": event.type,
        "message": ": ".join(part for part in (event.reason, event.message) if part),
        "source": {"component": event.actor.subject},
        "reportingComponent": event.actor.subject,
        "reportingInstance": "",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
        "type": "Warning" if event.type in _WARNINGS else "Normal",
        "remit": {
            "seq": event.seq,
            "type": event.type,
            "reason": event.reason,
            "actor": {
                "kind": str(event.actor.kind),
                "subject": event.actor.subject,
                "transport": event.actor.transport,
            },
            "data": event.data,
            "hash": event.hash,
        },
    }


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which rows. ``before`` and ``after`` are row numbers; empty sets leave a filter out."""

    types: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()
    namespace: str | None = None
    uid: str | None = None
    subject: Key | None = None
    actor: str = ""
    since: datetime | None = None
    until: datetime | None = None
    before: int | None = None
    after: int = 0
    limit: int = USUAL
    oldest_first: bool = False
    fields: selectors.Fields = field(default_factory=selectors.Fields)

    def picks(self, event: Event) -> bool:
        """The filters that the store has not."""
        return (
            (not self.kinds or event.subject.kind in self.kinds)
            and (not self.actor or event.actor.subject == self.actor)
            and (self.until is None or event.at < self.until)
            and (not self.fields.requirements or self.fields.matches(to_wire(event)))
        )


@dataclass(frozen=True, slots=True)
class LogPage:
    """``more`` is the number of the row to go on from, None at the end. ``head`` is the newest row of all."""

    events: list[Event]
    head: int
    more: int | None = None


def query_of(given: QueryParams, now: datetime, namespace: str | None = None) -> LogQuery:
    """Read the parameters: ours, and those that kubectl sends. Raises Problem (400, 422)."""
    fields = selectors.fields(given.get("fieldSelector", ""))
    kind, name = fields.equal("involvedObject.kind"), fields.equal("involvedObject.name")
    place = namespace if namespace is not None else (given.get("namespace") or fields.equal("involvedObject.namespace"))
    uid = given.get("uid") or fields.equal("involvedObject.uid")
    subject = Key(kind, place or "", name) if kind and name and not uid else None
    token = given.get("continue", "")
    oldest_first = given.get("order", "") == "oldest"
    limit = _whole(given, "limit", USUAL)
    return LogQuery(
        types=_words(given, "types", {str(t) for t in EventType}),
        kinds=_words(given, "kinds"),
        # An object outside of every namespace is asked for by its uid.
        namespace=place or None,
        uid=uid or None,
        subject=subject,
        actor=given.get("actor", ""),
        since=moment_of(given.get("since", ""), now, "since"),
        until=moment_of(given.get("until", ""), now, "until"),
        before=_whole({"continue": token}, "continue", 0) if token and not oldest_first else None,
        after=_whole({"continue": token}, "continue", 0) if token and oldest_first else _whole(given, "after", 0),
        limit=min(limit or MOST, MOST),
        oldest_first=oldest_first,
        fields=selectors.Fields(tuple(r for r in fields.requirements if not r[0].startswith("involvedObject.uid"))),
    )


def query_of_words(given: Mapping[str, str | None], now: datetime) -> LogQuery:
    """As query_of, for callers that have no request."""
    return query_of(QueryParams({name: value for name, value in given.items() if value}), now)


def _words(given: QueryParams, name: str, known: set[str] | None = None) -> frozenset[str]:
    found = frozenset(w.strip() for text in given.getlist(name) for w in text.split(",") if w.strip())
    unknown = sorted(found - known) if known is not None else []
    if unknown:
        raise Problem(422, "Invalid", f"{name}: there is no {unknown[0][:80]}")
    return found


def _whole(given: Any, name: str, usual: int) -> int:
    text = given.get(name) or str(usual)
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise bad_request(f"{name} is a whole number that is not negative")
    return int(text)


def moment_of(text: str, now: datetime, name: str) -> datetime | None:
    """A time (RFC 3339), or how long ago (2h, 7d). Raises Problem (422)."""
    if not text:
        return None
    try:
        return parse_time(text) if "T" in text else now - parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise Problem(
            422, "Invalid", f"{name} is a time such as 2026-11-21T09:00:00Z, or a while such as 2h"
        ) from error


def page(snapshot: Snapshot, query: LogQuery) -> LogPage:
    """One page, the newest first unless asked otherwise."""
    newest = snapshot.events(limit=1, newest_first=True)
    head = newest[0].seq if newest else 0
    found: list[Event] = []
    before, after, looked = query.before, query.after, 0
    while True:
        rows = snapshot.events(
            after=after, before=before, subject_uid=query.uid, subject=query.subject,
            types=sorted(query.types) or None, namespace=query.namespace if query.uid is None else None,
            since=query.since, limit=min(_BATCH, 2 * query.limit + 1), newest_first=not query.oldest_first,
        )  # fmt: skip
        for event in rows:
            if len(found) == query.limit:
                return LogPage(found, head, found[-1].seq)
            if query.picks(event):
                found.append(event)
        looked += len(rows)
        if len(rows) < min(_BATCH, 2 * query.limit + 1):
            return LogPage(found, head)
        if looked >= _MOST_LOOKED_AT:
            return LogPage(found, head, rows[-1].seq)
        before, after = (before, rows[-1].seq) if query.oldest_first else (rows[-1].seq, after)


def as_list(found: LogPage, wanted: Wanted, now: datetime) -> dict[str, Any]:
    """The answer."""
    meta: dict[str, Any] = {"resourceVersion": str(found.head)}
    if found.more is not None:
        meta["continue"] = str(found.more)
    items = [to_wire(event) for event in found.events]
    if wanted.form is Form.TABLE:
        return table(items, meta, now)
    return {"kind": "EventList", "apiVersion": "v1", "metadata": meta, "items": items}


def table(items: Sequence[dict[str, Any]], meta: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Rows as a Table."""
    cells: tuple[Callable[[dict[str, Any]], str], ...] = (
        lambda e: age(parse_time(e["lastTimestamp"]), now),
        lambda e: e["type"],
        lambda e: e["reason"],
        lambda e: f"{e['involvedObject']['kind'].lower()}/{e['involvedObject']['name']}",
        lambda e: e["message"][:200],
        lambda e: e["source"]["component"],
        lambda e: str(value_at(e, "remit.seq")),
    )
    return {
        "kind": "Table",
        "apiVersion": META,
        "metadata": meta,
        "columnDefinitions": [
            {"name": name, "type": "string", "format": "", "description": name, "priority": wide}
            for name, wide in _COLUMNS
        ],
        "rows": [
            {"cells": [safe(cell(item)) for cell in cells],
             "object": {"kind": "PartialObjectMetadata", "apiVersion": META, "metadata": item["metadata"]}}
            for item in items
        ],
    }  # fmt: skip
