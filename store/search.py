"""The index of search over objects and the log: kept up behind them by a cursor, in transactions of its own (ADR 0037).
``search_hits`` asks it.

FTS5 walks fastest from its smallest row on. So each document has two rows there, whose numbers fall as documents grow
newer: one of its title, all of which lie before all others, and one of its text. One walk finds titles before texts,
the newest first.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.resource import Resource
from store.backend import Backend
from store.changes import ChangeReads
from store.codec import to_micros
from store.contract import Event, Op
from store.events import EventReads
from store.heads import Heads
from store.objects import ObjectReads
from store.search_text import index_words, place_word, text_of, title_of
from store.session import Session, Statement
from store.tables import search_cursor, search_docs

TEXTS = 1 << 40
"""Where rows of texts begin in FTS5; before it lie those of titles. More documents than that there never are."""
_AT_ONCE = 64
_FORM = "n"
"""Begins the digests of documents whose words are marked (``place_word``); those of before begin with a hex digit."""
_c = search_docs.c
_UNSEARCHED = frozenset({"ToolCall", "UsageRecord"})
"""Kinds that nobody searches by words: there are many, and their missions and runs lead to them."""

_CURSOR = Statement(sa.select(search_cursor.c.resource_version, search_cursor.c.event_seq))
_CLEAR_CURSOR = Statement(sa.delete(search_cursor))
_SET_CURSOR = Statement(
    sa.insert(search_cursor).values(id=1, resource_version=bindparam("version"), event_seq=bindparam("seq"))
)
_TOP = Statement(sa.select(sa.func.coalesce(sa.func.max(_c.id), 0)))
_ANY = Statement(sa.select(_c.digest).order_by(_c.id).limit(1))
_DROP = Statement(sa.delete(search_docs).where(_c.id == bindparam("by_id")))
_KEEP = Statement(
    sa.update(search_docs).where(_c.id == bindparam("by_id"))
    .values(namespace=bindparam("to_namespace"), name=bindparam("to_name"), state=bindparam("to_state"),
            agent=bindparam("to_agent"))
)  # fmt: skip
_ADD = Statement(sa.insert(search_docs).values({column.name: bindparam(column.name) for column in _c}))
_FTS_ADD = Statement(sa.text("INSERT INTO search_text(rowid, words) VALUES (:row, :words)"))
_FTS_DROP = Statement(sa.text("INSERT INTO search_text(search_text, rowid, words) VALUES ('delete', :row, :words)"))
_FTS_ALL_GONE = Statement(sa.text("INSERT INTO search_text(search_text) VALUES ('delete-all')"))
_ALL_GONE = Statement(sa.delete(search_docs))


@dataclass(frozen=True, slots=True)
class _Doc:
    ref: str
    kind: str
    namespace: str
    name: str
    uid: str
    state: str
    agent: str
    at: int
    title_words: str
    words: str

    @property
    def digest(self) -> str:
        return _FORM + hashlib.sha256(f"{self.title_words}\0{self.words}".encode()).hexdigest()[:31]


class _Reads(ObjectReads, ChangeReads, EventReads):
    """What the index is made from."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._heads = Heads.read(session)


def index(backend: Backend, limit: int) -> int:
    """Bring the index up by at most ``limit`` objects and as many rows of the log; returns how many it took in. Words
    are taken apart before the lock is asked for, so that writers hardly wait."""
    with backend.reading() as session:
        version, seq = _cursor(session)
        reads = _Reads(session)
        oldest = session.row(_ANY)
        older = oldest is not None and not str(oldest[0]).startswith(_FORM)
        if older or version > reads.latest_version() or 0 < version < reads.oldest_cursor():
            forgotten, version = True, 0  # removals that it has not seen are forgotten: begin anew
            seq = 0
        else:
            forgotten = False
        changes = reads.changes_since(version, limit=limit)
        changed = [change for change in changes if change.op is Op.REMOVED or change.key.kind not in _UNSEARCHED]
        there = reads.get_many(change.key for change in changed if change.op is Op.PUT)
        rows = reads.events(after=seq, limit=limit)
    if not changes and not rows:
        return 0
    docs: list[_Doc] = []
    gone: list[str] = []
    for change in changed:
        resource = there.get(change.key) if change.op is Op.PUT else None
        if resource is None:
            gone.append(change.uid)
        else:
            docs.append(_of_object(resource))
    docs += [_of_event(event) for event in rows]
    reached = (changes[-1].resource_version if changes else version, rows[-1].seq if rows else seq)
    with backend.writing() as session:
        Heads.read(session, lock=True)
        if not forgotten and _cursor(session) != (version, seq):
            return 0  # another engine was here meanwhile
        _write(session, docs, gone, afresh=forgotten)
        session.run(_CLEAR_CURSOR)
        session.run(_SET_CURSOR, {"version": reached[0], "seq": reached[1]})
    return len(changes) + len(rows)


def _cursor(session: Session) -> tuple[int, int]:
    row = session.row(_CURSOR)
    return (0, 0) if row is None else (row[0], row[1])


def _write(session: Session, docs: list[_Doc], gone: list[str], *, afresh: bool) -> None:
    by_fts = session.dialect_name == "sqlite"
    if afresh:
        if by_fts:
            session.run(_FTS_ALL_GONE)
        session.run(_ALL_GONE)
    top = session.row(_TOP)
    assert top is not None
    next_id = int(top[0])
    added: list[dict[str, Any]] = []
    kept: list[dict[str, Any]] = []
    # A row of the log never changes and was never here.
    known = _known(session, [*gone, *(doc.ref for doc in docs if not doc.ref.startswith("event/"))])
    removed = [old for ref in gone if (old := known.get(ref)) is not None]
    for doc in docs:
        old, digest = known.get(doc.ref), doc.digest
        if old is not None and old.digest == digest:
            kept.append({"by_id": old.id, "to_namespace": doc.namespace, "to_name": doc.name, "to_state": doc.state,
                         "to_agent": doc.agent})  # fmt: skip
            continue
        if old is not None:
            removed.append(old)
        next_id += 1
        added.append({"id": next_id, "digest": digest, **{name: getattr(doc, name) for name in _Doc.__slots__}})
    session.run_many(_KEEP, kept)
    session.run_many(_DROP, [{"by_id": old.id} for old in removed])
    session.run_many(_ADD, added)
    if by_fts:
        _write_fts(session, [(old.id, old.title_words, old.words) for old in removed],
                   [(doc["id"], doc["title_words"], doc["words"]) for doc in added])  # fmt: skip


def _write_fts(session: Session, removed: list[tuple[int, str, str]], added: list[tuple[int, str, str]]) -> None:
    """From the smallest row to the largest, which FTS5 writes as one piece."""
    for start, column in ((TEXTS, 1), (2 * TEXTS, 2)):
        for statement, docs in ((_FTS_ADD, added), (_FTS_DROP, removed)):
            rows = [{"row": start - doc[0], "words": doc[column]} for doc in sorted(docs, reverse=True)]
            session.run_many(statement, rows)


class _Known(NamedTuple):
    """A document as it stands in the index."""

    ref: str
    id: int
    digest: str
    title_words: str
    words: str


@lru_cache(maxsize=2)
def _documents(count: int) -> Statement:
    refs: list[sa.BindParameter[str]] = [bindparam(f"ref{i}") for i in range(count)]
    return Statement(sa.select(_c.ref, _c.id, _c.digest, _c.title_words, _c.words).where(_c.ref.in_(refs)))


def _known(session: Session, refs: list[str]) -> dict[str, _Known]:
    """Documents by what they are of, asked for by many at once."""
    found: dict[str, _Known] = {}
    for begin in range(0, len(refs), _AT_ONCE):
        some = refs[begin : begin + _AT_ONCE]
        count = 8 if len(some) <= 8 else _AT_ONCE  # few statements, whatever there is to ask for
        some += some[-1:] * (count - len(some))
        rows = session.rows(_documents(count), {f"ref{i}": ref for i, ref in enumerate(some)})
        found |= {row[0]: _Known._make(row) for row in rows}
    return found


def _of_object(resource: Resource) -> _Doc:
    title = title_of(resource)
    agent = resource.spec.get("agentRef")
    return _Doc(
        ref=resource.uid,
        kind=resource.kind,
        namespace=resource.namespace,
        name=resource.name,
        uid=resource.uid,
        state=resource.state,
        agent=str(agent.get("name", "")) if isinstance(agent, dict) else "",
        at=to_micros(resource.created_at),
        title_words=_placed(title, resource.namespace),
        words=_placed(f"{title}\n{text_of(resource)}", resource.namespace),
    )


def _of_event(event: Event) -> _Doc:
    title = f"{event.type} {event.subject.name}"
    actor = event.actor.subject
    return _Doc(
        ref=f"event/{event.seq}",
        kind="Event",
        namespace=event.subject.namespace,
        name=event.subject.name,
        uid=event.subject_uid,
        state=event.type,
        agent=actor.removeprefix("agent:").rpartition("/")[2] if actor.startswith("agent:") else "",
        at=to_micros(event.at),
        title_words=_placed(title, event.subject.namespace),
        words=_placed(f"{title}\n{event.reason}\n{event.message}\n{actor}", event.subject.namespace),
    )


def _placed(text: str, namespace: str) -> str:
    return f"{index_words(text)} {place_word(namespace)}"
