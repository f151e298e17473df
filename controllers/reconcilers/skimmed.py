"""Missions, read for who names whom: most name nobody and wait for nothing that others bring about, and then neither
their spec nor their status is decoded, which is most of what reading one costs."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.resource import Resource
from store.codec import from_micros, load_object, maybe_moment
from store.contract import Snapshot, Written


def missions(snapshot: Snapshot) -> Iterator[Resource]:
    """Every mission in the order of ``Snapshot.objects``, for ``Wakes`` to learn from. Spec and status are empty where
    they say nothing of this; labels, annotations, provenance and ownership always are."""
    for row in snapshot.written("Mission"):
        yield _resource(row, decoded=_says_something(row.spec, row.status))


def _says_something(spec: str, status: str) -> bool:
    """Whether a mission names anybody or waits for others. A word that stands in a title costs the decoding, no more:
    one that is there is always found."""
    return (
        '"agent"' in status
        or '"readySince"' in status
        or '"awaitsFollowUp"' in status
        or '"type":"Budget"' in status
        or '"type":"Tenant"' in status
        or 'Ref"' in spec
        or 'Refs"' in spec
        or '"agentSelector"' in spec
        or "dependsOn" in spec.replace('"dependsOn":[]', "", 1)
    )


def _resource(row: Written, *, decoded: bool) -> Resource:
    return Resource(
        row.kind,
        row.namespace,
        row.name,
        row.uid,
        row.generation,
        row.resource_version,
        load_object(row.spec) if decoded else {},
        load_object(row.status) if decoded else {},
        from_micros(row.created_at),
        owner_uid=row.owner_uid,
        deletion_at=maybe_moment(row.deletion_at),
    )
