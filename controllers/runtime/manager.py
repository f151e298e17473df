"""The manager: starts the parts of the process in order, keeps them running, and ends them in the reverse order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from controllers.runtime.backoff import Backoff
from controllers.runtime.clock import Clock, wait_for_any
from controllers.runtime.lifecycle import ComponentHealth, ComponentState, Lifecycle, Run, describe

log = logging.getLogger(__name__)

DRAIN_S = 30.0
CANCEL_S = 5.0
READY_S = 10.0
_RESTART = Backoff(initial_s=0.75, maximum_s=60.0)


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """How a shutdown went: the components that had to be cancelled because they did not end in time, and of those the
    ones that did not end then either. Such a component waits for a thread, which would hold up the end of the loop
    and of the interpreter: the caller says so and leaves with `os._exit`."""

    cancelled: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Whether everything ended by itself."""
        return not self.cancelled


class _Component:
    """One part and its supervision."""

    def __init__(
        self, name: str, run: Run, check: Callable[[], str] | None, grace_s: float | None, clock: Clock, random: Random
    ) -> None:
        self.name = name
        self.grace_s = grace_s
        self.task: asyncio.Task[None] | None = None
        self.stopping = asyncio.Event()
        self.ready = asyncio.Event()  # set at the first ready, for the start order; stays set through crashes
        self._run = run
        self._check = check
        self._clock = clock
        self._random = random
        self._life: Lifecycle | None = None
        self._state = ComponentState.PENDING
        self._since = clock.now()
        self._restarts = 0
        self._problem = ""

    def health(self) -> ComponentHealth:
        state, problem = self._state, self._problem
        if state is ComponentState.READY and self._check is not None:
            try:
                problem = self._check()
            except Exception as error:
                log.exception("the health check of %s failed", self.name)
                problem = f"the health check failed: {describe(error)}"
        return ComponentHealth(self.name, state, self._since, self._restarts, problem)

    def stop(self) -> None:
        """Ask it to end."""
        self.stopping.set()
        if self._life is not None:
            self._life.stopping.set()
        if self.task is not None and not self.task.done():
            self._enter(ComponentState.STOPPING)

    async def supervise(self) -> None:
        """Run until stopped; after a crash run again, with backoff."""
        failures = 0
        try:
            while not self.stopping.is_set():
                self._enter(ComponentState.STARTING)
                started = self._clock.monotonic()
                error = await self._once()
                if self.stopping.is_set():
                    if error is not None:
                        log.error("%s failed while it ended", self.name, exc_info=error)
                    break
                if self._clock.monotonic() - started > _RESTART.maximum_s:
                    failures = 0
                failures += 1
                delay = _RESTART.delay(failures, self._random)
                self._restarts += 1
                self._problem = "ended before it was asked to" if error is None else describe(error)
                self._enter(ComponentState.RESTARTING)
                log.error("%s: %s; starts again in %.1f s", self.name, self._problem, delay, exc_info=error)
                await wait_for_any(self._clock, delay, self.stopping)
        finally:
            self._enter(ComponentState.STOPPED)

    async def _once(self) -> BaseException | None:
        """One run. Returns what it raised, None when it returned; raises only when this task itself is cancelled."""
        life = self._life = Lifecycle()
        watch = asyncio.create_task(self._watch_ready(life))
        try:
            await self._run(life)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return error
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - whatever it is, the component is started again
            return error
        finally:
            watch.cancel()
            self._life = None
        return None

    async def _watch_ready(self, life: Lifecycle) -> None:
        await life.is_ready.wait()
        self.ready.set()
        self._problem = ""
        if not self.stopping.is_set():
            self._enter(ComponentState.READY)

    def _enter(self, state: ComponentState) -> None:
        if state is not self._state:
            self._state = state
            self._since = self._clock.now()


class Manager:
    """Runs components (`lifecycle.Run`): controllers, pollers, servers.

    They start in the order of `add`, each when the one before is ready, or after `ready_s` seconds without that: one
    unreachable repository does not keep the rest of the engine from its work. A component that returns or raises is
    logged, shown in `health`, and started again with backoff; none is lost silently. One manager runs once.
    """

    def __init__(self, clock: Clock, random: Random, *, ready_s: float = READY_S) -> None:
        self._clock = clock
        self._random = random
        self._ready_s = ready_s
        self._components: list[_Component] = []
        self._started = False

    def add(self, name: str, run: Run, *, check: Callable[[], str] | None = None, grace_s: float | None = None) -> None:
        """Register a component before `run`. `check` says "" or what is wrong with it while it is ready. `grace_s` is
        how long it may take to end; None leaves it all of the drain's time. ValueError for a name that is taken."""
        if self._started:
            raise RuntimeError(f"{name} comes too late: the manager already runs")
        if any(component.name == name for component in self._components):
            raise ValueError(f"a component named {name} is registered already")
        self._components.append(_Component(name, run, check, grace_s, self._clock, self._random))

    def health(self) -> tuple[ComponentHealth, ...]:
        """Every component, in the order of starting."""
        return tuple(component.health() for component in self._components)

    @property
    def ready(self) -> bool:
        """Whether every component does its work."""
        return all(health.ok for health in self.health())

    async def run(self, stop: asyncio.Event, *, drain_s: float = DRAIN_S) -> ShutdownReport:
        """Start everything, wait for `stop`, then end everything in reverse order: each component is asked, and
        cancelled if it takes longer than its grace or than what is left of `drain_s`. Returns at most `drain_s` plus
        ten seconds after `stop`. Cancelling this call cancels every component and skips the drain.
        """
        if self._started:
            raise RuntimeError("a manager runs once")
        self._started = True
        try:
            for component in self._components:
                if stop.is_set():
                    break
                component.task = asyncio.create_task(component.supervise(), name=component.name)
                if not await wait_for_any(self._clock, self._ready_s, component.ready, stop):
                    log.warning("%s is not ready after %g s; going on without it", component.name, self._ready_s)
            await stop.wait()
            return await self._drain(drain_s)
        except asyncio.CancelledError:
            await self._end(self._components)
            raise

    async def _drain(self, drain_s: float) -> ShutdownReport:
        deadline = self._clock.monotonic() + drain_s
        cancelled: list[str] = []
        stuck: list[str] = []
        remaining = [c for c in reversed(self._components) if c.task is not None]
        while remaining and (left := deadline - self._clock.monotonic()) > 0:
            component = remaining.pop(0)
            component.stop()
            grace_s = left if component.grace_s is None else min(left, component.grace_s)
            if not await self._ended([component], grace_s):
                cancelled.append(component.name)
                stuck += await self._end([component])
        for component in remaining:
            component.stop()
        cancelled += [c.name for c in remaining]
        stuck += await self._end(remaining)
        if cancelled:
            log.warning("cancelled at shutdown because they did not end: %s", ", ".join(cancelled))
        if stuck:
            log.error("still running after their cancellation: %s", ", ".join(stuck))
        return ShutdownReport(tuple(cancelled), tuple(stuck))

    async def _end(self, components: Sequence[_Component]) -> list[str]:
        """Cancel and wait a little. Returns the names of those that still run."""
        for component in components:
            component.stop()
            if component.task is not None:
                component.task.cancel()
        await self._ended(components, CANCEL_S)
        return [c.name for c in components if c.task is not None and not c.task.done()]

    async def _ended(self, components: Sequence[_Component], seconds: float) -> bool:
        """Wait for the end of all, `seconds` at most. Returns whether all ended. Never raises what they raised."""
        tasks = [c.task for c in components if c.task is not None and not c.task.done()]
        ended = asyncio.Event()

        def check(_: asyncio.Task[None]) -> None:
            if all(task.done() for task in tasks):
                ended.set()

        for task in tasks:
            task.add_done_callback(check)
        try:
            return not tasks or await wait_for_any(self._clock, seconds, ended)
        finally:
            for task in tasks:
                task.remove_done_callback(check)
