"""What the gate writes and says without its models is what the models would."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from api.agents.authorize_lane import wire
from controllers.gate import call_record
from schemas.authorize import Decision, DecisionWord
from schemas.mission import Spend
from schemas.policy import Risk
from schemas.tool_call import ToolCallReason, ToolCallState, ToolCallStatus

NOW = datetime(2026, 11, 21, 9, 30, 1, 120_000, tzinfo=UTC)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"risk": Risk.RED, "rule": "r", "remedy": "m"},
        {"approval_request": "a", "action_digest": "sha256:d", "expires_at": NOW},
        {"approval_request": "a", "action_digest": "sha256:d", "retry_after_ms": 0},
        {"authorize_again": True},
    ],
)
def test_a_decision_goes_out_as_its_model_dumps_it(more: dict[str, Any]) -> None:
    decision = Decision(
        decision=DecisionWord.ASK, code=ToolCallReason.AWAITING_APPROVAL, reason="why", decision_id="d", tool_call="t",
        **more,
    )  # fmt: skip
    assert wire(decision) == decision.model_dump(mode="json", by_alias=True, exclude_none=True)


@pytest.mark.parametrize("state", [ToolCallState.ALLOWED, ToolCallState.DENIED])
def test_a_first_answer_has_its_own_times_and_is_what_the_model_would_write(state: ToolCallState) -> None:
    fields = {"risk": Risk.GREEN, "rule": "r", "remedy": ""}
    for now in (NOW, datetime(2026, 11, 22, tzinfo=UTC)):
        status, found = call_record._first(state, ToolCallReason.RULE, "no", now, fields)
        read = ToolCallStatus.model_validate(found)
        assert read.to_wire() == found
        assert read.started_at == read.conditions[0].last_transition_time == now
        assert read.ended_at == (now if state is ToolCallState.DENIED else None)
        timeless = {"started_at": None, "ended_at": None, "conditions": ()}
        assert read.model_copy(update=timeless) == status.model_copy(update=timeless)


@pytest.mark.parametrize("usd", [None, Decimal("0.000001"), Decimal("2.50")])
def test_an_estimate_is_written_as_its_model_dumps_it(usd: Decimal | None) -> None:
    spend = Spend(usd=usd, input_tokens=3, source="Estimated")
    assert call_record._estimate(spend) == spend.to_wire()
