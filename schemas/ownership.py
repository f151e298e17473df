"""Who owns which field of a spec: what a source declares, what people set beside it, and what they took for a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from schemas.quantities import format_time, parse_time

Path = tuple[str, ...]
"""Names below ``spec``. A list is one leaf, so no path holds an index."""

Fields = Mapping[str, Any]
"""Declared leaves in the shape of the spec: a leaf is the line in its file, a branch is another mapping."""


def path_text(path: Path) -> str:
    """``spec.retry.limit``."""
    return ".".join(("spec", *path))


def leaves(fields: Fields, above: Path = ()) -> Iterator[tuple[Path, int]]:
    """Every declared leaf with its line, in field order."""
    for name in sorted(fields):
        inner = fields[name]
        if isinstance(inner, Mapping):
            yield from leaves(inner, (*above, name))
        else:
            yield (*above, name), int(inner)


@dataclass(frozen=True, slots=True)
class Claim:
    """A value that a manager other than the source gives a field. With ``until`` it is an override: it stands above
    what is declared and ends then; without, it stands only while no source declares the field."""

    path: Path
    manager: str
    value: Any
    since: datetime
    reason: str = ""
    until: datetime | None = None

    def to_wire(self) -> dict[str, Any]:
        """JSON form."""
        wire: dict[str, Any] = {
            "path": list(self.path), "manager": self.manager, "value": self.value, "since": format_time(self.since),
        }  # fmt: skip
        if self.until is not None:
            wire |= {"reason": self.reason, "until": format_time(self.until)}
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Claim:
        """Inverse of to_wire."""
        until = wire.get("until")
        return cls(
            tuple(wire["path"]), wire["manager"], wire["value"], parse_time(wire["since"]), wire.get("reason", ""),
            parse_time(until) if until else None,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flip:
    """A declared field was given another value by somebody else than its owner."""

    path: Path
    at: datetime


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who owns the fields of one spec.

    ``fields`` are the leaves that the manager of the object declares. ``base`` is the whole spec as declared, kept only
    while there are claims: the spec in force is ``base`` with the claims laid over it, so ending one needs no source.
    ``flips`` are the latest changes of declared fields by others; ``fight_since`` is set while the field is fought for.
    """

    fields: Fields = field(default_factory=dict)
    base: dict[str, Any] | None = None
    claims: tuple[Claim, ...] = ()
    flips: tuple[Flip, ...] = ()
    fight_since: datetime | None = None

    @property
    def overrides(self) -> tuple[Claim, ...]:
        """The claims that end by themselves."""
        return tuple(c for c in self.claims if c.until is not None)

    def to_wire(self) -> dict[str, Any]:
        """JSON form; {} when nothing is known."""
        wire: dict[str, Any] = {}
        if self.fields:
            wire["fields"] = self.fields
        if self.claims:
            wire |= {"base": self.base, "claims": [c.to_wire() for c in self.claims]}
        if self.flips:
            wire["flips"] = [[list(f.path), format_time(f.at)] for f in self.flips]
        if self.fight_since is not None:
            wire["fightSince"] = format_time(self.fight_since)
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Ownership:
        """Inverse of to_wire."""
        fight = wire.get("fightSince")
        return cls(
            wire.get("fields", {}),
            wire.get("base"),
            tuple(Claim.from_wire(c) for c in wire.get("claims", ())),
            tuple(Flip(tuple(path), parse_time(at)) for path, at in wire.get("flips", ())),
            parse_time(fight) if fight else None,
        )

    def managed_fields(self, manager: str) -> list[dict[str, Any]]:
        """``metadata.managedFields``: one entry for each manager, as Kubernetes writes them."""
        entries = []
        if manager:
            entry: dict[str, Any] = {"manager": manager, "operation": "Apply"}
            if self.fields:
                entry |= _fields_v1(path for path, _ in leaves(self.fields))
            entries.append(entry)
        for claim in self.overrides:
            entries.append({
                "manager": claim.manager, "operation": "Override", "time": format_time(claim.since),
                "reason": claim.reason, "until": format_time(claim.until) if claim.until else "",
                **_fields_v1([claim.path]),
            })  # fmt: skip
        plain = [c for c in self.claims if c.until is None]
        for name in sorted({c.manager for c in plain}):
            own = [c for c in plain if c.manager == name]
            entries.append({
                "manager": name, "operation": "Apply", "time": format_time(max(c.since for c in own)),
                **_fields_v1(c.path for c in own),
            })  # fmt: skip
        return entries

    def conditions(self, generation: int) -> list[dict[str, Any]]:
        """What ``status.conditions`` says of it beside the conditions of the kind."""
        found = []
        if self.overrides:
            text = "; ".join(f"{path_text(c.path)} by {c.manager}: {c.reason}" for c in self.overrides)
            since = min(c.since for c in self.overrides)
            found.append(_condition("Overridden", "FieldsOverridden", text, since, generation))
        if self.fight_since is not None:
            names = ", ".join(sorted({path_text(f.path) for f in self.flips}))
            text = f"something keeps changing {names}; find out what, or declare the value it writes"
            found.append(_condition("Stalled", "FieldFight", text, self.fight_since, generation))
        return found


def _condition(type_: str, reason: str, message: str, since: datetime, generation: int) -> dict[str, Any]:
    return {
        "type": type_, "status": "True", "reason": reason, "message": message, "lastTransitionTime": format_time(since),
        "observedGeneration": generation,
    }  # fmt: skip


def _fields_v1(paths: Iterable[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in paths:
        place = tree
        for name in path:
            place = place.setdefault(f"f:{name}", {})
    return {"fieldsType": "FieldsV1", "fieldsV1": {"f:spec": tree}}
