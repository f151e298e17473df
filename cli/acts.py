"""What people do: answer, hold, release, cancel, retry, assign, confirm. Each act is recorded with who did it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common
from cli.failures import Exit, Failure
from schemas.base import DEFAULT_NAMESPACE, Key, is_name

if TYPE_CHECKING:
    from schemas.confirmation import ConfirmationStatus
    from schemas.hold import HoldMode
    from schemas.resource import Resource
    from store.contract import Snapshot, Store, Transaction

NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until the engine acted on it.")]
_WAIT_S = 10.0


def register(app: typer.Typer) -> None:
    """Add the verbs of this group."""
    app.command("approve")(approve)
    app.command("deny")(deny)
    app.command("hold")(hold)
    app.command("release")(release)
    app.command("cancel")(cancel)
    app.command("retry")(retry)
    app.command("assign")(assign)
    app.command("confirm")(confirm)


# Answers.


def approve(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="mission/NAME that waits, or the name of an approval.")],
    digest: Annotated[
        str | None,
        typer.Option("--digest", help="Digest of what you read (its start is enough); refused if it changed."),
    ] = None,
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Give leave for exactly what was asked: accept a result, allow an action, let a blocked mission try again."""
    _answer(context, target, "Approve", digest, reason, namespace, no_wait=no_wait)


def deny(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="mission/NAME that waits, or the name of an approval.")],
    digest: Annotated[str | None, typer.Option("--digest", help="Digest of what you read.")] = None,
    reason: common.Reason = "",
    changes: Annotated[bool, typer.Option("--changes", help="Send it back to be changed; needs --reason.")] = False,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Refuse leave. With --changes the agent works on it again and gets the reason as remarks."""
    if changes and not reason.strip():
        raise Failure("--changes needs --reason: say what to change")
    verdict = "ChangesRequested" if changes else "Deny"
    _answer(context, target, verdict, digest, reason, namespace, no_wait=no_wait)


def _answer(
    context: typer.Context, target: str, verdict: str, digest: str | None, reason: str, namespace: str, *, no_wait: bool
) -> None:
    from cli.project import me
    from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
    from schemas.event import EventType
    from schemas.resource import Declared

    actor = me()
    with common.store_of(context) as store:
        with store.transaction(actor) as tx:
            request = _request_named(tx, target, namespace)
            wanted = str(request.spec["actionDigest"])
            _check_digest(request, wanted, digest)
            spec = ApprovalDecisionSpec.model_validate(
                {
                    "requestRef": {"name": request.name, "uid": request.uid},
                    "actionDigest": wanted,
                    "verdict": verdict,
                    "reason": reason,
                }
            )
            name = _free_name(tx, "ApprovalDecision", request.namespace, f"{request.name[:230]}-{verdict.lower()}")
            decision = tx.create(
                Declared("ApprovalDecision", request.namespace, name, spec.to_wire()),
                manager=f"cli/{actor.subject.removeprefix('user:')}",
                status=ApprovalDecisionStatus(subject=actor.subject, transport=actor.transport).to_wire(),
            )
            tx.event(EventType.CREATED, decision, reason=verdict, message=reason or verdict,
                     data={"related": [request.uid, request.owner_uid]})  # fmt: skip
        print(f"{verdict}: {request.spec['title']} (as {actor.subject})")
        if no_wait:
            return
        judged = common.wait_until(store, _WAIT_S, lambda s: _judged(s, decision.key))
        _say_judged(judged, request)


def _request_named(tx: Transaction, target: str, namespace: str) -> Resource:
    """The open request: by its own name, or that of the object that waits for it."""
    if "/" not in target:
        found = tx.get(Key("ApprovalRequest", namespace, target)) if is_name(target) else None
        if found is not None:
            return found
        target = f"mission/{target}"
    key = common.key_named(target, namespace)
    if key.kind == "ApprovalRequest":
        return common.object_named(tx, key)
    subject = common.object_named(tx, key)
    name = subject.status.get("reviewRequest")
    request = tx.get(Key("ApprovalRequest", subject.namespace, name)) if name else None
    if request is None:
        raise Failure(
            f"{key.short} waits for no answer: it is {subject.state or 'not looked at yet'}",
            hint="remit get approvals --state Pending",
            code=Exit.REFUSED,
        )
    return request


def _check_digest(request: Resource, wanted: str, given: str | None) -> None:
    if request.state != "Pending":
        raise Failure(
            f"{request.name} was answered already: {request.state} by {request.status.get('decidedBy') or 'nobody'}",
            code=Exit.REFUSED,
        )
    if given is None:
        return
    short = given.removeprefix("sha256:")
    if len(short) < 8 or not wanted.removeprefix("sha256:").startswith(short):
        raise Failure(
            f"what waits now has the digest {wanted[7:19]}, not {short[:12]}: it changed since you read it",
            hint=f"remit describe approval/{request.name} -n {request.namespace}",
            code=Exit.REFUSED,
        )


def _free_name(tx: Snapshot, kind: str, namespace: str, name: str) -> str:
    number, free = 1, name
    while tx.get(Key(kind, namespace, free)) is not None:
        number += 1
        free = f"{name}-{number}"
    return free


def _judged(snapshot: Snapshot, key: Key) -> dict[str, Any] | None:
    decision = snapshot.get(key)
    conditions = decision.status.get("conditions", []) if decision is not None else []
    return next((c for c in conditions if c["type"] == "Succeeded" and c["status"] != "Unknown"), None)


def _say_judged(judged: dict[str, Any] | None, request: Resource) -> None:
    if judged is None:
        print("recorded; the engine is not running and acts on it at its start")
        return
    if judged["status"] != "True":
        raise Failure(f"it had no effect: {judged['reason']}: {judged['message']}", code=Exit.REFUSED)
    if judged["reason"] == "AwaitingQuorum":
        print(f"counted; {judged['message']}")
        return
    print(f"counted: {request.spec['subject']}")


# Holds.


def hold(
    context: typer.Context,
    targets: Annotated[
        list[str] | None, typer.Argument(help="agent/NAME, mission/NAME, ...; none with -l or --all.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why; shown wherever it bites.")] = "",
    mode: Annotated[
        str, typer.Option("--mode", help="Hold: nothing new; Drain: end, then nothing; Stop: now.")
    ] = "Hold",
    duration: Annotated[str | None, typer.Option("--for", help="End by itself after: 30m, 8h.")] = None,
    selector: Annotated[str | None, typer.Option("--selector", "-l", help="Labels of agents and missions.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything in the namespace.")] = False,
    everywhere: Annotated[bool, typer.Option("--global", help="Everything, in every namespace.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="Name of the Hold.")] = None,
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Stop work without touching what is declared; no sync can undo it.

    Examples: remit hold agent/links -r "looks wrong" --for 2h; remit hold --all --mode Stop -r incident
    """
    from datetime import timedelta

    from cli.project import me
    from controllers.runtime.clock import SystemClock
    from schemas.event import EventType
    from schemas.hold import HoldScope, HoldSpec, HoldStatus
    from schemas.quantities import format_time
    from schemas.resource import Declared, digest

    if not reason.strip():
        raise Failure("a Hold needs --reason: whoever meets it wants to know why")
    actor = me()
    body: dict[str, Any] = {"mode": _mode(mode), "reason": reason}
    if duration is not None:
        body["until"] = format_time(SystemClock().now() + timedelta(seconds=common.seconds_of(duration)))
    if everywhere or everything:
        body["scope"] = HoldScope.GLOBAL if everywhere else HoldScope.TENANT
    else:
        body["selector"] = _hold_selector(targets or [], selector, namespace)
    spec = HoldSpec.model_validate(body)
    wanted = name or f"hold-{digest({**spec.to_wire(), 'by': actor.subject})[7:15]}"
    if not is_name(wanted):
        raise Failure(f"{wanted[:60]!r} is no name")
    with common.store_of(context) as store:
        with store.transaction(actor) as tx:
            for key in [common.key_named(t, namespace) for t in targets or []]:
                common.object_named(tx, key)
            placed = tx.create(
                Declared("Hold", namespace, _free_name(tx, "Hold", namespace, wanted), spec.to_wire()),
                manager=f"cli/{actor.subject.removeprefix('user:')}",
                status=HoldStatus(placed_by=actor.subject, transport=actor.transport).to_wire(),
            )
            tx.event(EventType.CREATED, placed, reason=spec.mode, message=reason)
        matched = common.wait_until(store, _WAIT_S, lambda s: _matched(s, placed.key))
    count = f"holds {matched['matched']} object(s)" if matched else "takes effect when the engine starts"
    print(f"hold/{placed.name} {count}; release: remit release {placed.name}")


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


def release(
    context: typer.Context,
    names: Annotated[list[str], typer.Argument(help="Names of Holds.")],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """End Holds that were placed by hand; one that a source declares is ended by a commit."""
    from cli.project import me
    from schemas.event import EventType

    with common.store_of(context) as store, store.transaction(me()) as tx:
        for name in names:
            found = common.object_named(tx, common.key_named(name, namespace, default_kind="hold"))
            if found.unit:
                place = found.provenance.place if found.provenance else "a source"
                raise Failure(f"{found.key.short} is declared at {place}: remove it there", code=Exit.REFUSED)
            tx.event(EventType.HOLD_RELEASED, found, reason="Released", message=reason or "released")
            tx.remove(found)
            print(f"{found.key.short} released")


# Changes of what is declared.


def cancel(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="mission/NAME.", metavar="MISSION")],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Give a mission up: sets spec.desiredState to Canceled where it is declared."""
    with common.store_of(context) as store:
        mission = _mission(store, target, namespace)
        if mission.state in ("Canceled", "Failed"):
            raise Failure(f"{mission.key.short} is {mission.state} already", code=Exit.REFUSED)
        _change(context, store, mission, [(("spec", "desiredState"), "Canceled")], "Cancel", reason)


def retry(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="mission/NAME.", metavar="MISSION")],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Run a mission again, or its next attempt now. Held missions are recorded as asked for, and exit 3 says so."""
    from controllers.runtime.clock import SystemClock
    from schemas.quantities import format_time
    from schemas.resource import RETRY_REQUESTED_AT

    with common.store_of(context) as store:
        mission = _mission(store, target, namespace)
        if mission.state == "Canceled":
            raise Failure(
                f"{mission.key.short} is Canceled for good",
                "set spec.desiredState to Complete under a new name to do the work after all",
                code=Exit.REFUSED,
            )
        token = format_time(SystemClock().now())
        path = ("metadata", "annotations", RETRY_REQUESTED_AT)
        _change(context, store, mission, [(path, token)], "Retry", reason)
        hint = _held(store, mission)
        if hint:
            raise Failure(
                f"recorded, but {mission.key.short} is held: {hint}",
                hint=f"remit describe {mission.key.short}",
                code=Exit.REFUSED,
            )


def _held(store: Store, mission: Resource) -> str:
    """What the Hold says that stops a mission or its agent; "" when none does."""
    from cli.moment import now
    from controllers.reconcilers.facts import holds
    from decisions.holds import strictest

    with store.snapshot() as snapshot:
        objects = [(mission.key, mission.labels)]
        ref = mission.status.get("agent") or mission.spec.get("agentRef")
        if ref:
            key = Key("Agent", ref.get("namespace") or mission.namespace, ref["name"])
            agent = snapshot.get(key)
            objects.append((key, agent.labels if agent is not None else {}))
        found = strictest(holds(snapshot), objects, now())
    return found.hint if found is not None else ""


def assign(
    context: typer.Context,
    target: Annotated[str, typer.Argument(help="mission/NAME.", metavar="MISSION")],
    agent: Annotated[str, typer.Argument(help="The agent that takes it.", metavar="AGENT")],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
) -> None:
    """Give a mission to an agent: sets spec.agentRef. An open run of another agent is stopped first."""
    with common.store_of(context) as store:
        mission = _mission(store, target, namespace)
        key = common.key_named(agent, namespace, default_kind="agent")
        with store.snapshot() as snapshot:
            common.object_named(snapshot, key)
        edits: list[tuple[tuple[str | int, ...], Any]] = [(("spec", "agentRef"), {"name": key.name})]
        if "agentSelector" in mission.spec:
            edits.insert(0, (("spec", "agentSelector"), None))
        _change(context, store, mission, edits, f"Assign {key.name} to", reason)


def _mission(store: Store, target: str, namespace: str) -> Resource:
    key = common.key_named(target, namespace, default_kind="mission")
    if key.kind != "Mission":
        raise Failure(f"{key.short} is no mission")
    with store.snapshot() as snapshot:
        return common.object_named(snapshot, key)


def _change(
    context: typer.Context, store: Store, mission: Resource, edits: list[tuple[tuple[str | int, ...], Any]], verb: str,
    reason: str,
) -> None:  # fmt: skip
    from cli import declared

    message = f"{verb} {mission.key.short}" + (f"\n\n{reason}" if reason else "")
    done = declared.change(common.project_of(context), store, mission, edits, message)
    print(f"{verb} {mission.key.short}: changed in {done.where}")


# Plans.


def confirm(
    context: typer.Context,
    digest: Annotated[str, typer.Argument(help="planDigest of the plan that waits; its start is enough.")],
    reason: common.Reason = "",
    namespace: common.Namespace = DEFAULT_NAMESPACE,
    no_wait: NoWait = False,
) -> None:
    """Release exactly the plan that a guard holds back: deletions, or a loosened limit."""
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
            name = _free_name(tx, "Confirmation", namespace, f"confirm-{plan['digest'][7:19]}")
            made = tx.create(
                Declared("Confirmation", namespace, name, spec.to_wire()),
                manager=f"cli/{actor.subject.removeprefix('user:')}",
                status=new_confirmation(tx).to_wire(),
            )
            tx.event(EventType.CREATED, made, reason="Confirmed", message=plan["message"])
        print(f"confirmed {plan['digest'][:19]}: {plan['message']}")
        if no_wait:
            return
        if common.wait_until(store, _WAIT_S, lambda s: _used(s, made.key)) is None:
            print("recorded; the engine applies it when it runs")
        else:
            print("applied")


def new_confirmation(tx: Transaction) -> ConfirmationStatus:
    """What a Confirmation says of itself before the engine saw it."""
    from schemas.conditions import set_condition
    from schemas.confirmation import ConfirmationReason, ConfirmationStatus

    conditions = set_condition((), "Succeeded", None, ConfirmationReason.PENDING, "", now=tx.now, generation=1)
    return ConfirmationStatus(conditions=conditions, confirmed_by=tx.actor.subject, transport=tx.actor.transport)


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
