"""Reading objects in a write transaction: what it knows already is not asked for again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from schemas.base import Key
from schemas.resource import Resource
from store.codec import clean
from store.contract import SpecRevision
from store.memory import UNKNOWN, Memory
from store.objects import ObjectReads


class RememberedObjects(ObjectReads):
    """``ObjectReads`` over the memory of its session. What is held back is in the memory, so that looking for one
    object lets nothing out."""

    def mark(self, kinds: tuple[str, ...]) -> object:
        return self._session.memory.mark(kinds)

    def get(self, key: Key) -> Resource | None:
        memory = self._session.memory
        known = memory.get(key)
        if known is UNKNOWN:
            known = super().get(key)
            _learn(memory, key, known)
        return known

    def get_by_uid(self, uid: str) -> Resource | None:
        memory = self._session.memory
        known = memory.by_uid(uid)
        if known is UNKNOWN:
            known = super().get_by_uid(uid)
            if known is not None:
                memory.saw(known)
        return known

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        memory = self._session.memory
        found, asked = {}, []
        for key in dict.fromkeys(keys):
            known = memory.get(key)
            if known is UNKNOWN:
                asked.append(key)
            elif known is not None:
                found[key] = known
        if asked:
            there = super().get_many(asked)
            found |= there
            for key in asked:
                _learn(memory, key, there.get(key))
        return found

    def spec_at(self, uid: str, generation: int) -> SpecRevision | None:
        # What this transaction wrote may never be committed: only others' is taken from what all share, and none given.
        known, place = self._session.memory.specs, (uid, generation)
        found = known.get(place) or self._session.specs.get(place) or self._read_spec(uid, generation)
        if found is not None:
            known[uid, generation] = found
        return found

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
        memory = self._session.memory
        if owner_uid and memory.owns_none(owner_uid, kind):
            return []
        wanted = None if labels is None else tuple(sorted(labels.items()))
        query = (namespace, wanted, None if states is None else tuple(states), owner_uid, unit, limit, after)
        known = memory.found(kind, query)
        if known is not None:
            return list(known)
        found = super().objects(
            kind, namespace=namespace, labels=labels, states=states, owner_uid=owner_uid, unit=unit, limit=limit,
            after=after,
        )  # fmt: skip
        memory.listed(kind, query, found)
        return found


def _learn(memory: Memory, key: Key, found: Resource | None) -> None:
    if found is not None:
        memory.saw(found)
    elif all(clean(part) == part for part in key):  # else the object may be there under a cleaner name
        memory.saw_none(key)
