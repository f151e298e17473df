"""The planner: what bringing a unit to its declaration would do. Shared by `remit diff` and the sync pipeline.

A plan is made from the declared objects of one unit and the objects that are there; nothing is read or written. The
guards hold back *parts* of a plan: deletions past the threshold, and loosened limits. The rest applies at once.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from decisions.fields import FieldChange, diff
from decisions.widening import LIMITS, narrowings, relabelled, widenings
from schemas.base import Key
from schemas.kind import Disruption
from schemas.resource import RENAMED_FROM, Declared, Resource, canonical_json, digest, digest_of
from schemas.source import PruneMode, SourceReason, WideningMode

PRUNE_FLOOR = 5
PRUNE_SHARE = 0.2
"""More deletions than max(5, 20 %) of a unit's inventory need a person's word."""


class Action(StrEnum):
    """What happens to one object."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    RENAME = "rename"  # remit.dev/renamed-from: uid and history stay
    RELOCATE = "relocate"  # only its place in the files changed: provenance follows, nothing else happens


class Entry(NamedTuple):
    """One object of a plan. ``uid`` is "" for a creation. ``drift`` marks an update of an object whose declaration did
    not change: somebody else changed the object. ``active`` counts the runs that are open on it."""

    action: Action
    key: Key
    uid: str = ""
    renamed_from: Key | None = None
    changes: tuple[FieldChange, ...] = ()
    disruption: Disruption = Disruption.LIVE
    drift: bool = False
    active: int = 0
    place: str = ""
    widens: tuple[str, ...] = ()
    narrows: tuple[str, ...] = ()
    spec_hash: str = ""
    old_hash: str = ""

    def identity(self) -> list[str]:
        """What the digest of the plan is taken over."""
        return [self.action.value, str(self.key), str(self.renamed_from or ""), self.uid, self.old_hash, self.spec_hash]


@dataclass(frozen=True, slots=True)
class Guard:
    """A part of the plan that waits. ``reason`` is PruneBlocked or WideningPending."""

    reason: SourceReason
    digest: str
    entries: tuple[Entry, ...]
    message: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would happen to one unit. ``entries`` are in the order they are applied. ``digest`` is stable: the same
    change of the same objects has the same digest, whenever it is computed."""

    unit: str
    revision: str
    entries: tuple[Entry, ...]
    relocations: tuple[Entry, ...]
    guards: tuple[Guard, ...]
    digest: str
    inventory: int

    @property
    def empty(self) -> bool:
        """Whether nothing would change."""
        return not self.entries

    def blocked(self, confirmed: Callable[[str], bool]) -> frozenset[Key]:
        """Keys that may not be touched yet: those of guards that nobody confirmed. ``confirmed`` tells of a digest."""
        held: set[Key] = set()
        for guard in self.guards:
            if not (confirmed(guard.digest) or confirmed(self.digest)):
                held.update(e.key for e in guard.entries)
        return frozenset(held)


@dataclass(frozen=True, slots=True)
class Live:
    """What is there: the unit's inventory, and objects of the same identity that belong elsewhere.

    ``active`` tells how many runs are open on an object (missions and agents). ``elsewhere`` is what is stored under
    keys that the unit declares but does not own."""

    inventory: tuple[Resource, ...] = ()
    elsewhere: Mapping[Key, Resource] | None = None
    active: Mapping[Key, int] | None = None


Disruptions = Callable[[str], Mapping[str, Disruption]]
"""Kind -> its disruption map (schemas.kind.KindInfo.disruption)."""

_ORDER = {
    kind: position
    for position, kind in enumerate(
        (
            "Tenant", "Project", "Provider", "Executor", "Policy", "ToolServer", "Budget", "Waiver", "Agent", "Channel",
            "Goal", "Todo", "Mission", "Schedule", "Calendar", "Source", "Hold", "ApprovalDecision", "Confirmation",
        )
    )
}  # fmt: skip


def apply_order(key: Key) -> tuple[int, Key]:
    """Sort key: what others refer to comes first. Deletions go the other way around."""
    return _ORDER.get(key.kind, 99), key


def make_plan(
    unit: str,
    revision: str,
    declared: Iterable[Declared],
    live: Live,
    *,
    disruptions: Disruptions,
    prune: PruneMode = PruneMode.GUARDED,
    widening: WideningMode = WideningMode.APPLY,
    keep: frozenset[Key] = frozenset(),
) -> Plan:
    """The plan of one unit. ``keep`` names objects that must not be deleted although they are not declared here (they
    may have moved to a unit that does not compile at the moment)."""
    wanted = {d.key: d for d in declared}
    inventory = {r.key: r for r in live.inventory if r.deletion_at is None}
    elsewhere, active = live.elsewhere or {}, live.active or {}
    entries: list[Entry] = []
    relocations: list[Entry] = []
    gone = dict(inventory)
    for key in sorted(wanted, key=apply_order):
        want = wanted[key]
        current = inventory.get(key) or elsewhere.get(key)
        origin = renamed_from(want)
        if current is None and origin is not None and origin in inventory and origin not in wanted:
            entries.append(_changed(Action.RENAME, inventory[origin], want, disruptions, active))
            gone.pop(origin, None)
            continue
        gone.pop(key, None)
        if current is None or current.deletion_at is not None:
            widens = tuple(widenings(key.kind, None, want.spec))
            entries.append(Entry(Action.CREATE, key, place=_place(want), widens=widens, spec_hash=_hash(want)))
            continue
        if not _same(want, current):
            entries.append(_changed(Action.UPDATE, current, want, disruptions, active))
        elif current.unit != unit or _moved(want, current):
            relocations.append(Entry(Action.RELOCATE, key, current.uid, place=_place(want)))
    deletions = [
        Entry(
            Action.DELETE,
            key,
            resource.uid,
            active=active.get(key, 0),
            disruption=Disruption.DRAIN if active.get(key, 0) else Disruption.LIVE,
            place=resource.provenance.place if resource.provenance else "",
            widens=tuple(widenings(key.kind, resource.spec, None)),
            old_hash=_hash(resource),
        )
        for key, resource in sorted(gone.items(), key=lambda item: apply_order(item[0]), reverse=True)
        if key not in keep
    ]
    if prune is PruneMode.NEVER:
        deletions = []
    entries += deletions
    guards = _guards(unit, entries, deletions, len(inventory), prune, widening)
    return Plan(
        unit=unit,
        revision=revision,
        entries=tuple(entries),
        relocations=tuple(relocations),
        guards=guards,
        digest=digest({"unit": unit, "entries": [e.identity() for e in entries]}),
        inventory=len(inventory),
    )


def _guards(
    unit: str, entries: list[Entry], deletions: list[Entry], inventory: int, prune: PruneMode, widening: WideningMode
) -> tuple[Guard, ...]:
    guards: list[Guard] = []
    limits = [e for e in deletions if e.key.kind in LIMITS]
    loosened = [
        e for e in entries if widening is WideningMode.CONFIRM and e.widens and e.action is not Action.DELETE
    ]  # fmt: skip
    waiting = [*limits, *loosened]
    if waiting:
        count = f"{len(limits)} deleted" if limits else ""
        edits = f"{len(loosened)} loosened" if loosened else ""
        message = (
            "limits " + " and ".join(t for t in (count, edits) if t) + "; the old ones stay in force until confirmed"
        )
        guards.append(_guard(unit, SourceReason.WIDENING_PENDING, waiting, message))
    plain = [e for e in deletions if e.key.kind not in LIMITS]
    message = _prune_message(plain, deletions, inventory, prune)
    if message:
        guards.append(_guard(unit, SourceReason.PRUNE_BLOCKED, plain, message))
    return tuple(guards)


def _prune_message(plain: list[Entry], deletions: list[Entry], inventory: int, prune: PruneMode) -> str:
    """Why the deletions wait; "" when they may go ahead."""
    count, limit = len(deletions), max(PRUNE_FLOOR, int(inventory * PRUNE_SHARE))
    if not plain:
        return ""
    if prune is PruneMode.CONFIRM:
        return f"prune: Confirm holds {len(plain)} deletion(s)"
    if count >= inventory:
        return f"it would delete all {inventory} object(s) of the unit"
    if count > limit:
        return f"it would delete {count} of {inventory} objects, more than {limit}"
    working = [e for e in plain if e.active]
    if working:
        names = ", ".join(e.key.short for e in working[:5])
        return f"it would delete what is at work: {names}"
    return ""


def _guard(unit: str, reason: SourceReason, entries: list[Entry], message: str) -> Guard:
    content = {"unit": unit, "guard": reason.value, "entries": [e.identity() for e in entries]}
    return Guard(reason, digest(content), tuple(entries), message)


def _changed(
    action: Action, current: Resource, want: Declared, disruptions: Disruptions, active: Mapping[Key, int]
) -> Entry:
    changes = (
        *diff(current.spec, want.spec),
        *diff(current.labels, want.labels, "metadata.labels"),
        *diff(current.annotations, want.annotations, "metadata.annotations"),
    )
    unchanged_at_source = (
        action is Action.UPDATE
        and current.provenance is not None
        and want.provenance is not None
        and current.provenance.blob == want.provenance.blob
        and current.provenance.path == want.provenance.path
    )
    return Entry(
        action,
        want.key,
        current.uid,
        renamed_from=current.key if action is Action.RENAME else None,
        changes=changes,
        disruption=strongest_disruption(changes, disruptions(want.kind)),
        drift=unchanged_at_source,
        active=active.get(current.key, 0),
        place=_place(want),
        widens=(
            *widenings(want.kind, current.spec, want.spec),
            *relabelled(want.kind, current.labels, want.labels),
        ),
        narrows=tuple(narrowings(want.kind, current.spec, want.spec)),
        spec_hash=_hash(want),
        old_hash=_hash(current),
    )


_STRENGTH = {d: i for i, d in enumerate(Disruption)}


def strongest_disruption(changes: Iterable[FieldChange], classes: Mapping[str, Disruption]) -> Disruption:
    """The strongest class among the changed fields below spec; the longest matching prefix of ``classes`` counts."""
    strongest = Disruption.LIVE
    for change in changes:
        if not change.path.startswith("spec."):
            continue
        path = change.path.removeprefix("spec.")
        parts = path.replace("[", ".").split(".")
        found = classes.get("", Disruption.LIVE)
        for length in range(len(parts), 0, -1):
            prefix = ".".join(parts[:length])
            if prefix in classes:
                found = classes[prefix]
                break
        strongest = max(strongest, found, key=_STRENGTH.__getitem__)
    return strongest


def _hash(item: Declared | Resource) -> str:
    """What makes two declarations of an object the same: spec, labels, annotations."""
    if isinstance(item, Declared):
        return digest_of(f"[{','.join(item.texts)}]")
    return digest([item.spec, item.labels, item.annotations])


def _same(want: Declared, current: Resource) -> bool:
    """Whether their hashes are the same, found without hashing, and for nearly all without writing JSON."""
    if (
        _identical(want.spec, current.spec)
        and want.labels == current.labels
        and want.annotations == current.annotations
    ):
        return True
    return canonical_json([want.spec, want.labels, want.annotations]) == canonical_json(
        [current.spec, current.labels, current.annotations]
    )


def _identical(a: Any, b: Any) -> bool:
    """Whether two JSON values are surely written alike; False where it is not sure. Equal is not enough: 1, 1.0 and
    true are equal. Two values that were read from canonical JSON are in one order, and marshal tells their types."""
    try:
        return a == b and marshal.dumps(a, 2) == marshal.dumps(b, 2)
    except ValueError:  # a type of our own, such as an enum of strings
        return False


def _moved(want: Declared, current: Resource) -> bool:
    """Whether the declaration stands elsewhere. ``revision`` and its ``signer`` do not count: they tell of the
    revision that last changed it, and a commit to another file changes nothing here."""
    a, b = want.provenance, current.provenance
    if a is None or b is None:
        return a is not b
    if want.ownership is not None and want.ownership != current.ownership:
        return True  # a store of an older version does not know yet who owns what
    return a.blob != b.blob or a.line != b.line or a.path != b.path or a.unit != b.unit or a.source != b.source


def renamed_from(want: Declared) -> Key | None:
    """``remit.dev/renamed-from: name`` or ``namespace/name``."""
    text: Any = want.annotations.get(RENAMED_FROM)
    if not text:
        return None
    namespace, _, name = text.rpartition("/")
    return Key(want.kind, namespace or want.namespace, name)


def _place(want: Declared) -> str:
    return want.provenance.place if want.provenance else ""
