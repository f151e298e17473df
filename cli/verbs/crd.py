"""CustomResourceDefinitions for a cluster: crd."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion, output


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("crd")(crd)


def crd(
    kinds: Annotated[
        list[str] | None,
        typer.Argument(help="Kinds; all that a cluster holds by default.", autocompletion=completion.kind),
    ] = None,
) -> None:
    """Print the CustomResourceDefinitions of the kinds, as manifests/crds holds them.

    Examples:
      remit crd | kubectl apply --server-side -f -
      remit crd mission agent
    """
    from cli.failures import Failure
    from schemas import crd as definitions

    wanted = [common.kind_named(kind).kind for kind in kinds or ()]
    for kind in wanted:
        if kind not in definitions.SERVED:
            raise Failure(f"a cluster holds no {kind}: it is read from the read API", hint="remit crd")
    found = definitions.definitions(wanted) if wanted else definitions.definitions()
    print("\n---\n".join(output.dump_yaml(each) for each in found))
