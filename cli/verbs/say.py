"""Saying something in a thread: say."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated

import typer

from cli import common, completion
from cli.failures import Failure
from cli.output import safe
from schemas.base import DEFAULT_NAMESPACE

_MOST_BYTES = 100_000


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("say")(say)


def say(
    context: typer.Context,
    target: Annotated[
        str,
        typer.Argument(
            help="mission/NAME, project/NAME, or agent/NAME for the mission that it is on.",
            metavar="MISSION|PROJECT|AGENT",
            autocompletion=completion.of("mission"),
        ),
    ],
    text: Annotated[
        str | None, typer.Argument(help="What to say; /help lists commands. Not with -f.", metavar="TEXT")
    ] = None,
    file: Annotated[
        str, typer.Option("--file", "-f", help="Take the text from a file, or from - (standard input).")
    ] = "",
    reply_to: Annotated[
        str, typer.Option("--reply-to", help="The message that it answers: its number in the thread, or its name.")
    ] = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Say something in the thread of a mission or a project.

    The agent of the mission gets it; in a project those that are mentioned (@auditor). What that agent was going to say
    by itself is canceled, and counts anew. A text that begins with / is a command.

    Examples:
      remit say mission/check-links "skip the archive"
      remit say project/docs "@auditor what is left?"
      remit say agent/auditor /status
      git diff | remit say mission/check-links -f - --reply-to 12
    """
    from cli import conversation
    from cli.held import stops_of
    from cli.project import me

    if (text is None) == (not file):
        raise Failure("say one text: TEXT, or -f FILE")
    words = text if text is not None else _read(file)
    actor = me()
    stops = stops_of(common.project_of(context))
    with common.store_of(context) as store, store.transaction(actor) as tx:
        subject = conversation.subject_named(tx, target, namespace)
        heard = conversation.speak(tx, subject, actor, words, reply_to=reply_to, key=secrets.token_hex(16), stops=stops)
    number = heard.message.status.get("number")
    print(safe(f"said in {subject.key.short} as #{number} to {conversation.whom(heard)} (as {actor.subject})"))
    if heard.answer is not None:
        print(safe(str(heard.answer.spec["text"]), lines=True))


def _read(name: str) -> str:
    """The text of a file, without the line end that closes it."""
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise Failure(f"{name} cannot be read: {error.strerror}") from None
    if len(data) > _MOST_BYTES:
        raise Failure(f"{name} is larger than {_MOST_BYTES:,} bytes: say less, or hand it in as a file of the mission")
    return data.decode("utf-8", "replace").removesuffix("\n")
