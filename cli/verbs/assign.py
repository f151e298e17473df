"""Giving a mission to an agent: assign."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cli import common, completion, held, missions
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("assign")(assign)


def assign(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(help="mission/NAME.", metavar="MISSION", autocompletion=completion.of("mission"))
    ],
    agent: Annotated[
        str, typer.Argument(help="The agent that takes it.", metavar="AGENT", autocompletion=completion.of("agent"))
    ],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Give a mission to an agent: sets spec.agentRef. An open run of another agent is stopped first. Held ones: exit 3.

    Examples:
      remit assign check-links links
    """
    with common.store_of(context) as store:
        mission = missions.named(store, target, namespace)
        key = common.key_named(agent, namespace, default_kind="agent")
        with store.snapshot() as snapshot:
            agent_ = common.object_named(snapshot, key)
        edits: list[tuple[tuple[str | int, ...], Any]] = [(("spec", "agentRef"), {"name": key.name})]
        if "agentSelector" in mission.spec:
            edits.insert(0, (("spec", "agentSelector"), None))
        missions.change(context, store, mission, edits, f"Assign {key.name} to", reason)
        held.require_free(context, store, agent_)
        held.require_free(context, store, mission)
