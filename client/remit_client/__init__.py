"""What an agent uses to work under Remit: the mission it was given, and ways to report on it.

A program that a Remit Executor starts opens its run, works, and hands in::

    from remit_client import Run

    with Run.from_environment() as run:
        run.progress("reading", percent=10)
        ...
        run.complete(text, self_review="Every figure was checked against its source.")

``AsyncRun`` is the same for asyncio programs. Heartbeats are sent by themselves; ``run.canceled`` turns true when the
run is to stop; an engine that restarts is waited for. Only httpx2 and the standard library are used, and nothing of
Remit itself: this package lives in other people's environments. ``remit_client.agents`` holds the agents that Remit
ships.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remit_client.assignment import Assignment
    from remit_client.async_run import AsyncRun
    from remit_client.clock import Clock, SystemClock
    from remit_client.errors import (
        AlreadyDone,
        BadAnswer,
        Canceled,
        ClientError,
        Conflict,
        Denied,
        EngineUnreachable,
        Failure,
        NotConfigured,
        NotInScope,
        Problem,
        RateLimited,
        Rejected,
        RunOver,
    )
    from remit_client.guards import guard, guarded
    from remit_client.protocol import Decision, Notice, Usage
    from remit_client.retry import RetryPolicy
    from remit_client.run import Run

__all__ = [
    "AlreadyDone",
    "Assignment",
    "AsyncRun",
    "BadAnswer",
    "Canceled",
    "ClientError",
    "Clock",
    "Conflict",
    "Decision",
    "Denied",
    "EngineUnreachable",
    "Failure",
    "NotConfigured",
    "NotInScope",
    "Notice",
    "Problem",
    "RateLimited",
    "Rejected",
    "RetryPolicy",
    "Run",
    "RunOver",
    "SystemClock",
    "Usage",
    "guard",
    "guarded",
]

_HOMES = {
    "AlreadyDone": "errors",
    "Assignment": "assignment",
    "AsyncRun": "async_run",
    "BadAnswer": "errors",
    "Canceled": "errors",
    "ClientError": "errors",
    "Clock": "clock",
    "Conflict": "errors",
    "Decision": "protocol",
    "Denied": "errors",
    "EngineUnreachable": "errors",
    "Failure": "errors",
    "NotConfigured": "errors",
    "NotInScope": "errors",
    "Notice": "protocol",
    "Problem": "errors",
    "RateLimited": "errors",
    "Rejected": "errors",
    "RetryPolicy": "retry",
    "Run": "run",
    "RunOver": "errors",
    "SystemClock": "clock",
    "Usage": "protocol",
    "guard": "guards",
    "guarded": "guards",
}
"""Where each name lives. They are imported at their first use: a hook needs none of them, and has to start fast."""


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)
