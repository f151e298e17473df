"""The leave that people give for one exact action: how it is asked for, found again, and used up.

What is asked about is the action: tool, arguments, target, what asked, what it may cost, and for which generation of
the mission and the agent. Its digest is what a person answers; another action has another digest. A leave belongs to
the mission: a later attempt that asks for the same action takes up the question, or the leave, of the one before.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from controllers.gate.asking import Asked, Asker
from controllers.gate.shown import redacted, words
from controllers.reconcilers import consent, leaves
from decisions.policy.facts import Ruling
from schemas.approval_request import ApprovalRequestSpec, RequestState, RequestType
from schemas.event import EventType
from schemas.policy import Verdict
from schemas.quantities import format_money
from schemas.resource import Declared, Resource, digest
from store.contract import Transaction


@dataclass(frozen=True, slots=True)
class Action:
    """What would be done. ``wire`` holds the arguments as they are; it is digested and never stored."""

    wire: dict[str, Any]
    rule: str

    @classmethod
    def of(cls, asker: Asker, asked: Asked, ruling: Ruling) -> Action:
        """The action that a ruling asks about."""
        asking = [f for f in ruling.findings if f.verdict is Verdict.REQUIRE_APPROVAL]
        estimate = asked.estimate
        spend = {} if estimate is None else {
            "usd": None if estimate.usd is None else format_money(estimate.usd),
            "tokens": estimate.input_tokens + estimate.output_tokens,
        }  # fmt: skip
        wire = {
            "act": "call",
            "tool": asked.tool,
            "args": asked.args,
            "target": asked.target,
            # Without places: a file that moved asks nothing new.
            "rule": sorted({finding.source for finding in asking}),
            "spend": spend,
            "mission": str(asker.mission.key),
            "uid": asker.mission.uid,
            "generation": asker.record.spec.mission_generation,
            "agent": str(asker.agent.key),
            "agentGeneration": asker.record.spec.agent_generation,
        }
        return cls(wire, "; ".join(dict.fromkeys(finding.rule for finding in asking)))

    @property
    def digest(self) -> str:
        """What a person gives leave for."""
        return digest(self.wire)


@dataclass(frozen=True, slots=True)
class Answer:
    """What people said of an action so far: at most one of a leave that can be used, an open question, and a refusal
    that this run was given. ``times`` is how often it was asked about."""

    usable: Resource | None
    pending: Resource | None
    refused: Resource | None
    times: int


def find(tx: Transaction, asker: Asker, action: Action) -> Answer:
    """What was said of exactly this action of the mission."""
    usable = leaves.standing(tx, asker.run, action.digest)
    pending = leaves.waiting(tx, asker.run, action.digest) if usable is None else None
    asked = [
        request
        for request in tx.objects("ApprovalRequest", namespace=asker.mission.namespace, owner_uid=asker.mission.uid)
        if request.spec["actionDigest"] == action.digest
    ]
    if pending is not None and _over(pending, tx.now):
        pending = None
    refused = None
    if usable is None and pending is None:
        mine = (r for r in asked if r.spec.get("run") == asker.run.name and _refused(r, tx.now))
        refused = next(mine, None)
    return Answer(usable, pending, refused, len(asked))


def use(tx: Transaction, asker: Asker, request: Resource, action: Action, call: Resource) -> bool:
    """Use the leave for this call, in the transaction that allows it; whether it was good for that."""
    return leaves.consume(tx, request, leaves.By(asker.run, action.digest, call.uid)).granted


def ask(tx: Transaction, asker: Asker, asked: Asked, ruling: Ruling, action: Action, times: int) -> Resource:
    """Create the question about one exact action, which was asked about ``times`` before."""
    on = f" on {words(asked.target, 80)}" if asked.target else ""
    title = f"{asker.agent.name} wants to use {words(asked.tool, 80)}{on}"
    terms = consent.terms(tx, asker.mission.namespace, asker.agent, tx.now, authored=asker.mission)
    spec = ApprovalRequestSpec(
        type=RequestType.ACTION,
        subject=str(asker.mission.key),
        subject_uid=asker.mission.uid,
        run=asker.run.name,
        requester=f"agent:{asker.agent.namespace}/{asker.agent.name}",
        title=title,
        action={**action.wire, "args": redacted(asked.args)},
        action_digest=action.digest,
        risk=ruling.risk.value,
        rule=action.rule,
        **asdict(terms),
    )
    stem = f"{asker.mission.name[:200].rstrip('-.')}-action-{action.digest.removeprefix('sha256:')[:12]}"
    request = tx.create(
        Declared("ApprovalRequest", asker.mission.namespace, f"{stem}-{times + 1}" if times else stem, spec.to_wire()),
        manager="controller/gate",
        owner_uid=asker.mission.uid,
        status=consent.first_status(spec, tx.now).to_wire(),
    )
    tx.event(
        EventType.APPROVAL_REQUESTED,
        request,
        reason=RequestType.ACTION,
        message=title,
        data={
            "related": [asker.mission.uid, asker.run.uid, asker.agent.uid],
            "digest": action.digest,
            "mission": asker.mission.name,
        },
    )
    return request


def expires_at(request: Resource) -> datetime:
    """When the question, and the leave, ends."""
    return ApprovalRequestSpec.model_validate(request.spec).expires_at


def _over(request: Resource, now: datetime) -> bool:
    return now >= expires_at(request)


def _refused(request: Resource, now: datetime) -> bool:
    if request.state in (RequestState.DENIED, RequestState.EXPIRED):
        return True
    unused = request.state == RequestState.APPROVED and not request.status.get("uses")
    return (unused or request.state == RequestState.PENDING) and _over(request, now)
