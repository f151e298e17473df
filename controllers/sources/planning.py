"""From a compiled unit and what the store holds to a plan: one planner for the sync and for `remit diff`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from controllers.sources.compile import CompiledUnit
from controllers.sources.ownership import drifted, laid_over
from controllers.sources.tree import SourceReader
from controllers.sources.units import UnitFiles, source_id, source_of, unit_id
from decisions.ownership import backing_off
from decisions.plan import Action, Live, Plan, make_plan, renamed_from
from schemas import registry
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.errors import Diagnostic
from schemas.kind import Disruption
from schemas.resource import Declared, Resource
from schemas.run import ACTIVE_STATES
from schemas.source import PruneMode, SourceSpec, WideningMode
from store.contract import Snapshot

_FEW = 500


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan with what it was made from. ``faults`` are what only the live objects can tell (immutable fields, an
    identity that another unit owns); with any of them nothing of the unit is applied."""

    plan: Plan
    declared: Mapping[Key, Declared]
    live: Mapping[Key, Resource]
    faults: tuple[Diagnostic, ...]


def disruptions(kind: str) -> Mapping[str, Disruption]:
    """The disruption map of a kind."""
    return registry.by_kind(kind).disruption


def plan_unit(
    snapshot: Snapshot,
    source: str,
    unit: CompiledUnit,
    revision: str,
    spec: SourceSpec | None,
    *,
    keep: frozenset[Key] = frozenset(),
    whole: bool = True,
) -> Planned:
    """Plan one unit against the store. With ``whole`` unset it holds some declarations of the unit only, and nothing
    is concluded from what it does not declare."""
    name = unit_id(source, unit.path)
    declared = unit.by_key
    if whole:
        inventory = inventory_of(snapshot, name, declared)
    else:
        inventory = [r for r in snapshot.get_many(declared).values() if r.unit == name]
    owned = {r.key for r in inventory}
    elsewhere = snapshot.get_many([k for k in declared if k not in owned])
    live = {**{r.key: r for r in inventory}, **elsewhere}
    if live:
        standing = {k: r for k, d in declared.items() if (r := _standing(k, d, live)) is not None}
        declared = laid_over(declared, standing)
    plan = make_plan(
        name,
        revision,
        declared.values(),
        Live(tuple(inventory), elsewhere, active_runs(snapshot)),
        disruptions=disruptions,
        prune=spec.prune if spec is not None else PruneMode.GUARDED,
        widening=spec.widening if spec is not None else WideningMode.APPLY,
        keep=keep,
    )
    return Planned(plan, declared, live, tuple(_immutable(plan, declared)))


def _standing(key: Key, want: Declared, live: Mapping[Key, Resource]) -> Resource | None:
    """The object that a declaration is about, also under the name it had before."""
    origin = renamed_from(want)
    return live.get(key) or (live.get(origin) if origin is not None else None)


def resting(planned: Planned, now: datetime) -> frozenset[Key]:
    """Objects whose drift is left alone for a while: it came back each time it was put right."""
    found = set()
    for entry in planned.plan.entries:
        current = planned.live.get(entry.key)
        if not entry.drift or current is None:
            continue
        paths = drifted(planned.declared[entry.key], current)
        if any(backing_off(current.ownership, path, now) for path in paths):
            found.add(entry.key)
    return frozenset(found)


def inventory_of(snapshot: Snapshot, unit: str, declared: Mapping[Key, Declared]) -> list[Resource]:
    """What a unit owns, as far as a plan may touch it. An answer that was given stays given: who takes its file away
    changes nothing, so it is no deletion to plan."""
    return [r for r in snapshot.list_unit(unit) if r.kind != "ApprovalDecision" or r.key in declared]


def inventory_size(snapshot: Snapshot, unit: str, declared: Mapping[Key, Declared]) -> int:
    """How many inventory_of would find."""
    counts = snapshot.unit_counts(unit)
    if counts.pop("ApprovalDecision", 0):
        return sum(key.kind != "ApprovalDecision" or key in declared for key in snapshot.unit_keys(unit))
    return sum(counts.values())


def active_runs(snapshot: Snapshot) -> Mapping[Key, int]:
    """How many runs are open on each mission and agent."""
    counts: Counter[Key] = Counter()
    for run in snapshot.objects("Run", states=ACTIVE_STATES):
        # By uid: a rename keeps it, and the name in the run is the one of its time.
        for uid in (run.spec["missionUid"], run.spec["agentUid"]):
            found = snapshot.get_by_uid(uid)
            if found is not None:
                counts[found.key] += 1
    return counts


def _immutable(plan: Plan, declared: Mapping[Key, Declared]) -> Iterable[Diagnostic]:
    for entry in plan.entries:
        if entry.action not in (Action.UPDATE, Action.RENAME):
            continue
        fixed = registry.by_kind(entry.key.kind).immutable
        for change in entry.changes:
            path = change.path.removeprefix("spec.")
            if change.path.startswith("spec.") and any(path == f or path.startswith((f + ".", f + "[")) for f in fixed):
                place = declared[entry.key].provenance
                yield Diagnostic(
                    place.path if place else str(entry.key),
                    place.line if place else 0,
                    1,
                    change.path,
                    f"cannot be changed on {entry.key.short}",
                    hint="declare a new object under another name",
                )


def refused(snapshot: Snapshot, source: Key, units: Sequence[CompiledUnit]) -> dict[str, list[Diagnostic]]:
    """What a source may not declare: unit path -> what is wrong with it. Identities that are somebody else's; the
    source that ``remit.yaml`` configures; and, for the source of a tenant, anything outside its own namespace."""
    found = _claimed_twice(snapshot, source_id(source), units)
    for unit in units:
        for key, declared in unit.by_key.items():
            text = hint = ""
            if source.namespace not in (DEFAULT_NAMESPACE, key.namespace):
                text = f"{key.short} lies outside the namespace {source.namespace}, all that this source may govern"
                hint = f"declare it in the namespace {source.namespace}, or in a source of the namespace default"
            elif key.kind == "Source" and _is_configured(snapshot, key):
                text, hint = f"{key.short} is the source that the engine follows", "change it in remit.yaml"
            if text:
                place = declared.provenance
                path, line = (place.path, place.line) if place is not None else (unit.path, 0)
                found.setdefault(unit.path, []).append(Diagnostic(path, line, 1, "metadata", text, hint=hint))
    return found


def _is_configured(snapshot: Snapshot, key: Key) -> bool:
    current = snapshot.get(key)
    return current is not None and current.manager.startswith("engine/")


def _claimed_twice(snapshot: Snapshot, source: str, units: Sequence[CompiledUnit]) -> dict[str, list[Diagnostic]]:
    """Identities that two units declare: the unit that owns the object keeps it, the other one fails; where nobody owns
    it yet, the first by path keeps it. Unit path -> what is wrong with it."""
    owners: dict[Key, list[CompiledUnit]] = {}
    for unit in units if len(units) > 1 else ():
        for key in unit.by_key:
            owners.setdefault(key, []).append(unit)
    found: dict[str, list[Diagnostic]] = {}
    twice = {key: claims for key, claims in owners.items() if len(claims) > 1}
    live = snapshot.get_many(twice)
    for key, claims in twice.items():
        current = live.get(key)
        keeper = next((u for u in claims if current is not None and current.unit == unit_id(source, u.path)), claims[0])
        for unit in claims:
            if unit is keeper:
                continue
            place = unit.by_key[key].provenance
            message = f"{key.short} is declared by the unit {keeper.path!r} too"
            path, line = (place.path, place.line) if place is not None else (unit.path, 0)
            found.setdefault(unit.path, []).append(Diagnostic(path, line, 1, "metadata.name", message))
    # An object that another source or another unit still owns is not taken over silently either.
    ours = {unit_id(source, u.path) for u in units}
    for unit in units:
        few = len(unit.by_key) < _FEW  # asked for one by one, rather than sorted out among all there are
        standing = set() if few else set(snapshot.unit_keys(unit_id(source, unit.path)))
        for key, owner in snapshot.units_of(k for k in unit.by_key if k not in standing).items():
            if owner and owner not in ours and not owner.startswith(f"{source}:") and _follows(snapshot, owner):
                place = unit.by_key[key].provenance
                path, line = (place.path, place.line) if place is not None else (unit.path, 0)
                message = f"{key.short} belongs to the source {owner.partition(':')[0]!r}"
                found.setdefault(unit.path, []).append(Diagnostic(path, line, 1, "metadata.name", message))
    return found


def _follows(snapshot: Snapshot, unit: str) -> bool:
    """Whether the source of a unit is still there; what a deleted one declared may be taken over."""
    return snapshot.get(source_of(unit)) is not None


def may_have_moved(
    snapshot: Snapshot, source: str, unit: CompiledUnit, failed: Sequence[UnitFiles], reader: SourceReader
) -> frozenset[Key]:
    """Objects of ``unit`` that it no longer declares but whose name stands in a unit that does not compile: they may
    have moved there, so they must not be deleted yet."""
    if not failed:
        return frozenset()
    missing = [r.key for r in snapshot.list_unit(unit_id(source, unit.path)) if r.key not in unit.by_key]
    if not missing:
        return frozenset()
    texts = [data for files in failed for _, data in reader.read_blobs(files.entries)]
    return frozenset(key for key in missing if any(key.name.encode() in text for text in texts))
