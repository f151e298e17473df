"""Saying something to the agent of a mission: say."""

from __future__ import annotations

import secrets
from typing import Annotated

import typer

from cli import common, completion
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("say")(say)


def say(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="mission/NAME.", autocompletion=completion.of("mission"))],
    text: Annotated[str, typer.Argument(help="What to say.")],
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Say something to the agent of a mission. What it was going to say by itself is canceled, and counts anew.

    Examples:
      remit say mission/check-links "skip the archive"
    """
    from cli.output import safe
    from cli.project import me
    from controllers.runs import messages, sessions

    if not text.strip():
        raise Failure("say something: the text is empty")
    actor = me()
    with common.store_of(context) as store, store.transaction(actor) as tx:
        mission = common.object_named(tx, common.key_named(target, namespace, default_kind="mission"))
        if mission.kind != "Mission":
            raise Failure(f"{mission.key.short} has no agent to talk to: name a mission")
        session = sessions.of_mission(tx, mission)
        if session is None:
            raise Failure(
                f"{mission.key.short} has no agent to talk to",
                hint=f"remit assign {mission.key.short} AGENT",
                code=Exit.REFUSED,
            )
        messages.person_says(tx, session, actor, text, key=secrets.token_hex(16))
        print(safe(f"said to {session.spec['agentRef']['name']} on {mission.name} (as {actor.subject})"))
