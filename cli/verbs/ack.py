"""Looking after alerts: ack."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion, settled
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("ack")(ack)


def ack(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Names of alerts.", autocompletion=completion.of("alert"))],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Say that you look after alerts: they stay, under your name, until what they are about is over or resolved.

    Examples:
      remit ack loopdetected-1a2b3c4d5e6f7a8b --reason "looking"
    """
    settled.carry_out(context, names, namespace, reason, resolve=False)
