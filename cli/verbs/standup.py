"""How things stand: standup."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import common
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("standup")(standup)


def standup(
    context: typer.Context,
    since: Annotated[
        str, typer.Option("--since", help="The last while (2h, 7d), or since a day (2026-11-01, UTC).")
    ] = "24h",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Tell what was done and failed, what waits for an answer, what is blocked, what it cost, and what is next.

    The same is sent once a day to channels with a route for DailySummary.

    Examples:
      remit standup
      remit standup --since 7d
    """
    from cli import moment
    from cli.event_log import begin_of
    from cli.output import safe
    from controllers.notify.standup import gather
    from decisions import standup as decisions

    now = moment.now()
    with common.store_of(context, read_only=True) as store, store.snapshot() as snapshot:
        standing = gather(snapshot, namespace, begin_of(since), now)
    print(safe(decisions.title(standing)))
    print(safe(decisions.text(standing, limit=100_000), lines=True))
