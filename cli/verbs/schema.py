"""JSON Schemas for editors and tools: schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli import common, completion, output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("schema")(schema)


def schema(
    kind: Annotated[
        str | None, typer.Argument(help="Kind; all of them by default.", autocompletion=completion.kind)
    ] = None,
    write: Annotated[Path | None, typer.Option("--write", help="Write one file per kind into this folder.")] = None,
) -> None:
    """Print the JSON Schema of a kind, for editors and other tools.

    Examples:
      remit schema mission
      remit schema --write .schemas
    """
    from schemas import jsonschema

    if write is not None:
        from cli.starter import write_schemas

        for path in write_schemas(write):
            print(path)
        return
    value = jsonschema.kind_schema(common.kind_named(kind)) if kind else jsonschema.combined_schema()
    print(output.dump_json(value))
