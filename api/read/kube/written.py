"""Objects as JSON text, put together from the text that the store keeps: nothing is decoded that is not looked into.

The value is that of ``shape.document``. What may hold a secret, or says more of its fields than whose they are, goes
that way.
"""

from __future__ import annotations

import json
import json.encoder
from functools import lru_cache

from api.read.answers import json_bytes
from api.read.kube.lists import Query, continued, token_after
from api.read.kube.shape import document
from decisions.fields import may_hide
from schemas.base import API_VERSION, Key
from schemas.kind import KindInfo
from schemas.ownership import Ownership
from schemas.quantities import format_time
from store.codec import from_micros
from store.contract import Snapshot, Written

_API = json.dumps(API_VERSION)
_quoted = json.encoder.encode_basestring


def is_plain(query: Query) -> bool:
    """Whether the store alone can tell which objects are asked for."""
    known = ("metadata.namespace", "status.state")
    asked = query.fields.requirements
    return (
        not query.labels.requirements
        and all(path in known and value and not negated for path, value, negated in asked)
        and len({path for path, _, _ in asked}) == len(asked)
    )


def list_text(snapshot: Snapshot, info: KindInfo, namespace: str | None, query: Query) -> bytes:
    """A page of a list, for a query that is plain. Raises StatusProblem (410)."""
    version = continued(snapshot, query)
    place = query.fields.equal("metadata.namespace")
    found: list[Written] = []
    if place is None or namespace in (None, place):
        found = snapshot.written(
            info.kind,
            namespace=(namespace if place is None else place) if info.namespaced else None,
            state=query.fields.equal("status.state"),
            limit=query.limit + 1 if query.limit else None,
            after=query.after,
        )
    meta = {"resourceVersion": str(version)}
    if query.limit and len(found) > query.limit:
        del found[query.limit :]
        meta["continue"] = token_after(version, (found[-1].namespace, found[-1].name))
    head = json.dumps({"kind": f"{info.kind}List", "apiVersion": API_VERSION, "metadata": meta}, separators=(",", ":"))
    items = ",".join([_text(snapshot, row) for row in found])
    return f'{head[:-1]},"items":[{items}]}}'.encode("utf-8", "replace")


def _text(snapshot: Snapshot, row: Written) -> str:
    managed = _managed(row.ownership, row.manager)
    if managed is None or row.deletion_at is not None or may_hide(row.spec) or may_hide(row.status):
        resource = snapshot.get(Key(row.kind, row.namespace, row.name))
        assert resource is not None  # it was there at this moment
        return json_bytes(document(resource)).decode()
    meta = f'{{"name":{_quoted(row.name)}'
    if row.namespace:
        meta += f',"namespace":{_quoted(row.namespace)}'
    meta += (
        f',"uid":"{row.uid}","generation":{row.generation},"resourceVersion":"{row.resource_version}"'
        f',"creationTimestamp":"{format_time(from_micros(row.created_at))}"'
    )
    if row.labels != "{}":
        meta += f',"labels":{row.labels}'
    if row.annotations != "{}":
        meta += f',"annotations":{row.annotations}'
    if row.finalizers != "[]":
        meta += f',"finalizers":{row.finalizers}'
    if row.owner_uid:
        meta += (
            f',"ownerReferences":[{{"apiVersion":{_API},"kind":"Object","name":"{row.owner_uid}"'
            f',"uid":"{row.owner_uid}","controller":true}}]'
        )
    provenance = f',"provenance":{row.provenance}' if row.provenance else ""
    return (
        f'{{"apiVersion":{_API},"kind":"{row.kind}","metadata":{meta}{managed}}},"spec":{row.spec}{provenance}'
        f',"status":{row.status}}}'
    )


@lru_cache(maxsize=1024)
def _managed(ownership: str, manager: str) -> str | None:
    """The part of the metadata that says whose the fields are, "" for nobody's; None when the status says something of
    it, too. Files that are written alike share it."""
    found = Ownership.from_wire(json.loads(ownership)) if ownership else Ownership()
    if found.overrides or found.fight_since is not None:
        return None
    return f',"managedFields":{json_bytes(found.managed_fields(manager)).decode()}' if manager else ""
