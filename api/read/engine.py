"""What the read API is told of the engine that it is a part of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ParamSpec, Protocol, TypeVar

from decisions.costs import Used
from store.contract import Snapshot

P = ParamSpec("P")
T = TypeVar("T")


class Clock(Protocol):
    """Where time comes from (``controllers.runtime.clock.Clock``)."""

    def now(self) -> datetime:
        """Wall time, aware, UTC."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary origin."""

    async def sleep(self, seconds: float) -> None:
        """Suspend for at least ``seconds``."""


class Blocking(Protocol):
    """Runs what blocks without blocking the event loop (``controllers.runtime.blocking.Blocking``)."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of ``work``; its exception is raised here."""


class Health(Protocol):
    """One component (``controllers.runtime.lifecycle.ComponentHealth``). ``state`` is a word such as Ready;
    ``problem`` is "" or what is wrong, without secrets."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def state(self) -> str:
        """Where it stands."""

    @property
    def since(self) -> datetime:
        """Since when."""

    @property
    def restarts(self) -> int:
        """How often it crashed."""

    @property
    def problem(self) -> str:
        """What is wrong."""

    @property
    def ok(self) -> bool:
        """Whether it does its work."""


def _no_components() -> Sequence[Health]:
    return ()


def _no_costs(_: Snapshot, __: str | None, ___: datetime | None) -> Iterable[Used]:
    return ()


class Feeds(Protocol):
    """What is due when (``controllers.calendars``), in [begin, end) of a namespace or of all."""

    def document(self, snapshot: Snapshot, begin: datetime, end: datetime, namespace: str | None) -> dict[str, Any]:
        """As JSON."""

    def ics(self, snapshot: Snapshot, begin: datetime, end: datetime, namespace: str | None, now: datetime) -> bytes:
        """As iCalendar."""


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """``health`` lists every component in the order of starting. ``used`` gathers what was used: (snapshot, namespace
    or None for all, since or None). ``figures`` are gauges of the process by name, such as queue lengths: a closed
    list of names, never one from a spec. ``feeds`` tell what is due when. ``settings`` is the configuration without
    secrets, with where each value comes from, for people. ``project`` is the name of the project's folder; ``profile``
    how careful the engine is."""

    health: Callable[[], Sequence[Health]] = _no_components
    used: Callable[[Snapshot, str | None, datetime | None], Iterable[Used]] = _no_costs
    figures: Callable[[], dict[str, float]] = dict
    feeds: Feeds | None = None
    settings: dict[str, str] = field(default_factory=dict)
    project: str = ""
    profile: str = "Workstation"
