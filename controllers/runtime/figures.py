"""Figures of the process, for people and for Prometheus: a closed list of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from controllers.runtime.workqueue import WorkQueue


def of_queues(queues: Mapping[str, WorkQueue[Any]]) -> dict[str, float]:
    """What each queue holds and how long its oldest key waits, by ``queue_NAME_FIGURE``."""
    found: dict[str, float] = {}
    for name, queue in queues.items():
        try:
            stats = queue.stats()
        except RuntimeError:
            continue  # it changed under the eyes of another thread: the next look will tell
        found |= {
            f"queue_{name}_ready": stats.depth,
            f"queue_{name}_delayed": stats.delayed,
            f"queue_{name}_in_flight": stats.in_flight,
            f"queue_{name}_failing": stats.failing,
            f"queue_{name}_served": stats.served,
            f"queue_{name}_oldest_seconds": round(stats.oldest_s, 3),
        }
    return found
