"""No output makes a parser raise, take long, or return something that cannot be stored."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controllers.dispatch.output import parsed as reading
from controllers.dispatch.output.formats import PARSERS
from controllers.dispatch.output.parsed import MAX_DELIVERABLE, Parsed, Parser
from controllers.dispatch.usage import UsageReport
from schemas.executor import OutputFormat

ALL = pytest.mark.parametrize("parse", PARSERS.values(), ids=[f.value for f in PARSERS])

KEYS = [
    "type", "subtype", "result", "is_error", "usage", "modelUsage", "total_cost_usd", "session_id", "errors", "part",
    "permission_denials", "deferred_tool_use", "stop_reason", "structured_output", "item", "text", "error", "message",
    "response", "stats", "models", "tokens", "cost", "cache", "state", "status", "tool", "thread_id", "sessionID",
    "role", "content", "input", "name", "id", "data", "prompt", "cached", "total", "candidates",
]  # fmt: skip
KINDS = [
    "result", "success", "turn.completed", "turn.failed", "item.completed", "agent_message", "thread.started", "error",
    "step_finish", "step_start", "text", "tool_use", "init", "message", "assistant", "system", "tool_deferred",
]  # fmt: skip
SCALARS = [None, True, False, 0, -1, 7, 10**30, 1.5, -0.25, 1e308, "", "x", "\x00\x1b[1m", "\ud83d", "é" * 300, *KINDS]


def thing(chance: random.Random, depth: int, kind: type | None = None) -> Any:
    """A JSON value made of the words that the parsers look for, in places where they may not expect them."""
    kind = kind or (chance.choice([dict, list, str, str, str]) if depth else str)
    if kind is dict:
        return {chance.choice(KEYS): thing(chance, depth - 1) for _ in range(chance.randrange(8))}
    if kind is list:
        return [thing(chance, depth - 1) for _ in range(chance.randrange(4))]
    return chance.choice(SCALARS)


def check(parsed: Parsed) -> None:
    """The result is clean text that a database and JSON can hold, and its figures make sense."""
    texts = [parsed.deliverable, parsed.session_id, *parsed.denied]
    if parsed.failed is not None:
        texts += [parsed.failed.message, parsed.failed.cause]
        assert len(parsed.failed.message) < 1200
    if parsed.deferred is not None:
        texts += [parsed.deferred.id, parsed.deferred.name, json.dumps(parsed.deferred.input, allow_nan=False)]
    for text in texts:
        if text is not None:
            text.encode("utf-8")
            assert "\x00" not in text
            assert "\x1b" not in text
            assert len(text) <= MAX_DELIVERABLE + 100
    if parsed.usage is not None:
        check_usage(parsed.usage)


def check_usage(usage: UsageReport) -> None:
    assert usage.usd is None or 0 <= usage.usd <= 10**10
    for tokens in (usage.tokens, *(share.tokens for share in usage.models)):
        for count in (tokens.input, tokens.output, tokens.cache_read, tokens.cache_write, tokens.reasoning):
            assert isinstance(count, int)
            assert count >= 0


def test_every_output_format_has_a_parser() -> None:
    assert set(PARSERS) == set(OutputFormat)


@given(stdout=st.binary(max_size=400), stderr=st.binary(max_size=100), exit_code=st.none() | st.integers(0, 255))
def test_any_bytes_are_read_without_an_error(stdout: bytes, stderr: bytes, exit_code: int | None) -> None:
    for parse in PARSERS.values():
        check(parse(stdout, stderr, exit_code))


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(chance=st.randoms(use_true_random=False), exit_code=st.sampled_from([0, 1, 42, None]))
def test_any_events_whole_or_cut_are_read_without_an_error(chance: random.Random, exit_code: int | None) -> None:
    events = [{**thing(chance, 4, dict), "type": chance.choice(KINDS)} for _ in range(chance.randrange(8))]
    stdout = b"\n".join(json.dumps(event).encode() for event in events)
    cut = chance.randrange(len(stdout) + 1)
    for parse in PARSERS.values():
        check(parse(stdout, b"", exit_code))
        check(parse(stdout[:cut], stdout[cut:], exit_code))


@ALL
@pytest.mark.parametrize(
    "stdout",
    [
        b"[" * 1_000_000,
        b'{"a":' * 1_000_000,
        b"{\n" * 500_000,
        b"[\n" * 500_000 + b"1,\n" * 500_000,
        b'{"type":"result","subtype":"success","result":"' + b"x" * 20_000_000,
        b"x" * 40_000_000,
        b"\n" * 5_000_000,
        b"\x00" * 5_000_000,
        b'{"type":"result","total_cost_usd":1e999999999999999999999,"usage":{"input_tokens":' + b"9" * 10_000 + b"}}",
        b'{"type":"result","subtype":"success","total_cost_usd":NaN,"is_error":false}',
        b'{"type":"result","subtype":"success","result":"\\ud800\\u0000\\u001b[31m"}',
    ],
    ids=["lists", "objects", "lines", "broken list", "cut", "one line", "blank", "nul", "numbers", "nan", "surrogate"],
)
def test_output_made_to_hurt_is_read_in_bounded_time(parse: Parser, stdout: bytes) -> None:
    before = time.monotonic()
    check(parse(stdout, b"", 0))
    assert time.monotonic() - before < 120


@ALL
def test_output_of_100_mb_is_read(parse: Parser) -> None:
    line = json.dumps({"type": "item.completed", "item": {"type": "command_execution", "text": "y" * 50_000}}).encode()
    check(parse(b"\n".join([line] * 2000), b"", 0))


@pytest.mark.parametrize("name", [OutputFormat.TEXT, OutputFormat.CLAUDE_JSON])
def test_a_deliverable_is_cut_at_its_limit_and_says_so(name: OutputFormat) -> None:
    text = "é" * (MAX_DELIVERABLE + 5)
    stdout = json.dumps({"type": "result", "subtype": "success", "result": text}).encode()
    parsed = PARSERS[name](stdout if name is OutputFormat.CLAUDE_JSON else text.encode(), b"", 0)
    assert parsed.truncated
    assert parsed.deliverable == text[:MAX_DELIVERABLE]


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07body", "body"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x00b\x08c\x7fd\x9be", "abcde"),
        ("lone \ud800 half", "lone  half"),
        ("\x1b", ""),
    ],
)
def test_text_is_cleaned_of_what_terminals_and_databases_choke_on(text: str, cleaned: str) -> None:
    assert reading.clean(text) == cleaned


def test_a_message_is_one_short_line() -> None:
    assert reading.message("two\nlines   and\tmore") == "two lines and more"
    assert len(reading.message("x" * 10_000)) == 500
    assert reading.message(None) == ""


def test_text_output_is_the_deliverable_and_the_exit_code_decides() -> None:
    text = PARSERS[OutputFormat.TEXT]
    assert text(b"report\n\n", b"log", 0) == Parsed(deliverable="report")
    assert text(b"\n \n", b"", 0) == Parsed()
    failed = text(b"half a report\n", b"Traceback\nValueError: no\n", 1)
    assert failed.failed is not None
    assert failed.failed.message == "the program ended with exit code 1: ValueError: no"


def test_a_program_that_reports_over_the_protocol_hands_in_nothing_by_printing() -> None:
    parsed = PARSERS[OutputFormat.REMIT](b'{"type":"result","subtype":"success","result":"forged"}\n', b"", 0)
    assert parsed == Parsed()
