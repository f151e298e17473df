"""The life of an object: created, changed by compare-and-swap, deleted when its finalizers are done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.base import Key
from schemas.errors import AlreadyExists, Conflict
from schemas.ownership import Ownership
from schemas.registry import RECORDS
from schemas.resource import Declared, Resource, canonical_json
from store import rows
from store.codec import Mask, dump, from_micros, load_object
from store.contract import SpecRevision
from store.heads import Heads
from store.memory import UNKNOWN
from store.objects import FIRST_SPEC
from store.remembered import RememberedObjects
from store.session import Statement
from store.tables import former_names, objects, specs, tombstones

_c = objects.c
_AT_VERSION = (_c.uid == bindparam("at_uid"), _c.resource_version == bindparam("at_version"))

_KEY = ("kind", "namespace", "name")
_VERSION = Statement(sa.select(_c.resource_version).where(_c.uid == bindparam("uid")))
_INSERT = Statement(sa.insert(objects).values({column.name: bindparam(column.name) for column in _c}))
_KEEP_SPEC = Statement(sa.insert(specs).values({column.name: bindparam(column.name) for column in specs.c}))
_KEEP_FIRST = Statement(sa.insert(specs).from_select([column.name for column in rows.SPEC_COLUMNS], FIRST_SPEC))
_KEEP_NAME = Statement(
    sa.insert(former_names).from_select(
        [column.name for column in former_names.c],
        sa.select(*(_c[column.name] for column in former_names.c)).where(
            _c.uid == bindparam("uid"),
            ~sa.exists().where(*(column == _c[column.name] for column in former_names.c)),
        ),
    )
)
_RESTORE_NAME = Statement(
    sa.insert(former_names).values({column.name: bindparam(column.name) for column in former_names.c})
)
_DELETE = Statement(sa.delete(objects).where(*_AT_VERSION))
_BURY = Statement(sa.insert(tombstones).values({column.name: bindparam(column.name) for column in tombstones.c}))


def _update(*columns: str) -> Statement:
    values: dict[str, sa.BindParameter[Any]] = {name: bindparam(name) for name in (*columns, "resource_version")}
    return Statement(sa.update(objects).where(*_AT_VERSION).values(values))


_PUT_STATUS = _update("status", "state")
_PUT_SAME_STATE = _update("status")  # naming its column would write the index over states anew
_PUT_FINALIZERS = _update("finalizers")
_PUT_DELETION = _update("deletion_at")
_DECLARED_COLUMNS = (
    "namespace",
    "name",
    "generation",
    "unit",
    "manager",
    "labels",
    "annotations",
    "provenance",
    "spec",
    "ownership",
)
_PUT_SPEC = _update(*_DECLARED_COLUMNS)


class ObjectWrites(RememberedObjects):
    """The part of Transaction that concerns objects and specs. What is created, and the status of what the memory
    knows, is held back; every other change is written at once."""

    _heads: Heads
    _now: int
    _moment: datetime
    _new_id: Callable[[], str]
    _mask: Mask
    _touched: dict[str, Resource]
    _touched_kinds: set[str]

    def touched(self) -> list[Key]:
        return [resource.key for resource in self._touched.values()]

    def _touch(self, resource: Resource) -> None:
        self._touched[resource.uid] = resource
        self._touched_kinds.add(resource.kind)

    def _holds_back(self, kind: str) -> bool:
        return kind in self._touched_kinds

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
        if not fresh:
            self._refuse_taken(declared.key)
        declared = self._masked(declared, manager)
        status = None if status is None else self._mask(status, declared.namespace)
        if uid is not None and self.spec_at(uid, 1) is not None:
            raise AlreadyExists(f"{declared.key} cannot be created: the uid {uid} was used before")
        resource = self._new(declared, uid or self._new_id(), manager, unit, owner_uid, finalizers, status)
        given = rows.from_resource(resource)
        row = self._session.insert(_INSERT, given)
        self._touch(resource)
        if self._has_room(resource):
            same = row is given  # else a name was cleaned
            stored = resource if same else replace(resource, uid=row["uid"], **{part: row[part] for part in _KEY})
            self._session.memory.created(row["uid"], stored, partial(rows.read, row))
            if uid is None:
                self._session.memory.born(row["uid"])
        return resource

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
        keys = [d.key for d in declared]
        if len(set(keys)) < len(keys):
            raise AlreadyExists(f"{Counter(keys).most_common(1)[0][0]} is declared twice in one list")
        taken = sorted(self.units_of(keys))
        if taken:
            more = f" (and {len(taken) - 1} more of the list)" if len(taken) > 1 else ""
            raise AlreadyExists(f"{taken[0]} exists already{more}")
        created = []
        written = []
        said: dict[str, Any] = {}
        text = "{}"
        for key, each in zip(keys, declared, strict=True):
            if status is not None:
                new = self._mask(status(key), key.namespace)
                # Most say what the one before said. Of other values than texts, equal ones may be written otherwise.
                if new != said or not all(isinstance(value, str) for value in new.values()):
                    text = dump(new)
                said = new
            plain = self._masked(each, manager)
            ends = () if finalizers is None else finalizers(key.kind)
            resource = self._new(plain, self._new_id(), manager, unit, owner_uid, ends, said)
            created.append(resource)
            written.append(rows.created(resource, plain, self._now, text))
        self._session.insert_rows(_INSERT, rows.OBJECT_NAMES, written)
        memory = self._session.memory
        memory.forget_many(created)
        for resource in created:
            memory.born(resource.uid)
        return created

    def restore(self, resource: Resource, revisions: Sequence[SpecRevision]) -> None:
        """Insert an object as it was elsewhere, with every spec it had; it gets a resource_version of this store."""
        version = self._heads.next_version()
        self._session.insert(_INSERT, rows.from_resource(replace(resource, resource_version=version)))
        self._session.memory.forget(resource)
        self.restore_specs(revisions)

    def restore_specs(self, revisions: Sequence[SpecRevision]) -> None:
        """Insert specs, also of objects that are gone."""
        for revision in revisions:
            self._session.insert(_KEEP_SPEC, rows.from_spec_revision(revision))

    def restore_names(self, names: Iterable[tuple[str, Key]]) -> None:
        """Insert the keys that objects (by uid) had elsewhere, each once."""
        for uid, key in names:
            self._session.insert(_RESTORE_NAME, {"uid": uid, **key._asdict()})

    def _masked(self, declared: Declared, manager: str) -> Declared:
        """Records, and what a controller makes, hold what agents and programs said; what people declare is kept as they
        wrote it."""
        if declared.kind not in RECORDS and not manager.startswith("controller/"):
            return declared
        spec = self._mask(declared.spec, declared.namespace)
        return declared if spec is declared.spec else replace(declared, spec=spec)

    def put_spec(
        self, current: Resource, declared: Declared, *, manager: str | None = None, unit: str | None = None
    ) -> Resource:
        if declared.kind != current.kind:
            raise ValueError(f"{current.key} cannot become a {declared.kind}")
        respecified = canonical_json(declared.spec) != canonical_json(current.spec)
        wanted = replace(
            current,
            namespace=declared.namespace,
            name=declared.name,
            generation=current.generation + respecified,
            spec=declared.spec if respecified else current.spec,
            labels=declared.labels,
            annotations=declared.annotations,
            provenance=declared.provenance,
            ownership=current.ownership if declared.ownership is None else declared.ownership,
            manager=current.manager if manager is None else manager,
            unit=current.unit if unit is None else unit,
        )
        if wanted == current:
            self._refuse_stale(current)
            return current
        if wanted.key != current.key:
            self._refuse_taken(wanted.key)
            self._keep_name(current)
        self._keep_first(current)
        row = rows.from_resource(wanted)
        version = self._swap(_PUT_SPEC, current, {name: row[name] for name in _DECLARED_COLUMNS})
        wanted = replace(wanted, resource_version=version)
        self._session.memory.forget(wanted)
        if respecified:
            self._session.run(_KEEP_SPEC, rows.spec_row(row, recorded_at=self._now))
        return wanted

    def put_status(self, current: Resource, status: dict[str, Any]) -> Resource:
        status = self._mask(status, current.namespace)
        text = dump(status)
        if text == (self._session.memory.status_text(current) or dump(current.status)):
            self._refuse_stale(current)
            return current
        return self._swap_status(current, status, text)

    def put_finalizers(self, current: Resource, finalizers: Sequence[str]) -> Resource:
        wanted = replace(current, finalizers=tuple(finalizers))
        if wanted == current:
            self._refuse_stale(current)
            return current
        added = [name for name in wanted.finalizers if name not in current.finalizers]
        if current.deletion_at is not None and added:
            raise Conflict(f"{current.key} is being deleted: no finalizer can be added ({', '.join(added)})")
        version = self._swap(_PUT_FINALIZERS, current, {"finalizers": dump(list(wanted.finalizers))})
        return replace(wanted, resource_version=version)

    def request_deletion(self, current: Resource) -> Resource | None:
        if self._session.row(_VERSION, {"uid": current.uid}) is None:
            return None
        if not current.finalizers:
            self.remove(current)
            return None
        if current.deletion_at is not None:
            self._refuse_stale(current)
            return current
        version = self._swap(_PUT_DELETION, current, {"deletion_at": self._now})
        return replace(current, deletion_at=from_micros(self._now), resource_version=version)

    def _keep_first(self, current: Resource) -> None:
        """Keep the first spec of an object whose row is about to change, or to go."""
        if current.generation == 1:
            self._session.run(_KEEP_FIRST, {"uid": current.uid})

    def _keep_name(self, current: Resource) -> None:
        """Keep the key of an object that is about to lose it, for those who ask the log about its uid."""
        self._session.run(_KEEP_NAME, {"uid": current.uid})

    def remove(self, current: Resource) -> None:
        self._keep_first(current)
        self._keep_name(current)
        if not self._session.run(_DELETE, {"at_uid": current.uid, "at_version": current.resource_version}):
            raise self._conflict(current)
        self._session.memory.forget(current)
        self._session.run(
            _BURY,
            {
                "resource_version": self._heads.next_version(),
                "uid": current.uid,
                "kind": current.kind,
                "namespace": current.namespace,
                "name": current.name,
                "owner_uid": current.owner_uid,
            },
        )

    def _new(
        self,
        declared: Declared,
        uid: str,
        manager: str,
        unit: str,
        owner_uid: str,
        finalizers: Sequence[str],
        status: dict[str, Any] | None,
    ) -> Resource:
        return Resource(
            *declared.key,
            uid=uid,
            generation=1,
            resource_version=self._heads.next_version(),
            spec=declared.spec,
            status={} if status is None else status,
            created_at=self._moment,
            labels=declared.labels,
            annotations=declared.annotations,
            manager=manager,
            unit=unit,
            provenance=declared.provenance,
            owner_uid=owner_uid,
            finalizers=tuple(finalizers),
            ownership=declared.ownership or Ownership(),
        )

    def _swap(self, statement: Statement, current: Resource, values: dict[str, Any]) -> int:
        """Write ``values`` if the object is still at the version of ``current``; returns the new version."""
        version = self._heads.next_version()
        self._touch(current)
        values |= {"resource_version": version, "at_uid": current.uid, "at_version": current.resource_version}
        if not self._session.run(statement, values):
            raise self._conflict(current)
        self._session.memory.forget(current)
        return version

    def _swap_status(self, current: Resource, status: dict[str, Any], text: str) -> Resource:
        """The same for the status alone, which changes most often; returns what is stored now."""
        known, state = self._session.memory.by_uid(current.uid), rows.state_of(status)
        if known is UNKNOWN:
            return current.with_status(status, self._swap(_PUT_STATUS, current, {"status": text, "state": state}))
        if known is None or known.resource_version != current.resource_version:
            raise self._conflict(current)
        version = self._heads.next_version()
        self._touch(current)
        values = {
            "status": text,
            "resource_version": version,
            "at_uid": current.uid,
            "at_version": current.resource_version,
        }
        if state == known.state:
            self._session.update(_PUT_SAME_STATE, values)
        else:
            self._session.update(_PUT_STATUS, values | {"state": state})
        if not self._has_room(known):
            return current.with_status(status, version)
        stored = known.with_status(load_object(text), version)  # whoever gave the status may yet change it
        self._session.memory.wrote(stored, text)
        return stored

    def _has_room(self, resource: Resource) -> bool:
        """What is held back has to be in the memory: where there is no room, it is written at once."""
        if not self._session.memory.full:
            return True
        self._session.flush()
        self._session.memory.forget(resource)
        return False

    def _refuse_taken(self, key: Key) -> None:
        # Asked before and not left to the UNIQUE constraint: on PostgreSQL that would end the whole transaction.
        if self.get(key) is not None:
            raise AlreadyExists(f"{key} exists already")

    def _refuse_stale(self, current: Resource) -> None:
        """A write that changes nothing must still not hide that somebody else changed something."""
        known = self.get_by_uid(current.uid)
        if known is None or known.resource_version != current.resource_version:
            raise self._conflict(current)

    def _conflict(self, current: Resource) -> Conflict:
        row = self._session.row(_VERSION, {"uid": current.uid})
        what = "it is gone" if row is None else f"version {row[0]} is stored"
        return Conflict(
            f"{current.key} moved since it was read: version {current.resource_version} was read, {what}."
            " Read it again and decide again"
        )
