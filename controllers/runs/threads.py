"""The thread of a mission or a project: who said what, in its order, and who has read how far.

What stands in a thread is found by the event log: each event that puts a message there names the thread among what it
is related to, so that the log's numbers are the cursors of its pages.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.base import Key, ObjectRef
from schemas.errors import Refused
from schemas.event import EventType
from schemas.message import MessageState, MessageStatus
from schemas.resource import Declared, Resource
from schemas.thread import Reader, ThreadOf, ThreadSpec, ThreadStatus
from store.contract import Snapshot, Transaction

MOST_READERS = 200
PAGE = 50
_TYPES = (EventType.MESSAGE_POSTED.value, EventType.MESSAGE_ENDED.value)
KINDS = tuple(ThreadOf)


@dataclass(frozen=True, slots=True)
class Entry:
    """A message in a thread. ``cursor`` is its place for paging: larger is later."""

    cursor: int
    message: Resource


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, oldest first. ``older`` is where the page before it ends, None at the beginning of the thread;
    ``newest`` is where to go on following."""

    entries: tuple[Entry, ...]
    older: int | None
    newest: int


def key_of(subject: Resource) -> Key:
    """Of the thread of a mission or project. Raises Refused (NoThread) for what has none."""
    if subject.kind not in KINDS:
        raise Refused(f"{subject.key.short} has no thread: name a mission or a project", reason="NoThread")
    name = f"{subject.kind.lower()}-{subject.name[:200].rstrip('-.')}-{subject.uid.replace('-', '')[-8:]}"
    return Key("Thread", subject.namespace, name)


def find(snapshot: Snapshot, subject: Resource) -> Resource | None:
    """The thread, or None while nobody has said anything."""
    return snapshot.get(key_of(subject))


def of(tx: Transaction, subject: Resource) -> Resource:
    """The thread of a mission or a project; made, with its event, when there is none."""
    key = key_of(subject)
    known = tx.get(key)
    if known is not None:
        return known
    spec = ThreadSpec(of=ThreadOf(subject.kind), subject_ref=ObjectRef(name=subject.name))
    thread = tx.create(
        Declared(*key, spec.to_wire()),
        manager="controller/messages",
        owner_uid=subject.uid,
        status=ThreadStatus().to_wire(),
    )
    tx.event(
        EventType.CREATED, thread, reason="Opened", message=f"of {subject.key.short}", data={"related": [subject.uid]}
    )
    return thread


def place(thread: Resource) -> str:
    """``mission/NAME`` or ``project/NAME``: what people call it by."""
    return f"{str(thread.spec['of']).lower()}/{thread.spec['subjectRef']['name']}"


def number(tx: Transaction, thread: Resource, author: str, mentions: tuple[str, ...]) -> int:
    """Put one more message at the end of the thread; its number. Whoever writes has read what was before, and follows
    the thread from then on, as does whoever is mentioned; agents do not use up the places of those who come by
    themselves."""
    status = ThreadStatus.model_validate(thread.status)
    latest = status.messages + 1
    readers = {reader.subject: reader for reader in status.readers}
    for subject in (author, *mentions):
        if not subject.startswith("user:"):
            continue
        known = readers.get(subject)
        if known is None and len(readers) >= (MOST_READERS if author.startswith("user:") else MOST_READERS // 2):
            continue
        known = known or Reader(subject=subject, read=0 if subject == author else status.messages)
        if subject == author:
            known = known.model_copy(update={"read": latest, "mentions": 0, "subscribed": True})
        else:
            known = known.model_copy(update={"mentions": known.mentions + 1})
        readers[subject] = known
    update = {
        "messages": latest,
        "last_message_at": tx.now,
        "last_author": author,
        "readers": tuple(readers[name] for name in sorted(readers)),
    }
    tx.put_status(thread, status.model_copy(update=update).to_wire())
    return latest


def read(tx: Transaction, thread: Resource, subject: str, upto: int | None = None) -> Resource:
    """``subject`` has read up to this number, all of it when None. Nothing for who does not follow the thread."""
    status = ThreadStatus.model_validate(thread.status)
    upto = status.messages if upto is None else min(upto, status.messages)
    readers = tuple(
        r.model_copy(update={"read": max(r.read, upto), "mentions": 0 if upto >= status.messages else r.mentions})
        if r.subject == subject
        else r
        for r in status.readers
    )
    return tx.put_status(thread, status.model_copy(update={"readers": readers}).to_wire())


def subscribe(tx: Transaction, thread: Resource, subject: str, *, wanted: bool = True) -> Resource:
    """A person follows the thread from now on, or no longer. Raises Refused (TooManyReaders)."""
    status = ThreadStatus.model_validate(thread.status)
    readers = {reader.subject: reader for reader in status.readers}
    known = readers.get(subject)
    if (known is not None and known.subscribed is wanted) or (known is None and not wanted):
        return thread
    if known is None and len(readers) >= MOST_READERS:
        raise Refused(f"{place(thread)} has {MOST_READERS} readers already", reason="TooManyReaders")
    readers[subject] = Reader(subject=subject, subscribed=wanted, read=status.messages)
    ordered = tuple(readers[name] for name in sorted(readers))
    thread = tx.put_status(thread, status.model_copy(update={"readers": ordered}).to_wire())
    word = "Subscribed" if wanted else "Unsubscribed"
    tx.event(EventType.THREAD_FOLLOWED, thread, reason=word, message=subject, data={"related": [str(thread.owner_uid)]})
    return thread


def reader_of(thread: Resource, subject: str) -> Reader | None:
    """How far somebody has read, None for who never followed it."""
    status = ThreadStatus.model_validate(thread.status)
    return next((reader for reader in status.readers if reader.subject == subject), None)


def unread(thread: Resource, subject: str) -> int:
    """Messages that a person who follows the thread has not read."""
    reader = reader_of(thread, subject)
    if reader is None or not reader.subscribed:
        return 0
    return int(thread.status.get("messages", 0)) - reader.read


def page(snapshot: Snapshot, thread: Resource, *, before: int | None = None, after: int = 0, limit: int = PAGE) -> Page:
    """The latest entries before a cursor, or the first ones after one. Messages that were removed are left out."""
    forward = after > 0
    found = snapshot.events(
        subject_uid=thread.uid, types=_TYPES, before=before, after=after, limit=limit + 1, newest_first=not forward
    )
    more, found = len(found) > limit, found[:limit]
    events = found if forward else found[::-1]
    there = snapshot.get_many({event.subject for event in events})
    entries = tuple(Entry(event.seq, there[event.subject]) for event in events if event.subject in there)
    older = events[0].seq if events and (more or forward) else None
    return Page(entries, older, events[-1].seq if events else after)


def stands(message: Resource) -> bool:
    """Whether it is said in its thread, and not only noted as stopped."""
    return MessageStatus.model_validate(message.status).state is not MessageState.BLOCKED


def forget(tx: Transaction, subject: Resource) -> None:
    """Remove the thread and its messages: what it was about goes."""
    for kind in ("Message", "Thread"):
        for thing in tx.objects(kind, namespace=subject.namespace, owner_uid=subject.uid):
            tx.remove(thing)
