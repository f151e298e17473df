"""Stopping work: hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, completion, names
from cli.failures import Failure
from schemas.base import DEFAULT_NAMESPACE, Key, is_name

if TYPE_CHECKING:
    from schemas.hold import HoldMode, HoldSpec
    from store.contract import Snapshot

_WAIT_S = 10.0

# The words of the verb; `kubectl remit hold` takes the same.
Targets = Annotated[
    list[str] | None,
    typer.Argument(help="agent/NAME, mission/NAME, ...; none with -l or --all.", autocompletion=completion.target),
]
Reason = Annotated[str, typer.Option("--reason", "-r", help="Why; shown wherever it bites.")]
Mode = Annotated[
    str,
    typer.Option(
        "--mode", help="Hold: nothing new; Drain: end, then nothing; Stop: now.", autocompletion=completion.modes
    ),
]
Duration = Annotated[str | None, typer.Option("--for", help="End by itself after: 30m, 8h.")]
Selector = Annotated[str | None, typer.Option("--selector", "-l", help="Labels of agents and missions.")]
Everything = Annotated[bool, typer.Option("--all", help="Everything in the namespace.")]
Everywhere = Annotated[bool, typer.Option("--global", help="Everything, in every namespace.")]
Quarantine = Annotated[
    bool, typer.Option("--quarantine", help="For agents: stop, revoke the keys of runs, block their missions.")
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the Hold.")]


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("hold")(hold)


def hold(
    context: typer.Context,
    targets: Targets = None,
    reason: Reason = "",
    mode: Mode = "Hold",
    duration: Duration = None,
    selector: Selector = None,
    everything: Everything = False,
    everywhere: Everywhere = False,
    quarantine: Quarantine = False,
    name: Name = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Stop work without touching what is declared; no sync can undo it. Everything at once: remit estop.

    Examples:
      remit hold agent/links -r "looks wrong" --for 2h
      remit hold agent/links --quarantine -r "it asked for keys"
      remit hold --all --mode Stop -r incident
    """
    from cli.project import me
    from controllers.holds.effective import facts_of
    from schemas.event import EventType
    from schemas.hold import HoldStatus
    from schemas.resource import Declared, digest

    spec = spec_of(
        targets or [], reason, mode=mode, duration=duration, selector=selector, everything=everything,
        everywhere=everywhere, quarantine=quarantine, namespace=namespace,
    )  # fmt: skip
    actor = me()
    if everywhere:
        namespace = DEFAULT_NAMESPACE  # where everybody looks for what concerns everybody
    wanted = name or f"hold-{digest({**spec.to_wire(), 'by': actor.subject})[7:15]}"
    if not is_name(wanted):
        raise Failure(f"{wanted[:60]!r} is no name")
    with common.store_of(context) as store:
        with store.transaction(actor) as tx:
            for key in [common.key_named(t, namespace) for t in targets or []]:
                common.object_named(tx, key)
            placed = tx.create(
                Declared("Hold", namespace, names.free(tx, "Hold", namespace, wanted), spec.to_wire()),
                manager=f"cli/{actor.subject.removeprefix('user:')}",
                status=HoldStatus(placed_by=actor.subject, transport=actor.transport).to_wire(),
            )
            tx.event(EventType.CREATED, placed, reason=spec.mode, message=reason)
        matched = common.wait_until(store, _WAIT_S, lambda s: _matched(s, placed.key))
    count = f"holds {matched['matched']} object(s)" if matched else "takes effect when the engine starts"
    print(f"{placed.key.short} {count}; release: {facts_of(placed).remedy}")


def spec_of(
    targets: list[str], reason: str, *, mode: str, duration: str | None, selector: str | None, everything: bool,
    everywhere: bool, quarantine: bool, namespace: str,
) -> HoldSpec:  # fmt: skip
    """The Hold that these words mean. Raises Failure."""
    from datetime import timedelta

    from controllers.runtime.clock import SystemClock
    from schemas.hold import HoldScope, HoldSpec
    from schemas.quantities import format_time

    if not reason.strip():
        raise Failure("a Hold needs --reason: whoever meets it wants to know why")
    body: dict[str, Any] = {"mode": _mode("Stop" if quarantine else mode), "reason": reason}
    if quarantine:
        body["quarantine"] = True
    if duration is not None:
        body["until"] = format_time(SystemClock().now() + timedelta(seconds=common.seconds_ahead(duration, "--for")))
    if everywhere or everything:
        body["scope"] = HoldScope.GLOBAL if everywhere else HoldScope.TENANT
    else:
        body["selector"] = _hold_selector(targets, selector, namespace)
    return HoldSpec.model_validate(body)


def _matched(snapshot: Snapshot, key: Key) -> dict[str, Any] | None:
    found = snapshot.get(key)
    return found.status if found is not None and found.status.get("conditions") else None


def _mode(text: str) -> HoldMode:
    from schemas.hold import HoldMode

    for mode in HoldMode:
        if mode.lower() == text.lower():
            return mode
    raise Failure(f"--mode {text[:20]!r}: one of {', '.join(HoldMode)}")


def _hold_selector(targets: list[str], selector: str | None, namespace: str) -> dict[str, Any]:
    from schemas.hold import HOLDABLE

    labels = common.labels_of(selector)
    keys = [common.key_named(t, namespace) for t in targets]
    if not keys and not labels:
        raise Failure("name what to hold: agent/NAME, -l label=value, --all or --global")
    wrong = [k for k in keys if k.kind not in HOLDABLE]
    if wrong:
        raise Failure(f"cannot hold {wrong[0].short}: kinds are {', '.join(HOLDABLE)}")
    kinds = sorted({k.kind for k in keys}) or ["Agent", "Mission"]
    return {"kinds": kinds, "names": sorted({k.name for k in keys}), "matchLabels": labels}
