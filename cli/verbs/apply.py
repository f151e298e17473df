"""Declaring objects without git: apply."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common
from cli.common import is_given
from cli.failures import Failure
from cli.local_user import LocalUser
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from controllers.sources.compile import CompiledUnit
    from schemas.resource import Declared
    from store.contract import Snapshot, Transaction


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("apply")(apply)


def apply(
    context: typer.Context,
    files: Annotated[list[str], typer.Option("--filename", "-f", help="File, folder or - for standard input.")],
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and say what would happen.")] = False,
    override: Annotated[
        bool, typer.Option("--override", help="Take fields that a source declares, for a time; needs --reason, --ttl.")
    ] = False,
    reason: common.Reason = "",
    ttl: Annotated[str | None, typer.Option("--ttl", help="How long an override lasts: 30m, 1h.")] = None,
) -> None:
    """Declare objects without git, or fields that a source leaves open. What a source declares is refused: change it
    there, or --override it for a time. With -n, documents without a namespace are put into that one, and a document
    that names another is refused.

    Examples:
      remit apply -f mission.yaml
      remit apply -f missions/ -n docs --dry-run
      remit apply -f - < mission.yaml
    """
    from cli import claims
    from cli.compiling import compile_paths, compile_text
    from cli.moment import now
    from cli.project import me
    from schemas.errors import InvalidSpec

    units: list[CompiledUnit] = []
    for name in files:
        if name == "-":
            units.append(compile_text(sys.stdin.buffer.read(), "stdin", namespace=namespace))
        else:
            units += compile_paths([Path(name)], namespace=namespace)
    found = [d for unit in units for d in unit.diagnostics]
    if found:
        raise InvalidSpec(found)
    given = wanted = [d for unit in units for d in unit.declared]
    if not wanted:
        raise Failure("there is nothing to apply in what was given")
    if is_given(context, "namespace"):
        _refuse_other_namespaces(wanted, namespace)
    how = claims.asked(override=override, reason=reason, ttl=ttl)
    with common.store_of(context) as store:
        with store.snapshot() as snapshot:
            wanted = claims.settled(snapshot, wanted, me(), how, now())
            _refuse_cycles(snapshot, wanted)
        if dry_run:
            with store.snapshot() as snapshot:
                for item in wanted:
                    print(f"{item.key.short} {_would(snapshot, item)} (dry run)")
            return
        with store.transaction(me()) as tx:
            lines = [
                f"{item.key.short} {claims.write(tx, item, how) if claims.beside(tx, item) else _apply_one(tx, item)}"
                for item in given
            ]
        print("\n".join(lines))


def _refuse_other_namespaces(wanted: list[Declared], namespace: str) -> None:
    """As kubectl does: what the command line says and what a document says must agree."""
    others = [d for d in wanted if d.namespace not in ("", namespace)]
    if others:
        places = [
            f"{d.provenance.place if d.provenance else 'it'}: {d.key.short} names the namespace {d.namespace}"
            for d in others
        ]
        raise Failure(f"-n {namespace} does not fit what was given", *places, hint="remit apply -f FILE, without -n")


def _refuse_cycles(snapshot: Snapshot, wanted: list[Declared]) -> None:
    from decisions.references import find_cycles
    from schemas.base import Key

    def edges(namespace: str, spec: dict[str, Any]) -> list[Key]:
        return [Key("Mission", r.get("namespace") or namespace, r["name"]) for r in spec.get("dependsOn", ())]

    graph = {m.key: edges(m.namespace, m.spec) for m in snapshot.objects("Mission")}
    graph |= {d.key: edges(d.namespace, d.spec) for d in wanted if d.kind == "Mission"}
    cycles = find_cycles(graph)
    if cycles:
        raise Failure("dependsOn would go around in a cycle", *(" -> ".join(k.name for k in way) for way in cycles))


def _would(snapshot: Snapshot, item: Declared) -> str:
    current = snapshot.get(item.key)
    if current is None:
        return "created"
    same = (current.spec, current.labels, current.annotations) == (item.spec, item.labels, item.annotations)
    return "unchanged" if same else "configured"


def _apply_one(tx: Transaction, item: Declared) -> str:
    from dataclasses import replace

    from controllers.sources.apply import initial_status
    from decisions.fields import diff as changes_of
    from decisions.finalizers import finalizers
    from decisions.widening import widenings
    from schemas import registry
    from schemas.event import EventType

    manager = f"cli/{tx.actor.subject.removeprefix('user:')}"
    item = replace(item, provenance=None)
    current = tx.get(item.key)
    loosened = widenings(item.kind, current.spec if current is not None else None, item.spec)
    if current is None:
        made = tx.create(
            item, manager=manager, finalizers=finalizers(item.kind), status=_first_status(tx, item.kind) or
            initial_status(item.kind),
        )  # fmt: skip
        tx.event(EventType.CREATED, made, reason="Applied", message=f"applied by {tx.actor}")
        outcome = "created"
    elif _would(tx, item) == "unchanged":
        return "unchanged"
    else:
        changes = changes_of(current.spec, item.spec)
        fixed = registry.by_kind(item.kind).immutable
        for change in changes:
            field = change.path.removeprefix("spec.")
            if any(field == f or field.startswith((f + ".", f + "[")) for f in fixed):
                raise Failure(f"{change.path} of {item.key.short} cannot be changed", hint="use another name")
        changed = tx.put_spec(current, item, manager=manager)
        fields = ", ".join(c.path for c in changes[:3]) or "metadata"
        data = {"changes": [{"field": c.path, "old": c.old, "new": c.new} for c in changes[:20]]}
        tx.event(EventType.UPDATED, changed, reason="Applied", message=fields, data=data)
        outcome = "configured"
    if loosened:
        tx.event(EventType.WIDENED, item.key, reason="Widened", message="; ".join(loosened))
    return outcome


def _first_status(tx: Transaction, kind: str) -> dict[str, Any]:
    """Acts carry who proved to have done them from the start."""
    if kind == "ApprovalDecision":
        return LocalUser().identify().first_status().to_wire()
    if kind == "Hold":
        return {"placedBy": tx.actor.subject, "transport": tx.actor.transport}
    if kind == "Confirmation":
        from cli.confirmations import new_confirmation

        return new_confirmation(tx).to_wire()
    return {}
