"""Answers to open requests, as approve and deny record them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, names
from cli.failures import Exit, Failure
from cli.output import safe
from schemas.base import Key, is_name

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Snapshot, Transaction

NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until the engine acted on it.")]

_WAIT_S = 10.0


def answer(
    context: typer.Context, target: str, verdict: str, digest: str | None, reason: str, namespace: str, *, no_wait: bool
) -> None:
    """Record a verdict on what waits, and say what became of it."""
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
            name = names.free(tx, "ApprovalDecision", request.namespace, f"{request.name[:230]}-{verdict.lower()}")
            decision = tx.create(
                Declared("ApprovalDecision", request.namespace, name, spec.to_wire()),
                manager=f"cli/{actor.subject.removeprefix('user:')}",
                status=ApprovalDecisionStatus(subject=actor.subject, transport=actor.transport).to_wire(),
            )
            tx.event(EventType.CREATED, decision, reason=verdict, message=reason or verdict,
                     data={"related": [request.uid, request.owner_uid]})  # fmt: skip
        print(safe(f"{verdict}: {request.spec['title']} (as {actor.subject})"))
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
        print(safe(f"counted; {judged['message']}"))
        return
    print(safe(f"counted: {request.spec['subject']}"))
