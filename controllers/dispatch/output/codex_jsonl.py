"""CodexJsonl: ``codex exec --json``. Events as lines; tokens but no money; figures cover the whole thread."""

from __future__ import annotations

from typing import Any

from controllers.dispatch.output.parsed import (
    Failed,
    Parsed,
    count,
    deliverable,
    exit_failure,
    mapping,
    message,
    no_result,
    objects,
    refused,
    word,
)
from controllers.dispatch.usage import ModelUsage, Tokens, UsageReport, UsageScope, UsageSource
from schemas.run import RunReason


def parse(stdout: bytes, stderr: bytes, exit_code: int | None) -> Parsed:
    """See ``parsed.Parser``. The last message of the agent is the deliverable."""
    session_id, text, error, usage = "", None, "", None
    completed = False
    for event in objects(stdout):
        kind = event.get("type")
        if kind == "thread.started":
            session_id = word(event.get("thread_id")) or session_id
        elif kind == "turn.started":
            completed, error = False, ""
        elif kind == "item.completed":
            item = mapping(event.get("item"))
            if item.get("type") == "agent_message" and isinstance(item.get("text"), str):
                text = item["text"]
        elif kind == "turn.completed":
            # An error event before this one was got over: the program had tried again.
            completed, error = True, ""
            usage = event.get("usage")
        elif kind == "turn.failed":
            completed = False
            error = message(mapping(event.get("error")).get("message")) or "its turn failed"
        elif kind == "error":
            error = message(event.get("message")) or error
    kept, truncated = deliverable(text or "")
    failed = None
    if error:
        failed = Failed(RunReason.REPORTED_FAILURE, error, cause="TurnFailed")
    elif exit_code != 0:
        failed = exit_failure(exit_code, stderr)
    elif not completed:
        failed = no_result("completed turn of Codex", stderr, stdout)
    return Parsed(
        deliverable=kept,
        failed=refused(failed),
        session_id=session_id or None,
        usage=_usage(mapping(usage)),
        truncated=truncated,
    )


def _usage(usage: dict[str, Any]) -> UsageReport | None:
    """The counts of the last turn hold those of all turns before it. Cached tokens are part of the input there."""
    if not usage:
        return None
    cache_read, cache_write = count(usage.get("cached_input_tokens")), count(usage.get("cache_write_input_tokens"))
    tokens = Tokens(
        input=max(0, count(usage.get("input_tokens")) - cache_read - cache_write),
        output=count(usage.get("output_tokens")),
        cache_read=cache_read,
        cache_write=cache_write,
        reasoning=count(usage.get("reasoning_output_tokens")),
    )
    return UsageReport(None, tokens, UsageSource.UNKNOWN, UsageScope.SESSION, (ModelUsage("", tokens),))
