"""The leave that people give for one exact action: how it is asked for, found again, and used up.

What is asked about is the action: tool, arguments, target, what asked, what it may cost, and for which generation of
the mission and the agent. Its digest is what a person answers; another action has another digest. A leave belongs to
the mission: a later attempt that asks for the same action takes up the question, or the leave, of the one before.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from controllers.gate.asking import Asked, Asker
from controllers.gate.shown import redacted, words
from controllers.reconcilers import consent, leaves
from decisions.policy.facts import Ruling
from schemas.approval_decision import DecisionScope
from schemas.approval_request import ApprovalRequestSpec, LeaveReason, RequestState, RequestType
from schemas.event import EventType
from schemas.policy import Verdict
from schemas.quantities import format_money
from schemas.resource import Declared, Resource, digest
from store.contract import Transaction

ACTION = "remit.dev/action"
"""Label of a request: what is asked about, whichever time it is asked."""


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
    def label(self) -> str:
        """It as the value of a label."""
        return digest(self.wire).removeprefix("sha256:")[:40]


@dataclass(frozen=True, slots=True)
class Leave:
    """What people said of an action so far. ``request`` is the one that counts, None when nobody was asked or the
    leave was used; ``usable`` says that it carries a leave for one more call; ``times`` is how often it was asked."""

    request: Resource | None
    usable: bool
    times: int

    @property
    def state(self) -> RequestState | None:
        """Where the question stands."""
        return None if self.request is None else RequestState(self.request.state)


def find(tx: Transaction, asker: Asker, action: Action) -> Leave:
    """A leave that can be used comes first, one for several calls before one for a single call; then an open question,
    then a refusal that this run was given. An approval that is not enough any more, as Policies say now, is an open
    question again."""
    asked = [
        request
        for request in tx.objects("ApprovalRequest", namespace=asker.mission.namespace, owner_uid=asker.mission.uid)
        if request.labels.get(ACTION) == action.label
    ]
    usable, pending, refused = [], [], []
    for request in asked:
        if request.state == RequestState.APPROVED:
            outcome = leaves.look(tx, request, asker.run)
            if outcome.granted:
                usable.append(request)
                continue
            if outcome.reason is LeaveReason.AWAITING_QUORUM:
                pending.append(leaves.reopen(tx, request, outcome.message))
                continue
        elif request.state == RequestState.PENDING and not _over(request, tx.now):
            pending.append(request)
            continue
        if request.spec.get("run") == asker.run.name and _refused(request, tx.now):
            refused.append(request)
    usable.sort(key=lambda r: r.status.get("scope") == DecisionScope.ONCE)
    chosen = next(iter([*usable, *pending, *refused]), None)
    return Leave(chosen, bool(usable), len(asked))


def use(tx: Transaction, asker: Asker, request: Resource, call: Resource) -> bool:
    """Use the leave for a call, in the transaction that allows it. False when it turns out not to hold."""
    by = leaves.By(asker.run, str(request.spec["actionDigest"]), call.uid)
    return leaves.consume(tx, request, by).granted


def ask(tx: Transaction, asker: Asker, asked: Asked, ruling: Ruling, action: Action) -> Resource:
    """Create the question about one exact action."""
    times = find(tx, asker, action).times
    wire = {**action.wire, "leave": times + 1}
    action_digest = digest(wire)
    on = f" on {words(asked.target, 80, asker.redactor)}" if asked.target else ""
    title = f"{asker.agent.name} wants to use {words(asked.tool, 80, asker.redactor)}{on}"
    terms = consent.terms(tx, asker.mission.namespace, asker.agent, tx.now, authored=asker.mission)
    spec = ApprovalRequestSpec(
        type=RequestType.ACTION,
        subject=str(asker.mission.key),
        subject_uid=asker.mission.uid,
        run=asker.run.name,
        requester=f"agent:{asker.agent.namespace}/{asker.agent.name}",
        title=title,
        action={
            **wire,
            "args": redacted(asked.args, asker.redactor),
            "target": words(asked.target, 2000, asker.redactor),
        },
        action_digest=action_digest,
        risk=ruling.risk.value,
        rule=action.rule,
        **asdict(terms),
    )
    stem = f"{asker.mission.name[:200].rstrip('-.')}-action"
    request = tx.create(
        Declared(
            "ApprovalRequest",
            asker.mission.namespace,
            f"{stem}-{hashlib.sha256(action_digest.encode()).hexdigest()[:12]}",
            spec.to_wire(),
            labels={ACTION: action.label},
        ),
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
            "digest": action_digest,
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
    unused = request.state == RequestState.APPROVED and not request.status.get("consumedAt")
    return (unused or request.state == RequestState.PENDING) and _over(request, now)
