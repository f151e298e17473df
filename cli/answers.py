"""Answers to open requests, as approve and deny record them: in the store, or as a commit in the specs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import common, names
from cli.failures import Exit, Failure
from cli.output import safe
from schemas.base import Key, is_name

if TYPE_CHECKING:
    from schemas.approval_decision import ApprovalDecisionSpec
    from schemas.resource import Resource
    from store.contract import Snapshot

NoWait = Annotated[bool, typer.Option("--no-wait", help="Do not wait until the engine acted on it.")]
Via = Annotated[
    str,
    typer.Option(
        "--via", help="Where it is recorded: store (at once), git (a commit signed with your key), kubernetes."
    ),
]
Push = Annotated[
    str | None,
    typer.Option("--push", metavar="BRANCH", help="With --via git: push it to this branch, for a pull request."),
]

_WAIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person says. ``digest`` is what they read, or its start; ``until`` is for scope Until. ``grant`` is
    the block of that name, for a request of type Budget."""

    target: str
    verdict: str
    digest: str | None = None
    reason: str = ""
    scope: str = "Once"
    until: str | None = None
    via: str = "store"
    push: str | None = None
    no_wait: bool = False
    grant: dict[str, Any] | None = None

    @property
    def revokes(self) -> bool:
        """Whether it takes back what was given."""
        return self.verdict == "Revoke"


def answer(context: typer.Context, reply: Reply, namespace: str) -> None:
    """Record a verdict on what waits, and say what became of it."""
    if reply.via not in ("store", "git", "kubernetes"):
        raise Failure(f"--via {reply.via[:20]!r}: one of store, git, kubernetes")
    if reply.push is not None and reply.via != "git":
        raise Failure("--push goes with --via git")
    if reply.via == "kubernetes":
        from cli import answers_kubectl

        answers_kubectl.answer(reply, namespace)
        return
    if reply.via == "git":
        from cli import answers_git

        answers_git.answer(context, reply, namespace)
        return
    from cli.local_user import LocalUser
    from cli.project import me
    from schemas.event import EventType
    from schemas.resource import Declared

    actor, identity = me(), LocalUser().identify()
    with common.store_of(context) as store:
        with store.transaction(actor) as tx:
            request = request_named(tx, reply, namespace)
            spec = decision_spec(request, reply)
            decision = tx.create(
                Declared("ApprovalDecision", request.namespace, free_name(tx, request, reply), spec.to_wire()),
                manager=f"cli/{actor.subject.removeprefix('user:')}",
                status=identity.first_status().to_wire(),
            )
            tx.event(EventType.CREATED, decision, reason=reply.verdict, message=reply.reason or reply.verdict,
                     data={"related": [request.uid, request.owner_uid]})  # fmt: skip
        print(safe(f"{reply.verdict}: {request.spec['title']} (as {actor.subject})"))
        if reply.no_wait:
            return
        judged = common.wait_until(store, _WAIT_S, lambda s: judged_as(s, decision.key))
        say_judged(judged, request)


def request_named(tx: Snapshot, reply: Reply, namespace: str) -> Resource:
    """The request that is meant, by its own name or that of the object that waits for it; checked against what the
    person read."""
    request = _request_named(tx, reply.target, namespace)
    check(request, reply)
    return request


def decision_spec(request: Resource, reply: Reply) -> ApprovalDecisionSpec:
    """The decision, for exactly that request."""
    from schemas.approval_decision import ApprovalDecisionSpec

    values = {
        "requestRef": {"name": request.name, "uid": request.uid},
        "actionDigest": str(request.spec["actionDigest"]),
        "verdict": reply.verdict,
        "scope": reply.scope,
        "reason": reply.reason,
    }
    if reply.until is not None:
        values["until"] = reply.until
    if reply.grant is not None:
        if request.spec["type"] != "Budget":
            raise Failure(
                f"{request.name} asks for no amount: leave --amount, --until and --beyond out", code=Exit.REFUSED
            )
        values["grant"] = reply.grant
    return ApprovalDecisionSpec.model_validate(values)


def free_name(tx: Snapshot, request: Resource, reply: Reply) -> str:
    """A name for the decision that no other has."""
    return names.free(tx, "ApprovalDecision", request.namespace, f"{request.name[:230]}-{reply.verdict.lower()}")


def _request_named(tx: Snapshot, target: str, namespace: str) -> Resource:
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
    if request is not None and request.state == "Pending" and request.spec["type"] != "Action":
        return request
    waiting = tx.objects("ApprovalRequest", namespace=subject.namespace, owner_uid=subject.uid, states=["Pending"])
    if len(waiting) > 1:
        raise Failure(
            f"{key.short} waits for {len(waiting)} answers: name the one that you mean",
            *(f"{each.name}: {safe(str(each.spec['title']))[:100]}" for each in waiting[:10]),
            hint=f"remit describe approval/{waiting[0].name} -n {subject.namespace}",
            code=Exit.REFUSED,
        )
    if waiting:
        return waiting[0]
    if request is not None:
        return request
    raise Failure(
        f"{key.short} waits for no answer: it is {subject.state or 'not looked at yet'}",
        hint="remit get approvals --state Pending",
        code=Exit.REFUSED,
    )


def check(request: Resource, reply: Reply) -> None:
    """Raise Failure where the reply does not fit what waits."""
    wanted = str(request.spec["actionDigest"])
    by = request.status.get("decidedBy") or "nobody"
    if request.state != "Pending" and not (request.state == "Approved" and reply.verdict in ("Revoke", "Deny")):
        raise Failure(f"{request.name} was answered already: {request.state} by {by}", code=Exit.REFUSED)
    if reply.revokes and request.state == "Pending":
        raise Failure(
            f"{request.name} was not answered yet: there is nothing to take back",
            hint=f"remit deny {request.name} -n {request.namespace}",
            code=Exit.REFUSED,
        )
    if reply.digest is None:
        return
    short = reply.digest.removeprefix("sha256:")
    if len(short) < 8 or not wanted.removeprefix("sha256:").startswith(short):
        raise Failure(
            f"what waits now has the digest {wanted[7:19]}, not {safe(short[:12])}: it changed since you read it",
            hint=f"remit describe approval/{request.name} -n {request.namespace}",
            code=Exit.REFUSED,
        )


def judged_as(snapshot: Snapshot, key: Key) -> dict[str, Any] | None:
    """The condition that says what became of a decision; None while nobody judged it."""
    decision = snapshot.get(key)
    conditions = decision.status.get("conditions", []) if decision is not None else []
    return next((c for c in conditions if c["type"] == "Succeeded" and c["status"] != "Unknown"), None)


def say_judged(judged: dict[str, Any] | None, request: Resource) -> None:
    """Tell the person; Failure where it had no effect."""
    if judged is None:
        print("recorded; the engine is not running and acts on it at its start")
        return
    if judged["status"] != "True":
        raise Failure(f"it had no effect: {judged['reason']}: {judged['message']}", code=Exit.REFUSED)
    if judged["reason"] == "AwaitingQuorum":
        print(safe(f"counted; {judged['message']}"))
        return
    print(safe(f"counted: {request.spec['subject']}"))
