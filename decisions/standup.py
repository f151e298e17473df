"""The daily summary: what was done, what waits, what is blocked, what it cost, what comes next. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from decisions import visible
from decisions.notices import TEXT

SHOWN = 10
"""Lines of each part."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line: what, and a word about it."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Some of ``count`` things, the first of them."""

    count: int
    items: tuple[Item, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """How a namespace stands. ``usd_micros`` and ``tokens`` were spent on the UTC days from that of ``since`` on."""

    namespace: str
    since: datetime
    now: datetime
    done: Part
    failed: Part
    waiting: Part
    answers: Part
    blocked: Part
    following: Part
    usd_micros: int = 0
    tokens: int = 0


def part(items: Sequence[Item], count: int | None = None) -> Part:
    """The first of them."""
    return Part(len(items) if count is None else count, tuple(items[:SHOWN]))


def title(standing: Standing) -> str:
    """One line."""
    return (
        f"Standup of {standing.namespace}: {standing.done.count} done, {standing.failed.count} failed, "
        f"{standing.answers.count} to answer, {standing.blocked.count} blocked"
    )


def text(standing: Standing, limit: int = TEXT) -> str:
    """The whole of it, one part after another; what is empty says so in one word."""
    hours = (standing.now - standing.since) / timedelta(hours=1)
    lines = [f"Since {visible.moment(standing.since)} ({hours:.0f} h)"]
    for name, found in (
        ("Done", standing.done),
        ("Failed", standing.failed),
        ("Waits for an answer", standing.answers),
        ("Blocked", standing.blocked),
        ("In work or queued", standing.waiting),
    ):
        lines += _lines(name, found)
    spent = f"{standing.usd_micros / 1_000_000:.2f} USD, {standing.tokens:,} tokens"
    lines.append(f"Spent: {spent} (UTC days since {standing.since:%Y-%m-%d})")
    lines += _lines("Next", standing.following)
    return visible.block("\n".join(lines), limit)


def _lines(name: str, found: Part) -> list[str]:
    if not found.count:
        return [f"{name}: none"]
    lines = [f"{name}: {found.count}"]
    lines += [f"- {item.name}{': ' + visible.line(item.note, 100) if item.note else ''}" for item in found.items]
    if found.count > len(found.items):
        lines.append(f"- and {found.count - len(found.items)} more")
    return lines
