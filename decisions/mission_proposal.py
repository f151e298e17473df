"""A mission that an agent proposed: it rests in the Inbox until a person took it, or turned it down."""

from __future__ import annotations

from decisions.mission_pass import Pass
from schemas.approval_request import RequestState, RequestType
from schemas.base import ObjectRef
from schemas.mission import MissionReason, MissionState
from schemas.resource import Actor, ActorKind


def waits(work: Pass) -> bool:
    """Whether nobody took it yet."""
    proposed = work.status.proposed
    return proposed is not None and not proposed.accepted and work.state is MissionState.INBOX


def consider(work: Pass) -> None:
    """Ask a person, once; then do as was answered. An answer that did not come in time is a no."""
    proposed = work.status.proposed
    if not waits(work) or proposed is None:
        return
    facts, review = work.facts, work.facts.review
    asked = review is not None and review.name == work.status.review_request and review.type is RequestType.MISSION
    if not asked or review is None:
        action = {
            "act": "mission",
            "mission": str(facts.key),
            "uid": facts.uid,
            "title": work.spec.title,
            "type": work.spec.type,
            "agent": str(facts.agent_key or ""),
            "usd": None if work.spec.budget.usd is None else str(work.spec.budget.usd),
            "proposedBy": f"{facts.key.namespace}/{proposed.agent.name}",
            "run": proposed.run,
            "reason": proposed.reason,
            "generation": facts.generation,
        }
        work.ask(RequestType.MISSION, action, f"{proposed.agent.name} proposes: {work.spec.title}"[:200])
        return
    if review.state is RequestState.PENDING:
        return
    person = Actor(ActorKind.HUMAN, review.decided_by or "declared", review.transport or "Store")
    work.put(review_request=None)
    if review.state is RequestState.APPROVED:
        taken = {"accepted": True, "accepted_by": review.decided_by}
        work.put(proposed=proposed.model_copy(update=taken))
        if facts.agent_key is not None:
            work.put(agent=_ref(work))
            key = f"proposal/{review.uid}"
            work.move(MissionState.ASSIGNED, person, MissionReason.APPROVED, review.reason, key=key)
            work.decision.consume = review.name
        return
    late = review.state is RequestState.EXPIRED
    reason = MissionReason.APPROVAL_EXPIRED if late else MissionReason.DENIED
    text = "nobody took it in time" if late else review.reason or "nobody wants it"
    work.move(MissionState.CANCELED, person, reason, text, key=f"proposal/{review.uid}")
    work.put(finished_at=work.now, finished_generation=facts.generation, ready_since=None)


def _ref(work: Pass) -> ObjectRef:
    agent, namespace = work.facts.agent_key, work.facts.key.namespace
    assert agent is not None
    return ObjectRef(name=agent.name, namespace=None if agent.namespace == namespace else agent.namespace)
