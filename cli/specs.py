"""Working on specs: init, validate, diff, apply, schema, explain."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, output
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from controllers.sources.compile import CompiledUnit
    from schemas.errors import Diagnostic
    from schemas.resource import Declared
    from store.contract import Snapshot, Transaction


class DiffFormat(StrEnum):
    """Values of ``diff -o``."""

    HUMAN = "human"
    JSON = "json"
    MARKDOWN = "markdown"


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.command("init")(init)
    app.command("validate")(validate)
    app.command("diff")(diff)
    app.command("apply")(apply)
    app.command("schema")(schema)
    app.command("explain")(explain)


def init(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(help="Project folder; this one by default.")] = None,
    empty: Annotated[bool, typer.Option("--empty", help="Without the starter agents and missions.")] = False,
) -> None:
    """Make a project: remit.yaml, a git repository of starter specs in specs/, JSON Schemas for your editor."""
    from cli.starter import make_project

    done = make_project((folder or context.find_root().obj or Path.cwd()).absolute(), empty=empty)
    for line in done:
        print(line)


def validate(
    context: typer.Context,
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files or folders; the project's specs by default.")
    ] = None,
    form: Annotated[DiffFormat, typer.Option("--output", "-o", help="human, json or markdown.")] = DiffFormat.HUMAN,
    quiet: common.Quiet = False,
) -> None:
    """Check spec files: every error at once, each with file:line:column, what was expected, and a suggestion."""
    from cli.compiling import compile_paths

    wanted = paths or [_specs_of(context)]
    units = compile_paths(wanted)
    found = [d for unit in units for d in unit.diagnostics]
    count = sum(len(unit.declared) for unit in units)
    _print_findings(found, count, form, quiet=quiet)
    if found:
        raise typer.Exit(int(Exit.ERROR))


def _specs_of(context: typer.Context) -> Path:
    """The folder with the project's specs, as they lie there now."""
    from schemas.source import SourceType

    project = common.project_of(context)
    spec = project.config.source.to_spec()
    if spec is None:
        raise Failure("the project's specs are in Kubernetes: name files or folders")
    folder = project.root / spec.url
    if spec.type is SourceType.GIT:
        folder = folder / spec.path
    if not folder.is_dir():
        raise Failure(f"the project's specs are not in a folder here ({spec.url}): name files or folders")
    return folder


def _print_findings(found: list[Diagnostic], count: int, form: DiffFormat, *, quiet: bool) -> None:
    if form is DiffFormat.JSON:
        rows = [
            {"path": d.path, "line": d.line, "column": d.column, "field": d.field, "message": d.message,
             "expected": d.expected, "hint": d.hint}
            for d in found
        ]  # fmt: skip
        print(output.dump_json({"valid": not found, "objects": count, "errors": rows}))
        return
    lines = [output.safe(str(d)) for d in found]
    if form is DiffFormat.MARKDOWN:
        head = f"**{len(found)} error(s)**" if found else f"**{count} object(s) valid**"
        print("\n".join([head, *(f"- `{line.replace('`', chr(39))}`" for line in lines)]))
        return
    for line in lines:
        print(line, file=sys.stderr)
    if found:
        print(f"{len(found)} error{'s' if len(found) != 1 else ''}", file=sys.stderr)
    elif not quiet:
        print(f"{count} object{'s' if count != 1 else ''} valid")


def diff(
    context: typer.Context,
    path: Annotated[Path | None, typer.Argument(help="Folder of specs; the project's by default.")] = None,
    base: Annotated[
        str | None, typer.Option("--base", help="Compare with this folder or commit instead of the store (offline).")
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Plan this commit instead of the files as they lie there.")
    ] = None,
    form: Annotated[DiffFormat, typer.Option("--output", "-o", help="human, json or markdown.")] = DiffFormat.HUMAN,
    markdown: Annotated[bool, typer.Option("--markdown", help="Short for -o markdown, for pull requests.")] = False,
    comment: Annotated[
        int | None, typer.Option("--comment", min=1, help="Also keep it as a comment on this pull or merge request.")
    ] = None,
    forge: Annotated[str, typer.Option("--forge", help="GitHub, GitLab or Gitea; for --comment.")] = "GitHub",
    forge_url: Annotated[
        str | None, typer.Option("--forge-url", help="Its address, unless github.com or gitlab.com; for --comment.")
    ] = None,
    repository: Annotated[str | None, typer.Option("--repository", help="owner/name there; for --comment.")] = None,
    token_env: Annotated[
        str, typer.Option("--token-env", help="Variable that holds the token; for --comment.")
    ] = "REMIT_FORGE_TOKEN",  # noqa: S107  the name of a variable
    comment_key: Annotated[
        str, typer.Option("--comment-key", help="Tells comments of several plans apart; for --comment.")
    ] = "default",
) -> None:
    """Show what applying the specs would do: fields, and effects on running work, money and permissions.

    Exit codes: 0 nothing, 1 changes, 2 an error, 3 a guard holds a part back.
    """
    from cli.plans import plan_live, plan_offline, render

    folder = path or (None if base is not None and head is not None else _specs_of(context))
    if base is not None:
        plans = plan_offline(_repository(context, path), base, head, folder)
    else:
        with common.store_of(context, read_only=True) as store:
            plans = plan_live(common.project_of(context), store, folder, head)
    print(render(plans, DiffFormat.MARKDOWN if markdown else form))
    if comment is not None:
        from cli.comments import post

        post(
            render(plans, DiffFormat.MARKDOWN), number=comment, forge=forge, url=forge_url, repository=repository,
            token_env=token_env, key=comment_key,
        )  # fmt: skip
    if any(p.plan.guards for p in plans):
        raise typer.Exit(int(Exit.REFUSED))
    if any(p.plan.entries for p in plans):
        raise typer.Exit(int(Exit.DIFFERENT))


def _repository(context: typer.Context, path: Path | None) -> Path:
    """Where commits that are named by --base and --head are looked up."""
    if path is not None:
        return path
    try:
        return _specs_of(context)
    except Failure:
        return Path.cwd()


def apply(
    context: typer.Context,
    files: Annotated[list[str], typer.Option("--filename", "-f", help="File, folder or - for standard input.")],
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and say what would happen.")] = False,
) -> None:
    """Declare objects without git. What a source declares is refused: change it there."""
    from cli.compiling import compile_paths, compile_text
    from cli.project import me
    from schemas.errors import InvalidSpec

    units: list[CompiledUnit] = []
    for name in files:
        units += [compile_text(sys.stdin.buffer.read(), "stdin")] if name == "-" else compile_paths([Path(name)])
    found = [d for unit in units for d in unit.diagnostics]
    if found:
        raise InvalidSpec(found)
    wanted = [d for unit in units for d in unit.declared]
    if not wanted:
        raise Failure("there is nothing to apply in what was given")
    with common.store_of(context) as store:
        with store.snapshot() as snapshot:
            _refuse_declared_elsewhere(snapshot, wanted)
            _refuse_cycles(snapshot, wanted)
        if dry_run:
            with store.snapshot() as snapshot:
                for item in wanted:
                    print(f"{item.key.short} {_would(snapshot, item)} (dry run)")
            return
        with store.transaction(me()) as tx:
            lines = [f"{item.key.short} {_apply_one(tx, item)}" for item in wanted]
        print("\n".join(lines))


def _refuse_declared_elsewhere(snapshot: Snapshot, wanted: list[Declared]) -> None:
    owned = []
    for item in wanted:
        current = snapshot.get(item.key)
        if current is not None and (current.unit or current.manager.startswith("engine/")):
            origin = current.provenance
            place = f"{origin.place} at {origin.revision}" if origin else "remit.yaml"
            owned.append(f"{item.key.short} is declared at {place}")
    if owned:
        raise Failure(
            "a source owns what you want to change", *owned, hint="edit it there and commit", code=Exit.REFUSED
        )


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
        return {"subject": tx.actor.subject, "transport": tx.actor.transport}
    if kind == "Hold":
        return {"placedBy": tx.actor.subject, "transport": tx.actor.transport}
    if kind == "Confirmation":
        from cli.acts import new_confirmation

        return new_confirmation(tx).to_wire()
    return {}


def schema(
    kind: Annotated[str | None, typer.Argument(help="Kind; all of them by default.")] = None,
    write: Annotated[Path | None, typer.Option("--write", help="Write one file per kind into this folder.")] = None,
) -> None:
    """Print the JSON Schema of a kind, for editors and other tools."""
    from schemas import jsonschema

    if write is not None:
        from cli.starter import write_schemas

        for path in write_schemas(write):
            print(path)
        return
    value = jsonschema.kind_schema(common.kind_named(kind)) if kind else jsonschema.combined_schema()
    print(output.dump_json(value))


def explain(
    path: Annotated[str | None, typer.Argument(help="Kind or field: mission, mission.spec.retry.")] = None,
    recursive: Annotated[bool, typer.Option("--recursive", help="Every field below, as a tree.")] = False,
) -> None:
    """Explain a kind or a field: what it means, its type, its default, what it may be."""
    from schemas import explain as explaining
    from schemas import registry

    if path is None:
        rows = [
            [
                name.plural,
                ",".join(name.short_names) or "-",
                str(name.object_class),
                registry.by_kind(name.kind).description,
            ]
            for name in registry.NAMES
        ]
        print(output.table(rows, ["KIND", "SHORT", "CLASS", "DESCRIPTION"]))
        return
    print(explaining.render(explaining.explain(path), recursive=recursive))
