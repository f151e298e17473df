"""What work cost: costs."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, output
from cli.event_log import begin_of
from decisions.costs import By
from schemas.base import API_VERSION, DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from datetime import datetime

    from decisions.costs import Costs, Figures


class CostFormat(StrEnum):
    """Values of ``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    CSV = "csv"


_HEADER = ("SETTLED", "UNKNOWN", "RESERVED", "TOKENS IN", "TOKENS OUT", "TOOL CALLS", "TIME")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("costs")(costs)


def costs(
    context: typer.Context,
    by: Annotated[By, typer.Option("--by", "-b", help="What to tell apart.")] = By.AGENT,
    since: Annotated[
        str | None, typer.Option("--since", help="Only the last while (2h, 7d), or since a day (2026-11-01, UTC).")
    ] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    all_namespaces: common.AllNamespaces = False,
    form: Annotated[CostFormat, typer.Option("--output", "-o", help="How to print it.")] = CostFormat.TABLE,
) -> None:
    """Show what work cost, in USD.

    SETTLED is what is known, UNKNOWN what counts as its worst case because nobody reported it, RESERVED what is set
    aside for work under way.

    Examples:
      remit costs --by model --since 7d
      remit costs --by day --since 2026-11-01 -o csv
      remit costs --by tenant -A
    """
    from controllers.runs.costs import gather
    from decisions.costs import add_up

    begin = begin_of(since) if since else None
    scope = None if all_namespaces else namespace
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        found = add_up(gather(snapshot, namespace=scope, since=begin), by)
    if form in (CostFormat.JSON, CostFormat.YAML):
        document = _document(found, by, scope, begin)
        print(output.dump_json(document) if form is CostFormat.JSON else output.dump_yaml(document))
    elif form is CostFormat.CSV:
        print(_csv(found, by))
    else:
        body = [[output.safe(name) or "-", *_cells(figures)] for name, figures in found.rows]
        print(output.table([*body, ["TOTAL", *_cells(found.total)]], [by.value.upper(), *_HEADER]))
    for model in found.unpriced:
        named = output.safe(model) if model else "a model that nobody named"
        typer.echo(f"Unpriced: {named} counts as its worst case; give a Provider a price for it", err=True)


def _money(micros: int) -> str:
    from schemas.quantities import format_money, from_micros

    return format_money(from_micros(micros))


def _cells(figures: Figures) -> list[str]:
    from datetime import timedelta

    from schemas.quantities import format_duration

    tokens = f"{figures.input_tokens:,}" + (f" (+{figures.unknown_tokens:,})" if figures.unknown_tokens else "")
    return [
        _money(figures.settled),
        _money(figures.unknown),
        _money(figures.reserved),
        tokens,
        f"{figures.output_tokens:,}",
        f"{figures.tool_calls:,}",
        format_duration(timedelta(seconds=figures.wall_ms // 1000)),
    ]


def _wire(figures: Figures) -> dict[str, Any]:
    return {
        "settledUsd": _money(figures.settled),
        "unknownUsd": _money(figures.unknown),
        "reservedUsd": _money(figures.reserved),
        "inputTokens": figures.input_tokens,
        "outputTokens": figures.output_tokens,
        "unknownTokens": figures.unknown_tokens,
        "toolCalls": figures.tool_calls,
        "wallMs": figures.wall_ms,
    }


def _document(found: Costs, by: By, namespace: str | None, since: datetime | None) -> dict[str, Any]:
    from schemas.quantities import format_time

    about: dict[str, Any] = {"apiVersion": API_VERSION, "kind": "Costs", "by": by.value}
    if namespace is not None:
        about["namespace"] = namespace
    if since is not None:
        about["since"] = format_time(since)
    items = [{by.value: name, **_wire(figures)} for name, figures in found.rows]
    return {**about, "items": items, "total": _wire(found.total), "unpriced": list(found.unpriced)}


def _csv(found: Costs, by: By) -> str:
    """RFC 4180, without the total: a spreadsheet adds up. A name that it would take for a formula is quoted."""
    import csv
    import io

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([by.value, *_wire(found.total)])
    for name, figures in found.rows:
        shown = output.safe(name)
        writer.writerow([f"'{shown}" if shown[:1] in "=+-@\t" and shown else shown, *_wire(figures).values()])
    return text.getvalue().rstrip("\n")
