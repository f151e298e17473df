"""What a long-lived part of the process and its manager say to each other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.errors import RemitError


class Lifecycle:
    """Handed to a component for one run of it.

    The component calls `ready` once it does its work (again is harmless), and ends soon after `stopping` is set.
    Returning or raising before that is a crash: the manager starts it again.
    """

    def __init__(self) -> None:
        self.stopping = asyncio.Event()
        self.is_ready = asyncio.Event()

    def ready(self) -> None:
        """The component does its work now; those started after it may begin."""
        self.is_ready.set()


Run = Callable[[Lifecycle], Awaitable[None]]
"""A component. Something with a start and a stop of its own becomes one as: start, ``life.ready()``, await
``life.stopping.wait()``, stop."""


class ComponentState(StrEnum):
    """Where a component stands."""

    PENDING = "Pending"  # not started yet
    STARTING = "Starting"  # runs, has not called ready
    READY = "Ready"
    RESTARTING = "Restarting"  # crashed; waits out its backoff
    STOPPING = "Stopping"
    STOPPED = "Stopped"


@dataclass(frozen=True, slots=True)
class ComponentHealth:
    """One line of /readyz. `since` is when the state began; `problem` is "" or what is wrong, without secrets:
    the last crash until the component is ready again, or what its own check says. `restarts` counts crashes."""

    name: str
    state: ComponentState
    since: datetime
    restarts: int
    problem: str

    @property
    def ok(self) -> bool:
        """Whether the component does its work."""
        return self.state is ComponentState.READY and not self.problem


def describe(error: BaseException) -> str:
    """An error as text for people outside: the message of our own errors, which hold no secret; of a foreign one the
    class only (the log has the rest)."""
    if isinstance(error, RemitError):
        return str(error)
    return f"{type(error).__name__}: see the log"
