"""Missions that a Goal or Todo makes from its templates, and the end of whoever owns missions: they go first."""

from __future__ import annotations

from controllers.reconcilers import writing
from controllers.runtime.result import DONE, Result
from schemas.base import Key
from schemas.event import EventType
from schemas.mission import MissionSpec
from schemas.mission_template import MissionTemplate
from schemas.resource import Declared, Resource
from store.contract import Transaction

PROPOSED_AGENT = "remit.dev/proposed-agent"
"""Annotation of a mission that waits for a person: the agent that its template names."""


def make_mission(
    tx: Transaction,
    owner: Resource,
    name: str,
    template: MissionTemplate,
    spec: MissionSpec,
    *,
    finalizers: tuple[str, ...],
    annotations: dict[str, str] | None = None,
) -> Resource | None:
    """The mission ``name`` of ``owner``, made now or before; None when the name is somebody else's."""
    key = Key("Mission", owner.namespace, name)
    known = tx.get(key)
    if known is not None:
        return known if known.owner_uid == owner.uid else None
    declared = Declared(
        *key,
        spec.to_wire(),
        labels=dict(template.metadata.labels),
        annotations={**template.metadata.annotations, **(annotations or {})},
    )
    mission = tx.create(
        declared, manager=f"controller/{owner.kind.lower()}", owner_uid=owner.uid, finalizers=finalizers
    )
    tx.event(
        EventType.CREATED, mission, reason=owner.kind, message=f"for {owner.key.short}", data={"related": [owner.uid]}
    )
    return mission


def let_go(tx: Transaction, owner: Resource, kinds: tuple[str, ...]) -> int:
    """Ask for the deletion of everything of these kinds that ``owner`` made; returns how much of it is still there."""
    left = 0
    for kind in kinds:
        for thing in tx.objects(kind, namespace=owner.namespace, owner_uid=owner.uid):
            if thing.deletion_at is None:
                text = f"{owner.key.short} is being deleted"
                tx.event(EventType.DELETION_REQUESTED, thing, reason="OwnerDeleted", message=text)
                left += tx.request_deletion(thing) is not None
            else:
                left += 1
    return left


def finish(tx: Transaction, owner: Resource, message: str) -> Result:
    """Nothing is left to undo: the object goes."""
    tx.event(EventType.DELETED, owner, reason="Finalized", message=message)
    tx.clear_timer(owner.key, writing.WAKE)
    tx.remove(tx.put_finalizers(owner, ()) if owner.finalizers else owner)
    return DONE
