"""Releasing a plan that a guard holds back: confirm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion, names
from cli.answers import NoWait
from cli.confirmations import new_confirmation
from cli.failures import Exit, Failure
from cli.output import safe
from schemas.base import DEFAULT_NAMESPACE, Key

if TYPE_CHECKING:
    from store.contract import Snapshot, Transaction

_WAIT_S = 10.0


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("confirm")(confirm)


def confirm(
    context: typer.Context,
    digest: Annotated[
        str,
        typer.Argument(help="planDigest of the plan that waits; its start is enough.", autocompletion=completion.plans),
    ],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Release exactly the plan that a guard holds back: deletions, or a loosened limit.

    Examples:
      remit confirm 3f1c2a9b04de --reason "the old fleet goes"
    """
    from cli.project import me
    from schemas.confirmation import ConfirmationSpec
    from schemas.event import EventType
    from schemas.resource import Declared

    actor = me()
    with common.store_of(context) as store:
        with store.transaction(actor) as tx:
            plan = _pending(tx, digest)
            spec = ConfirmationSpec.model_validate(
                {"planDigest": plan["digest"], "revision": plan["revision"], "reason": reason}
            )
            name = names.free(tx, "Confirmation", namespace, f"confirm-{plan['digest'][7:19]}")
            made = tx.create(
                Declared("Confirmation", namespace, name, spec.to_wire()),
                manager=f"cli/{actor.subject.removeprefix('user:')}",
                status=new_confirmation(tx).to_wire(),
            )
            tx.event(EventType.CREATED, made, reason="Confirmed", message=plan["message"])
        print(safe(f"confirmed {plan['digest'][:19]}: {plan['message']}"))
        if no_wait:
            return
        if common.wait_until(store, _WAIT_S, lambda s: _used(s, made.key)) is None:
            print("recorded; the engine applies it when it runs")
        else:
            print("applied")


def _pending(tx: Transaction, digest: str) -> dict[str, Any]:
    plans = [
        plan
        for source in tx.objects("Source")
        for unit in source.status.get("units", ())
        for plan in unit.get("pending", ())
    ]
    short = digest.removeprefix("sha256:")
    found = [p for p in plans if len(short) >= 8 and str(p["digest"])[7:].startswith(short)]
    if len(found) == 1:
        return dict(found[0])
    if not plans:
        raise Failure("no plan waits for confirmation", hint="remit diff", code=Exit.REFUSED)
    waiting = [f"{p['digest'][:19]}  {p['guard']}: {p['message']}" for p in plans]
    raise Failure(f"the plan that waits has another digest than {digest[:26]}", *waiting, code=Exit.REFUSED)


def _used(snapshot: Snapshot, key: Key) -> bool:
    found = snapshot.get(key)
    return found is not None and bool(found.status.get("usedAt"))
