"""What can only be said of all declarations of a unit together: identities taken twice, dependency cycles, inputs
that their agent would not take, moves that are not one. And what costs too much to say of each file as it is read:
expressions and commands of policies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from decisions.references import find_cycles
from schemas import user_schema
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.errors import UnknownName
from schemas.resource import RENAMED_FROM, Declared

_MAX_INPUT_ERRORS = 20


@dataclass(frozen=True, slots=True)
class Fault:
    """Something wrong with one declaration. ``field`` is the path below the document."""

    declared: Declared
    field: tuple[str | int, ...]
    message: str
    expected: str = ""
    hint: str = ""


def check(declared: Iterable[Declared]) -> list[Fault]:
    """Every fault of a unit, in no particular order."""
    declared = list(declared)
    return [*_twice(declared), *_cycles(declared), *_inputs(declared), *_renames(declared), *_policies(declared),
            *_holds(declared), *_proposals(declared)]  # fmt: skip


def _holds(declared: Iterable[Declared]) -> list[Fault]:
    return [
        Fault(
            item,
            ("spec", "scope"),
            "Global stops every tenant, which only the namespace default may",
            "scope: Tenant, or namespace: default",
        )
        for item in declared
        if item.kind == "Hold" and item.spec.get("scope") == "Global" and item.namespace != DEFAULT_NAMESPACE
    ]


def _proposals(declared: Iterable[Declared]) -> list[Fault]:
    """An allowlist that names a field which its kind does not have lets nothing through, and nobody would notice."""
    found = []
    for item in declared:
        rules = (item.spec.get("proposals") or {}).get("allow", ()) if item.kind == "Agent" else ()
        for number, rule in enumerate(rules):
            for place, field in enumerate(rule["fields"]):
                problem = _no_field(rule["kind"], field)
                if problem:
                    where = ("spec", "proposals", "allow", number, "fields", place)
                    known = f"a field as in: remit explain {rule['kind'].lower()}.spec"
                    found.append(Fault(item, where, problem, known))
    return found


def _no_field(kind: str, field: str) -> str:
    """Why a kind has no such field; "" where it has, or where anything may stand."""
    # Imported here: it builds the schemas of kinds, which few files need.
    from schemas import explain

    path = kind.lower()
    for part in field.split("."):
        path = f"{path}.{part}"
        try:
            if explain.explain(path).field.type == "map[string]any":
                return ""
        except UnknownName as error:
            return str(error)
    return ""


def _policies(declared: Iterable[Declared]) -> list[Fault]:
    ruled = [item for item in declared if item.kind in ("Policy", "Waiver")]
    if not ruled:
        return []
    # Imported here: it brings parsers of expressions and shells, which most files do not need.
    from decisions.policy import lint

    return [
        Fault(item, problem.field, problem.message, hint=problem.hint)
        for item in ruled
        for problem in lint.problems(item.kind, item.spec)
    ]


def _twice(declared: Sequence[Declared]) -> list[Fault]:
    if len({item.key for item in declared}) == len(declared):
        return []
    places: dict[Key, list[Declared]] = defaultdict(list)
    for item in declared:
        places[item.key].append(item)
    faults = []
    for key, items in places.items():
        for item in items[1:]:
            first = items[0].provenance
            where = f" at {first.place}" if first is not None else ""
            faults.append(
                Fault(item, ("metadata", "name"), f"{key.short} is declared twice; the other one is{where}",
                      hint="rename one, or remove it")
            )  # fmt: skip
    return faults


def _cycles(declared: Sequence[Declared]) -> list[Fault]:
    if not any(d.kind == "Mission" and d.spec.get("dependsOn") for d in declared):
        return []
    missions = {d.key: d for d in declared if d.kind == "Mission"}
    edges = {
        key: [Key("Mission", ref.get("namespace") or key.namespace, ref["name"]) for ref in d.spec["dependsOn"]]
        for key, d in missions.items()
        if d.spec.get("dependsOn")
    }
    faults = []
    for way in find_cycles(edges):
        position = edges[way[0]].index(way[1])
        text = " -> ".join(k.name for k in way)
        faults.append(Fault(missions[way[0]], ("spec", "dependsOn", position), f"goes around in a cycle: {text}"))
    return faults


def _inputs(declared: Iterable[Declared]) -> list[Fault]:
    declared = list(declared)
    schemas: dict[Key, dict[str, Any]] = {
        d.key: d.spec["inputSchema"] for d in declared if d.kind == "Agent" and d.spec.get("inputSchema")
    }
    if not schemas:
        return []
    faults: list[Fault] = []
    for item in declared:
        ref = item.spec.get("agentRef") if item.kind == "Mission" else None
        schema = schemas.get(Key("Agent", ref.get("namespace") or item.namespace, ref["name"])) if ref else None
        if schema is None or ref is None:
            continue
        for text in user_schema.violations(schema, item.spec.get("input", {})):
            faults.append(Fault(item, ("spec", "input"), text, f"what agent/{ref['name']} takes (its inputSchema)"))
            if len(faults) >= _MAX_INPUT_ERRORS:
                return faults
    return faults


def _renames(declared: Sequence[Declared]) -> list[Fault]:
    if not any(RENAMED_FROM in item.annotations for item in declared):
        return []
    keys = {d.key for d in declared}
    origins: dict[Key, Declared] = {}
    faults = []
    for item in declared:
        text = item.annotations.get(RENAMED_FROM)
        if not text:
            continue
        namespace, _, name = text.rpartition("/")
        origin = Key(item.kind, namespace or item.namespace, name)
        field = ("metadata", "annotations", RENAMED_FROM)
        if origin == item.key:
            faults.append(Fault(item, field, "names the object itself"))
        elif origin in origins:
            faults.append(
                Fault(item, field, f"{origin.short} cannot become two objects: {origins[origin].key.short} too")
            )
        elif origin in keys:
            faults.append(Fault(item, field, f"{origin.short} is still declared", hint="remove one of the two"))
        origins[origin] = item
    return faults
