"""What a search found, with the piece of text that holds the words. Light: the command line uses it, too."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from decisions.fields import masked
from schemas.quantities import format_time
from store.codec import from_micros
from store.contract import Hit, Snapshot, Store
from store.search_text import Question, question_of, snippet, text_of, title_of


def hits(store: Store, text: str, limit: int, *, namespace: str | None = None) -> list[dict[str, Any]]:
    """What was found, the best first; with ``namespace`` only there, whatever ``ns:`` in the text says. Blocks. Raises
    StoreError."""
    question = question_of(text)
    if namespace is not None:
        allowed = frozenset({namespace})
        question = replace(question, namespaces=allowed & (question.namespaces or allowed))
    if not question.asks:
        return []
    found = store.search(question, limit=limit)
    with store.snapshot() as snapshot:
        return [_hit(snapshot, hit, question) for hit in found]


def _hit(snapshot: Snapshot, hit: Hit, question: Question) -> dict[str, Any]:
    title, text = _texts(snapshot, hit)
    head, piece = snippet(title, question), snippet(text, question)
    return {
        "kind": hit.kind,
        "namespace": hit.namespace,
        "name": hit.name,
        "uid": hit.uid,
        "state": hit.state,
        "agent": hit.agent,
        "at": format_time(from_micros(hit.at)),
        "seq": hit.seq or None,
        "inTitle": hit.in_title,
        "title": {"text": head.text, "ranges": [list(r) for r in head.ranges]},
        "snippet": {"text": piece.text, "ranges": [list(r) for r in piece.ranges]},
    }


def _texts(snapshot: Snapshot, hit: Hit) -> tuple[str, str]:
    """Title and text as they are now: the index keeps words only."""
    if hit.seq:
        rows = snapshot.events(after=hit.seq - 1, before=hit.seq + 1, limit=1)
        if not rows:
            return hit.name, ""
        event = rows[0]
        return f"{event.type} {event.subject.name}", f"{event.reason}: {event.message} ({event.actor.subject})"
    resource = snapshot.get_by_uid(hit.uid)
    return (hit.name, "") if resource is None else (str(masked(title_of(resource))), str(masked(text_of(resource))))
