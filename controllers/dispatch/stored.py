"""Executors whose runs stand in the store and live on no engine's machine: Pull, Http, KubernetesJob."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from controllers.dispatch.executor import EndedRun, RunOrder
from controllers.runtime.blocking import Blocking


class StoredRuns:
    """The part of ``executor.Executor`` that is the same for all of them. ``offer`` has a run begun elsewhere,
    ``withdraw`` ends it or has whoever works on it told; each in one transaction of its own, and idempotent by the
    run's uid. None for ``offer``: an ordered run is its own offer.
    """

    def __init__(
        self, blocking: Blocking, *, withdraw: Callable[[str], None], offer: Callable[[str], None] | None = None
    ) -> None:
        self._blocking = blocking
        self._offer = offer
        self._withdraw = withdraw

    async def open(self) -> None:
        """See ``Executor.open``: what is open stands in the store."""

    async def start(self, order: RunOrder) -> None:
        """See ``Executor.start``: the run is offered, and begins when a worker takes it."""
        if self._offer is not None:
            await self._blocking.run(self._offer, order.run_uid)

    async def cancel(self, run_uid: str, grace_s: float) -> None:
        """See ``Executor.cancel``. How long the worker takes is its own affair, up to the run's deadline."""
        await self._blocking.run(self._withdraw, run_uid)

    async def outcomes(self) -> AsyncIterator[EndedRun]:
        """See ``Executor.outcomes``: none come this way, ends are recorded as they are reported or seen."""
        never: asyncio.Queue[EndedRun] = asyncio.Queue()
        while True:
            yield await never.get()

    async def acknowledge(self, run_uid: str) -> None:
        """See ``Executor.acknowledge``."""

    async def close(self) -> None:
        """See ``Executor.close``."""
