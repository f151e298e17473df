"""Reading what Gemini CLI prints."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controllers.dispatch.output.gemini_json import parse
from controllers.dispatch.usage import Tokens, UsageSource
from schemas.run import RunReason


def result(**fields: Any) -> bytes:
    tokens = {"prompt": 24401, "candidates": 215, "total": 24840, "cached": 10656, "thoughts": 154, "tool": 70}
    value = {
        "session_id": "s-1",
        "response": "The capital is Paris.",
        "stats": {"models": {"gemini-2.5-pro": {"api": {"totalRequests": 2}, "tokens": tokens}}, "tools": {}},
    }
    return json.dumps({**value, **fields}, indent=2).encode()


def test_a_result_gives_response_and_tokens_per_model() -> None:
    parsed = parse(b"Loaded cached credentials.\n" + result(), b"", 0)
    assert (parsed.failed, parsed.deliverable, parsed.session_id) == (None, "The capital is Paris.", "s-1")
    assert parsed.usage is not None
    assert (parsed.usage.usd, parsed.usage.source) == (None, UsageSource.UNKNOWN)
    expected = Tokens(input=24401 - 10656 + 70, output=215 + 154, cache_read=10656, reasoning=154)
    assert parsed.usage.tokens == expected
    assert [share.model for share in parsed.usage.models] == ["gemini-2.5-pro"]


@pytest.mark.parametrize(
    ("tokens", "fresh"),
    [
        ({"input": 100, "prompt": 150, "cached": 50, "candidates": 5, "total": 155}, 100),
        ({"input": 150, "cached": 50, "candidates": 5, "total": 155}, 100),
        ({"input": 100, "cached": 50, "candidates": 5, "total": 155}, 100),
        ({"input": 100, "cached": 50, "candidates": 5}, 100),
        ({"prompt": 10, "cached": 50}, 0),
    ],
)
def test_cached_input_is_never_counted_twice(tokens: dict[str, int], fresh: int) -> None:
    parsed = parse(result(stats={"models": {"m": {"tokens": tokens}}}), b"", 0)
    assert parsed.usage is not None
    assert parsed.usage.tokens.input == fresh


@pytest.mark.parametrize(
    ("exit_code", "cause", "retryable"),
    [
        (41, "Authentication", False),
        (42, "InvalidInput", False),
        (52, "Configuration", False),
        (53, "MaxTurns", False),
        (54, "ToolExecution", True),
    ],
)
def test_each_exit_code_has_its_meaning(exit_code: int, cause: str, retryable: bool) -> None:
    error = {"type": "FatalError", "message": "said so", "code": exit_code}
    for stdout, stderr in (
        (json.dumps({"session_id": "s-1", "error": error}, indent=2).encode(), b""),
        (b"", b"warning\n" + json.dumps({"error": error}).encode()),
        (b"", b"said so\n"),
    ):
        failed = parse(stdout, stderr, exit_code).failed
        assert failed is not None
        assert (failed.reason, failed.cause, failed.retryable) == (RunReason.REPORTED_FAILURE, cause, retryable)
        assert "said so" in failed.message


def test_an_error_object_with_exit_code_0_is_a_failure() -> None:
    failed = parse(result(response=None, error={"type": "ApiError", "message": "quota"}), b"", 0).failed
    assert failed is not None
    assert (failed.cause, failed.message) == ("ApiError", "quota")


def test_any_other_exit_code_fails_a_result() -> None:
    failed = parse(result(), b"oops\n", 1).failed
    assert failed is not None
    assert failed.reason is RunReason.NON_ZERO_EXIT


def test_nothing_readable_is_a_failure() -> None:
    failed = parse(b"Hello\n", b"", 0).failed
    assert failed is not None
    assert failed.reason is RunReason.OUTPUT_INVALID


def test_the_streaming_form_gives_the_answer_after_the_last_tool_call() -> None:
    stats = {
        "total_tokens": 60,
        "input_tokens": 50,
        "output_tokens": 10,
        "cached": 20,
        "models": {"m": {"total_tokens": 60, "input_tokens": 50, "output_tokens": 10, "cached": 20, "input": 30}},
    }
    events = [
        {"type": "init", "session_id": "s-2", "model": "m"},
        {"type": "message", "role": "user", "content": "do it"},
        {"type": "message", "role": "assistant", "content": "Let me look.", "delta": True},
        {"type": "tool_use", "tool_name": "ls"},
        {"type": "tool_result", "status": "success", "output": "x"},
        {"type": "message", "role": "assistant", "content": "It is ", "delta": True},
        {"type": "message", "role": "assistant", "content": "done.", "delta": True},
        {"type": "result", "status": "success", "stats": stats},
    ]
    stdout = b"\n".join(json.dumps(event).encode() for event in events)
    parsed = parse(stdout, b"", 0)
    assert (parsed.failed, parsed.deliverable, parsed.session_id) == (None, "It is done.", "s-2")
    assert parsed.usage is not None
    assert parsed.usage.tokens == Tokens(input=30, output=10, cache_read=20)
    events[-1] = {"type": "result", "status": "error", "error": {"type": "X", "message": "bad"}}
    failed = parse(b"\n".join(json.dumps(event).encode() for event in events), b"", 0).failed
    assert failed is not None
    assert failed.message == "bad"
