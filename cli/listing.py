"""Lists of objects: which are wanted, and how they are printed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import typer

from cli import common, moment, output
from cli.failures import Failure
from cli.output import Format
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from schemas.kind import KindInfo
    from schemas.resource import Resource
    from store.contract import Snapshot


class Query:
    """Which objects of a kind are wanted. ``namespace`` None is every one."""

    def __init__(
        self, namespace: str | None, labels: dict[str, str], states: list[str] | None, sort: str | None = None
    ) -> None:
        self.namespace = namespace
        self.labels = labels
        self.states = states
        self.sort = sort.removeprefix(".") if sort else None

    def of(self, snapshot: Snapshot, info: KindInfo, names: list[str]) -> list[Resource]:
        """The objects, of the named ones where names are given."""
        namespace = self.namespace if info.namespaced else None
        if info.kind == "Event":
            raise Failure("events have a verb of their own", hint="remit events")
        found = snapshot.objects(info.kind, namespace=namespace, labels=self.labels or None, states=self.states)
        chosen = [r for r in found if not names or r.name in names]
        path = self.sort
        return sorted(chosen, key=lambda r: _order(r, path)) if path else chosen


def _order(resource: Resource, path: str) -> tuple[bool, bool, float, str]:
    """Numbers by value, else as text; what has no such field comes last."""
    value = output.value_at(resource.to_wire(), path)
    number = isinstance(value, int | float)
    return value is None, not number, float(value) if number else 0.0, "" if number else str(value)


def states_of(text: str | None, kinds: Iterable[KindInfo] = ()) -> list[str] | None:
    """``--state A,B`` as states, in any case of letters; None for all of them. A state that none of ``kinds`` has is a
    Failure: an empty list would say that nothing is in it."""
    if not text:
        return None
    asked = [s.strip() for s in text.split(",") if s.strip()]
    known = {state.lower(): state for info in kinds for state in info.states}
    if not known:
        return asked
    unknown = next((s for s in asked if s.lower() not in known), None)
    if unknown is not None:
        raise Failure(f"--state {unknown[:40]!r}: there is no such state", "states: " + ", ".join(known.values()))
    return [known[s.lower()] for s in asked]


def wanted_of(kinds: str, names: list[str]) -> list[tuple[KindInfo, list[str]]]:
    """Kinds and names of a command line; no names are all objects of the kind."""
    from schemas import registry
    from schemas.kind import ObjectClass

    if kinds == "all":
        return [(k, []) for k in registry.KINDS if k.object_class is ObjectClass.INTENT or k.kind in ("Run", "Hold")]
    if "/" in kinds:
        found: dict[str, list[str]] = {}
        for item in [kinds, *names]:
            key = common.key_named(item, DEFAULT_NAMESPACE)
            found.setdefault(key.kind, []).append(key.name)
        return [(common.kind_named(kind), only) for kind, only in found.items()]
    infos = [common.kind_named(k) for k in kinds.split(",") if k]
    if len(infos) > 1 and names:
        raise Failure("several kinds take no names: write KIND/NAME instead")
    return [(info, names) for info in infos]


def print_found(found: list[tuple[KindInfo, list[Resource]]], form: Format, *, namespaces: bool) -> None:
    """Print them in the form that was asked for."""
    if form in (Format.JSON, Format.YAML):
        resources = [r for _, items in found for r in items]
        documents = [r.to_wire() for r in resources]
        single = len(found) == 1 and len(documents) == 1
        value = documents[0] if single else output.as_list(documents)
        print(output.dump_json(value) if form is Format.JSON else output.dump_yaml(value))
        return
    if form is Format.NAME:
        for info, items in found:
            for r in items:
                print(f"{info.singular}/{r.name}")
        return
    filled = [(info, items) for info, items in found if items]
    for position, (info, items) in enumerate(filled):
        if position:
            print()
        header, body = output.rows(info, items, moment.now(), wide=form is Format.WIDE, namespaces=namespaces)
        if len(found) > 1:
            for row in body:
                name = 1 if namespaces else 0
                row[name] = f"{info.singular}/{row[name]}"
        print(output.table(body, header))


def refuse_missing(
    found: list[tuple[KindInfo, list[Resource]]], wanted: list[tuple[KindInfo, list[str]]], namespace: str
) -> None:
    """Names that were asked for and are not there are an error; an empty list is said on stderr, as kubectl does."""
    gone = [
        f"{info.singular}/{name}"
        for (info, items), (_, names) in zip(found, wanted, strict=True)
        for name in names
        if name not in {r.name for r in items}
    ]
    if gone:
        raise Failure(f"not found: {', '.join(gone)}", hint=f"remit get {wanted[0][0].plural} -A")
    if not any(items for _, items in found):
        kinds = ", ".join(info.plural for info, _ in wanted) if len(wanted) < 4 else "objects"
        typer.echo(f"no {kinds} in namespace {namespace}", err=True)
