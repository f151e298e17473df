"""What a person says of alerts, for ack and resolve."""

from __future__ import annotations

import typer

from cli import common
from cli.failures import Failure


def carry_out(context: typer.Context, names: list[str], namespace: str, reason: str, *, resolve: bool) -> None:
    """Acknowledge or resolve alerts by name, all of them or none."""
    from cli.output import safe
    from cli.project import me
    from controllers.reconcilers import alerts

    actor = me()
    with common.store_of(context) as store, store.transaction(actor) as tx:
        lines = []
        for name in names:
            alert = common.object_named(tx, common.key_named(name, namespace, default_kind="alert"))
            if alert.kind != "Alert":
                raise Failure(f"{alert.key.short} is no alert", hint="remit get alerts")
            (alerts.resolve if resolve else alerts.acknowledge)(tx, alert, reason)
            word = "resolved" if resolve else "acknowledged"
            lines.append(f"{alert.key.short} {word} (as {actor.subject}): {alert.spec['title']}")
    for line in lines:
        print(safe(line))
