"""Which words of a coding agent mean that its provider refused for its load."""

from __future__ import annotations

import json

import pytest

from controllers.dispatch.output import codex_jsonl, gemini_json, open_code_jsonl
from controllers.dispatch.output.parsed import Failed, refused
from schemas.run import RunReason

SAID = RunReason.REPORTED_FAILURE


@pytest.mark.parametrize(
    "message",
    [
        "exceeded retry limit, last status: 429 Too Many Requests",
        "stream error: unexpected status 503 Service Unavailable: try later",
        'API Error: 529 {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
        "[429 Too Many Requests] Resource has been exhausted",
        '{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}',
        "rate_limit_error: this request would exceed your rate limit",
        "Rate limit reached for this model",
        "error code: 503",
        "HTTP 429",
    ],
)
def test_words_of_a_provider_that_refused(message: str) -> None:
    found = refused(Failed(SAID, message, cause="Error"))
    assert found is not None
    assert (found.reason, found.message, found.cause) == (RunReason.PROVIDER_OVERLOADED, message, "Error")


@pytest.mark.parametrize(
    "message",
    [
        "it reported an error",
        "found 429 broken links",
        "port 503 is closed",
        "the file has 529 lines",
        "status 400 Bad Request",
        "invalid API key (401)",
        "",
    ],
)
def test_words_of_anything_else(message: str) -> None:
    assert refused(Failed(SAID, message)) == Failed(SAID, message)


def test_what_cannot_be_tried_again_or_was_no_program_stays_what_it_is() -> None:
    final = Failed(SAID, "HTTP 429", retryable=False)
    killed = Failed(RunReason.KILLED, "HTTP 429")
    assert (refused(final), refused(killed), refused(None)) == (final, killed, None)


def test_each_format_passes_them_on() -> None:
    words = "unexpected status 429 Too Many Requests"
    codex = "\n".join(
        json.dumps(event) for event in ({"type": "turn.started"}, {"type": "turn.failed", "error": {"message": words}})
    )
    gemini = json.dumps({"session_id": "s", "error": {"type": "Error", "message": words}})
    found = [codex_jsonl.parse(codex.encode(), b"", 1).failed, gemini_json.parse(gemini.encode(), b"", 1).failed]
    assert [f.reason for f in found if f is not None] == [RunReason.PROVIDER_OVERLOADED] * 2
    other = open_code_jsonl.parse(b"", f"Error: {words}".encode(), 1).failed
    assert other is not None
    assert other.reason is RunReason.PROVIDER_OVERLOADED
