"""How ``remit describe`` tells of the limits of autonomy: what is counted, and why something was contained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

from cli.output import age
from schemas.quantities import parse_time

_SHOWN = 5


def mission_lines(status: Mapping[str, Any], name: str, now: datetime) -> list[str]:
    """Of a mission: counts of loop detection; when it is contained, what was found and how to go on. [] while nothing
    was counted."""
    loop = status.get("loop") or {}
    finding = loop.get("finding")
    counted = [
        f"{label}: {count}"
        for label, count in (
            ("messages in 30 minutes", _total(loop.get("messages"), now, 30)),
            ("self-triggered wakes in 30 minutes", _total(loop.get("selfWakes"), now, 30)),
            ("runs in a row without progress", loop.get("unchangedRuns", 0)),
            ("times in review", status.get("reviewCycles", 0)),
        )
        if count
    ]
    counted += [f"{pair['what']}: {pair['count']} turns" for pair in _latest(loop.get("pairs"))]
    if finding is None:
        return counted
    contained = loop.get("containedAt")
    since = f", contained {age(parse_time(contained), now)} ago" if contained else ", being contained"
    lines = [
        f"{finding['signal']}{since}: {finding['what']}",
        f"{finding['count']} times; more than {finding['limit']} is a loop ({finding.get('source') or 'built-in'})",
    ]
    lines += [f"  {call}" for call in finding.get("calls", ())]
    if loop.get("alert"):
        lines.append(f"alert: {loop['alert']}")
    lines.append(f"go on: remit approve {name} (a new round), or annotate it remit.dev/reset-requested-at: <token>")
    return [*lines, *counted]


def session_lines(status: Mapping[str, Any], now: datetime) -> list[str]:
    """Of a session: how far it went by itself, and what repeats in it."""
    lines = [f"messages in a row by itself: {status.get('consecutive', 0)}"]
    if status.get("cooldownUntil"):
        until = parse_time(status["cooldownUntil"])
        lines.append("cooldown: over" if until <= now else f"cooldown: for {age(now, until)}")
    loop = status.get("loop") or {}
    asked = loop.get("asked")
    if asked:
        lines.append(f"tool calls that {asked['run']} asked leave for: {asked['calls']}")
    lines += [f"{tally['what']}: {tally['count']} times ({tally['signal']})" for tally in _latest(loop.get("tools"))]
    return lines


def _latest(tallies: Iterable[Mapping[str, Any]] | None) -> Iterator[Mapping[str, Any]]:
    """Those that repeat, the most often first."""
    found = [t for t in tallies or () if int(t.get("count", 0)) > 1]
    yield from sorted(found, key=lambda t: (-int(t["count"]), str(t["what"])))[:_SHOWN]


def _total(minutes: Iterable[Mapping[str, Any]] | None, now: datetime, span: int) -> int:
    first = int(now.timestamp() // 60) - span
    return sum(int(m["count"]) for m in minutes or () if int(m["minute"]) >= first)
