"""Field ownership: what may be written beside a source, what is in force, when an override ends, when fields are fought
for. Every spec in force is the declared one with the claims laid over it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from schemas.ownership import Claim, Fields, Flip, Ownership, Path, leaves
from schemas.resource import Declared, Resource

FIGHT_WINDOW = timedelta(minutes=10)
FIGHT_FLIPS = 3
"""So many flips of one field within the window are a fight (semantics: Drift)."""
_BACKOFF_S, _BACKOFF_FACTOR, _BACKOFF_MAX_S = 2.0, 3.0, 300.0
MAX_OVERRIDE = timedelta(days=7)
"""What lasts longer than an incident belongs into the file."""

Valid = Callable[[str, dict[str, Any]], bool]
"""Whether a kind accepts a spec."""

_ABSENT = object()


def value_at(spec: Mapping[str, Any], path: Path) -> Any:
    """The value there; None when there is none (no canonical spec holds null)."""
    found = _value(spec, path)
    return None if found is _ABSENT else found


def _value(spec: Any, path: Path) -> Any:
    for name in path:
        if not isinstance(spec, Mapping) or name not in spec:
            return _ABSENT
        spec = spec[name]
    return spec


def overlap(one: Path, other: Path) -> bool:
    """Whether writing one touches the other."""
    short = min(len(one), len(other))
    return one[:short] == other[:short]


def declared_at(fields: Fields, path: Path) -> tuple[Path, int] | None:
    """The declared leaf that a write to ``path`` would touch, with its line."""
    return next(((p, line) for p, line in leaves(fields) if overlap(p, path)), None)


def in_force(base: Mapping[str, Any], claims: Iterable[Claim]) -> dict[str, Any]:
    """``base`` with the claims laid over it: overrides above the others. Neither argument is changed."""
    result = dict(base)
    for claim in sorted(claims, key=lambda c: (c.until is not None, c.since, c.path)):
        _put(result, claim.path, claim.value)
    return result


def _put(spec: dict[str, Any], path: Path, value: Any) -> None:
    for name in path[:-1]:
        inner = spec.get(name)
        spec[name] = dict(inner) if isinstance(inner, Mapping) else {}
        spec = spec[name]
    spec[path[-1]] = value


def declared_spec(current: Resource) -> dict[str, Any]:
    """The spec as its source declares it, claims left out."""
    base = current.ownership.base
    return current.spec if base is None else base


def laid_over(want: Declared, current: Resource, valid: Valid) -> Declared:
    """What a source declares, with the claims on the live object laid over it. A claim without end gives way to a
    field that the source declares now. A claim that the new spec can no longer bear is dropped."""
    known = want.ownership or Ownership()
    before = current.ownership
    claims = tuple(
        c for c in before.claims if c.until is not None or declared_at(known.fields, c.path) is None
    )  # fmt: skip
    while claims and not valid(want.kind, in_force(want.spec, claims)):
        claims = claims[:-1]
    new = replace(before, fields=known.fields, base=want.spec if claims else None, claims=claims)
    return replace(want, spec=in_force(want.spec, claims), ownership=new)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A field that may not be written, and who owns it. ``line`` is 0 for an owner without a file."""

    path: Path
    manager: str
    line: int = 0
    retry_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """What a write by hand comes to. With ``refused`` nothing may be written."""

    ownership: Ownership
    spec: dict[str, Any]
    refused: tuple[Refusal, ...] = ()
    overridden: tuple[Claim, ...] = ()
    released: tuple[Claim, ...] = ()


def take(
    current: Resource, wanted: Declared, manager: str, now: datetime, *, reason: str = "", until: datetime | None = None
) -> Taken:
    """What ``manager`` writes to an object that a source declares. Writing the declared value ends one's claims on the
    field; leaving a field out that one claimed gives it back, but an override stays until its time. ``until`` asks for
    overrides where a field is somebody else's. Idempotent."""
    before = current.ownership
    base = declared_spec(current)
    fields = (wanted.ownership or Ownership()).fields
    asked = {p: v for p, _ in leaves(fields) if (v := _value(wanted.spec, p)) is not _ABSENT}
    # What this manager does not mention any more is given back.
    kept = [c for c in before.claims if c.manager != manager or c.until is not None or c.path in asked]
    refused: list[Refusal] = []
    overridden: list[Claim] = []
    flips = list(before.flips)
    for path, value in asked.items():
        own = [c for c in kept if c.manager == manager and c.path == path]
        if _value(base, path) == value:
            kept = [c for c in kept if c not in own]
            continue
        standing = next((c for c in own if c.value == value), None)
        if standing is not None and (standing.until is None or until is None):
            continue
        owned = declared_at(before.fields, path) if before.fields else (path, 0)
        others = [c for c in kept if c.manager != manager and overlap(c.path, path)]
        if owned is None and not others:
            kept = [*(c for c in kept if c not in own), Claim(path, manager, value, now)]
            continue
        if until is None:
            where = (
                Refusal(path, others[-1].manager) if others else Refusal(path, current.manager, (owned or ((), 0))[1])
            )
            refused.append(where)
            continue
        ready = backing_off(before, path, now)
        if standing is None and ready is not None:
            refused.append(Refusal(path, current.manager, (owned or ((), 0))[1], ready))
            continue
        claim = Claim(path, manager, value, standing.since if standing else now, reason, until)
        kept = [c for c in kept if c.until is None or not overlap(c.path, path)] + [claim]
        overridden.append(claim)
        if standing is None:
            flips.append(Flip(path, now))
    claims = tuple(sorted(kept, key=lambda c: (c.path, c.manager, c.until is not None)))
    ownership = fought(
        replace(before, base=base if claims else None, claims=claims, flips=tuple(flips)), now
    )  # fmt: skip
    ended = tuple(c for c in before.claims if not any(o.path == c.path for o in claims))
    return Taken(ownership, in_force(base, claims), tuple(refused), tuple(overridden), ended)


@dataclass(frozen=True, slots=True)
class Healed:
    """What is left when the overrides whose time is over are gone. ``wake`` is when to look again."""

    ownership: Ownership
    spec: dict[str, Any]
    ended: tuple[Claim, ...]
    wake: datetime | None


def heal(current: Resource, now: datetime, valid: Valid) -> Healed:
    """End what is due. The declared value comes from the object itself, so it works while no source can be read."""
    before = current.ownership
    base = declared_spec(current)
    claims = tuple(c for c in before.claims if c.until is None or c.until > now)
    while claims and not valid(current.kind, in_force(base, claims)):
        claims = claims[:-1]
    ended = tuple(c for c in before.claims if c not in claims)
    left = fought(replace(before, base=base if claims else None, claims=claims), now)
    spec = in_force(base, claims) if ended else current.spec
    return Healed(left, spec, ended, next_look(left))


def next_look(ownership: Ownership) -> datetime | None:
    """When something ends by itself: an override, or what was counted of a fight."""
    moments = [c.until for c in ownership.claims if c.until is not None]
    if ownership.flips:
        fight = ownership.fight_since is not None
        newest = _newest(ownership)
        moments.append(min(newest[f.path] if fight else f.at for f in ownership.flips) + FIGHT_WINDOW)
    return min(moments, default=None)


def flipped(ownership: Ownership, paths: Iterable[Path], now: datetime) -> Ownership:
    """Count that others changed these declared fields."""
    return fought(replace(ownership, flips=(*ownership.flips, *(Flip(p, now) for p in paths))), now)


def fought(ownership: Ownership, now: datetime) -> Ownership:
    """Forget old flips; say since when there is a fight. It is over once the field rested for the window."""
    newest = _newest(ownership)
    fight = ownership.fight_since is not None
    # While a fight goes on nothing of it is forgotten before it rests: else it would seem to end at every turn.
    flips = tuple(
        f for f in ownership.flips if now - (newest[f.path] if fight else f.at) < FIGHT_WINDOW
    )[-50:]  # fmt: skip
    counts: dict[Path, int] = {}
    for flip in flips:
        counts[flip.path] = counts.get(flip.path, 0) + 1
    hot = any(n >= FIGHT_FLIPS for n in counts.values())
    return replace(ownership, flips=flips, fight_since=(ownership.fight_since or now) if hot else None)


def _newest(ownership: Ownership) -> dict[Path, datetime]:
    """When each field was changed by others for the last time."""
    newest: dict[Path, datetime] = {}
    for flip in ownership.flips:
        newest[flip.path] = max(flip.at, newest.get(flip.path, flip.at))
    return newest


def backing_off(ownership: Ownership, path: Path, now: datetime) -> datetime | None:
    """Until when a field that flips is left alone; None when it may be written."""
    times = [f.at for f in ownership.flips if overlap(f.path, path) and now - f.at < FIGHT_WINDOW]
    if not times:
        return None
    pause = min(_BACKOFF_S * _BACKOFF_FACTOR ** (len(times) - 1), _BACKOFF_MAX_S)
    ready = max(times) + timedelta(seconds=pause)
    return ready if ready > now else None
