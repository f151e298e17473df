"""The hash chain over the events: what is hashed, and how a break is found.

The hash of an event is the SHA-256, in lower-case hex, of these bytes in UTF-8: the hash of the event before it (64 hex
digits; ``contract.GENESIS`` for the first), directly followed by this canonical JSON (keys sorted, no spaces, only
``"``, ``\\`` and control characters escaped)::

    {"actor":{"kind":…,"subject":…,"transport":…},"at":…,"data":{…},"message":…,"reason":…,"seq":…,
     "subject":{"kind":…,"name":…,"namespace":…},"subject_uid":…,"type":…}

without the line break. ``at`` is a whole number, microseconds since 1970 in UTC. ``data`` is the text of its column,
which is canonical JSON as well.

The head row (``heads.event_seq``, ``heads.event_hash``) says where the chain ends, so that rows cut off at the end are
missed too. Who can write the file can also compute a whole new chain; against that, keep the head somewhere else now
and then (``ChainReport.head``) and compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

from schemas.errors import StoreUnavailable
from schemas.resource import quote
from store.contract import GENESIS, ChainReport
from store.session import Row

PROGRESS_EVERY = 10_000


def event_hash(prev_hash: str, row: Row) -> str:
    """The hash of an event. ``row`` is (seq, at, type, subject_kind, subject_namespace, subject_name, subject_uid,
    actor_kind, actor_subject, actor_transport, reason, message, data), as in the table."""
    return hashlib.sha256(hash_input(prev_hash, row).encode()).hexdigest()


def hash_input(prev_hash: str, row: Row) -> str:
    """The text of these bytes. Where it is ASCII, and ``\\u0000`` is not in it, every text of the row is clean."""
    seq, at, type_, kind, namespace, name, uid, actor_kind, actor, transport, reason, message, data = row
    return (
        f'{prev_hash}{{"actor":{{"kind":{quote(actor_kind)},"subject":{quote(actor)},"transport":{quote(transport)}}}'
        f',"at":{at},"data":{data},"message":{quote(message)},"reason":{quote(reason)},"seq":{seq}'
        f',"subject":{{"kind":{quote(kind)},"name":{quote(name)},"namespace":{quote(namespace)}}}'
        f',"subject_uid":{quote(uid)},"type":{quote(type_)}}}'
    )


def verify(
    stored: Iterable[Row], *, head_seq: int, head_hash: str, progress: Callable[[int], None] | None = None
) -> ChainReport:
    """Walk rows of (the 13 fields of event_hash, prev_hash, hash), ordered by seq, and compare their end with the head.

    The report names the first row that is wrong: changed, missing, out of place, or not the engine's. ``count`` and
    ``head`` are of the part before it.
    """
    count, head = 0, GENESIS
    try:
        for row in stored:
            problem = _problem(row, count + 1, head, head_seq)
            if problem:
                return ChainReport(count, head, count + 1, problem)
            count, head = count + 1, row[14]
            if progress is not None and count % PROGRESS_EVERY == 0:
                progress(count)
    except StoreUnavailable as error:  # a damaged page, or bytes that are no text
        return ChainReport(count, head, count + 1, f"event {count + 1} cannot be read: {error}")
    if count < head_seq:
        return ChainReport(
            count, head, count + 1, f"event {count + 1} is missing: the log ends there, but {head_seq} were written"
        )
    if head != head_hash:
        return ChainReport(
            count, head, count, f"the head row does not carry the hash of event {count}: one of the two was changed"
        )
    return ChainReport(count, head)


def _problem(row: Row, seq: int, prev_hash: str, head_seq: int) -> str:
    """What is wrong with a row that should be number ``seq`` and follow ``prev_hash``; "" when nothing is."""
    if row[0] != seq:
        return f"event {seq} is missing: event {row[0]} comes in its place"
    if seq > head_seq:
        return f"event {seq} was added from outside: only {head_seq} were written"
    if row[13] != prev_hash:
        return f"event {seq} does not follow event {seq - 1}: it was moved, or its prev_hash was changed"
    try:
        sound = event_hash(prev_hash, row[:13]) == row[14]
    except (TypeError, ValueError):  # a column holds what the engine never writes there, such as bytes
        sound = False
    return "" if sound else f"event {seq} was changed after it was written: its content does not give its hash"
