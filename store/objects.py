"""Objects: reading them, and their life from create to tombstone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import groupby, islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.base import Key
from schemas.errors import AlreadyExists, Conflict
from schemas.resource import Declared, Resource, canonical_json
from store import rows
from store.codec import dump, from_micros
from store.contract import SpecRevision
from store.heads import Heads
from store.session import Session, Statement
from store.tables import objects, specs, tombstones

_c = objects.c
_BY_NAME = (_c.kind == bindparam("kind"), _c.namespace == bindparam("namespace"), _c.name == bindparam("name"))
_AT_VERSION = (_c.uid == bindparam("at_uid"), _c.resource_version == bindparam("at_version"))

_GET = Statement(sa.select(*rows.OBJECT_COLUMNS).where(*_BY_NAME))
_GET_BY_UID = Statement(sa.select(*rows.OBJECT_COLUMNS).where(_c.uid == bindparam("uid")))
_UNIT = Statement(
    sa.select(*rows.OBJECT_COLUMNS).where(_c.unit == bindparam("unit")).order_by(_c.kind, _c.namespace, _c.name)
)
_VERSION = Statement(sa.select(_c.resource_version).where(_c.uid == bindparam("uid")))
_UID = Statement(sa.select(_c.uid).where(*_BY_NAME))
_INSERT = Statement(sa.insert(objects).values({column.name: bindparam(column.name) for column in _c}))
_DELETE = Statement(sa.delete(objects).where(*_AT_VERSION))
_BURY = Statement(sa.insert(tombstones).values({column.name: bindparam(column.name) for column in tombstones.c}))

_SPECS = Statement(sa.select(*rows.SPEC_COLUMNS).where(specs.c.uid == bindparam("uid")).order_by(specs.c.generation))
_SPEC = Statement(
    sa.select(*rows.SPEC_COLUMNS).where(specs.c.uid == bindparam("uid"), specs.c.generation == bindparam("generation"))
)
_KEEP_SPEC = Statement(sa.insert(specs).values({column.name: bindparam(column.name) for column in specs.c}))

_NAMES_AT_ONCE = 256
_LONGEST_LABEL = 600
_LABELS_IN_SQL = 4


def _update(*columns: str) -> Statement:
    values: dict[str, sa.BindParameter[Any]] = {name: bindparam(name) for name in (*columns, "resource_version")}
    return Statement(sa.update(objects).where(*_AT_VERSION).values(values))


_PUT_STATUS = _update("status", "state")
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
)
_PUT_SPEC = _update(*_DECLARED_COLUMNS)


@lru_cache(maxsize=256)
def _get_named(count: int) -> Statement:
    """Objects of one kind and namespace by name, for ``count`` names."""
    names: list[sa.BindParameter[str]] = [bindparam(f"name{i}") for i in range(count)]
    return Statement(sa.select(*rows.OBJECT_COLUMNS).where(*_BY_NAME[:2], _c.name.in_(names)))


@lru_cache(maxsize=256)
def _select(
    *, count: bool, namespace: bool, states: int, owner: bool, unit: bool, labels: int, after: bool, limit: bool
) -> Statement:
    """The list of a kind with these filters; one statement per combination."""
    clause: sa.Select[Any] = sa.select(sa.func.count()) if count else sa.select(*rows.OBJECT_COLUMNS)
    clause = clause.select_from(objects).where(_c.kind == bindparam("kind"))
    if namespace:
        clause = clause.where(_c.namespace == bindparam("namespace"))
    if states:
        clause = clause.where(_c.state.in_([bindparam(f"state{i}") for i in range(states)]))
    if owner:
        clause = clause.where(_c.owner_uid == bindparam("owner_uid"))
    if unit:
        clause = clause.where(_c.unit == bindparam("unit"))
    for i in range(labels):
        clause = clause.where(_c.labels.like(bindparam(f"label{i}"), escape="/"))
    if after:
        place = sa.tuple_(bindparam("after_namespace"), bindparam("after_name"))
        clause = clause.where(sa.tuple_(_c.namespace, _c.name) > place)
    if not count:
        clause = clause.order_by(_c.namespace, _c.name)
    if limit:
        clause = clause.limit(bindparam("limit"))
    return Statement(clause)


class ObjectReads:
    """The part of Snapshot that concerns objects and specs."""

    _session: Session

    def get(self, key: Key) -> Resource | None:
        row = self._session.row(_GET, _named(key))
        return None if row is None else rows.to_resource(row)

    def get_by_uid(self, uid: str) -> Resource | None:
        row = self._session.row(_GET_BY_UID, {"uid": uid})
        return None if row is None else rows.to_resource(row)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        found = {}
        for (kind, namespace), group in groupby(sorted(set(keys)), key=lambda key: key[:2]):
            names = [key.name for key in group]
            for start in range(0, len(names), _NAMES_AT_ONCE):
                chunk = names[start : start + _NAMES_AT_ONCE]
                size = 1 << (len(chunk) - 1).bit_length()  # few sizes, so few statements to compile
                params = {f"name{i}": chunk[min(i, len(chunk) - 1)] for i in range(size)}
                params |= {"kind": kind, "namespace": namespace}
                for row in self._session.rows(_get_named(size), params):
                    resource = rows.to_resource(row)
                    found[resource.key] = resource
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
        if (states is not None and not states) or (limit is not None and limit <= 0):
            return []
        wanted = dict(labels or {})
        likely = _label_patterns(wanted)
        statement = _select(
            count=False,
            namespace=namespace is not None,
            states=len(states or ()),
            owner=owner_uid is not None,
            unit=unit is not None,
            labels=len(likely),
            after=after is not None,
            limit=limit is not None and not wanted,
        )
        params: dict[str, Any] = {"kind": kind, "namespace": namespace, "owner_uid": owner_uid, "unit": unit}
        params |= {f"state{i}": state for i, state in enumerate(states or ())}
        params |= {f"label{i}": pattern for i, pattern in enumerate(likely)}
        params |= {"limit": limit}
        if after is not None:
            params["after_namespace"], params["after_name"] = after
        found: Iterator[Resource] = (rows.to_resource(row) for row in self._session.stream(statement, params))
        if wanted:
            found = (r for r in found if all(r.labels.get(k) == v for k, v in wanted.items()))
        return list(islice(found, limit))

    def list_unit(self, unit: str) -> list[Resource]:
        return [rows.to_resource(row) for row in self._session.rows(_UNIT, {"unit": unit})]

    def count(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        states: Sequence[str] | None = None,
        owner_uid: str | None = None,
    ) -> int:
        if states is not None and not states:
            return 0
        statement = _select(
            count=True,
            namespace=namespace is not None,
            states=len(states or ()),
            owner=owner_uid is not None,
            unit=False,
            labels=0,
            after=False,
            limit=False,
        )
        params = {"kind": kind, "namespace": namespace, "owner_uid": owner_uid}
        params |= {f"state{i}": state for i, state in enumerate(states or ())}
        row = self._session.row(statement, params)
        assert row is not None
        return int(row[0])

    def specs(self, uid: str) -> list[SpecRevision]:
        return [rows.to_spec_revision(row) for row in self._session.rows(_SPECS, {"uid": uid})]

    def spec_at(self, uid: str, generation: int) -> SpecRevision | None:
        row = self._session.row(_SPEC, {"uid": uid, "generation": generation})
        return None if row is None else rows.to_spec_revision(row)


class ObjectWrites(ObjectReads):
    """The part of Transaction that concerns objects and specs."""

    _heads: Heads
    _now: int
    _new_id: Callable[[], str]

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
    ) -> Resource:
        self._refuse_taken(declared.key)
        if uid is not None and self.spec_at(uid, 1) is not None:
            raise AlreadyExists(f"{declared.key} cannot be created: the uid {uid} was used before")
        resource = self._new(declared, uid or self._new_id(), manager, unit, owner_uid, finalizers, status)
        self._session.run(_INSERT, rows.from_resource(resource))
        self._session.run(_KEEP_SPEC, rows.spec_row(resource, recorded_at=self._now))
        return resource

    def create_many(
        self, declared: Sequence[Declared], *, manager: str = "", unit: str = "", owner_uid: str = ""
    ) -> list[Resource]:
        keys = Counter(d.key for d in declared)
        if len(keys) < len(declared):
            raise AlreadyExists(f"{keys.most_common(1)[0][0]} is declared twice in one list")
        taken = sorted(self.get_many(keys))
        if taken:
            more = f" (and {len(taken) - 1} more of the list)" if len(taken) > 1 else ""
            raise AlreadyExists(f"{taken[0]} exists already{more}")
        created = [self._new(d, self._new_id(), manager, unit, owner_uid, (), None) for d in declared]
        self._session.run_many(_INSERT, [rows.from_resource(resource) for resource in created])
        self._session.run_many(_KEEP_SPEC, [rows.spec_row(resource, recorded_at=self._now) for resource in created])
        return created

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
            manager=current.manager if manager is None else manager,
            unit=current.unit if unit is None else unit,
        )
        if wanted == current:
            self._refuse_stale(current)
            return current
        if wanted.key != current.key:
            self._refuse_taken(wanted.key)
        row = rows.from_resource(wanted)
        version = self._swap(_PUT_SPEC, current, {name: row[name] for name in _DECLARED_COLUMNS})
        wanted = replace(wanted, resource_version=version)
        if respecified:
            self._session.run(_KEEP_SPEC, rows.spec_row(wanted, recorded_at=self._now))
        return wanted

    def put_status(self, current: Resource, status: dict[str, Any]) -> Resource:
        text = dump(status)
        if text == dump(current.status):
            self._refuse_stale(current)
            return current
        version = self._swap(_PUT_STATUS, current, {"status": text, "state": rows.state_of(status)})
        return replace(current, status=status, resource_version=version)

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

    def remove(self, current: Resource) -> None:
        if not self._session.run(_DELETE, {"at_uid": current.uid, "at_version": current.resource_version}):
            raise self._conflict(current)
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
            created_at=from_micros(self._now),
            labels=declared.labels,
            annotations=declared.annotations,
            manager=manager,
            unit=unit,
            provenance=declared.provenance,
            owner_uid=owner_uid,
            finalizers=tuple(finalizers),
        )

    def _swap(self, statement: Statement, current: Resource, values: dict[str, Any]) -> int:
        """Write ``values`` if the object is still at the version of ``current``; returns the new version."""
        version = self._heads.next_version()
        values |= {"resource_version": version, "at_uid": current.uid, "at_version": current.resource_version}
        if not self._session.run(statement, values):
            raise self._conflict(current)
        return version

    def _refuse_taken(self, key: Key) -> None:
        # Asked before and not left to the UNIQUE constraint: on PostgreSQL that would end the whole transaction.
        if self._session.row(_UID, _named(key)) is not None:
            raise AlreadyExists(f"{key} exists already")

    def _refuse_stale(self, current: Resource) -> None:
        """A write that changes nothing must still not hide that somebody else changed something."""
        row = self._session.row(_VERSION, {"uid": current.uid})
        if row is None or row[0] != current.resource_version:
            raise self._conflict(current)

    def _conflict(self, current: Resource) -> Conflict:
        row = self._session.row(_VERSION, {"uid": current.uid})
        what = "it is gone" if row is None else f"version {row[0]} is stored"
        return Conflict(
            f"{current.key} moved since it was read: version {current.resource_version} was read, {what}."
            " Read it again and decide again"
        )


def _named(key: Key) -> dict[str, Any]:
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name}


def _label_patterns(labels: Mapping[str, str]) -> list[str]:
    """LIKE patterns that every match fulfils. They save decoding most rows; what decides is compared in Python."""
    pairs = (f"{canonical_json(key)}:{canonical_json(value)}" for key, value in sorted(labels.items()))
    short = [pair for pair in pairs if len(pair) < _LONGEST_LABEL][:_LABELS_IN_SQL]
    return ["%" + pair.replace("/", "//").replace("%", "/%").replace("_", "/_") + "%" for pair in short]
