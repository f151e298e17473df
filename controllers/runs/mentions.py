"""Who is meant by the names behind ``@``."""

from __future__ import annotations

from collections.abc import Iterable

from decisions import chat
from schemas.base import Key
from schemas.identity import is_name
from store.contract import Snapshot


def subjects(snapshot: Snapshot, namespace: str, text: str) -> tuple[str, ...]:
    """Who is mentioned in a text, sorted: an agent of the namespace where there is one of that name, else a person."""
    return tuple(sorted({_subject(snapshot, namespace, name) for name in chat.mentioned(text)}))


def agents(mentioned: Iterable[str], namespace: str) -> list[str]:
    """Names of the agents of a namespace among them, sorted."""
    prefix = f"agent:{namespace}/"
    return sorted(m.removeprefix(prefix) for m in mentioned if m.startswith(prefix))


def _subject(snapshot: Snapshot, namespace: str, name: str) -> str:
    kind, colon, rest = name.partition(":")
    if colon and kind == "user":
        return name
    wanted = rest if colon else name
    if is_name(wanted) and (colon or snapshot.get(Key("Agent", namespace, wanted)) is not None):
        return f"agent:{namespace}/{wanted}"
    return f"user:{wanted}"
