"""Listing objects: get."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common, completion, moment, output
from cli.listing import Query, print_found, refuse_missing, states_of, wanted_of
from cli.output import Format
from schemas.base import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from schemas.kind import KindInfo
    from schemas.resource import Resource
    from store.contract import Store


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("get")(get)


def get(
    context: typer.Context,
    kinds: Annotated[
        str,
        typer.Argument(
            help="Kind, several with commas, KIND/NAME, or all.", metavar="KIND[/NAME]", autocompletion=completion.kinds
        ),
    ],
    names: Annotated[
        list[str] | None, typer.Argument(help="Names; none for all.", autocompletion=completion.names_of_kind)
    ] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
    selector: Annotated[str | None, typer.Option("--selector", "-l", help="Labels: team=platform,tier=gold.")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only these states: Blocked,Review.")] = None,
    sort: Annotated[
        str | None, typer.Option("--sort-by", help="Field to sort by: metadata.creationTimestamp, status.state.")
    ] = None,
    form: common.Output = Format.TABLE,
    watch: common.Watch = False,
) -> None:
    """List objects, or show some of them.

    Examples:
      remit get missions
      remit get mission check-links -o yaml
      remit get agents,executors -A -o wide
      remit get missions -l team=docs --state Blocked -w
      remit get runs --sort-by status.startedAt
    """
    wanted = wanted_of(kinds, names or [])
    states = states_of(state, [info for info, _ in wanted])
    query = Query(None if all_namespaces else namespace, common.labels_of(selector), states, sort)
    with common.store_of(context, read_only=True) as store:
        if not watch:
            with store.snapshot() as snapshot:
                found = [(info, query.of(snapshot, info, only)) for info, only in wanted]
            print_found(found, form, namespaces=all_namespaces)
            refuse_missing(found, wanted, namespace)
            return
        _watch(store, wanted, query, form, namespaces=all_namespaces)


def _watch(
    store: Store, wanted: list[tuple[KindInfo, list[str]]], query: Query, form: Format, *, namespaces: bool
) -> None:
    """Print what is there, then each object again when it changes, and that it is deleted. A table keeps the widths
    of its first printing."""
    seen: dict[str, Resource] = {}
    widths: dict[str, list[int]] = {}
    for _ in common.follow(store):
        with store.snapshot() as snapshot:
            found = [(info, query.of(snapshot, info, only)) for info, only in wanted]
            present = {r.uid: r for _, items in found for r in items}
            # What only left the selection is still there.
            left = [r for uid, r in seen.items() if uid not in present]
            gone = [r for r in left if (now := snapshot.get(r.key)) is None or now.uid != r.uid]
        documents = form in (Format.JSON, Format.YAML)
        for resource in gone:
            print(f"{resource.key.short} deleted", file=sys.stderr if documents else sys.stdout, flush=True)
        for info, items in found:
            fresh = [r for r in items if r.uid not in seen or seen[r.uid].resource_version != r.resource_version]
            if not fresh:
                continue
            if form in (Format.TABLE, Format.WIDE):
                _watch_rows(info, fresh, widths, form, namespaces=namespaces)
            else:
                for r in fresh:
                    print_found([(info, [r])], form, namespaces=namespaces)
        seen = present


def _watch_rows(
    info: KindInfo, fresh: list[Resource], widths: dict[str, list[int]], form: Format, *, namespaces: bool
) -> None:
    header, body = output.rows(info, fresh, moment.now(), wide=form is Format.WIDE, namespaces=namespaces)
    first = info.kind not in widths
    known = widths.setdefault(info.kind, [len(h) for h in header])
    for row in body:
        for i, text in enumerate(row):
            known[i] = max(known[i], len(text))
    for row in [header, *body] if first else body:
        print("  ".join(text.ljust(width) for text, width in zip(row, known, strict=True)).rstrip(), flush=True)
