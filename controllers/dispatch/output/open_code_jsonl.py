"""OpenCodeJsonl: ``opencode run --format json``. Events as lines; the cost is the sum over its steps.

A refused permission and some errors still end with exit code 0, so the events decide first.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from controllers.dispatch.output.parsed import (
    Failed,
    Parsed,
    count,
    deliverable,
    exit_failure,
    has_gap,
    mapping,
    message,
    money,
    no_result,
    objects,
    refused,
    word,
)
from controllers.dispatch.usage import ModelUsage, Tokens, UsageReport, UsageSource
from schemas.run import RunReason


def parse(stdout: bytes, stderr: bytes, exit_code: int | None) -> Parsed:
    """See ``parsed.Parser``. The text of the last step that has any is the deliverable."""
    session_id, error = "", ""
    texts: list[str] = []
    is_new_step = True
    steps: list[dict[str, Any]] = []
    denied: list[str] = []
    for event in objects(stdout):
        session_id = word(event.get("sessionID")) or session_id
        kind, part = event.get("type"), mapping(event.get("part"))
        if kind == "step_start":
            is_new_step = True
        elif kind == "text" and isinstance(part.get("text"), str):
            texts = [part["text"]] if is_new_step else [*texts[-99:], part["text"]]
            is_new_step = False
        elif kind == "tool_use":
            state = mapping(part.get("state"))
            if state.get("status") == "error" and "permission" in message(state.get("error")).lower():
                denied.append(word(part.get("tool")) or "unknown")
        elif kind == "step_finish":
            steps.append(part)
        elif kind == "error":
            error = _said(mapping(event.get("error"))) or "it reported an error"
    kept, truncated = deliverable("\n".join(texts))
    failed = None
    if error:
        failed = Failed(RunReason.REPORTED_FAILURE, error, cause="Error")
    elif exit_code != 0:
        failed = exit_failure(exit_code, stderr)
    elif not steps:
        failed = no_result("finished step of OpenCode", stderr, stdout)
    return Parsed(
        deliverable=kept,
        failed=refused(failed),
        session_id=session_id or None,
        usage=_usage(steps, is_whole=not has_gap(stdout)),
        denied=tuple(denied[:100]),
        truncated=truncated,
    )


def _said(error: dict[str, Any]) -> str:
    name, text = word(error.get("name")), message(mapping(error.get("data")).get("message") or error.get("message"))
    return f"{name}: {text}" if name and text else name or text


def _usage(steps: list[dict[str, Any]], *, is_whole: bool) -> UsageReport | None:
    if not steps:
        return None
    tokens, usd = Tokens(), Decimal(0)
    is_priced = is_whole
    for step in steps:
        step_tokens = _tokens(mapping(step.get("tokens")))
        cost = money(step.get("cost"))
        # A model without a price in the program's own table counts as free there.
        is_priced = is_priced and cost is not None and (cost > 0 or not step_tokens.total)
        tokens, usd = tokens.plus(step_tokens), usd + (cost or 0)
    return UsageReport(
        usd if is_priced else None,
        tokens,
        UsageSource.REPORTED if is_priced else UsageSource.UNKNOWN,
        models=(ModelUsage("", tokens, usd if is_priced else None),),
    )


def _tokens(wire: dict[str, Any]) -> Tokens:
    """Input excludes cached tokens and output excludes reasoning there."""
    cache = mapping(wire.get("cache"))
    reasoning = count(wire.get("reasoning"))
    return Tokens(
        input=count(wire.get("input")),
        output=count(wire.get("output")) + reasoning,
        cache_read=count(cache.get("read")),
        cache_write=count(cache.get("write")),
        reasoning=reasoning,
    )
