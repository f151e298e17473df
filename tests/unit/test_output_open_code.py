"""Reading what OpenCode prints."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from controllers.dispatch.output.open_code_jsonl import parse
from controllers.dispatch.usage import Tokens, UsageSource
from schemas.run import RunReason


def event(kind: str, **part: Any) -> bytes:
    return json.dumps({"type": kind, "timestamp": 1, "sessionID": "ses_1", "part": part}).encode() + b"\n"


TOKENS = {"input": 100, "output": 30, "reasoning": 10, "cache": {"read": 1000, "write": 50}}
START = event("step_start")
FINISH = event("step_finish", reason="stop", cost=0.0021, tokens=TOKENS)


def test_cost_and_tokens_are_the_sum_over_the_steps_and_the_last_text_is_the_deliverable() -> None:
    stdout = (
        START
        + event("text", text="Let me see.")
        + FINISH
        + START
        + event("text", text="Part one.")
        + event("text", text="Part two.")
        + FINISH
    )
    parsed = parse(stdout, b"", 0)
    assert (parsed.failed, parsed.deliverable, parsed.session_id) == (None, "Part one.\nPart two.", "ses_1")
    assert parsed.usage is not None
    assert (parsed.usage.usd, parsed.usage.source) == (Decimal("0.0042"), UsageSource.REPORTED)
    assert parsed.usage.tokens == Tokens(input=200, output=80, cache_read=2000, cache_write=100, reasoning=20)


def test_a_last_step_without_text_leaves_the_text_before_it() -> None:
    stdout = (
        START + event("text", text="All done.") + FINISH + START + event("tool_use", tool="bash", state={}) + FINISH
    )
    assert parse(stdout, b"", 0).deliverable == "All done."


@pytest.mark.parametrize("cost", [0, None, "x", -1])
def test_a_step_without_a_price_makes_the_cost_unknown(cost: object) -> None:
    parsed = parse(START + FINISH + event("step_finish", cost=cost, tokens=TOKENS), b"", 0)
    assert parsed.usage is not None
    assert (parsed.usage.usd, parsed.usage.source) == (None, UsageSource.UNKNOWN)
    assert parsed.usage.tokens.input == 200


def test_missing_output_makes_the_cost_unknown() -> None:
    gap = b"\n[remit: 7000 bytes of output are missing here]\n"
    parsed = parse(START + FINISH + gap + event("text", text="End.") + FINISH, b"", 0)
    assert parsed.usage is not None
    assert (parsed.usage.usd, parsed.usage.source) == (None, UsageSource.UNKNOWN)
    assert (parsed.failed, parsed.deliverable) == (None, "End.")


def test_an_error_event_fails_the_run_although_it_exits_with_0() -> None:
    error = {
        "type": "error",
        "sessionID": "ses_1",
        "error": {"name": "ProviderAuthError", "data": {"message": "no key"}},
    }
    parsed = parse(START + FINISH + json.dumps(error).encode(), b"", 0)
    assert parsed.failed is not None
    assert (parsed.failed.reason, parsed.failed.message) == (RunReason.REPORTED_FAILURE, "ProviderAuthError: no key")


def test_a_refused_permission_is_listed_and_is_no_failure_by_itself() -> None:
    refused = event(
        "tool_use", tool="bash", state={"status": "error", "error": "The user rejected permission to use this tool"}
    )
    broken = event("tool_use", tool="edit", state={"status": "error", "error": "no such file"})
    parsed = parse(START + refused + broken + event("text", text="I could not.") + FINISH, b"", 0)
    assert (parsed.failed, parsed.denied) == (None, ("bash",))


@pytest.mark.parametrize(("exit_code", "reason"), [(0, RunReason.OUTPUT_INVALID), (1, RunReason.NON_ZERO_EXIT)])
def test_output_without_a_finished_step_is_a_failure(exit_code: int, reason: RunReason) -> None:
    parsed = parse(START + event("text", text="I"), b"", exit_code)
    assert parsed.failed is not None
    assert parsed.failed.reason is reason
    assert parsed.usage is None
