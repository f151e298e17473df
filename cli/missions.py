"""Missions that verbs change where they are declared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from cli import common
from cli.failures import Failure

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Store


def named(store: Store, target: str, namespace: str) -> Resource:
    """The mission of that name. Raises Failure when it is another kind, or is not there."""
    key = common.key_named(target, namespace, default_kind="mission")
    if key.kind != "Mission":
        raise Failure(f"{key.short} is no mission")
    with store.snapshot() as snapshot:
        return common.object_named(snapshot, key)


def change(
    context: typer.Context, store: Store, mission: Resource, edits: list[tuple[tuple[str | int, ...], Any]], verb: str,
    reason: str,
) -> None:  # fmt: skip
    """Edit what declares it, and say where that was done."""
    from cli import declared

    message = f"{verb} {mission.key.short}" + (f"\n\n{reason}" if reason else "")
    done = declared.change(common.project_of(context), store, mission, edits, message)
    print(f"{verb} {mission.key.short}: changed in {done.where}")
