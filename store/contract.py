"""The store's whole contract. Implementations say only what differs; one test suite runs over all of them.

A store keeps **objects** (intents, acts and records, see ``schemas.resource``), every **spec** they ever had,
**events** (append-only, hash-chained), **effects** (the outbox), **timers** (the next wake of a key), the **ledger**,
**leases**, and a cache of compiled blobs.

Rules that hold for every implementation:

- Everything is synchronous; async callers use threads. One ``Store`` may be used from many threads, a ``Transaction``
  only inside its ``with`` block and thread.
- A transaction is serializable: what it read is still true when it commits. It commits when the block ends normally
  and rolls back on any exception. Nothing of it is visible before.
- ``resource_version`` is one store-wide sequence. Versions become visible in order: who has seen version N will never
  see a smaller one appear later. It is the compare-and-swap token of an object and the cursor of ``changes_since``.
- Times come in through the clock given to the implementation; ids through its id source.
- Errors are those of ``schemas.errors`` below StoreError. A commit whose outcome is unknown raises StoreUnavailable:
  the caller decides again from what it then reads, as every write here is idempotent or guarded by a version.
- Lists are ordered as each method says, never by accident.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

from schemas.amounts import NOTHING as NOTHING
from schemas.amounts import Amounts as Amounts
from schemas.base import Key
from schemas.resource import Actor, Declared, Provenance, Resource
from store.search_text import Question

GENESIS = "0" * 64
"""The hash before the first event."""


class Op(StrEnum):
    """What a change did to an object."""

    PUT = "Put"
    REMOVED = "Removed"


@dataclass(frozen=True, slots=True)
class Change:
    """The latest change of one object after a cursor."""

    resource_version: int
    op: Op
    key: Key
    uid: str
    owner_uid: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """One row of the append-only log. ``seq`` counts from 1 without gaps; ``hash`` is
    ``sha256(prev_hash + canonical_json of every other field)``, so a changed, removed or moved row breaks the chain
    (``store.chain`` has the exact bytes).

    ``type`` is a value of ``schemas.event.EventType``. ``subject`` is the object it speaks of. ``data`` is small,
    already redacted JSON; ``data.related`` may list the uids of other objects that the event concerns.
    """

    seq: int
    at: datetime
    type: str
    subject: Key
    subject_uid: str
    actor: Actor
    reason: str
    message: str
    data: dict[str, Any]
    prev_hash: str
    hash: str


class EffectState(StrEnum):
    """Life of an effect. Claimed falls back to Pending when its lease ends."""

    PENDING = "Pending"
    CLAIMED = "Claimed"
    DONE = "Done"
    DEAD = "Dead"


@dataclass(frozen=True, slots=True)
class Effect:
    """One outside act, delivered at least once. ``key`` is its idempotency key: enqueueing it again changes nothing.

    ``token`` is the fencing token of the current claim; finishing or failing with another token raises Fenced.
    """

    id: str
    key: str
    type: str
    subject: Key
    payload: dict[str, Any]
    state: EffectState
    due_at: datetime
    tries: int
    token: int
    claimed_by: str
    claim_until: datetime | None
    created_at: datetime
    done_at: datetime | None
    last_error: str
    result: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Timer:
    """The next time a key wants to be looked at; at most one per (key, purpose)."""

    key: Key
    purpose: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    """Who holds something until when. ``token`` grows with every change of holder and never comes back."""

    name: str
    holder: str
    token: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Fence:
    """What a transaction must still hold for its writes to count."""

    lease: str
    token: int


class EntryKind(StrEnum):
    """Ledger words. A reservation ends by exactly one Settle (what it really cost) or Release (it never happened). A
    Grant stays, or ends by one Release."""

    RESERVE = "Reserve"
    SETTLE = "Settle"
    RELEASE = "Release"
    GRANT = "Grant"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One append-only line. ``key`` makes posting idempotent. ``accounts`` are the windows it counts in, such as
    ``mission/<uid>/total`` or ``agent/<uid>/2026-11-21``. ``reservation`` names the Reserve entry that a Settle or
    Release ends: its amounts leave ``reserved`` of every account it was reserved in, and a Settle's own amounts enter
    ``spent`` of the Settle's accounts. A Release may also name a Grant, whose amounts leave ``granted`` of every
    account it was granted in. An amount lies between 0 and 2^53; anything else is a ValueError."""

    key: str
    kind: EntryKind
    accounts: tuple[str, ...]
    amounts: Amounts
    at: datetime
    reservation: str = ""
    note: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Balance:
    """What an account holds. Never negative."""

    account: str
    spent: Amounts = NOTHING
    reserved: Amounts = NOTHING
    granted: Amounts = NOTHING


@dataclass(frozen=True, slots=True)
class SpecRevision:
    """One spec that an object had."""

    uid: str
    generation: int
    spec: dict[str, Any]
    provenance: Provenance | None
    manager: str
    recorded_at: datetime


@dataclass(frozen=True, slots=True)
class ChainReport:
    """What ``verify_events`` found. ``broken_seq`` is the first bad row, 0 when the chain holds."""

    count: int
    head: str
    broken_seq: int = 0
    problem: str = ""


class Hit(NamedTuple):
    """Something that was found. ``seq`` is the row of the log, 0 for an object; ``in_title`` says how many of the
    words stand in the title. ``at`` is in microseconds, as ``Written`` has it."""

    kind: str
    namespace: str
    name: str
    uid: str
    state: str
    agent: str
    at: int
    seq: int
    in_title: int


class Written(NamedTuple):
    """An object as it is kept: the fields of Resource, JSON as canonical text ("" for None), times in microseconds."""

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: int
    spec: str
    status: str
    created_at: int
    labels: str
    annotations: str
    manager: str
    unit: str
    provenance: str
    owner_uid: str
    finalizers: str
    deletion_at: int | None
    ownership: str


class Snapshot(Protocol):
    """Reads at one moment."""

    def get(self, key: Key) -> Resource | None:
        """The object, or None. Objects whose deletion runs are still there (``deletion_at`` set)."""

    def get_by_uid(self, uid: str) -> Resource | None:
        """The object, or None."""

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        """Those that exist."""

    def objects(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        labels: Mapping[str, str] | None = None,
        states: Sequence[str] | None = None,
        owner_uid: str | None = None,
        unit: str | None = None,
        limit: int | None = None,
        after: tuple[str, str] | None = None,
    ) -> list[Resource]:
        """Objects of a kind ordered by (namespace, name). Filters combine with "and"; ``states`` picks by
        ``status.state``; ``after`` continues behind (namespace, name)."""

    def written(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        after: tuple[str, str] | None = None,
    ) -> list[Written]:
        """``objects``, undecoded: for whoever hands them on as they are."""

    def units_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        """The unit of each of these objects ("" for none), without those that are not there."""

    def unit_counts(self, unit: str) -> dict[str, int]:
        """How many objects of each kind are in ``list_unit``."""

    def unit_keys(self, unit: str) -> list[Key]:
        """The keys of ``list_unit``."""

    def list_unit(self, unit: str) -> list[Resource]:
        """The inventory of a unit, every kind, ordered by (kind, namespace, name); of "", which is none, nothing."""

    def count(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        states: Sequence[str] | None = None,
        owner_uid: str | None = None,
    ) -> int:
        """How many objects match."""

    def specs(self, uid: str) -> list[SpecRevision]:
        """Every spec that the object had, oldest first; also after the object is gone."""

    def spec_at(self, uid: str, generation: int) -> SpecRevision | None:
        """One of them."""

    def latest_version(self) -> int:
        """The highest resource_version given out; 0 on an empty store."""

    def oldest_cursor(self) -> int:
        """``changes_since`` knows every removal after this version. Behind an older cursor some were pruned: whoever
        holds one lists everything again."""

    def changes_since(self, version: int, *, limit: int = 1000) -> list[Change]:
        """The latest change of each object after ``version``, oldest first. A renamed object shows under its new
        key."""

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
        """Rows of the log by ``seq``. ``subject_uid`` is that of an object that is or was in the store; it also finds
        events that name it in ``data.related``."""

    def waiting_effects(self, now: datetime) -> frozenset[str]:
        """The types of the effects that are Pending and due by then, as far as the 256 that are due longest tell."""

    def verify_events(self, *, progress: Callable[[int], None] | None = None) -> ChainReport:
        """Walk the chain from its start; streams, holds no more than a batch in memory."""

    def effects(
        self,
        *,
        states: Sequence[EffectState] | None = None,
        subject: Key | None = None,
        type: str | None = None,
        limit: int = 1000,
    ) -> list[Effect]:
        """Effects by (due_at, id)."""

    def effect(self, key: str) -> Effect | None:
        """The effect with that idempotency key."""

    def timers(self, *, due_before: datetime | None = None, limit: int = 1000) -> list[Timer]:
        """Timers by due_at; with ``due_before`` those due at or before it."""

    def balance(self, account: str) -> Balance:
        """The account; an empty one when nothing was posted."""

    def ledger(self, *, account: str | None = None, limit: int = 1000) -> list[LedgerEntry]:
        """Entries oldest first."""

    def open_reservations(self, *, account: str | None = None) -> list[LedgerEntry]:
        """Reserve entries not yet settled or released, oldest first."""

    def open_reservation(self, key: str) -> LedgerEntry | None:
        """The Reserve entry with that key, unless it was settled or released."""

    def lease(self, name: str) -> Lease | None:
        """Its current row, also when expired."""


class Transaction(Snapshot, Protocol):
    """Reads and writes, all or nothing. ``now`` is the time of the transaction."""

    @property
    def now(self) -> datetime:
        """When the transaction began; every row it writes carries this time."""

    @property
    def actor(self) -> Actor:
        """Who acts; events name it."""

    def mark(self, kinds: tuple[str, ...]) -> object:
        """The very same object as in an earlier transaction only if no object of these kinds was written in between, by
        anybody: what was worked out of them then still stands. Where the store cannot tell, another one."""

    def acting(self, actor: Actor) -> AbstractContextManager[None]:
        """Inside the block ``actor`` acts: one transaction may carry what several of them did."""

    def touched(self) -> list[Key]:
        """Keys of the objects that were created, or changed, one by one so far: as they were called before, in the
        order of their first change."""

    def create(
        self,
        declared: Declared,
        *,
        manager: str = "",
        unit: str = "",
        owner_uid: str = "",
        finalizers: Sequence[str] = (),
        status: dict[str, Any] | None = None,
        uid: str | None = None,
        fresh: bool = False,
    ) -> Resource:
        """Insert at generation 1 and keep the spec. ``fresh`` says that nobody can have used the name, so that this is
        not asked: it holds the uid of an object, and is given once. Whoever is wrong there loses the transaction.
        Raises AlreadyExists."""

    def create_many(
        self,
        declared: Sequence[Declared],
        *,
        manager: str = "",
        unit: str = "",
        owner_uid: str = "",
        finalizers: Callable[[str], Sequence[str]] | None = None,
        status: Callable[[Key], dict[str, Any]] | None = None,
    ) -> list[Resource]:
        """``create`` for each, in the order given, at a fraction of the cost; ``finalizers`` are asked for by kind,
        ``status`` by key. All or none: raises AlreadyExists, naming the first, when one exists or is in the list
        twice."""

    def put_spec(
        self, current: Resource, declared: Declared, *, manager: str | None = None, unit: str | None = None
    ) -> Resource:
        """Bring spec, labels, annotations, provenance, ownership (None keeps it), manager and unit to ``declared``.
        ``generation`` grows, and the spec is kept, only if the canonical spec differs; when nothing differs nothing is
        written and ``current`` comes back. A differing ``declared.key`` renames: uid and history stay. Raises Conflict,
        AlreadyExists (rename)."""

    def put_status(self, current: Resource, status: dict[str, Any]) -> Resource:
        """Replace status; equal status writes nothing. Raises Conflict when ``current`` is stale."""

    def put_finalizers(self, current: Resource, finalizers: Sequence[str]) -> Resource:
        """Replace finalizers (none can be added once deletion runs). Raises Conflict."""

    def request_deletion(self, current: Resource) -> Resource | None:
        """Set ``deletion_at``; without finalizers the object goes at once and None comes back. Idempotent."""

    def remove(self, current: Resource) -> None:
        """Delete the row and leave a tombstone. Raises Conflict."""

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
        """Append to the log; returns its seq. ``subject`` as Key when the object does not exist (any more)."""

    def event_each(
        self, type: str, subjects: Iterable[tuple[Resource, dict[str, Any]]], *, reason: str, message: str
    ) -> None:
        """``event`` about each, with its data, in the order given, at a fraction of the cost."""

    def enqueue(
        self,
        type: str,
        key: str,
        subject: Key,
        payload: dict[str, Any],
        *,
        due_at: datetime | None = None,
        fresh: bool = False,
    ) -> bool:
        """Put an effect into the outbox; False when the key is there already, whatever its state. ``fresh`` says that
        nobody can have used the key, so that this is not asked: it holds the uid of an object that this transaction
        made. Whoever is wrong there loses the transaction."""

    def claim_effects(self, holder: str, *, types: Sequence[str], limit: int, lease_s: float) -> list[Effect]:
        """Take due Pending effects, and Claimed ones whose claim ran out, oldest due first. Counts a try and raises
        the token. With several processes no effect is taken twice at a time."""

    def finish_effect(self, effect: Effect, result: dict[str, Any] | None = None) -> None:
        """Done. Raises Fenced when the claim is another's by now."""

    def fail_effect(self, effect: Effect, error: str, *, retry_at: datetime | None) -> None:
        """Back to Pending for ``retry_at``, or Dead for None. Raises Fenced."""

    def extend_claim(self, effect: Effect, lease_s: float) -> None:
        """Hold on to a claim. Raises Fenced."""

    def address_effect(self, effect: Effect, type: str, *, keep: bool) -> None:
        """Change the type of a claimed effect, so that from now on only those who ask for that type claim it. Without
        ``keep`` the claim is given back. Raises Fenced."""

    def release_claims(self, *, types: Sequence[str] | None = None) -> int:
        """Give every Claimed effect (of these types) back, due as before; returns how many. For an engine that starts
        and knows whoever claimed them to be dead. Their old tokens are void."""

    def hasten_effect(self, key: str) -> bool:
        """Make a Pending effect due now, if it is not; False when it is claimed, has ended, or is not there."""

    def drop_effect(self, key: str) -> bool:
        """Withdraw a Pending effect (marked Dead, "withdrawn"); False when it is claimed or ended already."""

    def set_timer(self, key: Key, purpose: str, due_at: datetime) -> None:
        """Set or move it."""

    def clear_timer(self, key: Key, purpose: str) -> None:
        """Remove it if there."""

    def post(self, entry: LedgerEntry, *, fresh: bool = False) -> bool:
        """Append to the ledger and move the balances; False when the key was posted before. ``fresh`` as for
        ``enqueue``. Raises NotFound when a Settle or Release names an unknown reservation, Conflict when it is ended
        already by another entry."""

    def acquire_lease(self, name: str, holder: str, *, ttl_s: float) -> Lease | None:
        """Take a free or expired lease, or extend one's own (same token); None while another holds it. ``holder``
        names one life of one process: whoever comes back under an old name would share its token."""

    def release_lease(self, name: str, token: int) -> bool:
        """Give it up; False when the token is not current."""

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        """Keep compiled forms, as ``Store.cache_blobs`` does, if the transaction commits; forgets no others."""

    def prune_tombstones(self, before_version: int) -> int:
        """Forget removals up to that version; returns how many."""

    def prune_effects(self, before: datetime, *, limit: int) -> int:
        """Forget up to ``limit`` effects that are Done or Dead since ``before`` or longer; returns how many. What was
        done stays in the event log. Their keys may be enqueued again: ``before`` has to lie further back than anybody
        would ask for the same effect once more."""


class Store(Protocol):
    """A store that is open."""

    @property
    def shared(self) -> bool:
        """Whether several engines may work on it at a time. They then agree by leases who does what; if not, opening
        with ``exclusive`` kept every other engine out."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Reads at one moment; never waits for a writer."""

    def transaction(self, actor: Actor, *, fence: Fence | None = None) -> AbstractContextManager[Transaction]:
        """Read and write. With ``fence`` it raises Fenced unless that lease still has that token, checked under lock
        inside the same transaction; a lease that ran out counts until somebody takes it. Raises StoreUnavailable;
        after one inside the block the transaction is lost, even if the block swallows it. Not reentrant."""

    def cursor(self) -> int:
        """``latest_version`` at the least cost, for polling: microseconds when nothing changed."""

    def subscribe(self, callback: Callable[[int], None]) -> Callable[[], None]:
        """Call ``callback(version)`` in the committing thread after each commit of this process that wrote something;
        returns the unsubscribe function. Other processes' commits are seen through ``cursor``; where the database tells
        of them, ``callback`` is called for those too, from another thread; nobody may rely on that. Versions may arrive
        out of order: keep the highest. What a callback raises is logged and dropped."""

    def subscribe_effects(self, callback: Callable[[frozenset[str] | None], None]) -> Callable[[], None]:
        """Call ``callback(types)`` in the committing thread after each commit of this process that put effects of these
        types into the outbox which are due; returns the unsubscribe function. A hint as that of ``subscribe`` is. Where
        the database tells of other processes' commits, it is called with None: nobody says what they put there."""

    def cached_blobs(self, compiler: str, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
        """Compiled forms kept for these blob ids by this compiler version."""

    def cache_blobs(self, compiler: str, compiled: Mapping[str, bytes]) -> None:
        """Keep compiled forms; forgets those of other compiler versions."""

    def search(self, question: Question, *, limit: int = 50) -> list[Hit]:
        """What fits the question among what was indexed (``index_search``): those with most of its words in the
        title first, then the newest. Without words everything that passes the filters. At most 100."""

    def index_search(self, limit: int) -> int:
        """Take up to ``limit`` changed objects and as many new rows of the log into the index of ``search``; returns
        how many, 0 when it is up to date. Nobody is told of it, and it moves no version. Any number of processes may
        call it."""

    def close(self) -> None:
        """Close every connection; idempotent."""
