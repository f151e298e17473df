"""Review: what was handed in is accepted by the declared policy, or by the person who is asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from decisions.mission_facts import DECLARED, ReviewFacts
from decisions.mission_pass import Pass
from schemas.approval_request import RequestState, RequestType
from schemas.mission import MissionReason, MissionState, Review, Verdict
from schemas.resource import SYSTEM, Actor, ActorKind


def weigh(work: Pass) -> None:
    """Review: ask a person, or accept by the declared policy."""
    if work.state is not MissionState.REVIEW:
        return
    if work.spec.review is not Review.HUMAN:
        work.withdraw()
        policy = f"spec.review: {work.spec.review}"
        place = f" ({work.facts.place})" if work.facts.place else ""
        verdict = Verdict(
            verdict="Approve", actor=f"policy:{policy}{place}", transport="Source", reason=policy, at=work.now
        )
        work.put(review=verdict)
        work.move(
            MissionState.DONE, DECLARED, MissionReason.AUTO_ACCEPTED, f"accepted by {policy}",
            key=f"accept/{work.status.last_run}",
        )  # fmt: skip
        work.finish()
        return
    review = work.facts.review
    if review is None or work.status.review_request != review.name or review.type is not RequestType.REVIEW:
        work.ask(RequestType.REVIEW, _review_action(work), f"Accept the result of {work.facts.key.short}?")
        return
    person = Actor(ActorKind.HUMAN, review.decided_by, review.transport)
    key = f"review/{review.uid}"
    if review.state is RequestState.APPROVED:
        work.decision.consume = review.name
        work.put(review=verdict_of(review, "Approve", work.now), review_request=None)
        work.move(MissionState.DONE, person, MissionReason.APPROVED, review.reason, key=key)
        work.finish()
    elif review.state is RequestState.DENIED:
        work.put(review=verdict_of(review, "Deny", work.now), review_request=None)
        work.move(MissionState.BLOCKED, person, MissionReason.DENIED, review.reason, key=key)
    elif review.state is RequestState.CHANGES_REQUESTED:
        work.put(
            review=verdict_of(review, "ChangesRequested", work.now),
            review_request=None,
            feedback=review.reason,
            attempts=0,
            next_attempt_at=work.now,
            ready_since=None,
        )
        # The reviewer's act, carried out for the agent that goes on with the work: Review -> InProgress (h).
        work.move(MissionState.IN_PROGRESS, person, MissionReason.CHANGES_REQUESTED, review.reason, key=key)
    elif review.state is RequestState.EXPIRED:
        work.put(review_request=None)
        work.move(MissionState.BLOCKED, SYSTEM, MissionReason.REVIEW_EXPIRED, "nobody gave a verdict in time", key=key)


def _review_action(work: Pass) -> dict[str, Any]:
    deliverable = work.status.deliverable
    return {
        "act": "accept",
        "mission": str(work.facts.key),
        "uid": work.facts.uid,
        "run": work.status.last_run or "",
        "deliverable": {
            "name": deliverable.name if deliverable else "",
            "digest": deliverable.digest if deliverable else "",
            "size": deliverable.size if deliverable else 0,
        },
    }


def verdict_of(review: ReviewFacts, verdict: str, now: datetime) -> Verdict:
    """A person's answer, as the mission keeps it."""
    return Verdict(
        verdict=verdict,
        actor=review.decided_by,
        transport=review.transport,
        reason=review.reason,
        at=review.decided_at or now,
        decision=review.decision,
    )
