"""Asking the engine to look at its source now: sync."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from cli import common
from cli.failures import Exit, Failure

if TYPE_CHECKING:
    from schemas.resource import Actor
    from store.contract import Snapshot, Store


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("sync")(sync)


def sync(
    context: typer.Context,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="Ask for it and go on.")] = False,
    timeout: common.Timeout = "60s",
) -> None:
    """Have the engine look at its source now, and say how it went; exit 1 when something is not in force.

    Examples:
      remit sync
      remit sync --timeout 5m
    """
    from cli.project import me
    from controllers.wiring import DEFAULT_SOURCE

    with common.store_of(context) as store:
        token = ask_for_a_look(store, me())
        if no_wait:
            print("asked for")
            return
        if common.wait_until(store, common.seconds_of(timeout), lambda s: _handled(s, token)) is None:
            raise Failure(
                f"the engine did not answer in {timeout}: does it run?", hint="remit run", code=Exit.DIFFERENT
            )
        with store.snapshot() as snapshot:
            done = snapshot.get(DEFAULT_SOURCE)
        assert done is not None
        raise typer.Exit(say(done.status))


def ask_for_a_look(store: Store, actor: Actor) -> str:
    """Have the engine look at its source; the token that it will say it handled. Raises Failure where none ever ran."""
    from controllers.runtime.clock import SystemClock
    from controllers.wiring import DEFAULT_SOURCE
    from schemas.quantities import format_time
    from schemas.resource import RECONCILE_REQUESTED_AT, Declared

    token = f"{format_time(SystemClock().now())}-{os.getpid()}"
    with store.transaction(actor) as tx:
        source = tx.get(DEFAULT_SOURCE)
        if source is None:
            raise Failure("no engine ever ran here: there is no source to look at", hint="remit run")
        wanted = Declared(
            source.kind, source.namespace, source.name, source.spec, source.labels,
            {**source.annotations, RECONCILE_REQUESTED_AT: token}, source.provenance,
        )  # fmt: skip
        tx.put_spec(source, wanted)
    return token


def _handled(snapshot: Snapshot, token: str) -> bool:
    from controllers.wiring import DEFAULT_SOURCE

    source = snapshot.get(DEFAULT_SOURCE)
    return source is not None and source.status.get("lastHandledReconcile") == token


def say(status: dict[str, object]) -> int:
    """Each error is told once: at its unit, and of the source as a whole only what no unit said."""
    from cli.output import safe, value_at

    ready = value_at(status, "conditions[Ready]") or {}
    units = status.get("units")
    print(safe(f"{status.get('revision') or 'nothing read'}: {ready.get('reason')}"))
    bad = ready.get("status") != "True"
    said: list[str] = []
    for unit in units if isinstance(units, list) else []:
        errors = [str(error) for error in unit.get("errors", ())]
        message = str(unit.get("message") or "")
        said += [*errors, message]
        for error in errors:
            message = message.replace(f": {error}", "")
        print(safe(f"  {unit['path']}: {unit['reason']}, {unit.get('objects', 0)} objects {message}".rstrip()))
        for error in errors:
            print(safe(f"    {error}"))
        bad = bad or unit["reason"] != "Synced"
    told = str(ready.get("message") or "")
    if bad and told and not any(text and text in told for text in said):
        print(safe(f"  {told}"))
    return int(Exit.DIFFERENT if bad else Exit.OK)
