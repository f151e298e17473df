"""What write transactions know of the rows without asking the database again.

A write transaction keeps every other writer out, so what it read stays true until its end, and what it wrote is what
the next one would read. Whether anybody else wrote between two transactions is for the backend to say: only where it
can tell for certain does a memory outlive its transaction (SQLite: ``PRAGMA data_version`` under the write lock).
A memory belongs to one transaction at a time and dies with one that fails.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from enum import Enum

from schemas.base import Key
from schemas.resource import Resource
from store.contract import Balance, LedgerEntry, SpecRevision

MOST = 4_000
"""Objects, or accounts, that are known at a time."""
_ROOM = 1_000
"""For so many there is room when a transaction begins, so that few have to write at once what they could hold back."""
_LONGEST = 256
_LISTS = 64
_STATUSES = 256

Later = Callable[[], Resource]
Query = tuple[object, ...]
"""The filters of a list, without its kind."""


class Unknown(Enum):
    """What a memory answers that has to ask: None is an answer, too."""

    UNKNOWN = 0


UNKNOWN = Unknown.UNKNOWN


class Memory:
    """Objects, short lists of them, specs, balances, sets of accounts, open reservations, timers, and the row of heads.
    Not for several threads."""

    __slots__ = (
        "_by_uid", "_lists", "_marks", "_newborn", "_status", "_uids", "account_sets", "accounts", "balances", "heads",
        "reservations", "specs", "timers", "unwritten",
    )  # fmt: skip

    def __init__(self) -> None:
        self._uids: dict[Key, str] = {}  # "" where there is no object
        self._by_uid: dict[str, Resource | Later | None] = {}
        self._status: dict[str, tuple[int, str]] = {}
        self._lists: dict[str, dict[Query, tuple[Resource, ...]]] = {}
        self._marks: dict[tuple[str, ...], object] = {}
        self.heads: tuple[int, int, str, int] | None = None
        """The row of heads as it stands, in the order of its columns; None when nobody knows."""
        self._newborn: dict[str, set[str]] = {}  # kinds of what each owns
        self.balances: dict[str, Balance] = {}
        self.accounts: set[str] = set()
        """Those of ``balances`` that have a row."""
        self.unwritten: dict[str, bool] = {}
        """Those of ``balances`` whose row does not say the same yet, and whether more differs than what is reserved."""
        self.account_sets: dict[tuple[str, ...], tuple[int, tuple[str, ...]]] = {}
        """By the accounts as they are given: the number of their set, and their names as it has them."""
        self.reservations: dict[str, LedgerEntry | Callable[[], LedgerEntry] | None] = {}
        self.specs: dict[tuple[str, int], SpecRevision] = {}
        self.timers: dict[tuple[Key, str], int | None] = {}
        """When they are due, by key and purpose; None where there is none."""

    @property
    def full(self) -> bool:
        """Whether nothing more is taken in."""
        return self._beyond(MOST)

    def _beyond(self, most: int) -> bool:
        return len(self._uids) >= most or len(self._by_uid) >= most

    def prune(self) -> None:
        """Between two transactions: forget what was made and never read, and begin anew with what has grown too
        large."""
        if self._beyond(MOST - _ROOM):
            unread = {uid for uid, known in self._by_uid.items() if not isinstance(known, Resource)}
            self._by_uid = {uid: known for uid, known in self._by_uid.items() if uid not in unread}
            self._uids = {key: uid for key, uid in self._uids.items() if uid and uid not in unread}
            if self._beyond(MOST // 2):
                self._uids.clear()
                self._by_uid.clear()
                self._lists.clear()
        if len(self.balances) >= MOST:
            self.balances.clear()
            self.accounts.clear()
        for known in (self.account_sets, self.reservations, self.specs, self.timers):
            if len(known) >= MOST:
                known.clear()

    def mark(self, kinds: tuple[str, ...]) -> object:
        """Another one after each change of an object of these kinds."""
        found = self._marks.get(kinds)
        if found is None:
            found = self._marks[kinds] = object()
        return found

    def _unmark(self, kind: str) -> None:
        if not self._marks:
            return
        for kinds in [kinds for kinds in self._marks if kind in kinds]:
            del self._marks[kinds]

    def get(self, key: Key) -> Resource | Unknown | None:
        """The object of that key, None when there is none."""
        uid = self._uids.get(key)
        if uid is None:
            return UNKNOWN
        return self.by_uid(uid) if uid else None

    def by_uid(self, uid: str) -> Resource | Unknown | None:
        """The object of that uid, None when there is none."""
        found = self._by_uid.get(uid, UNKNOWN)
        if isinstance(found, Resource) or found is UNKNOWN or found is None:
            return found
        made = self._by_uid[uid] = found()
        return made

    def found(self, kind: str, query: Query) -> tuple[Resource, ...] | None:
        """The objects that a query found; None when nobody knows."""
        return self._lists.get(kind, {}).get(query)

    def saw(self, resource: Resource) -> None:
        """An object was read."""
        if not self.full:
            self._by_uid[resource.uid] = resource
            self._uids[resource.key] = resource.uid

    def saw_none(self, key: Key) -> None:
        """No object has that key."""
        if not self.full:
            self._uids[key] = ""

    def listed(self, kind: str, query: Query, found: list[Resource]) -> None:
        """A query was answered."""
        lists = self._lists.setdefault(kind, {})
        if len(found) <= _LONGEST:
            if len(lists) >= _LISTS:
                del lists[next(iter(lists))]  # the oldest
            lists[query] = tuple(found)

    def born(self, uid: str) -> None:
        """An object was created under a new uid: it owns nothing yet."""
        if len(self._newborn) >= MOST:
            self._newborn.clear()
        self._newborn[uid] = set()

    def owns_none(self, uid: str, kind: str) -> bool:
        """Whether it is certain that an object owns none of a kind."""
        kinds = self._newborn.get(uid)
        return kinds is not None and kind not in kinds

    def _belongs(self, resource: Resource) -> None:
        kinds = self._newborn.get(resource.owner_uid) if resource.owner_uid else None
        if kinds is not None:
            kinds.add(resource.kind)

    def created(self, uid: str, resource: Resource, read: Later) -> None:
        """An object was created; there has to be room (see ``full``). ``read`` reads what was written, and is what
        ``resource`` says."""
        self._by_uid[uid] = read
        self._uids[resource.key] = resource.uid
        self._keep_lists(resource, read)

    def status_text(self, resource: Resource) -> str | None:
        """The canonical text of its status, where it was written not long ago; None when nobody knows."""
        version, text = self._status.get(resource.uid, (0, ""))
        return text if version == resource.resource_version else None

    def wrote(self, resource: Resource, status: str) -> None:
        """The status of an object changed, to what ``status`` says; there has to be room (see ``full``)."""
        if len(self._status) >= _STATUSES:
            self._status.clear()
        self._status[resource.uid] = (resource.resource_version, status)
        self._by_uid[resource.uid] = resource
        self._uids[resource.key] = resource.uid
        self._keep_lists(resource, lambda: resource)

    def forget_many(self, resources: Iterable[Resource]) -> None:
        """``forget`` for each."""
        if self._uids or self._by_uid or self._lists or self._marks:
            for resource in resources:
                self.forget(resource)
        elif self._newborn:
            for resource in resources:
                self._belongs(resource)

    def _keep_lists(self, resource: Resource, now: Later) -> None:
        """Bring the lists of its kind to what a query would find now, where that can be told from the object alone."""
        self._unmark(resource.kind)
        self._belongs(resource)
        lists = self._lists.get(resource.kind)
        if not lists:
            return
        for query, found in list(lists.items()):
            namespace, labels, states, owner_uid, unit, limit, after = query
            if labels is not None or limit is not None or after is not None:
                del lists[query]
                continue
            fits = (
                namespace in (None, resource.namespace)
                and (not isinstance(states, tuple) or resource.state in states)
                and owner_uid in (None, resource.owner_uid)
                and unit in (None, resource.unit)
            )
            others = [known for known in found if known.uid != resource.uid]
            if not fits and len(others) == len(found):
                continue
            if fits:
                bisect.insort(others, self._made(resource.uid, now), key=_place)
            if len(others) > _LONGEST:
                del lists[query]
            else:
                lists[query] = tuple(others)

    def _made(self, uid: str, now: Later) -> Resource:
        known = self.by_uid(uid)
        return known if isinstance(known, Resource) else now()

    def forget(self, resource: Resource) -> None:
        """An object, or what bears its key, changed otherwise: ask again."""
        self._uids.pop(resource.key, None)
        self._by_uid.pop(resource.uid, None)
        self._lists.pop(resource.kind, None)
        self._unmark(resource.kind)
        self._belongs(resource)


def _place(resource: Resource) -> tuple[str, str]:
    return resource.namespace, resource.name
