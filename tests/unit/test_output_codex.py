"""Reading what Codex prints."""

from __future__ import annotations

import json
from typing import Any

from controllers.dispatch.output.codex_jsonl import parse
from controllers.dispatch.usage import Tokens, UsageScope, UsageSource
from schemas.run import RunReason


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


THREAD = {"type": "thread.started", "thread_id": "0199a213-81c0-7800-8aa1-bbab2a035a53"}
TURN = {"type": "turn.started"}
SAID = {"type": "item.completed", "item": {"id": "item_3", "type": "agent_message", "text": "Done: 3 files."}}
USAGE = {
    "input_tokens": 24763,
    "cached_input_tokens": 24448,
    "cache_write_input_tokens": 100,
    "output_tokens": 122,
    "reasoning_output_tokens": 64,
}
COMPLETED = {"type": "turn.completed", "usage": USAGE}
FAILED = {"type": "turn.failed", "error": {"message": "stream disconnected"}}


def test_the_last_message_is_the_deliverable_and_tokens_have_no_price() -> None:
    early = {"type": "item.completed", "item": {"type": "agent_message", "text": "I will look."}}
    command = {"type": "item.completed", "item": {"type": "command_execution", "command": "ls", "text": "no"}}
    parsed = parse(lines(THREAD, TURN, early, command, SAID, COMPLETED), b"", 0)
    assert (parsed.failed, parsed.deliverable, parsed.session_id) == (None, "Done: 3 files.", THREAD["thread_id"])
    assert parsed.usage is not None
    assert (parsed.usage.usd, parsed.usage.source) == (None, UsageSource.UNKNOWN)
    assert parsed.usage.tokens == Tokens(input=215, output=122, cache_read=24448, cache_write=100, reasoning=64)
    assert parsed.usage.scope is UsageScope.SESSION


def test_figures_of_a_later_turn_replace_those_of_an_earlier_one() -> None:
    later = {"type": "turn.completed", "usage": {**USAGE, "output_tokens": 300}}
    parsed = parse(lines(THREAD, TURN, COMPLETED, TURN, SAID, later), b"", 0)
    assert parsed.usage is not None
    assert parsed.usage.tokens.output == 300


def test_a_failed_turn_fails_the_run_even_with_exit_code_0() -> None:
    parsed = parse(lines(THREAD, TURN, SAID, FAILED), b"", 0)
    assert parsed.failed is not None
    assert (parsed.failed.reason, parsed.failed.message) == (RunReason.REPORTED_FAILURE, "stream disconnected")


def test_an_error_that_was_got_over_does_not_count() -> None:
    hiccup = {"type": "error", "message": "Reconnecting... 1/5"}
    assert parse(lines(THREAD, TURN, hiccup, SAID, COMPLETED), b"", 0).failed is None
    last = parse(lines(THREAD, TURN, hiccup), b"", 1).failed
    assert last is not None
    assert last.message == "Reconnecting... 1/5"


def test_a_turn_that_never_completed_is_a_failure() -> None:
    parsed = parse(lines(THREAD, TURN, SAID), b"", 0)
    assert parsed.failed is not None
    assert parsed.failed.reason is RunReason.OUTPUT_INVALID
    assert parsed.session_id == THREAD["thread_id"]


def test_a_bad_exit_code_is_a_failure() -> None:
    parsed = parse(lines(THREAD, TURN, SAID, COMPLETED), b"panic\n", 101)
    assert parsed.failed is not None
    assert parsed.failed.message == "the program ended with exit code 101: panic"


def test_the_end_counts_when_the_middle_is_missing() -> None:
    gap = b'{"type":"item.comp\n[remit: 900000 bytes of output are missing here]\n":1}}\n'
    parsed = parse(lines(THREAD, TURN) + gap + lines(SAID, COMPLETED), b"", 0)
    assert (parsed.failed, parsed.deliverable) == (None, "Done: 3 files.")
