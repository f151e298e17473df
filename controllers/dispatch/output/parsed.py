"""What every parser returns, and the careful reading that they share."""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal, InvalidOperation
from typing import Any

from controllers.dispatch.supervision.records import GAP
from controllers.dispatch.usage import UsageReport
from schemas.run import RunReason

MAX_DELIVERABLE = 1_048_576
"""Characters of a deliverable that are kept."""
_MAX_LINE = 16 * 1024 * 1024
_MAX_TEXT = 16 * 1024 * 1024
_MAX_MESSAGE = 500
_MAX_STARTS = 16
_MAX_DEPTH = 32
_MAX_COUNT = 10**12
_MAX_USD = Decimal(10) ** 9
_MICRO = Decimal("0.000001")
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ud800-\udfff]")
_OBJECT_LINE = re.compile(rb"(?m)^[ \t]*(\{[^\n]*\})[ \t\r]*$")
_START = re.compile(r"(?m)^[{\[]")


@dataclass(frozen=True, slots=True)
class Failed:
    """Why the program's work does not count as done. ``cause`` is the program's own word for it, in CamelCase
    (MaxTurns, ApiError, ToolDeferred ...), "" when it gave none."""

    reason: RunReason
    message: str
    cause: str = ""
    retryable: bool = True


@dataclass(frozen=True, slots=True)
class DeferredTool:
    """A tool call that waits for an approval: the program ended and can be resumed with the session id."""

    id: str
    name: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Parsed:
    """What output says. ``failed`` None means that it speaks of success. ``denied`` names tools that were refused to
    the agent while it worked, in order. ``truncated`` tells that the deliverable is cut."""

    deliverable: str | None = None
    failed: Failed | None = None
    session_id: str | None = None
    usage: UsageReport | None = None
    denied: tuple[str, ...] = ()
    deferred: DeferredTool | None = None
    truncated: bool = False


Parser = Callable[[bytes, bytes, int | None], Parsed]
"""``parse(stdout, stderr, exit_code)``; ``exit_code`` None when a signal ended the program."""


def clean(text: str) -> str:
    """``text`` without terminal escapes, control characters and lone surrogates, so that it can be stored and shown."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def deliverable(text: str) -> tuple[str | None, bool]:
    """``text`` as a deliverable, None when it is blank, and whether it was cut."""
    cut = text[: MAX_DELIVERABLE + 1]
    kept = clean(cut[:MAX_DELIVERABLE]).strip("\r\n")
    return (kept if kept.strip() else None), len(cut) > MAX_DELIVERABLE


def message(text: object) -> str:
    """``text`` as one short line for people; "" for anything but a text."""
    if not isinstance(text, str):
        return ""
    line = " ".join(clean(text[: _MAX_MESSAGE * 4]).split())
    return line if len(line) <= _MAX_MESSAGE else line[: _MAX_MESSAGE - 1] + "…"


def word(text: object) -> str:
    """``text`` as an identifier (session, model, tool): at most 200 characters; "" for anything but a text."""
    return clean(text[:200]).strip() if isinstance(text, str) else ""


def exit_failure(exit_code: int | None, stderr: bytes, stdout: bytes = b"") -> Failed | None:
    """The failure that the exit code alone tells of, with the last line that the program printed; None for 0."""
    if exit_code == 0:
        return None
    last = last_line(stderr) or last_line(stdout)
    if exit_code is None:
        return Failed(RunReason.KILLED, f"the program was ended by a signal{': ' + last if last else ''}")
    return Failed(RunReason.NON_ZERO_EXIT, f"the program ended with exit code {exit_code}{': ' + last if last else ''}")


def no_result(what: str, stderr: bytes, stdout: bytes) -> Failed:
    """The program ended well, but its output holds no result."""
    last = last_line(stderr) or last_line(stdout)
    return Failed(RunReason.OUTPUT_INVALID, f"the output holds no {what}{'; it ends with: ' + last if last else ''}")


_REFUSED = re.compile(
    r"(?i)\b(?:status|http|error|code|api)\W{0,3}(?:code\W{0,3})?(?:429|503|529)\b|\b(?:429|503|529) "
    r"(?:too many|service unavailable|overloaded|\{)|rate[ _-]?limit(?:ed|_error| reached| exceeded)|overloaded_error"
    r"|RESOURCE_EXHAUSTED|too many requests"
)


def refused(failed: Failed | None) -> Failed | None:
    """The same failure; where the program's words are those of a provider that refused for its load (429, 503, 529),
    one whose attempt costs none. For programs that pass such words on, after they had tried again themselves."""
    if failed is None or not failed.retryable or failed.reason not in (
        RunReason.REPORTED_FAILURE, RunReason.NON_ZERO_EXIT,
    ):  # fmt: skip
        return failed
    if _REFUSED.search(failed.message) is None:
        return failed
    return Failed(RunReason.PROVIDER_OVERLOADED, failed.message, cause=failed.cause)


def last_line(data: bytes) -> str:
    """The last line that is not blank, for a message."""
    for line in reversed(data[-8192:].splitlines()):
        text = message(line.decode("utf-8", "replace"))
        if text and GAP.match(line) is None:
            return text
    return ""


def has_gap(data: bytes) -> bool:
    """Whether the log says that part of the output was dropped."""
    return GAP.search(data) is not None


def load(text: str) -> Any:
    """A JSON value with decimals kept exact; None when ``text`` is not JSON, is nested too deep, or holds NaN."""
    try:
        return json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError, InvalidOperation):
        return None


def objects(data: bytes) -> Iterator[dict[str, Any]]:
    """The JSON objects that stand on a line of their own, in order; everything else is skipped."""
    for line in _OBJECT_LINE.finditer(data):
        if line.end(1) - line.start(1) <= _MAX_LINE:
            value = load(line.group(1).decode("utf-8", "replace"))
            if isinstance(value, dict):
                yield value


def last_object(data: bytes, accept: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
    """The last JSON object that ``accept`` takes: on a line, over several lines, or in a list of messages.

    Noise before and after is skipped. Only the last few places where an object or a list can begin are tried, so that
    no output makes this slow.
    """
    found = None
    for value in objects(data):
        if accept(value):
            found = value
    if found is not None:
        return found
    text = data[-_MAX_TEXT:].decode("utf-8", "replace")
    decoder = json.JSONDecoder(parse_float=Decimal, parse_constant=_refuse)
    for start in reversed(deque((match.start() for match in _START.finditer(text)), maxlen=_MAX_STARTS)):
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError, InvalidOperation):
            continue
        for candidate in reversed(value) if isinstance(value, list) else [value]:
            if isinstance(candidate, dict) and accept(candidate):
                return candidate
    return None


def count(value: object) -> int:
    """A token count; 0 for anything that cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return 0
    return int(value) if 0 <= value <= _MAX_COUNT else 0


def money(value: object) -> Decimal | None:
    """An amount in USD, rounded up to a millionth; None for anything that cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 0 <= value <= _MAX_USD:
        return None
    return Decimal(value).quantize(_MICRO, rounding=ROUND_UP)


def mapping(value: object) -> dict[str, Any]:
    """``value`` if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def plain(value: object, depth: int = 0) -> Any:
    """A value from ``load`` with floats for decimals and clean texts: fit for JSON. What is nested deeper than 32
    levels becomes None, as does a number that no float can hold."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, list | dict) and depth >= _MAX_DEPTH:
        return None
    if isinstance(value, list):
        return [plain(entry, depth + 1) for entry in value]
    if isinstance(value, dict):
        return {clean(key): plain(entry, depth + 1) for key, entry in value.items()}
    return value


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
