"""How a run was handed to a worker behind HTTP: its requests, and the worker's circuit breaker."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cli.output import age, table
from schemas.quantities import format_time, parse_time

if TYPE_CHECKING:
    from schemas.resource import Resource
    from store.contract import Snapshot

_MOST = 10_000


def section(status: Mapping[str, Any], now: datetime) -> list[str]:
    """The latest requests of a run, oldest first; [] for one that is carried otherwise."""
    post = status.get("post")
    if not post:
        return []
    lines = [f"Idempotency-Key: {post['key']}"]
    if post.get("waitsFor"):
        lines.append(f"Waits for {post['waitsFor']}, which is left alone for a while")
    rows = [
        [str(r["number"]), age(parse_time(r["at"]), now), r.get("method", "POST"), r["url"],
         str(r.get("status") or "-"), f"{r.get('latencyMs', 0)} ms", r.get("error") or "-"]
        for r in post.get("log", ())
    ]  # fmt: skip
    if rows:
        lines += table(rows, ["NO", "AGE", "METHOD", "URL", "STATUS", "TOOK", "PROBLEM"]).splitlines()
    return lines


def circuit(status: Mapping[str, Any]) -> list[str]:
    """Whether the worker of an Http executor is sent runs; [] for one that was sent none yet."""
    found = status.get("circuit")
    if not found:
        return []
    lines = [f"{found.get('state', 'Closed')}, {found.get('failures', 0)} failures in a row"]
    if found.get("state") == "Open" and found.get("openUntil"):
        lines.append(f"left alone until {found['openUntil']}; then one run tries whether it works again")
    if found.get("lastFailure"):
        lines.append(f"last failure: {found['lastFailure']}")
    return lines


def request_lines(snapshot: Snapshot, run: Resource) -> list[str]:
    """Every request of a run that the event log knows, one a line."""
    events = snapshot.events(subject_uid=run.uid, types=["RunPosted"], limit=_MOST)
    return [f"{format_time(event.at)} attempt {event.data.get('attempt', '?')} {event.message}" for event in events]
