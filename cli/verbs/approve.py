"""Giving leave: approve."""

from __future__ import annotations

from typing import Annotated, Any

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
    amount: Annotated[
        list[str] | None,
        typer.Option(
            "--amount",
            help="Of a budget: how much more, in USD (5), or as tokens=200000, toolCalls=10, wallTime=30m; repeatable.",
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", help="Of a budget: when the declared limit counts again: 2h, or a time with zone."),
    ] = None,
    beyond: Annotated[
        bool, typer.Option("--beyond", help="Of a budget: grant the amount also where it is more than was asked.")
    ] = False,
    via: Via = "store",
    push: Push = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Give leave for exactly what was asked: accept a result, allow an action, let a blocked mission try again.

    Examples:
      remit approve mission/check-links
      remit approve mission/check-links --digest 3f1c2a9b04de --reason "reads well"
      remit approve mission/research --amount 5 --until 2h
      remit approve mission/newsletter --digest 3f1c2a9b04de --via git
    """
    wanted, end = _reach(scope, duration)
    grant = _grant(amount or [], until, beyond)
    answer(
        context,
        Reply(target, "Approve", digest, reason, wanted, end, via=via, push=push, no_wait=no_wait, grant=grant),
        namespace,
    )


_UNITS = ("usd", "tokens", "toolCalls", "wallTime")


def _grant(amounts: list[str], until: str | None, beyond: bool) -> dict[str, Any] | None:
    """The block ``grant`` of a decision; None where nothing is said of it."""
    if not amounts and until is None and not beyond:
        return None
    if beyond and not amounts:
        raise Failure("--beyond goes with --amount")
    import pydantic

    from schemas.approval_decision import BudgetGrant

    values: dict[str, Any] = {"beyondRequest": beyond}
    for text in amounts:
        unit, _, value = text.rpartition("=")
        unit = unit or "usd"
        if unit not in _UNITS or unit in values:
            raise Failure(f"--amount {text[:40]!r}: once each of 5 (USD), tokens=N, toolCalls=N, wallTime=30m")
        values[unit] = int(value) if unit in ("tokens", "toolCalls") and value.isdecimal() else value
    if until is not None:
        values["until"] = _time(until)
    try:
        return BudgetGrant.model_validate(values).to_wire()
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field, text = ".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")
        raise Failure(f"the amount of {field} cannot be granted: {text}") from None


def _time(text: str) -> str:
    """A moment: a duration from now, or a time as it stands."""
    from cli import moment
    from schemas.quantities import format_time, parse_duration, parse_time

    try:
        return format_time(moment.now() + parse_duration(text))
    except ValueError:
        pass
    try:
        return format_time(parse_time(text))
    except (ValueError, TypeError) as error:
        raise Failure(f"--until {text[:40]!r}: a duration (2h), or a time with zone (2026-11-21T18:00:00Z)") from error


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
    return DecisionScope.UNTIL.value, format_time(
        moment.now() + timedelta(seconds=common.seconds_ahead(duration, "--for"))
    )
