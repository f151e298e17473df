"""Giving leave: approve."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion
from cli.answers import NoWait, answer
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("approve")(approve)


def approve(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(help="mission/NAME that waits, or the name of an approval.", autocompletion=completion.waiting),
    ],
    digest: Annotated[
        str | None,
        typer.Option("--digest", help="Digest of what you read (its start is enough); refused if it changed."),
    ] = None,
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Give leave for exactly what was asked: accept a result, allow an action, let a blocked mission try again.

    Examples:
      remit approve mission/check-links
      remit approve mission/check-links --digest 3f1c2a9b04de --reason "reads well"
    """
    answer(context, target, "Approve", digest, reason, namespace, no_wait=no_wait)
