"""Objects and specs as rows."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from schemas.ownership import Ownership
from schemas.resource import Declared, Provenance, Resource, quote
from store.codec import clean_json, dump, from_micros, load, load_object, maybe_micros, maybe_moment, to_micros
from store.contract import SpecRevision
from store.session import Row
from store.tables import objects, specs

_o, _s = objects.c, specs.c

OBJECT_COLUMNS = (
    _o.kind,
    _o.namespace,
    _o.name,
    _o.uid,
    _o.generation,
    _o.resource_version,
    _o.spec,
    _o.status,
    _o.created_at,
    _o.labels,
    _o.annotations,
    _o.manager,
    _o.unit,
    _o.provenance,
    _o.owner_uid,
    _o.finalizers,
    _o.deletion_at,
    _o.ownership,
)
"""In the order of the fields of Resource."""
_UID = [column.name for column in OBJECT_COLUMNS].index("uid")

OBJECT_NAMES = tuple(column.name for column in objects.columns)
"""The columns of an object, as ``created`` gives them."""

SPEC_COLUMNS = (_s.uid, _s.generation, _s.spec, _s.provenance, _s.manager, _s.recorded_at)
"""In the order of the fields of SpecRevision."""


def to_resource(row: Row) -> Resource:
    """A row of OBJECT_COLUMNS."""
    (
        kind,
        namespace,
        name,
        uid,
        generation,
        version,
        spec,
        status,
        created_at,
        labels,
        annotations,
        manager,
        unit,
        provenance,
        owner_uid,
        finalizers,
        deletion_at,
        ownership,
    ) = row
    return Resource(
        kind,
        namespace,
        name,
        uid,
        generation,
        version,
        load_object(spec),
        load_object(status),
        from_micros(created_at),
        load_object(labels),
        load_object(annotations),
        manager,
        unit,
        to_provenance(provenance),
        owner_uid,
        _finalizers(finalizers),
        maybe_moment(deletion_at),
        to_ownership(ownership),
    )


_LATELY = 1_000
_lately: dict[str, tuple[Row, Resource]] = {}


def to_resource_lately(row: Row) -> Resource:
    """``to_resource`` for objects that are read one by one: several look at each change, one after the other. Objects
    are never changed in place, so the same row is the same object. Safe between threads."""
    uid: str = row[_UID]
    known = _lately.get(uid)
    if known is not None and known[0] == row:
        return known[1]
    made = to_resource(row)
    if len(_lately) >= _LATELY:
        _lately.clear()
    _lately[uid] = (row, made)
    return made


def read(row: Mapping[str, Any]) -> Resource:
    """A row by column name, as ``to_resource`` reads it."""
    return to_resource(tuple(row[column.name] for column in OBJECT_COLUMNS))


def from_resource(resource: Resource) -> dict[str, Any]:
    """The row of an object, by column name."""
    return {
        "uid": resource.uid,
        "kind": resource.kind,
        "namespace": resource.namespace,
        "name": resource.name,
        "generation": resource.generation,
        "resource_version": resource.resource_version,
        "state": state_of(resource.status),
        "owner_uid": resource.owner_uid,
        "unit": resource.unit,
        "manager": resource.manager,
        "created_at": to_micros(resource.created_at),
        "deletion_at": maybe_micros(resource.deletion_at),
        "labels": dump(resource.labels),
        "annotations": dump(resource.annotations),
        "finalizers": _names(resource.finalizers),
        "provenance": from_provenance(resource.provenance),
        "spec": dump(resource.spec),
        "status": dump(resource.status),
        "ownership": from_ownership(resource.ownership),
    }


def created(resource: Resource, declared: Declared, created_at: int, status: str) -> Row:
    """The row of an object that is new, in the order of OBJECT_NAMES, from what it was declared as. ``created_at`` and
    ``status`` as columns have them."""
    spec, labels, annotations = declared.texts
    return (
        resource.uid,
        resource.kind,
        resource.namespace,
        resource.name,
        resource.generation,
        resource.resource_version,
        state_of(resource.status),
        resource.owner_uid,
        resource.unit,
        resource.manager,
        created_at,
        None,
        clean_json(labels),
        clean_json(annotations),
        _names(resource.finalizers),
        from_provenance(resource.provenance),
        clean_json(spec),
        status,
        _declared_ownership(declared),
    )


@functools.lru_cache(maxsize=64)
def _finalizers(text: str) -> tuple[str, ...]:
    """There are few sets of them."""
    return tuple(load(text))


@functools.lru_cache(maxsize=64)
def _names(finalizers: tuple[str, ...]) -> str:
    return dump(list(finalizers))


def _declared_ownership(declared: Declared) -> str:
    """As from_ownership, with the text that is there already."""
    owned, written = declared.ownership, declared.written
    if written is None or owned is not written.ownership:
        return from_ownership(owned or _NOBODY)
    return f'{{"fields":{clean_json(written.fields_text)}}}' if written.ownership.fields else ""


def state_of(status: dict[str, Any]) -> str:
    """``status.state`` as its column has it."""
    value = status.get("state", "")
    return value if isinstance(value, str) else ""


def to_provenance(text: str) -> Provenance | None:
    """Inverse of from_provenance."""
    return Provenance.from_wire(load(text)) if text else None


def from_provenance(provenance: Provenance | None) -> str:
    """Its JSON, as ``dump`` writes it; "" for None."""
    if provenance is None:
        return ""
    p = provenance
    rest = _shared_provenance(p.revision, p.signer, p.source, p.unit)
    return clean_json(f'{{"blob":{quote(p.blob)},"line":{p.line},"path":{quote(p.path)},{rest}')


@functools.lru_cache(maxsize=64)
def _shared_provenance(revision: str, signer: str, source: str, unit: str) -> str:
    """What is the same for all objects of a unit at a revision."""
    by = f'"signer":{quote(signer)},' if signer else ""
    return f'"revision":{quote(revision)},{by}"source":{quote(source)},"unit":{quote(unit)}}}'


_NOBODY = Ownership()


_SHORT = 2000


def to_ownership(text: str) -> Ownership:
    """Inverse of from_ownership."""
    if not text:
        return _NOBODY
    return _ownership(text) if len(text) < _SHORT else Ownership.from_wire(load(text))


@functools.lru_cache(maxsize=1024)
def _ownership(text: str) -> Ownership:
    """Files that are written alike own the same fields on the same lines."""
    return Ownership.from_wire(load(text))


def from_ownership(ownership: Ownership) -> str:
    """Its JSON; "" when nothing is known."""
    wire = ownership.to_wire()
    return dump(wire) if wire else ""


def to_spec_revision(row: Row) -> SpecRevision:
    """A row of SPEC_COLUMNS."""
    uid, generation, spec, provenance, manager, recorded_at = row
    return SpecRevision(
        uid, generation, load_object(spec), to_provenance(provenance), manager, from_micros(recorded_at)
    )


def from_spec_revision(revision: SpecRevision) -> dict[str, Any]:
    """Inverse of to_spec_revision, by column name."""
    return {
        "uid": revision.uid,
        "generation": revision.generation,
        "spec": dump(revision.spec),
        "provenance": from_provenance(revision.provenance),
        "manager": revision.manager,
        "recorded_at": to_micros(revision.recorded_at),
    }


_KEPT = ("uid", "generation", "spec", "provenance", "manager")


def spec_row(row: Mapping[str, Any], *, recorded_at: int) -> dict[str, Any]:
    """The row that keeps the present spec of an object, from the object's own row."""
    return {**{name: row[name] for name in _KEPT}, "recorded_at": recorded_at}
