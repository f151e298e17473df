"""The append-only log of what happened."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.base import Key
from schemas.resource import Actor, ActorKind, Resource
from store import chain
from store.codec import Mask, bounded, clean, dump, from_micros, load_object, to_micros
from store.contract import ChainReport, Event
from store.heads import Heads
from store.session import Row, Session, Statement
from store.tables import event_related, events, former_names, objects

_c = events.c
_COLUMNS = tuple(events.columns)
_NAMES = tuple(column.name for column in _COLUMNS)
_INSERT = Statement(sa.insert(events).values({name: bindparam(name) for name in _NAMES}))
_RELATION = ("uid", "seq")
_RELATE = Statement(sa.insert(event_related).values({name: bindparam(name) for name in _RELATION}))
_WALK = Statement(sa.select(*_COLUMNS).where(_c.seq > bindparam("after")).order_by(_c.seq).limit(bindparam("limit")))
_BATCH = 5_000


def _about(names: sa.Table) -> sa.Select[tuple[int]]:
    """The events about a uid under the keys that ``names`` has for it."""
    n, e = names.c, events.alias("about").c
    return sa.select(e.seq).where(
        n.uid == bindparam("uid"), e.subject_name == n.name, e.subject_kind == n.kind,
        e.subject_namespace == n.namespace, e.subject_uid == n.uid,
    )  # fmt: skip


@lru_cache(maxsize=256)
def _select(
    *, before: bool, uid: bool, subject: bool, types: int, namespace: bool, since: bool, newest_first: bool
) -> Statement:
    """The log with these filters; one statement per combination."""
    clause = sa.select(*_COLUMNS).where(_c.seq > bindparam("after"))
    if before:
        clause = clause.where(_c.seq < bindparam("before"))
    if uid:
        related = sa.select(event_related.c.seq).where(event_related.c.uid == bindparam("uid"))
        clause = clause.where(_c.seq.in_(sa.union(_about(objects), _about(former_names), related)))
    if subject:
        clause = clause.where(
            _c.subject_name == bindparam("name"),
            _c.subject_kind == bindparam("kind"),
            _c.subject_namespace == bindparam("in_namespace"),
        )
    if types:
        clause = clause.where(_c.type.in_([bindparam(f"type{i}") for i in range(types)]))
    if namespace:
        clause = clause.where(_c.subject_namespace == bindparam("namespace"))
    if since:
        clause = clause.where(_c.at >= bindparam("since"))
    clause = clause.order_by(_c.seq.desc() if newest_first else _c.seq)
    return Statement(clause.limit(bindparam("limit")))


class EventReads:
    """The part of Snapshot that concerns events."""

    _session: Session
    _heads: Heads

    def events(
        self,
        *,
        after: int = 0,
        before: int | None = None,
        subject_uid: str | None = None,
        subject: Key | None = None,
        types: Sequence[str] | None = None,
        namespace: str | None = None,
        since: datetime | None = None,
        limit: int = 1000,
        newest_first: bool = False,
    ) -> list[Event]:
        if types is not None and not types:
            return []
        self._flush_events()
        statement = _select(
            before=before is not None,
            uid=subject_uid is not None,
            subject=subject is not None,
            types=len(types or ()),
            namespace=namespace is not None,
            since=since is not None,
            newest_first=newest_first,
        )
        params: dict[str, Any] = {"after": bounded(after), "limit": bounded(max(limit, 0)), "namespace": namespace}
        params |= {"before": None if before is None else bounded(before)}
        params |= {"uid": subject_uid, "since": None if since is None else to_micros(since)}
        params |= {f"type{i}": str(type_) for i, type_ in enumerate(types or ())}
        if subject is not None:
            params["kind"], params["in_namespace"], params["name"] = subject
        return [_to_event(row) for row in self._session.rows(statement, params)]

    def verify_events(self, *, progress: Callable[[int], None] | None = None) -> ChainReport:
        self._flush_events()
        return chain.verify(
            self._walk(), head_seq=self._heads.event_seq, head_hash=self._heads.event_hash, progress=progress
        )

    def _walk(self) -> Iterator[Row]:
        after: int | None = -(2**62)
        while after is not None:
            start, after = after, None
            for row in self._session.stream(_WALK, {"after": start, "limit": _BATCH}):
                yield row
                after = row[0]

    def _flush_events(self) -> None:
        """Only a transaction holds back events."""


class EventWrites(EventReads):
    """The part of Transaction that concerns events. They are numbered and hashed at once, and written together: at the
    end, or before somebody reads."""

    _now: int
    _actor: Actor
    _mask: Mask
    _held_events: list[Row]
    _held_relations: list[Row]

    def event(
        self,
        type: str,
        subject: Resource | Key,
        *,
        reason: str,
        message: str,
        data: dict[str, Any] | None = None,
        actor: Actor | None = None,
    ) -> int:
        if isinstance(subject, Resource):
            what = (subject.kind, subject.namespace, subject.name, subject.uid)
        else:
            what = (*subject, "")
        mask, place, by = self._mask, what[1], _by(actor or self._actor)
        data = data or {}
        text = dump(mask(data, place))
        return self._append((self._now, str(type), *what, *by, str(reason), mask(message, place), text), data)

    def event_each(
        self, type: str, subjects: Iterable[tuple[Resource, dict[str, Any]]], *, reason: str, message: str
    ) -> None:
        type_, by, why, mask = str(type), _by(self._actor), str(reason), self._mask
        for each, data in subjects:
            place = each.namespace
            what = (each.kind, place, each.name, each.uid)
            self._append((self._now, type_, *what, *by, why, mask(message, place), dump(mask(data, place))), data)

    def append_event(
        self, at: int, type: str, key: Key, uid: str, who: Actor, reason: str, message: str, data: dict[str, Any]
    ) -> int:
        """``event`` with every column given; ``at`` in microseconds."""
        mask, place = self._mask, key.namespace
        text = dump(mask(data, place))
        return self._append((at, str(type), *key, uid, *_by(who), str(reason), mask(message, place), text), data)

    def _append(self, columns: Row, data: dict[str, Any]) -> int:
        """An event, from its columns between ``seq`` and the hashes, and its data before it was masked."""
        heads = self._heads
        seq, prev_hash = heads.event_seq + 1, heads.event_hash
        row: Row = (seq, *columns)
        text = chain.hash_input(prev_hash, row)
        if not text.isascii() or "\\u0000" in text:
            row = tuple(clean(value) if isinstance(value, str) else value for value in row)
            text = chain.hash_input(prev_hash, row)
        hash_ = hashlib.sha256(text.encode()).hexdigest()
        self._held_events.append((*row, prev_hash, hash_))
        if "related" in data:
            self._held_relations.extend((clean(other), seq) for other in _related(data) if other != row[6])
        heads.event_seq, heads.event_hash = seq, hash_
        return seq

    def _flush_events(self) -> None:
        if self._held_events:
            self._session.insert_rows(_INSERT, _NAMES, self._held_events)
            self._session.insert_rows(_RELATE, _RELATION, self._held_relations)
            self._held_events, self._held_relations = [], []


def _by(who: Actor) -> tuple[str, str, str]:
    return str(who.kind), who.subject, who.transport


def _related(data: dict[str, Any]) -> set[str]:
    """The uids of ``data.related``: a text, or a list of them."""
    related = data["related"]
    if isinstance(related, str):
        return {related}
    return {uid for uid in related if isinstance(uid, str)} if isinstance(related, list | tuple) else set()


def _to_event(row: Row) -> Event:
    seq, at, type_, kind, namespace, name, uid, actor_kind, actor, transport, reason, message, data, prev, hash_ = row
    return Event(
        seq,
        from_micros(at),
        type_,
        Key(kind, namespace, name),
        uid,
        Actor(ActorKind(actor_kind), actor, transport),
        reason,
        message,
        load_object(data),
        prev,
        hash_,
    )
