"""Settling alerts: resolve."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion, settled
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("resolve")(resolve)


def resolve(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Names of alerts.", autocompletion=completion.of("alert"))],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Say that what alerts are about is settled. The same thing again opens them anew.

    Examples:
      remit resolve loopdetected-1a2b3c4d5e6f7a8b --reason "prompt fixed in 3f2a1c"
    """
    settled.carry_out(context, names, namespace, reason, resolve=True)
