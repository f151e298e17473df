"""The mission state machine: which move is legal for whom. Source of the table: docs/reference/mission-states.md."""

from __future__ import annotations

from schemas.errors import TransitionRefused
from schemas.mission import MissionState as S
from schemas.resource import ActorKind

_LETTERS = {"a": ActorKind.AGENT, "h": ActorKind.HUMAN, "s": ActorKind.SYSTEM}

_TABLE: dict[S, dict[S, str]] = {
    S.INBOX: {S.ASSIGNED: "ahs", S.NEEDS_APPROVAL: "s", S.BLOCKED: "sh", S.CANCELED: "h"},
    S.ASSIGNED: {S.IN_PROGRESS: "ahs", S.NEEDS_APPROVAL: "s", S.BLOCKED: "sh", S.CANCELED: "h", S.INBOX: "h"},
    S.IN_PROGRESS: {
        S.REVIEW: "ah",
        S.NEEDS_APPROVAL: "s",
        S.BLOCKED: "sh",
        S.CANCELED: "h",
        S.ASSIGNED: "h",
        S.FAILED: "s",
    },
    S.REVIEW: {
        S.IN_PROGRESS: "ah",
        S.DONE: "h",
        S.NEEDS_APPROVAL: "sh",
        S.BLOCKED: "sh",
        S.CANCELED: "h",
        S.ASSIGNED: "h",
    },
    # Back to where it was by the system, on a granted decision: see legal_moves.
    S.NEEDS_APPROVAL: {
        S.BLOCKED: "sh",
        S.CANCELED: "h",
        S.INBOX: "h",
        S.ASSIGNED: "h",
        S.IN_PROGRESS: "h",
        S.REVIEW: "h",
        S.DONE: "h",
    },
    S.BLOCKED: {S.ASSIGNED: "h", S.IN_PROGRESS: "h", S.NEEDS_APPROVAL: "hs", S.CANCELED: "h"},
    # A rerun that was asked for is a new round (docs/adr/0004): Done -> Assigned.
    S.DONE: {S.REVIEW: "h", S.CANCELED: "h", S.ASSIGNED: "h"},
    S.FAILED: {S.ASSIGNED: "h", S.CANCELED: "h"},
    S.CANCELED: {},
}


def legal_moves(state: S, actor: ActorKind, *, resume_state: S | None = None) -> tuple[S, ...]:
    """States that ``actor`` may move a mission to, in the order of MissionState. ``resume_state`` is where a mission in
    NeedsApproval came from: the system may move it back there."""
    moves = {to for to, letters in _TABLE[state].items() if any(_LETTERS[x] is actor for x in letters)}
    if state is S.NEEDS_APPROVAL and actor is ActorKind.SYSTEM and resume_state is not None:
        moves.add(resume_state)
    return tuple(s for s in S if s in moves)


def check_move(state: S, to: S, actor: ActorKind, *, subject: str, resume_state: S | None = None) -> None:
    """Return if the move is legal; else raise TransitionRefused that names the legal ones."""
    legal = legal_moves(state, actor, resume_state=resume_state)
    if to in legal:
        return
    names = ", ".join(legal) if legal else "none"
    raise TransitionRefused(
        f"{subject} cannot go from {state} to {to} by {actor.lower()}; legal from here: {names}",
        reason="IllegalTransition",
        legal=[s.value for s in legal],
    )
