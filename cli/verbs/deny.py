"""Refusing leave: deny."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion
from cli.answers import NoWait, Push, Reply, Via, answer
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
    revoke: Annotated[
        bool, typer.Option("--revoke", help="Take back leave that was given for an action and not used up.")
    ] = False,
    via: Via = "store",
    push: Push = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Refuse leave. With --changes the agent works on it again and gets the reason as remarks.

    Examples:
      remit deny mission/check-links --reason "not needed"
      remit deny mission/check-links --changes --reason "name the dead links"
      remit deny newsletter-action-3f1c2a9b04de --revoke --reason "sent by hand"
    """
    if changes and not reason.strip():
        raise Failure("--changes needs --reason: say what to change")
    if changes and revoke:
        raise Failure("--changes and --revoke are two answers: give one")
    verdict = "ChangesRequested" if changes else "Revoke" if revoke else "Deny"
    answer(context, Reply(target, verdict, digest, reason, via=via, push=push, no_wait=no_wait), namespace)
