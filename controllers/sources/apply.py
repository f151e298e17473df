"""Applies a plan: the whole unit in the caller's transaction, with its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from controllers.sources.ownership import arrange, drifted
from controllers.sources.units import source_id, unit_id
from decisions.finalizers import finalizers
from decisions.ownership import flipped
from decisions.plan import Action, Entry, Plan
from schemas.base import Key
from schemas.event import EventType
from schemas.resource import Declared, Resource
from store.contract import Transaction

_SHOWN_CHANGES = 20


@dataclass(frozen=True, slots=True)
class Applied:
    """How much was done."""

    created: int = 0
    updated: int = 0
    deleted: int = 0
    renamed: int = 0
    drift_corrected: int = 0
    waiting: int = 0
    """Creations put off: an object of that name still ends."""

    @property
    def total(self) -> int:
        """Objects touched, relocations not counted."""
        return self.created + self.updated + self.deleted + self.renamed

    def __str__(self) -> str:
        parts = [
            f"{n} {word}"
            for n, word in (
                (self.created, "created"),
                (self.updated, "updated"),
                (self.renamed, "renamed"),
                (self.deleted, "deleted"),
                (self.drift_corrected, "put back"),
            )
            if n
        ]
        return ", ".join(parts) or "nothing changed"


def initial_status(kind: str) -> dict[str, Any]:
    """What a new object says before its first pass."""
    return {"state": "Inbox"} if kind == "Mission" else {}


def apply(
    tx: Transaction,
    plan: Plan,
    declared: Mapping[Key, Declared],
    live: Mapping[Key, Resource],
    *,
    manager: str,
    blocked: frozenset[Key],
    statuses: Mapping[Key, dict[str, Any]] | None = None,
) -> Applied:
    """Carry the plan out, but for the keys in ``blocked``. ``live`` holds every existing object that the plan names.
    ``statuses`` are what some new objects say before their first pass, such as who made an act.

    Raises Conflict or AlreadyExists when an object moved since the plan was made: the caller plans again.
    """
    counts = dict.fromkeys(Action, 0)
    drift = waiting = 0
    created = _create_all(tx, plan, declared, live, manager, blocked, statuses or {})
    unsaid: list[tuple[Resource, dict[str, Any]]] = []

    def say() -> None:
        """Every object's events come in the order of the plan."""
        tx.event_each(EventType.CREATED, unsaid, reason="Declared", message="declared")
        unsaid.clear()

    for entry in plan.entries:
        if entry.key in blocked:
            continue
        counts[entry.action] += 1
        drift += entry.drift
        if entry.action is Action.DELETE:
            say()
            _delete(tx, live[entry.key])
            continue
        want = declared[entry.key]
        if entry.action is Action.CREATE:
            if entry.key in live:
                waiting += 1  # its predecessor of the same name still ends; a later pass creates it
                counts[entry.action] -= 1
                continue
            unsaid.append((created[entry.key], _place(want)))
        else:
            say()
            _change(tx, entry, want, live[entry.renamed_from or entry.key], manager, plan.unit)
        if entry.widens:
            say()
            message = "; ".join(entry.widens)
            tx.event(EventType.WIDENED, entry.key, reason="Widened", message=message, data={"place": entry.place})
    say()
    for entry in plan.relocations:
        if entry.key in blocked:
            continue
        current, want = live[entry.key], declared[entry.key]
        moved = tx.put_spec(current, want, manager=manager, unit=plan.unit)
        before = current.provenance.path if current.provenance else ""
        if want.provenance is not None and before and before != want.provenance.path:
            text = f"{before} -> {want.provenance.path}"
            tx.event(EventType.MOVED, moved, reason="FileMoved", message=text, data={"place": want.provenance.place})
    return Applied(
        created=counts[Action.CREATE],
        updated=counts[Action.UPDATE],
        deleted=counts[Action.DELETE],
        renamed=counts[Action.RENAME],
        drift_corrected=drift,
        waiting=waiting,
    )


def _create_all(
    tx: Transaction, plan: Plan, declared: Mapping[Key, Declared], live: Mapping[Key, Resource], manager: str,
    blocked: frozenset[Key], statuses: Mapping[Key, dict[str, Any]],
) -> dict[Key, Resource]:  # fmt: skip
    """Everything that is new, at once: row by row a first sync would take twice as long."""
    new = [
        e.key for e in plan.entries if e.action is Action.CREATE and e.key not in blocked and e.key not in live
    ]  # fmt: skip
    made = tx.create_many(
        [declared[key] for key in new], manager=manager, unit=plan.unit, finalizers=finalizers,
        status=lambda key: statuses.get(key) or initial_status(key.kind),
    )  # fmt: skip
    return dict(zip(new, made, strict=True))


def _change(tx: Transaction, entry: Entry, want: Declared, current: Resource, manager: str, unit: str) -> None:
    if entry.drift and want.ownership is not None:
        known = replace(current.ownership, fields=want.ownership.fields, base=want.ownership.base)
        counted = flipped(replace(known, claims=want.ownership.claims), drifted(want, current), tx.now)
        want = replace(want, ownership=counted)
    resource = tx.put_spec(current, want, manager=manager, unit=unit)
    if resource.ownership.claims or resource.ownership.flips or current.ownership.claims:
        arrange(tx, current.ownership, resource)
    changes = [{"field": c.path, "old": c.old, "new": c.new} for c in entry.changes[:_SHOWN_CHANGES]]
    data = {**_place(want), "changes": changes, "generation": resource.generation}
    fields = ", ".join(c.path for c in entry.changes[:3]) + (" ..." if len(entry.changes) > 3 else "")
    if entry.action is Action.RENAME:
        text = f"{current.name} -> {want.name}"
        tx.event(EventType.MOVED, resource, reason="Renamed", message=text, data=data)
    elif entry.drift:
        tx.event(EventType.DRIFT_CORRECTED, resource, reason="Drift", message=f"put back: {fields}", data=data)
    else:
        tx.event(EventType.UPDATED, resource, reason="Declared", message=fields, data=data)


def _delete(tx: Transaction, current: Resource) -> None:
    place = current.provenance.place if current.provenance else ""
    tx.event(
        EventType.DELETION_REQUESTED,
        current,
        reason="NotDeclared",
        message="no longer declared",
        data={"place": place} if place else None,
    )
    left = _left_behind(tx, current) if current.kind == "Source" else 0
    if tx.request_deletion(current) is None:
        if left:
            text = f"{left} object(s) that it declared stay in force; a source that declares them takes them over"
            tx.event(EventType.DELETED, current.key, reason="Orphaned", message=text)
        else:
            tx.event(EventType.DELETED, current.key, reason="NotDeclared", message="nothing to undo")


def _left_behind(tx: Transaction, source: Resource) -> int:
    """How many objects a source owns."""
    name = source_id(source.key)
    return sum(len(tx.list_unit(unit_id(name, str(unit["path"])))) for unit in source.status.get("units", ()))


def _place(want: Declared) -> dict[str, Any]:
    if want.provenance is None:
        return {}
    return {"place": want.provenance.place, "revision": want.provenance.revision}
