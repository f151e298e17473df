"""Everything of one tenant as lines of JSON, and back into an empty store.

The first line is a header, the last a trailer with counts and the digest of all lines before it. Between them stand the
tenant, its objects (records included) with every spec they had, its rows of the log and its lines of the ledger. Uids,
owners, generations, times and texts stay what they are, so whatever refers to something still does; versions and the
numbers and hashes of rows are those of the store that holds them, and are made anew.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas import registry
from schemas.base import Key
from schemas.errors import Refused
from schemas.ownership import Ownership
from schemas.resource import SYSTEM, Actor, ActorKind, Provenance, Resource, canonical_json
from store.codec import clean, from_micros, to_micros
from store.contract import Amounts, EntryKind, Event, LedgerEntry, Snapshot, SpecRevision, Store
from store.transaction import SqlTransaction

FORMAT = "remit-tenant/1"
_PAGE = 500
_TYPES = ("header", "object", "spec", "event", "ledger", "trailer")
_ALL = 2**31


@dataclass(frozen=True, slots=True)
class Contents:
    """What an archive holds. ``problems`` are what is wrong with it, in words; none when it is sound."""

    tenant: str
    counts: dict[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def lines(
    snapshot: Snapshot, tenant: str, *, at: datetime, progress: Callable[[str, int], None] = lambda _, __: None
) -> Iterator[str]:
    """The archive of a tenant, line by line, without line ends. ``progress`` is told (what, how many so far)."""
    digest = hashlib.sha256()
    counts: Counter[str] = Counter()
    for line in _body(snapshot, tenant, at):
        what = str(line["type"])
        counts[what] += 1
        if counts[what] % _PAGE == 0:
            progress(what, counts[what])
        text = canonical_json(line)
        digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
        yield text
    for what, count in counts.items():
        progress(what, count)
    yield canonical_json({"type": "trailer", "counts": dict(counts), "digest": f"sha256:{digest.hexdigest()}"})


def _body(snapshot: Snapshot, tenant: str, at: datetime) -> Iterator[dict[str, Any]]:
    yield {"type": "header", "format": FORMAT, "tenant": tenant, "at": to_micros(at)}
    uids: set[str] = set()
    itself = snapshot.get(Key("Tenant", "", tenant))
    for resource in [] if itself is None else [itself]:
        uids.add(resource.uid)
        yield from _object(snapshot, resource)
        for event in snapshot.events(subject_uid=resource.uid, limit=_ALL):
            if event.subject == resource.key:  # those of its namespace follow
                yield _event(event)
    for name in registry.NAMES:
        if not name.namespaced:
            continue
        after: tuple[str, str] | None = None
        while found := snapshot.objects(name.kind, namespace=tenant, limit=_PAGE, after=after):
            for resource in found:
                uids.add(resource.uid)
                yield from _object(snapshot, resource)
            after = (found[-1].namespace, found[-1].name)
    gone: set[str] = set()
    seq = 0
    while rows := snapshot.events(after=seq, namespace=tenant, limit=_PAGE):
        for event in rows:
            if event.subject_uid not in uids:
                gone.add(event.subject_uid)
            yield _event(event)
        seq = rows[-1].seq
    for uid in sorted(gone - {""}):
        for revision in snapshot.specs(uid):
            yield _spec(revision)
    yield from _ledger(snapshot, tenant)


def _object(snapshot: Snapshot, resource: Resource) -> Iterator[dict[str, Any]]:
    yield {
        "type": "object",
        "kind": resource.kind,
        "namespace": resource.namespace,
        "name": resource.name,
        "uid": resource.uid,
        "generation": resource.generation,
        "createdAt": to_micros(resource.created_at),
        "deletionAt": None if resource.deletion_at is None else to_micros(resource.deletion_at),
        "labels": resource.labels,
        "annotations": resource.annotations,
        "finalizers": list(resource.finalizers),
        "manager": resource.manager,
        "unit": resource.unit,
        "ownerUid": resource.owner_uid,
        "provenance": None if resource.provenance is None else resource.provenance.to_wire(),
        "ownership": resource.ownership.to_wire(),
        "spec": resource.spec,
        "status": resource.status,
    }
    for revision in snapshot.specs(resource.uid):
        yield _spec(revision)


def _spec(revision: SpecRevision) -> dict[str, Any]:
    return {
        "type": "spec",
        "uid": revision.uid,
        "generation": revision.generation,
        "spec": revision.spec,
        "provenance": None if revision.provenance is None else revision.provenance.to_wire(),
        "manager": revision.manager,
        "recordedAt": to_micros(revision.recorded_at),
    }


def _event(event: Event) -> dict[str, Any]:
    return {
        "type": "event",
        "seq": event.seq,
        "at": to_micros(event.at),
        "event": event.type,
        "subject": list(event.subject),
        "subjectUid": event.subject_uid,
        "actor": [event.actor.kind.value, event.actor.subject, event.actor.transport],
        "reason": event.reason,
        "message": event.message,
        "data": event.data,
        "prevHash": event.prev_hash,
        "hash": event.hash,
    }


def _ledger(snapshot: Snapshot, tenant: str) -> Iterator[dict[str, Any]]:
    """Lines that count for the tenant, and those that end one of its reservations."""
    reserved: set[str] = set()
    for entry in snapshot.ledger(limit=_ALL):
        ours = any(
            account == f"tenant/{tenant}" or account.startswith(f"tenant/{tenant}/") for account in entry.accounts
        )
        if not ours and entry.reservation not in reserved:
            continue
        if entry.kind is EntryKind.RESERVE:
            reserved.add(entry.key)
        amounts = entry.amounts
        yield {
            "type": "ledger",
            "key": entry.key,
            "kind": entry.kind.value,
            "accounts": list(entry.accounts),
            "amounts": [amounts.usd_micros, amounts.tokens, amounts.tool_calls, amounts.wall_ms],
            "at": to_micros(entry.at),
            "reservation": entry.reservation,
            "note": entry.note,
        }


def load(store: Store, archive: Iterable[str]) -> Contents:
    """Bring an archive into an empty store, in one transaction. Raises Refused when the store is not empty, or the
    archive is cut short, changed, or of another format; nothing is written then."""
    digest = hashlib.sha256()
    counts: Counter[str] = Counter()
    tenant, ended = "", False
    with store.transaction(SYSTEM) as tx:
        assert isinstance(tx, SqlTransaction)
        if tx.latest_version() or tx.events(limit=1):
            raise Refused("the store is not empty: an archive is brought into a new one", reason="NotEmpty")
        pending: list[tuple[Resource, list[SpecRevision]]] = []
        named: set[tuple[str, Key]] = set()
        for line in archive:
            text = line.rstrip("\n")
            found = _parsed(text)
            what = found["type"]
            if ended or (not counts) is not (what == "header"):
                raise Refused("the archive has lines where none belong", reason="BadArchive")
            if what == "trailer":
                if found["counts"] != dict(counts) or found["digest"] != f"sha256:{digest.hexdigest()}":
                    raise Refused("the archive was changed: its digest does not fit", reason="BadArchive")
                ended = True
                continue
            digest.update(text.encode("utf-8", "surrogatepass") + b"\n")
            counts[what] += 1
            if what == "header":
                if found["format"] != FORMAT:
                    raise Refused(f"the archive is of another format than {FORMAT}", reason="BadArchive")
                tenant = found["tenant"]
            elif what == "spec" and pending and pending[-1][0].uid == found["uid"]:
                pending[-1][1].append(_to_spec(found))
            else:
                _restore(tx, pending)
                _take(tx, what, found, pending)
                if what == "event" and found["subjectUid"]:
                    named.add((found["subjectUid"], Key(*found["subject"])))
        _restore(tx, pending)
        tx.restore_names(sorted(named))
        if not ended:
            raise Refused("the archive is cut short: its last line is missing", reason="BadArchive")
    return Contents(tenant, dict(counts))


def _parsed(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or found.get("type") not in (
        "header",
        "object",
        "spec",
        "event",
        "ledger",
        "trailer",
    ):
        raise Refused("the archive holds a line that is none of its format", reason="BadArchive")
    return found


def _take(
    tx: SqlTransaction, what: str, found: dict[str, Any], pending: list[tuple[Resource, list[SpecRevision]]]
) -> None:
    if what == "object":
        pending.append((_to_resource(found), []))
    elif what == "spec":
        tx.restore_specs([_to_spec(found)])
    elif what == "event":
        kind, subject, transport = found["actor"]
        tx.append_event(
            found["at"], found["event"], Key(*found["subject"]), found["subjectUid"],
            Actor(ActorKind(kind), subject, transport), found["reason"], found["message"], found["data"],
        )  # fmt: skip
    else:
        tx.post(_to_entry(found))


def _restore(tx: SqlTransaction, pending: list[tuple[Resource, list[SpecRevision]]]) -> None:
    for resource, revisions in pending:
        tx.restore(resource, revisions)
    pending.clear()


def _to_resource(found: dict[str, Any]) -> Resource:
    return Resource(
        kind=found["kind"],
        namespace=found["namespace"],
        name=found["name"],
        uid=found["uid"],
        generation=found["generation"],
        resource_version=0,
        spec=found["spec"],
        status=found["status"],
        created_at=from_micros(found["createdAt"]),
        labels=found["labels"],
        annotations=found["annotations"],
        manager=found["manager"],
        unit=found["unit"],
        provenance=None if found["provenance"] is None else Provenance.from_wire(found["provenance"]),
        owner_uid=found["ownerUid"],
        finalizers=tuple(found["finalizers"]),
        deletion_at=None if found["deletionAt"] is None else from_micros(found["deletionAt"]),
        ownership=Ownership.from_wire(found["ownership"]),
    )


def _to_spec(found: dict[str, Any]) -> SpecRevision:
    return SpecRevision(
        found["uid"],
        found["generation"],
        found["spec"],
        None if found["provenance"] is None else Provenance.from_wire(found["provenance"]),
        found["manager"],
        from_micros(found["recordedAt"]),
    )


def _to_entry(found: dict[str, Any]) -> LedgerEntry:
    return LedgerEntry(
        found["key"],
        EntryKind(found["kind"]),
        tuple(found["accounts"]),
        Amounts(*found["amounts"]),
        from_micros(found["at"]),
        found["reservation"],
        found["note"],
    )


_MADE_ANEW = ("seq", "prevHash", "hash")


def verify(archive: Callable[[], Iterable[str]], empty: Store, *, at: datetime) -> Contents:
    """Bring an archive into an empty store, write that one out again, and compare: every line, and what refers to what.
    ``archive`` gives its lines, each time from the start. Raises Refused as ``load`` does."""
    contents = load(empty, archive())
    problems = []
    with empty.snapshot() as snapshot:
        report = snapshot.verify_events()
        if report.broken_seq:
            problems.append(f"the log does not hold at row {report.broken_seq}")
        again = Counter(map(_comparable, lines(snapshot, contents.tenant, at=at)))
        orphans = 0
        for line in archive():
            found = _parsed(line.rstrip("\n"))
            if found["type"] == "object" and found["ownerUid"] and snapshot.get_by_uid(found["ownerUid"]) is None:
                orphans += 1
    if orphans:
        problems.append(f"{orphans} objects belong to something that is not in the archive")
    before = Counter(_comparable(line.rstrip("\n")) for line in archive())
    lost, added = before - again, again - before
    if lost or added:
        problems.append(f"{lost.total()} lines did not come back, {added.total()} came back otherwise")
    return Contents(contents.tenant, contents.counts, tuple(problems))


def _comparable(text: str) -> str:
    """A line without what each store makes anew."""
    found = _parsed(text)
    if found["type"] in ("header", "trailer"):
        return str(found["type"])
    kept = {name: value for name, value in found.items() if name not in _MADE_ANEW}
    return hashlib.sha256(clean(canonical_json(kept)).encode()).hexdigest()
