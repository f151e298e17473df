"""How a state looks: always a glyph, a word and a colour. Success is quiet; what wants attention is not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from api.dashboard.text import words


class Tone(StrEnum):
    """Six colours; see the style sheet. They stay apart for eyes that see fewer."""

    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"
    STOP = "stop"
    CALM = "calm"


@dataclass(frozen=True, slots=True)
class Mark:
    """``glyph`` names a symbol of ``static/icons.svg``; ``word`` is what it means."""

    glyph: str
    word: str
    tone: Tone


_GOOD = ("tick", Tone.GOOD)
_RUNNING = ("run", Tone.BUSY)
_EYE = ("eye", Tone.BUSY)
_ASK = ("ask", Tone.WARN)
_BAD = ("fail", Tone.BAD)
_STOP = ("stop", Tone.STOP)
_PLANNED = ("planned", Tone.CALM)
_RING = ("ring", Tone.CALM)
_HALF = ("half", Tone.CALM)
_SLASH = ("slash", Tone.CALM)
_PAUSE = ("pause", Tone.CALM)
_UNKNOWN = ("unknown", Tone.CALM)
_DRIFT = ("drift", Tone.WARN)

_COMMON = {
    "Succeeded": _GOOD, "Done": _GOOD, "Approved": _GOOD, "Resolved": _GOOD, "Delivered": _GOOD, "Completed": _GOOD,
    "Running": _RUNNING, "InProgress": _RUNNING, "Open": _RING, "Active": _GOOD,
    "Review": _EYE, "Acknowledged": _EYE,
    "NeedsApproval": _ASK, "Asking": _ASK, "ChangesRequested": _DRIFT, "Unknown": _UNKNOWN, "Lost": _UNKNOWN,
    "Failed": _BAD, "TimedOut": _BAD, "Denied": _BAD, "Blocked": _STOP,
    "Inbox": _PLANNED, "Assigned": _RING, "Pending": _HALF, "Allowed": _RING,
    "Canceled": _SLASH, "Expired": _SLASH, "Withdrawn": _SLASH, "Closed": _SLASH, "Paused": _PAUSE,
    "Suspended": _PAUSE, "PendingDeletion": _SLASH,
    "Hold": _STOP, "Drain": _PAUSE, "Stop": _STOP, "Quarantine": _STOP, "Suspend": _PAUSE,
    "Allow": _GOOD, "Deny": _BAD, "RequireApproval": _ASK,
    "Accepted": _GOOD, "New": _ASK, "Changed": _DRIFT, "Gone": _SLASH,
    "Synced": _GOOD, "Applied": _GOOD,
}  # fmt: skip
_OWN = {
    ("ApprovalRequest", "Pending"): _ASK,
    ("Alert", "Open"): _ASK,
    ("Session", "Open"): _RUNNING,
    ("Run", "Pending"): _HALF,
}
_RISK = {"Green": ("ring", Tone.GOOD), "Yellow": _ASK, "Red": _BAD}
_SEVERITY = {"Low": _RING, "Medium": _ASK, "High": _ASK, "Critical": _BAD}
NONE = Mark(_RING[0], "-", _RING[1])


def state(kind: str, name: str) -> Mark:
    """The mark of a state of a kind."""
    if not name:
        return NONE
    glyph, tone = _OWN.get((kind, name)) or _COMMON.get(name) or _UNKNOWN
    return Mark(glyph, words(name), tone)


def risk(name: str) -> Mark:
    """Green, Yellow or Red, by its own name: a colour alone says nothing to many."""
    glyph, tone = _RISK.get(name, _UNKNOWN)
    return Mark(glyph, f"{words(name)} risk" if name else "unknown risk", tone)


def severity(name: str) -> Mark:
    """Of an alert."""
    glyph, tone = _SEVERITY.get(name, _UNKNOWN)
    return Mark(glyph, words(name) or "-", tone)


def condition(value: dict[str, Any], *, good: str = "True") -> Mark:
    """Of a condition: as declared, or not, or unknown."""
    status = str(value.get("status", "Unknown"))
    if status == good:
        return Mark("tick", words(str(value.get("type", ""))), Tone.GOOD)
    if status == "Unknown":
        return Mark("unknown", f"{words(str(value.get('type', '')))} unknown", Tone.CALM)
    return Mark("warn", f"not {words(str(value.get('type', '')))}", Tone.WARN)


def find(conditions: Any, kind: str) -> dict[str, Any] | None:
    """The condition of a type, None when it was never set."""
    for item in conditions or ():
        if isinstance(item, dict) and item.get("type") == kind:
            return item
    return None


def ready(status: dict[str, Any]) -> Mark:
    """Whether what is declared is in force, as its Ready condition says."""
    found = find(status.get("conditions"), "Ready")
    if found is None:
        return Mark("half", "not looked at yet", Tone.CALM)
    if found.get("status") == "True":
        return Mark("tick", "ready", Tone.GOOD)
    reason = words(str(found.get("reason", "")))
    if found.get("status") == "Unknown":
        return Mark("unknown", reason or "unknown", Tone.CALM)
    return Mark("warn", reason or "not ready", Tone.WARN)
