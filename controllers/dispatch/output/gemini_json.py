"""GeminiJson: ``gemini -p ... --output-format json``, and ``stream-json``. Tokens per model, no money."""

from __future__ import annotations

from typing import Any

from controllers.dispatch.output.parsed import (
    Failed,
    Parsed,
    count,
    deliverable,
    exit_failure,
    last_object,
    mapping,
    message,
    no_result,
    objects,
    refused,
    word,
)
from controllers.dispatch.usage import ModelUsage, Tokens, UsageReport, UsageSource
from schemas.run import RunReason

_EXITS = {
    41: ("Authentication", "it could not log in", False),
    42: ("InvalidInput", "it refused its input", False),
    44: ("Sandbox", "its sandbox failed", False),
    52: ("Configuration", "its configuration is wrong", False),
    53: ("MaxTurns", "it reached its limit of turns", False),
    54: ("ToolExecution", "a tool failed", True),
    130: ("Canceled", "it was interrupted", True),
}


def parse(stdout: bytes, stderr: bytes, exit_code: int | None) -> Parsed:
    """See ``parsed.Parser``. An error is printed to stdout or, by some versions, to stderr."""
    result, text = _stream(stdout)
    if result is None:
        result = last_object(stdout, _is_result) or last_object(stderr, _is_result)
        said = mapping(result).get("response")
        text = said if isinstance(said, str) else ""
    if result is None:
        return Parsed(failed=_by_exit(exit_code, stderr, "") or no_result("result of Gemini", stderr, stdout))
    kept, truncated = deliverable(text)
    return Parsed(
        deliverable=kept,
        failed=refused(_failure(result, stderr, exit_code)),
        session_id=word(result.get("session_id")) or None,
        usage=_usage(mapping(result.get("stats"))),
        truncated=truncated,
    )


def _is_result(value: dict[str, Any]) -> bool:
    return "type" not in value and ("response" in value or "stats" in value or isinstance(value.get("error"), dict))


def _stream(stdout: bytes) -> tuple[dict[str, Any] | None, str]:
    """The final event of ``stream-json`` with the session id of its first, and the answer put together."""
    result, session_id, size = None, "", 0
    answer: list[str] = []
    for event in objects(stdout):
        kind = event.get("type")
        if kind == "init":
            session_id = word(event.get("session_id"))
        elif kind == "tool_use":
            # What was said before a tool call is thinking aloud; the answer comes after the last one.
            answer, size = [], 0
        elif kind == "message" and event.get("role") == "assistant" and isinstance(event.get("content"), str):
            size += len(event["content"])
            if size <= 2 * 1024 * 1024:
                answer.append(event["content"])
        elif kind == "result" and "status" in event:
            result = {"session_id": session_id, **event}
    return result, "".join(answer)


def _failure(result: dict[str, Any], stderr: bytes, exit_code: int | None) -> Failed | None:
    error = result.get("error")
    said = message(mapping(error).get("message")) or message(error)
    if exit_code in _EXITS:
        return _by_exit(exit_code, stderr, said)
    if error or result.get("status") == "error":
        cause = word(mapping(error).get("type")) or "Error"
        return Failed(RunReason.REPORTED_FAILURE, said or "it reported an error", cause=cause)
    return _by_exit(exit_code, stderr, "")


def _by_exit(exit_code: int | None, stderr: bytes, said: str) -> Failed | None:
    if exit_code is None or exit_code not in _EXITS:
        return exit_failure(exit_code, stderr)
    cause, text, retryable = _EXITS[exit_code]
    plain = exit_failure(exit_code, stderr)
    detail = said or (plain.message if plain is not None else "")
    return Failed(RunReason.REPORTED_FAILURE, f"{text}: {detail}", cause=cause, retryable=retryable)


def _usage(stats: dict[str, Any]) -> UsageReport | None:
    shares = [
        ModelUsage(word(model), _tokens(mapping(mapping(share).get("tokens") or share)))
        for model, share in sorted(mapping(stats.get("models")).items())[:50]
    ]
    if not shares:
        return None
    tokens = Tokens()
    for share in shares:
        tokens = tokens.plus(share.tokens)
    return UsageReport(None, tokens, UsageSource.UNKNOWN, models=tuple(shares))


def _tokens(wire: dict[str, Any]) -> Tokens:
    """Names differ between versions and between the two forms. ``prompt`` and ``input_tokens`` include cached tokens;
    ``input`` does not, unless the total says that it does. What tools put into the prompt is input as well."""
    cached = count(wire.get("cached"))
    thoughts, tool = count(wire.get("thoughts")), count(wire.get("tool"))
    output = count(wire.get("candidates")) or count(wire.get("output_tokens"))
    total = count(wire.get("total")) or count(wire.get("total_tokens"))
    whole = count(wire.get("prompt")) or count(wire.get("input_tokens"))
    given = count(wire.get("input"))
    if whole:
        fresh = max(0, whole - cached)
    elif total and total == given + output + thoughts + tool:
        fresh = max(0, given - cached)
    else:
        fresh = given
    return Tokens(input=fresh + tool, output=output + thoughts, cache_read=cached, reasoning=thoughts)
