"""One pass over a mission: the tools with which its steps move it, note what happened and say what it waits for."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from decisions.mission_facts import AskPerson, Decision, MissionFacts, Note
from decisions.moves import check_move
from schemas.approval_request import RequestState, RequestType
from schemas.conditions import BlockedOn
from schemas.event import EventType
from schemas.loop import MissionLoop
from schemas.mission import MissionReason, MissionState, MissionStatus, Transition
from schemas.resource import Actor, digest

KEEP_TRANSITIONS = 20


class Pass:
    """One pass. Each method is a step that may move the mission, add acts, or leave everything as it is."""

    def __init__(self, facts: MissionFacts, now: datetime) -> None:
        self.facts = facts
        self.spec = facts.spec
        self.now = now
        self.decision = Decision(status=facts.status)
        self.blockers: list[BlockedOn] = []
        self.admission: tuple[MissionReason, str] | None = None
        self.run = facts.run if facts.status.current_run else None

    # Small tools.

    @property
    def status(self) -> MissionStatus:
        return self.decision.status

    @property
    def state(self) -> MissionState:
        return self.decision.status.state

    @property
    def loop(self) -> MissionLoop:
        return self.decision.status.loop or MissionLoop()

    def put(self, **fields: Any) -> None:
        known = self.decision.status.__dict__
        if any(known[name] is not value for name, value in fields.items()):
            self.decision.status = self.decision.status.altered(**fields)

    def note(self, type_: EventType, reason: str, message: str, **data: Any) -> None:
        self.decision.notes.append(Note(type_, reason, message, data))

    def move(
        self,
        to: MissionState,
        actor: Actor,
        reason: MissionReason,
        message: str = "",
        *,
        key: str,
        artifacts: tuple[str, ...] = (),
    ) -> None:
        """Make a legal move and record it; an illegal one is a defect of this module and raises."""
        origin = self.state
        check_move(origin, to, actor.kind, subject=self.facts.key.short, resume_state=self.status.resume_state)
        entry = Transition(
            at=self.now,
            from_state=origin,
            to_state=to,
            actor=str(actor),
            reason=reason,
            message=message,
            key=key,
            artifacts=artifacts,
        )
        self.put(state=to, transitions=(*self.status.transitions, entry)[-KEEP_TRANSITIONS:])
        self.decision.notes.append(
            Note(
                EventType.TRANSITIONED,
                reason,
                message or f"{origin} -> {to}",
                {"from": origin.value, "to": to.value, "key": key, "artifacts": list(artifacts)},
                actor,
            )
        )

    def wake(self, at: datetime) -> None:
        if self.decision.wake_at is None or at < self.decision.wake_at:
            self.decision.wake_at = at

    def block(self, type_: str, ref: str, hint: str, *, since: datetime, until: datetime | None = None) -> None:
        self.blockers.append(BlockedOn(type=type_, ref=ref, since=since, until=until, hint=hint))

    def block_reason(self) -> str:
        """Why it went to Blocked the last time."""
        moves = [t for t in self.status.transitions if t.to_state is MissionState.BLOCKED]
        return moves[-1].reason if moves else ""

    def ask(self, type_: RequestType, action: dict[str, Any], title: str) -> None:
        """Ask a person about one exact action; asking again is the same question."""
        name = request_name(self.facts.key.name, type_, action)
        self.decision.ask = AskPerson(name, type_, title, action)
        self.put(review_request=name)

    def withdraw(self) -> None:
        """Take back the open question, if there is one."""
        review = self.facts.review
        if self.status.review_request and review is not None and review.state is RequestState.PENDING:
            self.decision.withdraw = review.name
        self.put(review_request=None)

    def finish(self) -> None:
        """What is so of every mission that has ended."""
        self.decision.close_actions = True
        self.put(
            action_requests=(),
            finished_at=self.now,
            finished_generation=self.facts.generation,
            next_attempt_at=None,
            awaits_follow_up=None,
            ready_since=None,
            resume_state=None,
            current_run=None if self.run is None else self.status.current_run,
        )


def request_name(mission: str, type_: RequestType, action: dict[str, Any]) -> str:
    """Deterministic name of the request for one exact action."""
    return f"{mission[:200]}-{type_.lower()}-{digest(action)[7:15]}"
