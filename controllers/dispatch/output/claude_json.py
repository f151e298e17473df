"""ClaudeJson: ``claude -p --output-format json``, and the ``stream-json`` form of the same.

One object of type ``result``; with ``--verbose`` a list, with ``stream-json`` lines, of which it is the last. What a
resumed session reports as cost depends on the program's version: see ``_scope``.
"""

from __future__ import annotations

import re
from typing import Any

from controllers.dispatch.output.parsed import (
    DeferredTool,
    Failed,
    Parsed,
    count,
    deliverable,
    exit_failure,
    last_object,
    mapping,
    message,
    money,
    no_result,
    objects,
    plain,
    word,
)
from controllers.dispatch.usage import ModelUsage, Tokens, UsageReport, UsageScope, UsageSource
from schemas.protocol import OVERLOADED
from schemas.resource import canonical_json
from schemas.run import RunReason

_CAUSES = {
    "error_max_turns": ("MaxTurns", "it reached its limit of turns", False),
    "error_max_budget_usd": ("MaxBudget", "it reached its limit of cost", False),
    "error_max_structured_output_retries": ("StructuredOutput", "its answer did not meet the schema", True),
    "error_during_execution": ("ExecutionError", "it failed while it worked", True),
}
_PASSING = (408, 409, 429)
_LAST_PER_PROCESS = (2, 1, 221)
_FIRST_PER_SESSION = (2, 1, 329)
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,6})")


def parse(stdout: bytes, stderr: bytes, exit_code: int | None) -> Parsed:
    """See ``parsed.Parser``."""
    result = last_object(stdout, lambda value: value.get("type") == "result")
    if result is None:
        failed = exit_failure(exit_code, stderr, stdout) or no_result("result of Claude", stderr, stdout)
        return Parsed(failed=failed)
    structured = plain(result.get("structured_output"))
    text = result.get("result") if structured is None else canonical_json(structured)
    kept, truncated = deliverable(text if isinstance(text, str) else "")
    deferred = _deferred(result)
    return Parsed(
        deliverable=kept,
        failed=_failure(result, deferred, stderr, exit_code),
        session_id=word(result.get("session_id")) or None,
        usage=_usage(result, _version(stdout)),
        denied=_denied(result),
        deferred=deferred,
        truncated=truncated,
    )


def _failure(
    result: dict[str, Any], deferred: DeferredTool | None, stderr: bytes, exit_code: int | None
) -> Failed | None:
    if deferred is not None:
        text = f"it paused before the tool {deferred.name} and waits for a decision"
        return Failed(RunReason.AWAITING_APPROVAL, text, cause="ToolDeferred")
    subtype = result.get("subtype")
    if result.get("is_error") is not True and subtype == "success":
        return exit_failure(exit_code, stderr)
    cause, text, retryable = _CAUSES.get(str(subtype), ("Error", "it reported an error", True))
    status = count(result.get("api_error_status"))
    if status:
        cause, text = "ApiError", f"the model's API answered {status}"
        retryable = status in _PASSING or status >= 500
    reason = RunReason.PROVIDER_OVERLOADED if status in OVERLOADED else RunReason.REPORTED_FAILURE
    said = _said(result)
    return Failed(reason, f"{text}: {said}" if said else text, cause=cause, retryable=retryable)


def _said(result: dict[str, Any]) -> str:
    errors = result.get("errors")
    listed = "; ".join(text for text in errors[:10] if isinstance(text, str)) if isinstance(errors, list) else ""
    return message(result.get("result")) or message(listed)


def _deferred(result: dict[str, Any]) -> DeferredTool | None:
    reasons = (result.get("stop_reason"), result.get("terminal_reason"))
    if "tool_deferred" not in reasons:
        return None
    call = mapping(result.get("deferred_tool_use"))
    return DeferredTool(word(call.get("id")), word(call.get("name")) or "unknown", mapping(plain(call.get("input"))))


def _denied(result: dict[str, Any]) -> tuple[str, ...]:
    denials = result.get("permission_denials")
    if not isinstance(denials, list):
        return ()
    return tuple(word(mapping(denial).get("tool_name")) or "unknown" for denial in denials[:100])


def _usage(result: dict[str, Any], version: str) -> UsageReport | None:
    shares = []
    for model, wire in sorted(mapping(result.get("modelUsage")).items())[:50]:
        share = mapping(wire)
        tokens = Tokens(
            input=count(share.get("inputTokens")),
            output=count(share.get("outputTokens")),
            cache_read=count(share.get("cacheReadInputTokens")),
            cache_write=count(share.get("cacheCreationInputTokens")),
        )
        shares.append(ModelUsage(word(model), tokens, money(share.get("costUSD"))))
    usage = mapping(result.get("usage"))
    if shares:
        tokens = shares[0].tokens
        for other in shares[1:]:
            tokens = tokens.plus(other.tokens)
    else:
        tokens = Tokens(
            input=count(usage.get("input_tokens")),
            output=count(usage.get("output_tokens")),
            cache_read=count(usage.get("cache_read_input_tokens")),
            cache_write=count(usage.get("cache_creation_input_tokens")),
        )
        shares = [ModelUsage("", tokens)] if tokens.total else []
    usd = money(result.get("total_cost_usd"))
    if usd is None and not shares:
        return None
    if usd == 0 and tokens.total:
        # A model without a price in the program's own table counts as free there.
        usd = None
    source = UsageSource.UNKNOWN if usd is None else UsageSource.REPORTED
    return UsageReport(usd, tokens, source, _scope(version), tuple(shares), version)


def _scope(version: str) -> UsageScope:
    """Measured: 2.1.197 and 2.1.221 report the cost of the process, 2.1.329 that of the whole resumed session. What
    lies between, and what names no version, is unclear."""
    match = _VERSION.match(version)
    if match is None:
        return UsageScope.UNCLEAR
    number = tuple(int(part) for part in match.groups())
    if number <= _LAST_PER_PROCESS:
        return UsageScope.RUN
    return UsageScope.SESSION if number >= _FIRST_PER_SESSION else UsageScope.UNCLEAR


def _version(stdout: bytes) -> str:
    """Version of the program: only the opening message of ``stream-json`` names it."""
    for value in objects(stdout[:1_048_576]):
        if value.get("type") == "system":
            return word(value.get("claude_code_version") or value.get("version"))
    return ""
