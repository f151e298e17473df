"""Who may move a mission where: every cell of the table, and what an illegal move answers."""

from __future__ import annotations

import itertools

import pytest

from decisions.moves import check_move, legal_moves
from schemas.errors import TransitionRefused
from schemas.mission import MissionState as S
from schemas.resource import ActorKind

# The table of the design, written down once more and independently of the code: from -> to -> actors.
DESIGN = {
    "Inbox": "Assigned(ahs) NeedsApproval(s) Blocked(sh) Canceled(h)",
    "Assigned": "InProgress(ahs) NeedsApproval(s) Blocked(sh) Canceled(h) Inbox(h)",
    "InProgress": "Review(ah) NeedsApproval(s) Blocked(sh) Canceled(h) Assigned(h) Failed(s)",
    "Review": "InProgress(ah) Done(h) NeedsApproval(sh) Blocked(sh) Canceled(h) Assigned(h)",
    "NeedsApproval": "Blocked(sh) Canceled(h) Inbox(h) Assigned(h) InProgress(h) Review(h) Done(h)",
    "Blocked": "Assigned(h) InProgress(h) NeedsApproval(hs) Canceled(h)",
    "Done": "Review(h) Canceled(h) Assigned(h)",
    "Failed": "Assigned(h) Canceled(h)",
    "Canceled": "",
}
LETTER = {ActorKind.AGENT: "a", ActorKind.HUMAN: "h", ActorKind.SYSTEM: "s"}


def allowed(origin: S, to: S, actor: ActorKind) -> bool:
    cells = dict(cell.rstrip(")").split("(") for cell in DESIGN[origin].split())
    return LETTER[actor] in cells.get(to, "")


@pytest.mark.parametrize(("origin", "to", "actor"), list(itertools.product(S, S, ActorKind)))
def test_a_move_is_legal_exactly_where_the_table_says_so(origin: S, to: S, actor: ActorKind) -> None:
    if allowed(origin, to, actor):
        check_move(origin, to, actor, subject="mission/a")
        return
    with pytest.raises(TransitionRefused) as refused:
        check_move(origin, to, actor, subject="mission/a")
    legal = [s for s in S if allowed(origin, s, actor)]
    assert list(refused.value.legal) == legal
    assert "legal from here: " + (", ".join(legal) if legal else "none") in str(refused.value)


@pytest.mark.parametrize("resume", [s for s in S if s is not S.NEEDS_APPROVAL])
def test_a_granted_decision_leads_back_to_where_the_mission_was_and_nowhere_else(resume: S) -> None:
    moves = legal_moves(S.NEEDS_APPROVAL, ActorKind.SYSTEM, resume_state=resume)
    assert set(moves) == {S.BLOCKED, resume}
