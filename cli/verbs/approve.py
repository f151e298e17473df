"""Giving leave: approve."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common, completion
from cli.answers import NoWait, Push, Reply, Via, answer
from cli.failures import Failure
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
    scope: Annotated[
        str,
        typer.Option("--scope", help="Of an action: once, session (as often as this session asks), or until."),
    ] = "once",
    duration: Annotated[
        str | None, typer.Option("--for", help="Leave for the same action during: 30m, 8h. Means --scope until.")
    ] = None,
    via: Via = "store",
    push: Push = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Give leave for exactly what was asked: accept a result, allow an action, let a blocked mission try again.

    Examples:
      remit approve mission/check-links
      remit approve mission/check-links --digest 3f1c2a9b04de --reason "reads well"
      remit approve mission/newsletter --digest 3f1c2a9b04de --via git
    """
    wanted, until = _reach(scope, duration)
    answer(
        context,
        Reply(target, "Approve", digest, reason, wanted, until, via=via, push=push, no_wait=no_wait),
        namespace,
    )


def _reach(scope: str, duration: str | None) -> tuple[str, str | None]:
    """The scope, and the end of a leave for a time."""
    from datetime import timedelta

    from cli import moment
    from schemas.approval_decision import DecisionScope
    from schemas.quantities import format_time

    found = next((s for s in DecisionScope if s.lower() == scope.lower()), None)
    if found is None:
        raise Failure(f"--scope {scope[:20]!r}: one of {', '.join(s.lower() for s in DecisionScope)}")
    if duration is None:
        if found is DecisionScope.UNTIL:
            raise Failure("--scope until needs --for: how long, such as 8h")
        return found.value, None
    if found is DecisionScope.SESSION:
        raise Failure("--for gives leave for a time; leave --scope session out")
    return DecisionScope.UNTIL.value, format_time(moment.now() + timedelta(seconds=common.seconds_of(duration)))
