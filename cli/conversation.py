"""Threads at the terminal: which one is meant, and how what was said is shown. Nothing that anybody wrote reaches the
terminal unescaped, and no text can pass for a line of somebody else."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli import common
from cli.failures import Exit, Failure
from cli.output import paint, safe
from schemas.identity import DEFAULT_NAMESPACE

if TYPE_CHECKING:
    from datetime import datetime

    from controllers.holds.stops import Stops
    from controllers.runs.chat import Heard
    from controllers.runs.threads import Entry
    from schemas.resource import Actor, Resource
    from store.contract import Snapshot, Transaction

MOST_TEXT = 10_000
_COLOURS = {"user": "bold", "agent": "busy", "controller": "dim"}
_WORDS = {"agent": " (agent)", "controller": " (engine)", "service": " (service)"}


def subject_named(snapshot: Snapshot, target: str, namespace: str) -> Resource:
    """The mission or project that ``mission/NAME``, ``project/NAME``, ``agent/NAME`` or a thread's name stands for; a
    bare name is a mission's. Raises Failure."""
    from controllers.runs import chat
    from schemas.errors import Refused

    found = common.object_named(snapshot, common.key_named(target, namespace, default_kind="mission"))
    if found.kind == "Thread":
        kind = str(found.spec["of"]).lower()
        name = f"{kind}/{found.spec['subjectRef']['name']}"
        found = common.object_named(snapshot, common.key_named(name, found.namespace))
    try:
        return chat.subject_of(snapshot, found)
    except Refused as error:
        hint = ""
        if error.reason == "NothingToTalkAbout":
            hint = f"remit assign MISSION {found.name}"
        raise Failure(str(error), hint=hint, code=Exit.REFUSED) from None


def speak(
    tx: Transaction, subject: Resource, actor: Actor, text: str, *, reply_to: str = "", key: str, stops: Stops
) -> Heard:
    """Say it in the thread, as ``actor``. Raises Failure for an empty text and for one that is too long."""
    from controllers.runs import chat

    if not text.strip():
        raise Failure("say something: the text is empty")
    if len(text) > MOST_TEXT:
        raise Failure(f"the text has {len(text):,} characters; at most {MOST_TEXT:,} are kept")
    return chat.say(tx, subject, actor, text, key=key, reply_to=message_uid(tx, subject, reply_to), stops=stops)


def message_uid(snapshot: Snapshot, subject: Resource, wanted: str) -> str:
    """The uid of a message by its number in the thread, with or without "#", or by its name. Raises Failure."""
    from controllers.runs import threads
    from schemas.base import Key

    if not wanted:
        return ""
    number = wanted.removeprefix("#")
    thread = threads.find(snapshot, subject)
    if not number.isdigit():
        message = snapshot.get(Key("Message", subject.namespace, wanted))
        if message is not None:
            return message.uid
    before: int | None = None
    while thread is not None and number.isdigit():
        page = threads.page(snapshot, thread, before=before, limit=200)
        for entry in page.entries:
            if entry.message.status.get("number") == int(number):
                return entry.message.uid
        if page.older is None:
            break
        before = page.older
    raise Failure(
        f"{subject.key.short} holds no message {wanted[:60]!r}", hint=f"remit chat {subject.key.short} --limit 200"
    )


def whom(heard: Heard) -> str:
    """To whom it went, in a few words."""
    told = ", ".join(heard.told) or "nobody but who reads the thread"
    if heard.answer is not None:
        told = "the engine"
    return told + (f"; {heard.note}" if heard.note else "")


def shown(entry: Entry, numbers: dict[str, int], me: str) -> Iterator[str]:
    """The lines of an entry. ``numbers`` are those of messages by uid, for what it answers; ``me`` is who looks."""
    message = entry.message
    spec, status = message.spec, message.status
    kind, _, name = str(spec["author"]).partition(":")
    name = name.removeprefix(f"{DEFAULT_NAMESPACE}/")
    who = "remit" if kind == "controller" else safe(name)
    who += _WORDS.get(kind, " (you)" if spec["author"] == me else "")
    at = message.created_at if not status.get("sentAt") else _time(status["sentAt"])
    clock = f"{at:%Y-%m-%d %H:%M}"
    if status.get("state") == "Blocked":
        reason = next((c["reason"] for c in status.get("conditions", ()) if c["type"] == "Succeeded"), "")
        yield paint(f"{clock}       {who} wanted to say more: blocked, {reason} ({message.name})", "dim")
        return
    notes = []
    if spec.get("autonomous"):
        notes.append("by itself")
    if spec.get("inReplyTo") in numbers:
        notes.append(f"answers #{numbers[spec['inReplyTo']]}")
    note = f"  [{', '.join(notes)}]" if notes else ""
    head = f"{clock}  {'#' + str(status.get('number', 0)):<5}{who}"
    yield paint(head, _COLOURS.get(kind, "dim")) + paint(note, "dim")
    yield from _body(str(spec["text"]))


def _body(text: str) -> Iterator[str]:
    """The text behind a bar on each line, so that none of it can look like the head of another message."""
    width = max(20, shutil.get_terminal_size().columns - 4) if sys.stdout.isatty() else 0
    for line in safe(text, lines=True).split("\n"):
        parts = textwrap.wrap(line, width, drop_whitespace=False) if width and len(line) > width else [line]
        for part in parts:
            yield f"  | {part.rstrip()}".rstrip() if part.strip() else "  |"


def _time(text: str) -> datetime:
    from schemas.quantities import parse_time

    found: datetime = parse_time(text)
    return found
