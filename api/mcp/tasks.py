"""Task handles for calls that wait for a person: the extension ``io.modelcontextprotocol/tasks``.

A task lives in the proxy. Where that ends, its client makes the call again: the engine knows the question, and a leave
that was given meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS, RequestParams

from controllers.runtime.clock import Clock
from schemas.quantities import format_time

EXTENSION = "io.modelcontextprotocol/tasks"
TTL_S = 24 * 3600.0
POLL_MS = 5000
MOST_OF_CALLER = 100
_TERMINAL = ("completed", "cancelled")


class TaskParams(RequestParams):
    """Names a task."""

    task_id: str


@dataclass(slots=True)
class _Task:
    id: str
    caller: str
    message: str
    created: datetime
    updated: datetime
    until: float
    status: str = "working"
    result: dict[str, Any] | None = None
    job: asyncio.Task[None] | None = None

    def wire(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "taskId": self.id,
            "status": self.status,
            "statusMessage": self.message,
            "createdAt": format_time(self.created),
            "lastUpdatedAt": format_time(self.updated),
            "ttlMs": int(TTL_S * 1000),
            "pollIntervalMs": POLL_MS,
        }
        if self.result is not None:
            found["result"] = self.result
        return found


class Tasks:
    """The tasks of one proxy. Belongs to one event loop."""

    def __init__(self, clock: Clock, new_id: Callable[[], str]) -> None:
        self._clock = clock
        self._new_id = new_id
        self._known: dict[str, _Task] = {}

    def room(self, caller: str) -> bool:
        """Whether one more task of this caller can be kept."""
        now = self._clock.monotonic()
        for task in [t for t in self._known.values() if t.until < now and t.status in _TERMINAL]:
            del self._known[task.id]
        return sum(task.caller == caller for task in self._known.values()) < MOST_OF_CALLER

    def start(self, caller: str, message: str, work: Callable[[], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
        """Let ``work`` go on in the background; the handle, as a result of ``tools/call``. ``work`` gives the result of
        the call as it goes out, and raises nothing but CancelledError."""
        now = self._clock.now()
        task = _Task(self._new_id(), caller, message, now, now, self._clock.monotonic() + TTL_S)
        self._known[task.id] = task

        async def carry_out() -> None:
            try:
                task.result = await work()
                task.status, task.message = "completed", "answered"
            except asyncio.CancelledError:
                task.status, task.message = "cancelled", "cancelled before it was answered"
            finally:
                task.updated = self._clock.now()

        task.job = asyncio.create_task(carry_out(), name="mcp-task")
        return {"resultType": "task", **task.wire()}

    def get(self, caller: str, task_id: str) -> dict[str, Any]:
        """How it stands. Raises MCPError for a task that is not this caller's."""
        return {"resultType": "complete", **self._find(caller, task_id).wire()}

    def cancel(self, caller: str, task_id: str) -> dict[str, Any]:
        """Give up waiting. A call that is being made goes on."""
        task = self._find(caller, task_id)
        if task.job is not None and task.status == "working":
            task.job.cancel()
        return {"resultType": "complete"}

    async def aclose(self) -> None:
        """Give up all of them."""
        jobs = [task.job for task in self._known.values() if task.job is not None]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)

    def _find(self, caller: str, task_id: str) -> _Task:
        task = self._known.get(task_id)
        if task is None or task.caller != caller:
            raise MCPError(code=INVALID_PARAMS, message="there is no such task")
        return task
