"""The leave that people give for one exact action: how it is asked for, found again, and used up.

What is asked about is the action: tool, arguments, target, what asked, what it may cost, and for which generation of
the mission and the agent. Its digest is what a person answers; another action has another digest. A leave belongs to
the mission: a later attempt that asks for the same action takes up the question, or the leave, of the one before.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from controllers.gate.asking import Asked, Asker
from controllers.gate.shown import redacted, words
from controllers.reconcilers import writing
from decisions.policy import strictest
from decisions.policy.compiled import PolicySet
from decisions.policy.facts import Ruling
from schemas.approval_decision import ApprovalDecisionSpec, DecisionScope
from schemas.approval_request import (
    ApprovalRequestReason,
    ApprovalRequestSpec,
    ApprovalRequestStatus,
    RequestState,
    RequestType,
)
from schemas.base import Key
from schemas.conditions import set_condition
from schemas.event import EventType
from schemas.policy import Verdict
from schemas.quantities import format_money
from schemas.resource import Declared, Resource, digest
from store.contract import Snapshot, Transaction

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
    leave was used; ``times`` is how often it was asked about."""

    request: Resource | None
    times: int

    @property
    def state(self) -> RequestState | None:
        """Where the question stands."""
        return None if self.request is None else RequestState(self.request.state)


def find(tx: Transaction, asker: Asker, action: Action) -> Leave:
    """A leave that can be used comes first, then an open question, then a refusal that this run was given."""
    asked = [
        request
        for request in tx.objects("ApprovalRequest", namespace=asker.mission.namespace, owner_uid=asker.mission.uid)
        if request.labels.get(ACTION) == action.label
    ]
    usable = [r for r in asked if usable_by(tx, r, asker.run.name, tx.now)]
    pending = [r for r in asked if r.state == RequestState.PENDING and not _over(r, tx.now)]
    refused = [r for r in asked if r.spec.get("run") == asker.run.name and _refused(r, tx.now)]
    chosen = next(iter([*usable, *pending, *refused]), None)
    return Leave(chosen, len(asked))


def usable_by(tx: Snapshot, request: Resource, run: str, now: datetime) -> bool:
    """Whether a request carries a leave for one more call of this run."""
    status = ApprovalRequestStatus.model_validate(request.status)
    if status.state is not RequestState.APPROVED or _over(request, now):
        return False
    scope, until = scope_of(tx, request)
    if scope is DecisionScope.SESSION:
        return str(request.spec.get("run", "")) == run
    if scope is DecisionScope.UNTIL:
        return until is not None and now < until
    return status.consumed_at is None


def scope_of(tx: Snapshot, request: Resource) -> tuple[DecisionScope, datetime | None]:
    """How far the leave reaches: the narrowest of the decisions that counted."""
    narrowest, until = DecisionScope.UNTIL, None
    names = ApprovalRequestStatus.model_validate(request.status).decisions
    for name in names:
        decision = tx.get(Key("ApprovalDecision", request.namespace, name))
        if decision is None:
            return DecisionScope.ONCE, None
        spec = ApprovalDecisionSpec.model_validate(decision.spec)
        if spec.scope is DecisionScope.ONCE:
            return DecisionScope.ONCE, None
        if spec.scope is DecisionScope.SESSION:
            narrowest = DecisionScope.SESSION
        elif spec.until is not None:
            until = spec.until if until is None else min(until, spec.until)
    return (narrowest, until) if names else (DecisionScope.ONCE, None)


def use(tx: Transaction, request: Resource) -> Resource:
    """Use the leave up, where it is good for one call only. In the transaction that allows the call."""
    scope, _ = scope_of(tx, request)
    if scope is not DecisionScope.ONCE:
        return request
    status = ApprovalRequestStatus.model_validate(request.status)
    conditions = set_condition(
        status.conditions, "Succeeded", True, ApprovalRequestReason.CONSUMED, "the leave was used", now=tx.now,
        generation=request.generation,
    )  # fmt: skip
    return writing.put_status(tx, request, status.model_copy(update={"consumed_at": tx.now, "conditions": conditions}))


def ask(tx: Transaction, asker: Asker, asked: Asked, ruling: Ruling, action: Action, policies: PolicySet) -> Resource:
    """Create the question about one exact action."""
    times = find(tx, asker, action).times
    wire = {**action.wire, "leave": times + 1}
    how = strictest.approvals(policy.document.spec for policy in policies.policies)
    action_digest = digest(wire)
    on = f" on {words(asked.target, 80)}" if asked.target else ""
    title = f"{asker.agent.name} wants to use {words(asked.tool, 80)}{on}"
    expires = tx.now + how.timeout
    spec = ApprovalRequestSpec(
        type=RequestType.ACTION,
        subject=str(asker.mission.key),
        subject_uid=asker.mission.uid,
        run=asker.run.name,
        requester=f"agent:{asker.agent.namespace}/{asker.agent.name}",
        title=title,
        action={**wire, "args": redacted(asked.args)},
        action_digest=action_digest,
        risk=ruling.risk.value,
        rule=action.rule,
        approver_roles=tuple(role.value for role in how.approvers.roles),
        quorum=how.quorum,
        separation_of_duties=how.separation_of_duties,
        expires_at=expires,
        remind_at=tx.now + (how.remind_after if how.remind_after is not None else how.timeout / 2),
        on_timeout=how.on_timeout,
    )
    conditions = set_condition(
        (), "Succeeded", None, ApprovalRequestReason.PENDING, "waits for an answer", now=tx.now, generation=1
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
        status=ApprovalRequestStatus(conditions=conditions).to_wire(),
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
