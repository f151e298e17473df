"""Finding things by words: search."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from cli import common, output
from cli.output import safe


class SearchFormat(StrEnum):
    """Values of ``-o``."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("search")(search)


def search(
    context: typer.Context,
    words: Annotated[list[str], typer.Argument(help="Words, and kind: agent: state: ns: with a value each.")],
    limit: Annotated[int, typer.Option("--limit", min=1, max=100, help="Most hits.")] = 20,
    form: Annotated[SearchFormat, typer.Option("--output", "-o", help="How to print it.")] = SearchFormat.TABLE,
) -> None:
    """Search objects and the log by words: titles before texts, the newest first.

    The engine takes in what is new within seconds while it runs. The last word may be begun only.

    Examples:
      remit search broken links
      remit search kind:mission state:blocked invoice
      remit search ns:default agent:links timeout -o json
    """
    from api.read.hits import hits

    with common.store_of(context, read_only=True) as store:
        found = hits(store, " ".join(words), limit)
    if form is SearchFormat.JSON:
        print(output.dump_json(output.as_list(found)))
    elif form is SearchFormat.YAML:
        print(output.dump_yaml(output.as_list(found)))
    elif form is SearchFormat.NAME:
        for hit in found:
            print(f"event/{hit['seq']}" if hit["seq"] else f"{hit['kind'].lower()}/{hit['name']}")
    else:
        _print(found)


def _print(found: list[dict[str, Any]]) -> None:
    if not found:
        typer.echo("nothing was found", err=True)
        return
    rows = [
        [safe(hit["kind"]), safe(hit["namespace"] or "-"), safe(hit["name"]), safe(hit["state"] or "-"), _marked(hit)]
        for hit in found
    ]
    print(output.table(rows, ["KIND", "NAMESPACE", "NAME", "STATE", "TEXT"]))


def _marked(hit: dict[str, Any]) -> str:
    """The piece that holds the words, in one line, with what was searched for in bold where the terminal shows it: the
    title of an object that is found by it, else the text around them."""
    piece = hit["title"] if hit["inTitle"] and not hit["seq"] else hit["snippet"]
    text, ranges = piece["text"].replace("\n", " "), piece["ranges"]
    parts, at = [], 0
    for begin, end in ranges:
        parts += [safe(text[at:begin]), output.paint(safe(text[begin:end]), "bold")]
        at = end
    return "".join([*parts, safe(text[at:])])
