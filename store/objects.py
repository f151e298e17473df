"""Objects: finding them, one by one and in lists, and every spec they ever had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from heapq import merge
from itertools import islice
from typing import Any

import sqlalchemy as sa
from sqlalchemy import bindparam

from schemas.base import Key
from schemas.resource import Resource, canonical_json
from store import rows
from store.codec import bounded
from store.contract import SpecRevision, Written
from store.session import Session, Statement
from store.tables import objects, specs

_c = objects.c
_SPECS_KNOWN = 4_000
BY_NAME = (_c.kind == bindparam("kind"), _c.namespace == bindparam("namespace"), _c.name == bindparam("name"))
"""Where clauses that pick the object of a key; see named."""

_GET = Statement(sa.select(*rows.OBJECT_COLUMNS).where(*BY_NAME))
_ANY = Statement(sa.select(_c.uid).where(*BY_NAME[:2]).limit(1))
_GET_BY_UID = Statement(sa.select(*rows.OBJECT_COLUMNS).where(_c.uid == bindparam("uid")))
_THERE = {column.name: (column != sa.literal_column("''"),) for column in (_c.owner_uid, _c.unit)}
"""What a query has to say for the index over a column that is "" in many rows."""
_OF_UNIT = (_c.unit == bindparam("unit"), *_THERE["unit"])
_BY_PLACE = (_c.kind, _c.namespace, _c.name)
_UNIT = Statement(sa.select(*rows.OBJECT_COLUMNS).where(*_OF_UNIT).order_by(*_BY_PLACE))
_UNIT_COUNTS = Statement(sa.select(_c.kind, sa.func.count()).where(*_OF_UNIT).group_by(_c.kind))
_UNIT_KEYS = Statement(sa.select(*_BY_PLACE).where(*_OF_UNIT).order_by(*_BY_PLACE))
_UID: sa.BindParameter[str] = bindparam("uid")
# The first spec of an object that never had another, and never moved, is kept nowhere but in the object's row.
FIRST_SPEC = sa.select(_c.uid, _c.generation, _c.spec, _c.provenance, _c.manager, _c.created_at).where(
    _c.uid == _UID, _c.generation == 1, ~sa.exists().where(specs.c.uid == _UID, specs.c.generation == 1)
)
"""In the order of SPEC_COLUMNS."""
_KEPT_SPECS = sa.select(*rows.SPEC_COLUMNS).where(specs.c.uid == _UID)
_SPECS = Statement(sa.union_all(_KEPT_SPECS, FIRST_SPEC).order_by("generation"))
_SPEC = Statement(_KEPT_SPECS.where(specs.c.generation == bindparam("generation")))
_SPEC_1 = Statement(sa.union_all(_KEPT_SPECS.where(specs.c.generation == 1), FIRST_SPEC))
_NAMES_AT_ONCE = 256
_LONGEST_LABEL = 600
_LABELS_IN_SQL = 4


@lru_cache(maxsize=256)
def _get_named(count: int) -> Statement:
    """Objects of one kind and namespace by name, for ``count`` names."""
    return Statement(sa.select(*rows.OBJECT_COLUMNS).where(*_named_among(count)))


@lru_cache(maxsize=16)
def _units_named(count: int) -> Statement:
    """The same, only whose they are."""
    return Statement(sa.select(_c.kind, _c.namespace, _c.name, _c.unit).where(*_named_among(count)))


def _named_among(count: int) -> tuple[sa.ColumnElement[bool], ...]:
    names: list[sa.BindParameter[str]] = [bindparam(f"name{i}") for i in range(count)]
    return (*BY_NAME[:2], _c.name.in_(names))


@lru_cache(maxsize=256)
def _select(
    *, count: bool, namespace: bool, states: int, owner: bool | None, unit: bool | None, labels: int, after: bool,
    limit: bool,
) -> Statement:  # fmt: skip
    """The list of a kind with these filters; one statement per combination. ``owner`` and ``unit`` say whether they
    are to be other than "", None where they are not asked for."""
    clause: sa.Select[Any] = sa.select(sa.func.count()) if count else sa.select(*rows.OBJECT_COLUMNS)
    clause = clause.select_from(objects).where(_c.kind == bindparam("kind"))
    if namespace:
        clause = clause.where(_c.namespace == bindparam("namespace"))
    if states:
        clause = clause.where(_c.state.in_([bindparam(f"state{i}") for i in range(states)]))
    if owner is not None:
        clause = clause.where(_c.owner_uid == bindparam("owner_uid"), *_THERE["owner_uid"][:owner])
    if unit is not None:
        clause = clause.where(_c.unit == bindparam("unit"), *_THERE["unit"][:unit])
    for i in range(labels):
        clause = clause.where(_c.labels.like(bindparam(f"label{i}"), escape="/"))
    if after and namespace:
        clause = clause.where(_c.name > bindparam("after_name"))
    elif after:
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
        row = self._session.row(_GET, named(key), apart=True)
        return None if row is None else rows.to_resource_lately(row)

    def get_by_uid(self, uid: str) -> Resource | None:
        row = self._session.row(_GET_BY_UID, {"uid": uid}, apart=True)
        return None if row is None else rows.to_resource_lately(row)

    def get_many(self, keys: Iterable[Key]) -> dict[Key, Resource]:
        found = {}
        for statement, params in _by_names(self._session, keys, _get_named):
            for row in self._session.rows(statement, params, apart=True):
                resource = rows.to_resource_lately(row)
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
        if _is_behind(namespace, after):
            return []
        if after is not None and namespace is not None and after[0] != namespace:
            after = None
        wanted = dict(labels or {})
        likely = _label_patterns(wanted)
        # SQLite would sort, or read the whole kind, for several states at once; one list a state comes in order.
        apart = bool(states) and owner_uid is None and unit is None
        statement = _select(
            count=False,
            namespace=namespace is not None,
            states=1 if apart else len(states or ()),
            owner=None if owner_uid is None else bool(owner_uid),
            unit=None if unit is None else bool(unit),
            labels=len(likely),
            after=after is not None,
            limit=limit is not None and not wanted,
        )
        params: dict[str, Any] = {"kind": kind, "namespace": namespace, "owner_uid": owner_uid, "unit": unit}
        params |= {f"state{i}": state for i, state in enumerate(states or ())}
        params |= {f"label{i}": pattern for i, pattern in enumerate(likely)}
        params |= {"limit": None if limit is None else bounded(limit)}
        if after is not None:
            params["after_namespace"], params["after_name"] = after
        lists = [{**params, "state0": state} for state in dict.fromkeys(states or ())] if apart else [params]
        held_back = self._holds_back(kind)
        found: Iterator[Resource] = merge(*[self._stream(statement, p, apart=not held_back) for p in lists], key=_place)
        if wanted:
            found = (r for r in found if all(r.labels.get(k) == v for k, v in wanted.items()))
        return list(islice(found, None if limit is None else bounded(limit)))

    def written(
        self,
        kind: str,
        *,
        namespace: str | None = None,
        state: str | None = None,
        limit: int | None = None,
        after: tuple[str, str] | None = None,
    ) -> list[Written]:
        if (limit is not None and limit <= 0) or _is_behind(namespace, after):
            return []
        if after is not None and namespace is not None and after[0] != namespace:
            after = None
        statement = _select(
            count=False, namespace=namespace is not None, states=0 if state is None else 1, owner=None, unit=None,
            labels=0, after=after is not None, limit=limit is not None,
        )  # fmt: skip
        params: dict[str, Any] = {"kind": kind, "namespace": namespace, "state0": state}
        params["limit"] = None if limit is None else bounded(limit)
        if after is not None:
            params["after_namespace"], params["after_name"] = after
        return [Written._make(row) for row in self._session.rows(statement, params)]

    def units_of(self, keys: Iterable[Key]) -> dict[Key, str]:
        found = {}
        for statement, params in _by_names(self._session, keys, _units_named):
            for row in self._session.rows(statement, params):
                found[Key(*row[:3])] = row[3]
        return found

    def unit_counts(self, unit: str) -> dict[str, int]:
        return {row[0]: row[1] for row in self._session.rows(_UNIT_COUNTS, {"unit": unit})}

    def unit_keys(self, unit: str) -> list[Key]:
        return [Key(*row) for row in self._session.rows(_UNIT_KEYS, {"unit": unit})]

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
            owner=None if owner_uid is None else bool(owner_uid),
            unit=None,
            labels=0,
            after=False,
            limit=False,
        )
        params = {"kind": kind, "namespace": namespace, "owner_uid": owner_uid}
        params |= {f"state{i}": state for i, state in enumerate(states or ())}
        row = self._session.row(statement, params)
        assert row is not None
        return int(row[0])

    def _stream(self, statement: Statement, params: dict[str, Any], *, apart: bool) -> Iterator[Resource]:
        return map(rows.to_resource, self._session.stream(statement, params, apart=apart))

    def _holds_back(self, kind: str) -> bool:
        """Whether writes to objects of a kind may not have been sent yet."""
        return False

    def specs(self, uid: str) -> list[SpecRevision]:
        return [rows.to_spec_revision(row) for row in self._session.rows(_SPECS, {"uid": uid})]

    def spec_at(self, uid: str, generation: int) -> SpecRevision | None:
        committed = self._session.specs
        found = committed.get((uid, generation))
        if found is None:
            found = self._read_spec(uid, generation)
            if found is not None:
                if len(committed) >= _SPECS_KNOWN:
                    committed.clear()
                committed[uid, generation] = found
        return found

    def _read_spec(self, uid: str, generation: int) -> SpecRevision | None:
        statement = _SPEC_1 if generation == 1 else _SPEC
        row = self._session.row(statement, {"uid": uid, "generation": bounded(generation)})
        return None if row is None else rows.to_spec_revision(row)


def _by_names(
    session: Session, keys: Iterable[Key], statement: Callable[[int], Statement]
) -> Iterator[tuple[Statement, dict[str, Any]]]:
    """The queries that find these keys, in chunks."""
    groups: dict[tuple[str, str], set[str]] = {}
    for kind, namespace, name in keys:
        groups.setdefault((kind, namespace), set()).add(name)
    for (kind, namespace), wanted in sorted(groups.items()):
        place = {"kind": kind, "namespace": namespace}
        if len(wanted) > _NAMES_AT_ONCE and session.row(_ANY, place, apart=True) is None:
            continue  # a first sync asks for many, and finds none
        names = sorted(wanted)
        for start in range(0, len(names), _NAMES_AT_ONCE):
            chunk = names[start : start + _NAMES_AT_ONCE]
            size = 1 << (len(chunk) - 1).bit_length()  # few sizes, so few statements to compile
            params: dict[str, Any] = {f"name{i}": chunk[min(i, len(chunk) - 1)] for i in range(size)}
            yield statement(size), params | place


def _is_behind(namespace: str | None, after: tuple[str, str] | None) -> bool:
    """Whether nothing of the namespace follows."""
    return after is not None and namespace is not None and after[0] > namespace


def _place(resource: Resource) -> tuple[str, str]:
    return resource.namespace, resource.name


def named(key: Key) -> dict[str, Any]:
    """The parameters of BY_NAME."""
    return {"kind": key.kind, "namespace": key.namespace, "name": key.name}


def _label_patterns(labels: Mapping[str, str]) -> list[str]:
    """LIKE patterns that every match fulfils. They save decoding most rows; what decides is compared in Python."""
    pairs = (f"{canonical_json(key)}:{canonical_json(value)}" for key, value in sorted(labels.items()))
    short = [pair for pair in pairs if len(pair) < _LONGEST_LABEL][:_LABELS_IN_SQL]
    return ["%" + pair.replace("/", "//").replace("%", "/%").replace("_", "/_") + "%" for pair in short]
