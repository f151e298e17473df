"""Reading what Claude Code prints."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from controllers.dispatch.output.claude_json import parse
from controllers.dispatch.usage import Tokens, UsageScope, UsageSource
from schemas.run import RunReason

RESULT: dict[str, Any] = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "duration_ms": 5120,
    "num_turns": 3,
    "result": "All 42 links work.",
    "session_id": "0d3f6c1e-7a55-4a0e-9d8d-2f4f8f1c9a01",
    "total_cost_usd": 0.0123456,
    "usage": {"input_tokens": 9, "output_tokens": 9},
    "modelUsage": {
        "claude-sonnet-5": {
            "inputTokens": 100,
            "outputTokens": 20,
            "cacheReadInputTokens": 3000,
            "cacheCreationInputTokens": 400,
            "costUSD": 0.012,
        },
        "claude-haiku-5": {"inputTokens": 10, "outputTokens": 2, "costUSD": 0.0003456},
    },
    "permission_denials": [],
    "stop_reason": "end_turn",
    "terminal_reason": "completed",
}


def output(**changes: Any) -> bytes:
    return json.dumps({**RESULT, **changes}).encode()


def test_a_result_gives_deliverable_session_and_cost() -> None:
    parsed = parse(output(), b"", 0)
    assert parsed.failed is None
    assert parsed.deliverable == "All 42 links work."
    assert parsed.session_id == RESULT["session_id"]
    assert parsed.usage is not None
    assert parsed.usage.usd == Decimal("0.012346"), "rounded up to a millionth"
    assert parsed.usage.source is UsageSource.REPORTED
    assert parsed.usage.tokens == Tokens(input=110, output=22, cache_read=3000, cache_write=400)
    assert [share.model for share in parsed.usage.models] == ["claude-haiku-5", "claude-sonnet-5"]


@pytest.mark.parametrize(
    "stdout",
    [
        b"npm warn something\n" + output() + b"\ntrailing noise\n",
        b"\xff\xfe broken\n\n" + json.dumps(RESULT, indent=2).encode() + b"\n",
        json.dumps([{"type": "system", "subtype": "init"}, {"type": "assistant"}, RESULT]).encode(),
        json.dumps([{"type": "system"}, RESULT], indent=1).encode() + b"\nbye",
        b'{"type":"result","subtype":"error_during_execution"}\r\n' + output() + b"\r\n",
        b"\n".join([b'{"type":"system","subtype":"init"}', b'{"type":"assistant"}', b"{broken", output()]),
        b'{"type":"ass\n[remit: 5000 bytes of output are missing here]\nistant"}\n' + output(),
    ],
    ids=["noise", "pretty", "list", "pretty list", "last one", "stream", "gap"],
)
def test_the_result_is_found_in_every_form_and_between_noise(stdout: bytes) -> None:
    parsed = parse(stdout, b"", 0)
    assert (parsed.failed, parsed.deliverable) == (None, "All 42 links work.")


@pytest.mark.parametrize(
    ("changes", "cause", "retryable"),
    [
        ({"subtype": "error_max_turns", "is_error": True, "result": None}, "MaxTurns", False),
        ({"subtype": "error_max_turns", "is_error": False}, "MaxTurns", False),
        ({"subtype": "error_max_budget_usd", "is_error": True, "errors": ["over 0.5"]}, "MaxBudget", False),
        ({"subtype": "error_during_execution", "is_error": True}, "ExecutionError", True),
        ({"is_error": True, "result": "API Error: 529", "api_error_status": 529}, "ApiError", True),
        ({"is_error": True, "result": "API Error: 429", "api_error_status": 429}, "ApiError", True),
        ({"is_error": True, "result": "API Error: 401", "api_error_status": 401}, "ApiError", False),
        ({"subtype": "something_new", "is_error": True}, "Error", True),
        ({"subtype": 5}, "Error", True),
    ],
)
@pytest.mark.parametrize("exit_code", [0, 1])
def test_a_reported_error_fails_the_run_whatever_the_exit_code(
    changes: dict[str, Any], cause: str, retryable: bool, exit_code: int
) -> None:
    parsed = parse(output(**changes), b"", exit_code)
    assert parsed.failed is not None
    overloaded = changes.get("api_error_status") in (429, 529)
    reason = RunReason.PROVIDER_OVERLOADED if overloaded else RunReason.REPORTED_FAILURE
    assert (parsed.failed.reason, parsed.failed.cause) == (reason, cause)
    assert parsed.failed.retryable is retryable
    assert parsed.usage is not None, "what a failure cost is booked as well"


def test_the_words_of_an_error_are_in_the_message() -> None:
    parsed = parse(
        output(is_error=True, subtype="error_during_execution", result=None, errors=["no such session"]), b"", 1
    )
    assert parsed.failed is not None
    assert parsed.failed.message == "it failed while it worked: no such session"


def test_success_with_a_bad_exit_code_is_a_failure() -> None:
    parsed = parse(output(), b"cannot write transcript\n", 1)
    assert parsed.failed is not None
    assert parsed.failed.reason is RunReason.NON_ZERO_EXIT
    assert "cannot write transcript" in parsed.failed.message


def test_a_deferred_tool_is_no_success_and_says_what_it_waits_for() -> None:
    call = {"id": "toolu_1", "name": "Bash", "input": {"command": "rm -r build\u0007", "timeout": 1.5}}
    parsed = parse(output(stop_reason="tool_deferred", terminal_reason="tool_deferred", deferred_tool_use=call), b"", 0)
    assert parsed.deferred is not None
    assert (parsed.deferred.id, parsed.deferred.name) == ("toolu_1", "Bash")
    assert parsed.deferred.input == {"command": "rm -r build", "timeout": 1.5}
    assert parsed.failed is not None
    assert (parsed.failed.cause, parsed.failed.retryable) == ("ToolDeferred", True)


def test_denied_tools_are_listed() -> None:
    denials = [{"tool_name": "Bash", "tool_use_id": "1", "tool_input": {}}, {"tool_name": "Write"}, "?"]
    parsed = parse(output(permission_denials=denials), b"", 0)
    assert parsed.denied == ("Bash", "Write", "unknown")
    assert parsed.failed is None


def test_structured_output_is_the_deliverable_where_there_is_one() -> None:
    parsed = parse(output(structured_output={"b": [1.5, "x"], "a": None}), b"", 0)
    assert parsed.deliverable == '{"a":null,"b":[1.5,"x"]}'


@pytest.mark.parametrize(
    ("version", "scope"),
    [
        ("2.1.197", UsageScope.RUN),
        ("2.1.221", UsageScope.RUN),
        ("2.1.300", UsageScope.UNCLEAR),
        ("2.1.329", UsageScope.SESSION),
        ("3.0.0 (Claude Code)", UsageScope.SESSION),
        ("", UsageScope.UNCLEAR),
        ("new", UsageScope.UNCLEAR),
    ],
)
def test_what_the_cost_covers_follows_from_the_version(version: str, scope: UsageScope) -> None:
    init = json.dumps({"type": "system", "subtype": "init", "claude_code_version": version}).encode()
    parsed = parse(init + b"\n" + output(), b"", 0)
    assert parsed.usage is not None
    assert parsed.usage.scope is scope


@pytest.mark.parametrize("cost", [None, "0.5", -1, True, 1e300, [], 0])
def test_a_cost_that_cannot_be_true_is_unknown(cost: object) -> None:
    parsed = parse(output(total_cost_usd=cost), b"", 0)
    assert parsed.usage is not None
    assert (parsed.usage.usd, parsed.usage.source) == (None, UsageSource.UNKNOWN)
    assert parsed.usage.tokens.total == 3532


def test_without_usage_per_model_the_totals_are_taken() -> None:
    usage = {"input_tokens": 5, "output_tokens": 6, "cache_read_input_tokens": 7, "cache_creation_input_tokens": 8}
    parsed = parse(output(modelUsage=None, usage=usage), b"", 0)
    assert parsed.usage is not None
    assert parsed.usage.tokens == Tokens(5, 6, 7, 8)


@pytest.mark.parametrize(
    ("exit_code", "reason"), [(0, RunReason.OUTPUT_INVALID), (2, RunReason.NON_ZERO_EXIT), (None, RunReason.KILLED)]
)
def test_output_without_a_result_is_a_failure(exit_code: int | None, reason: RunReason) -> None:
    parsed = parse(b'{"type":"assistant"}\nInvalid API key\n', b"", exit_code)
    assert parsed.failed is not None
    assert parsed.failed.reason is reason
    assert "Invalid API key" in parsed.failed.message
    assert (parsed.deliverable, parsed.usage) == (None, None)
