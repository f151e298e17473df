"""Writing fields beside a source: what `apply` may set on an object that git declares, and overrides for a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cli import common
from cli.failures import Exit, Failure

if TYPE_CHECKING:
    from decisions.ownership import Taken
    from schemas.resource import Actor, Declared, Resource
    from store.contract import Snapshot, Transaction


@dataclass(frozen=True, slots=True)
class How:
    """What the options say. ``ttl`` is None without --override."""

    reason: str = ""
    ttl: timedelta | None = None


def asked(*, override: bool, reason: str, ttl: str | None) -> How:
    """Check the options together."""
    from decisions.ownership import MAX_OVERRIDE

    if not override:
        if ttl is not None:
            raise Failure("--ttl needs --override: without it nothing ends by itself")
        return How(reason)
    if not reason.strip() or ttl is None:
        raise Failure("--override needs --reason and --ttl: say why, and until when", hint="--reason incident --ttl 1h")
    length = timedelta(seconds=common.seconds_of(ttl))
    if not timedelta(0) < length <= MAX_OVERRIDE:
        raise Failure(f"--ttl {ttl[:20]} is not between 1s and {MAX_OVERRIDE.days}d: what lasts longer belongs in git")
    return How(reason, length)


def beside(snapshot: Snapshot, item: Declared) -> bool:
    """Whether a source declares the object."""
    current = snapshot.get(item.key)
    return current is not None and bool(current.unit)


def settled(snapshot: Snapshot, wanted: list[Declared], actor: Actor, how: How, now: datetime) -> list[Declared]:
    """The objects as they would be after the write. Raises Failure (exit 3) naming every field that is refused."""
    result, lines, declarations = [], [], []
    for item in wanted:
        current = snapshot.get(item.key)
        if current is not None and current.manager.startswith("engine/"):
            lines.append(f"{item.key.short} is declared at remit.yaml")
        elif current is not None and current.unit:
            taken = _take(current, item, actor, how, now)
            lines += _refusals(current, item, taken)
            declarations.append(current)
            result.append(_as_declared(current, taken))
        else:
            result.append(item)
    if lines:
        hint = "edit it there and commit"
        if declarations:
            hint += ", or take it for a time: --override --reason TEXT --ttl 1h"
        raise Failure("a source owns what you want to change", *lines, hint=hint, code=Exit.REFUSED)
    return result


def write(tx: Transaction, item: Declared, how: How) -> str:
    """Write one object that a source declares, inside the transaction; what happened, in one word or two."""
    from controllers.sources.ownership import arrange
    from decisions.fields import diff
    from decisions.widening import widenings
    from schemas.event import EventType
    from schemas.ownership import path_text
    from schemas.quantities import format_time

    current = common.object_named(tx, item.key)
    taken = _take(current, item, tx.actor, how, tx.now)
    lines = _refusals(current, item, taken)
    if lines:
        raise Failure("a source owns what you want to change", *lines, code=Exit.REFUSED)
    _check(current, taken)
    loosened = widenings(item.kind, current.spec, taken.spec)
    changes = diff(current.spec, taken.spec)
    changed = tx.put_spec(current, _as_declared(current, taken))
    if changed == current:
        return "unchanged"
    for claim in taken.overridden:
        until = format_time(claim.until) if claim.until else ""
        tx.event(EventType.OVERRIDDEN, changed, reason="Override",
                 message=f"{path_text(claim.path)} by {claim.manager} until {until}: {claim.reason}",
                 data={"field": path_text(claim.path), "manager": claim.manager, "until": until})  # fmt: skip
    for claim in taken.released:
        if claim.until is not None:
            tx.event(EventType.OVERRIDE_ENDED, changed, reason="Released",
                     message=f"{path_text(claim.path)} was given back by {tx.actor}")  # fmt: skip
    if changes:
        data = {"changes": [{"field": c.path, "old": c.old, "new": c.new} for c in changes[:20]]}
        text = ", ".join(c.path for c in changes[:3])
        tx.event(EventType.UPDATED, changed, reason="Applied", message=text, data=data)
    if loosened:
        tx.event(EventType.WIDENED, item.key, reason="Widened", message="; ".join(loosened))
    arrange(tx, current.ownership, changed)
    return "overridden" if taken.overridden else "configured"


def _take(current: Resource, item: Declared, actor: Actor, how: How, now: datetime) -> Taken:
    from decisions.ownership import take

    until = now + how.ttl if how.ttl is not None else None
    manager = f"cli/{actor.subject.removeprefix('user:')}"
    return take(current, item, manager, now, reason=how.reason, until=until)


def _as_declared(current: Resource, taken: Taken) -> Declared:
    from schemas.resource import Declared

    return Declared(*current.key, taken.spec, current.labels, current.annotations, current.provenance, taken.ownership)


def _check(current: Resource, taken: Taken) -> None:
    from controllers.sources.ownership import valid
    from decisions.fields import diff
    from schemas import registry

    fixed = registry.by_kind(current.kind).immutable
    for change in diff(current.spec, taken.spec):
        field = change.path.removeprefix("spec.")
        if any(field == f or field.startswith((f + ".", f + "[")) for f in fixed):
            raise Failure(f"{change.path} of {current.key.short} cannot be changed", hint="use another name")
    if not valid(current.kind, taken.spec):
        raise Failure(f"what is declared and what you set do not go together in {current.key.short}",
                      hint=f"remit get {current.key.short} -o yaml")  # fmt: skip


def _refusals(current: Resource, item: Declared, taken: Taken) -> list[str]:
    from schemas.ownership import path_text
    from schemas.quantities import format_time

    origin = current.provenance
    lines = []
    for refusal in taken.refused:
        text = f"{path_text(refusal.path)} of {item.key.short} is owned by {refusal.manager}"
        if origin is not None and refusal.manager == current.manager:
            text += f", declared at {origin.path}:{refusal.line or origin.line} at {origin.revision}"
        if refusal.retry_at is not None:
            text += f"; it changed too often, try again after {format_time(refusal.retry_at)}"
        lines.append(text)
    metadata = (("labels", item.labels, current.labels), ("annotations", item.annotations, current.annotations))
    for name, want, have in metadata:
        lines += [
            f"metadata.{name}.{key} of {item.key.short} is owned by {current.manager}"
            + (f", declared at {origin.place} at {origin.revision}" if origin is not None else "")
            for key, value in want.items()
            if have.get(key) != value
        ]
    return lines
