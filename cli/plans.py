"""`remit diff`: plans against the store or between two trees, and how they are shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cli.compiling import compile_folder, compile_tree
from cli.failures import Failure
from cli.output import dump_json, paint, safe
from controllers.sources import planning
from controllers.sources.compile import CompiledUnit
from controllers.sources.units import unit_id
from decisions.plan import Action, Entry, Live, Plan, make_plan
from decisions.plan_effects import EffectKind, PlanEffect, Side, predict
from schemas.base import Key
from schemas.errors import InvalidSpec, Refused
from schemas.ownership import path_text
from schemas.quantities import format_time
from schemas.resource import Declared, Resource

if TYPE_CHECKING:
    from cli.project import Project
    from controllers.sources.tree import SourceReader
    from store.contract import Snapshot, Store

_SIGNS = {Action.CREATE: "+", Action.UPDATE: "~", Action.DELETE: "-", Action.RENAME: ">", Action.RELOCATE: "="}
_COLOURS = {Action.CREATE: "good", Action.UPDATE: "attention", Action.DELETE: "bad", Action.RENAME: "busy"}
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class PlanView:
    """A plan and its effects."""

    plan: Plan
    effects: tuple[PlanEffect, ...]
    owners: tuple[str, ...] = ()


def plan_live(project: Project, store: Store, folder: Path | None, head: str | None) -> list[PlanView]:
    """What the files as they lie in ``folder`` (or the commit ``head``) would do to the store."""
    units, revision = _units(project, folder, head)
    _insist(units)
    spec = project.config.source.to_spec()
    views = []
    with store.snapshot() as snapshot:
        for unit in [*units, *_vanished(snapshot, units)]:
            elsewhere = frozenset(k for other in units if other is not unit for k in other.by_key)
            planned = planning.plan_unit(snapshot, "default", unit, revision, spec, keep=elsewhere)
            if planned.faults:
                raise InvalidSpec(planned.faults)
            before = _side(_everything(snapshot))
            views.append(PlanView(planned.plan, tuple(_predict(planned.plan, before, unit)), tuple(_owners(planned))))
    return views


def _owners(planned: planning.Planned) -> Iterator[str]:
    """Overrides that stay in force above the plan, and claims that give way to what is declared now."""
    for entry in planned.declared.values():
        current = planned.live.get(entry.key)
        if current is None or entry.ownership is None:
            continue
        for claim in current.ownership.claims:
            field = f"{path_text(claim.path)} of {entry.key.short}"
            if claim not in entry.ownership.claims:
                yield f"conflict: {field} goes from {claim.manager} to the source, which declares it now"
            elif claim.until is not None:
                yield f"override: {field} by {claim.manager} until {format_time(claim.until)}: {claim.reason}"


def _vanished(snapshot: Snapshot, units: Sequence[CompiledUnit]) -> list[CompiledUnit]:
    """Units that are in force and whose folder is gone: they declare nothing any more."""
    source = snapshot.get(Key("Source", "default", "default"))
    known = {u.path for u in units}
    applied = source.status.get("units", ()) if source is not None else ()
    return [CompiledUnit(u["path"], (), ()) for u in applied if u["path"] not in known and u.get("objects")]


def _units(project: Project, folder: Path | None, head: str | None) -> tuple[list[CompiledUnit], str]:
    if head is None:
        assert folder is not None
        return compile_folder(folder), "working tree"
    from controllers.sources.readers import make_reader

    spec = project.config.source.to_spec()
    if spec is None:
        raise Failure("--head needs a git source")
    place = project.root / spec.url
    ref = _commit_of(place, head) if place.is_dir() else head
    reader = make_reader(spec.model_copy(update={"ref": ref}), project.root, project.state / "mirrors")
    try:
        reader.fetch()
        return compile_tree(reader, None), head
    finally:
        reader.close()


def plan_offline(repository: Path, base: str, head: str | None, folder: Path | None) -> list[PlanView]:
    """What going from ``base`` to ``head`` (a folder or a commit; the files in ``folder`` when None) would do."""
    before = {u.path: u for u in compile_any(repository, base)}
    after = compile_any(repository, head) if head is not None else compile_folder(folder or repository)
    _insist([*before.values(), *after])
    views = []
    after_paths = {u.path for u in after}
    after += [CompiledUnit(path, (), ()) for path in before if path not in after_paths]
    for unit in after:
        old = before.get(unit.path, CompiledUnit(unit.path, (), ()))
        name = unit_id("default", unit.path)
        inventory = tuple(_as_live(d, name) for d in old.declared)
        plan = make_plan(name, head or "working tree", unit.declared, Live(inventory), disruptions=planning.disruptions)
        sides = {d.key: (d.labels, d.spec) for d in old.declared}
        views.append(PlanView(plan, tuple(_predict(plan, sides, unit))))
    return views


def compile_any(repository: Path, where: str) -> list[CompiledUnit]:
    """The units of a folder, or of a commit of the repository that ``repository`` lies in."""
    folder = Path(where)
    if folder.is_dir():
        return compile_folder(folder)
    from controllers.sources.git import GitReader

    top, inside = _top_of(repository.absolute())
    reader: SourceReader = GitReader(str(top), ref=_commit_of(top, where), path=inside)
    try:
        return compile_tree(reader, None)
    finally:
        reader.close()


def _commit_of(top: Path, where: str) -> str:
    """The id of a commit that a person named, as ``HEAD~1``."""
    from controllers.sources import git_repository, git_revert

    with contextlib.closing(git_repository.Repository(top)) as repository:
        try:
            return git_revert.find_commit(repository, where)
        except Refused as error:  # exit 3 would say that a guard holds a part back
            raise Failure(str(error)) from None


def _top_of(folder: Path) -> tuple[Path, str]:
    """The repository above a folder, and the folder's path in it."""
    for candidate in (folder, *folder.parents):
        if (candidate / ".git").exists() or (candidate / "HEAD").is_file():
            inside = folder.relative_to(candidate).as_posix()
            return candidate, inside or "."
    raise Failure(f"{folder} is in no git repository, so it has no commits to compare")


def _insist(units: Sequence[CompiledUnit]) -> None:
    found = [d for unit in units for d in unit.diagnostics]
    if found:
        raise InvalidSpec(found)


def _as_live(item: Declared, unit: str) -> Resource:
    """A declaration of the base tree as if it were applied."""
    uid = f"offline/{item.key}"
    return Resource(
        kind=item.kind, namespace=item.namespace, name=item.name, uid=uid, generation=1, resource_version=1,
        spec=item.spec, status={}, created_at=datetime.fromtimestamp(0, UTC), labels=item.labels,
        annotations=item.annotations, unit=unit, provenance=item.provenance,
    )  # fmt: skip


def _everything(snapshot: Snapshot) -> list[Resource]:
    return [r for kind in ("Agent", "Budget", "Schedule") for r in snapshot.objects(kind)]


def _side(resources: Sequence[Resource]) -> Side:
    return {r.key: (r.labels, r.spec) for r in resources}


def _predict(plan: Plan, before: Side, unit: CompiledUnit) -> list[PlanEffect]:
    from controllers.runtime.clock import SystemClock

    gone = {e.key for e in plan.entries if e.action is Action.DELETE}
    after: dict[Key, Any] = {k: v for k, v in before.items() if k not in gone}
    after |= {d.key: (d.labels, d.spec) for d in unit.declared}
    return predict(plan, before, after, SystemClock().now())


# Rendering.


def render(views: Sequence[PlanView], form: StrEnum) -> str:
    """The plans in one of the formats human, json and markdown."""
    if form == "json":
        return dump_json([_as_json(v) for v in views])
    if form == "markdown":
        from cli.plan_markdown import render as as_markdown

        return as_markdown(views)
    shown = [v for v in views if v.plan.entries]
    if not shown:
        return "\n".join([*(safe(line) for v in views for line in v.owners), "nothing would change"])
    return "\n\n".join(_human(v, titled=len(views) > 1) for v in shown)


def _human(view: PlanView, *, titled: bool) -> str:
    plan = view.plan
    lines = [f"unit {plan.unit.partition(':')[2]}"] if titled else []
    for effect in (e for e in view.effects if e.kind is EffectKind.WIDENS):
        lines.append(paint(f"! widens {safe(effect.subject)}: {safe(effect.message)}", "attention"))
    for entry in plan.entries[:_SHOWN]:
        lines += _entry(entry)
    if len(plan.entries) > _SHOWN:
        lines.append(f"... and {len(plan.entries) - _SHOWN} more (-o json shows all)")
    others = [e for e in view.effects if e.kind is not EffectKind.WIDENS]
    if others:
        lines += ["", "effects:", *(f"  {e.kind.lower()} {safe(e.subject)}: {safe(e.message)}" for e in others)]
    if view.owners:
        lines += ["", "owners:", *(f"  {safe(line)}" for line in view.owners)]
    for guard in plan.guards:
        lines += [
            "",
            paint(safe(f"{guard.reason}: {guard.message}"), "bad"),
            f"  release: remit confirm {guard.digest}",
        ]
    lines += ["", counts(plan), f"planDigest {plan.digest}"]
    return "\n".join(lines)


def _entry(entry: Entry) -> list[str]:
    sign = _SIGNS[entry.action]
    drift = " (drift: put back)" if entry.drift else ""
    name = f"{entry.renamed_from.short} -> {entry.key.short}" if entry.renamed_from else entry.key.short
    place = f"  {safe(entry.place)}" if entry.place else ""
    lines = [paint(f"{sign} {safe(name)}", _COLOURS.get(entry.action, "dim")) + place + drift]
    for change in entry.changes[:20]:
        lines.append(f"    {safe(change.path)}: {_value(change.old)} -> {_value(change.new)}")
    if len(entry.changes) > 20:
        lines.append(f"    ... and {len(entry.changes) - 20} more fields")
    return lines


def _value(value: Any) -> str:
    if value is None:
        return "(none)"
    text = safe(str(value))
    return text if len(text) <= 80 else text[:77] + "..."


def counts(plan: Plan) -> str:
    """What a plan does, in numbers."""
    words = {Action.CREATE: "create", Action.UPDATE: "update", Action.RENAME: "rename", Action.DELETE: "delete"}
    parts = [f"{n} to {word}" for a, word in words.items() if (n := sum(e.action is a for e in plan.entries))]
    return ", ".join(parts) or "nothing would change"


def _as_json(view: PlanView) -> dict[str, Any]:
    plan = view.plan
    return {
        "unit": plan.unit.partition(":")[2],
        "revision": plan.revision,
        "planDigest": plan.digest,
        "entries": [
            {
                "action": e.action.value,
                "kind": e.key.kind,
                "namespace": e.key.namespace,
                "name": e.key.name,
                "place": e.place,
                "renamedFrom": str(e.renamed_from) if e.renamed_from else None,
                "drift": e.drift,
                "disruption": e.disruption.value,
                "activeRuns": e.active,
                "changes": [{"field": c.path, "old": c.old, "new": c.new} for c in e.changes],
                "widens": list(e.widens),
            }
            for e in plan.entries
        ],
        "effects": [{"kind": e.kind.value, "subject": e.subject, "message": e.message} for e in view.effects],
        "owners": list(view.owners),
        "guards": [
            {"reason": g.reason.value, "message": g.message, "planDigest": g.digest,
             "objects": [str(e.key) for e in g.entries]}
            for g in plan.guards
        ],
    }  # fmt: skip
