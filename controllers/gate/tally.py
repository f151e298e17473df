"""How many calls each Policy and Waiver decided.

The gate names, in the event of a call, whom the answer speaks for. Those events are counted here a while later and many
at a time, so that a call that is decided writes nothing to a Policy, and none is counted twice or lost: counts and how
far they go are written in one transaction. Each event is read once; after a restart reading goes on where the counts
end.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from controllers.gate.call_record import COUNTED_BY
from schemas.base import Key
from schemas.event import EventType
from schemas.policy import PolicyStatus, Verdict
from schemas.resource import SYSTEM, Resource
from schemas.waiver import WaiverStatus
from store.contract import Event, Snapshot, Store, Transaction

BATCH = 1000
"""Calls that are counted in one transaction."""
NOTE_EVERY = 10_000
"""Events after which it is noted how far reading went, also where none counts: a restart would read them again."""
_COUNTERS = ("Policy", "Waiver")


class Tally:
    """Counts for one engine at a time. Remembers how far it read; not thread-safe."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._after: int | None = None
        self._noted = 0
        self._version = -1

    def count(self) -> None:
        """Take in what was decided since. Costs a look at the store's version while nothing was written to it. Raises
        StoreError: nothing that was not counted is lost, the next call takes it in."""
        version = self._store.cursor()
        if version == self._version:
            return
        while self._batch():
            pass
        self._version = version

    def _batch(self) -> bool:
        """Whether there may be more to read."""
        with self._store.snapshot() as snapshot:
            if self._after is None:
                self._after = self._noted = _start(snapshot)
            decided = snapshot.events(after=self._after, types=[EventType.CALL_DECIDED], limit=BATCH)
            more = len(decided) == BATCH
            newest = decided[-1:] if more else snapshot.events(limit=1, newest_first=True)
        end = newest[0].seq if newest else self._after
        named = _named(decided)
        if named or end - self._noted >= NOTE_EVERY:
            with self._store.transaction(SYSTEM) as tx:
                _write(tx, named, end)
            self._noted = end
        self._after = end
        return more


def _start(snapshot: Snapshot) -> int:
    """Where counting goes on: behind the last event that anything counted, as each batch is written whole; where
    nothing was counted yet, at the making of the oldest that could."""
    found = [thing for kind in _COUNTERS for thing in snapshot.objects(kind)]
    counted = max((_counted_to(thing) for thing in found), default=0)
    if counted or not found:
        return counted
    oldest = min(found, key=lambda thing: thing.created_at)
    made = snapshot.events(subject_uid=oldest.uid, limit=1)
    return made[0].seq if made else 0


def _named(decided: list[Event]) -> dict[Key, list[Event]]:
    """The calls that each of them decided."""
    named: dict[Key, list[Event]] = defaultdict(list)
    for event in decided:
        for name in event.data.get(COUNTED_BY, ()):
            kind, namespace, own = str(name).split("/", 2)
            named[Key(kind, namespace, own)].append(event)
    return named


def _write(tx: Transaction, named: dict[Key, list[Event]], end: int) -> None:
    found = tx.get_many(named)
    for key, thing in sorted(found.items()):
        _put(tx, thing, named[key], end)
    if not found:
        anyone = next((thing for kind in _COUNTERS for thing in tx.objects(kind, limit=1)), None)
        if anyone is not None:
            _put(tx, anyone, [], end)


def _put(tx: Transaction, thing: Resource, decided: list[Event], end: int) -> None:
    """An event that a commit of unknown outcome counted is not counted again."""
    new = [event for event in decided if event.seq > _counted_to(thing)]
    of = Counter(str(event.data["verdict"]) for event in new)
    if thing.kind == "Policy":
        policy = PolicyStatus.model_validate(thing.status)
        update: dict[str, object] = {
            "denied": policy.denied + of[Verdict.DENY],
            "asked": policy.asked + of[Verdict.REQUIRE_APPROVAL],
            "allowed": policy.allowed + of[Verdict.ALLOW],
            "counted_to": max(policy.counted_to, end),
        }
        tx.put_status(thing, policy.model_copy(update=update).to_wire())
        return
    waiver = WaiverStatus.model_validate(thing.status)
    update = {
        "used": waiver.used + len(new),
        "last_used_at": new[-1].at if new else waiver.last_used_at,
        "counted_to": max(waiver.counted_to, end),
    }
    tx.put_status(thing, waiver.model_copy(update=update).to_wire())


def _counted_to(thing: Resource) -> int:
    return int(thing.status.get("countedTo", 0))
