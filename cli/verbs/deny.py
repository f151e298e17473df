"""Refusing leave: deny."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion
from cli.answers import NoWait, answer
from cli.failures import Failure
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("deny")(deny)


def deny(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(help="mission/NAME that waits, or the name of an approval.", autocompletion=completion.waiting),
    ],
    digest: Annotated[str | None, typer.Option("--digest", help="Digest of what you read.")] = None,
    reason: common.Reason = "",
    changes: Annotated[bool, typer.Option("--changes", help="Send it back to be changed; needs --reason.")] = False,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Refuse leave. With --changes the agent works on it again and gets the reason as remarks.

    Examples:
      remit deny mission/check-links --reason "not needed"
      remit deny mission/check-links --changes --reason "name the dead links"
    """
    if changes and not reason.strip():
        raise Failure("--changes needs --reason: say what to change")
    verdict = "ChangesRequested" if changes else "Deny"
    answer(context, target, verdict, digest, reason, namespace, no_wait=no_wait)
