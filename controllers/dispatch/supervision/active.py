"""One run from its start to its exit record: output, deadline, stopping, and what it leaves behind.

::

    running --> (asked: SIGTERM to the group) --> (killed: SIGKILL after the grace) --> main program ended
    main program ended --> settling: what it left behind ends, is asked to, is killed; output reaches its end
    settling --> record written, main program reaped

While a run settles its main program stays a zombie, so its pid and process group cannot be given to a stranger that
our signals would then hit.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

from controllers.dispatch.supervision import processes
from controllers.dispatch.supervision.capture import Capture
from controllers.dispatch.supervision.loop import READ, Loop, Timer
from controllers.dispatch.supervision.processes import ExitStatus, ProcessStat
from controllers.dispatch.supervision.records import ExitRecord, RunFolder
from controllers.dispatch.supervision.wire import StartRequest

LEFTOVER_GRACE_S = 0.25
LEFTOVER_ASK_S = 2.0
LEFTOVER_KILL_S = 5.0
OUTPUT_WAIT_S = 1.0
_TICK_S = 0.02

CANCELED, TIMED_OUT, STOPPED = "canceled", "timed_out", "stopped"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a run needs from the supervisor. ``leftovers`` lists living processes that the run left behind;
    ``on_settled`` takes the finished run and its record."""

    loop: Loop
    wall_clock: Callable[[], str]
    leftovers: Callable[[ActiveRun], list[ProcessStat]]
    on_settled: Callable[[ActiveRun, ExitRecord], None]


class ActiveRun:
    """A program that was started and whose exit record is not written yet."""

    def __init__(
        self,
        request: StartRequest,
        folder: RunFolder,
        pid: int,
        captures: tuple[Capture, Capture],
        started_at: str,
        surroundings: Surroundings,
    ) -> None:
        self.name = request.run
        self.folder = folder
        self.pid = pid
        self.started_at = started_at
        self.grace_s = request.kill_grace_s
        self._start_ticks: int | None = None
        self.exit: ExitStatus | None = None
        self.is_settled = False
        self._around = surroundings
        self._loop = surroundings.loop
        self._captures = captures
        self._started = self._loop.now()
        self._ended = 0.0
        self._ended_at = ""
        self._cause = ""
        self._kill_at: float | None = None
        self._timers: list[Timer] = []
        self._next_look: Timer | None = None
        self._asked: set[tuple[int, int]] = set()
        self._in_a_hurry = False
        for capture in captures:
            self._loop.watch(capture.source, READ, self._drainer(capture))
        if request.deadline_s is not None:
            self._later(request.deadline_s, lambda: self.stop(TIMED_OUT, request.kill_grace_s))

    @property
    def start_ticks(self) -> int:
        """When the main program started, in ticks since boot; 0 where the system does not tell."""
        if self._start_ticks is None:
            stat = processes.read_stat(self.pid)
            self._start_ticks = stat.start_ticks if stat is not None else 0
        return self._start_ticks

    def stop(self, cause: str, grace_s: float) -> None:
        """Ask the process group to end, and kill it after ``grace_s``. Idempotent: the first cause is the one that
        is recorded, the earliest kill is the one that happens. A program that has ended keeps its own ending."""
        self.check_exit()
        if self.exit is not None:
            self._in_a_hurry = True
            self._settle()
            return
        kill_at = self._loop.now() + grace_s
        if not self._cause:
            self._cause = cause
            processes.signal_group(self.pid, signal.SIGTERM)
            # A stopped process acts on no signal but SIGKILL.
            processes.signal_group(self.pid, signal.SIGCONT)
        if self._kill_at is None or kill_at < self._kill_at:
            self._kill_at = kill_at
            self._later(grace_s, self._kill)

    def check_exit(self) -> None:
        """Notice that the main program ended. Cheap; called for every SIGCHLD."""
        if self.exit is not None:
            return
        self.exit = processes.peek_exit(self.pid)
        if self.exit is not None:
            self._ended, self._ended_at = self._loop.now(), self._around.wall_clock()
            self._settle()

    def _kill(self) -> None:
        if self.exit is None:
            self._in_a_hurry = True
            processes.signal_group(self.pid, signal.SIGKILL)

    def _drainer(self, capture: Capture) -> Callable[[], None]:
        def drain() -> None:
            if not capture.pump():
                self._loop.unwatch(capture.source)
                capture.close()
                if self.exit is not None:
                    self._settle()
                return
            pause_s = capture.pause_s(self._loop.now())
            if pause_s > 0:
                self._loop.unwatch(capture.source)
                self._later(pause_s, resume)

        def resume() -> None:
            if capture.is_open:
                self._loop.watch(capture.source, READ, drain)

        return drain

    def _settle(self) -> None:
        """One look at what is left; comes back until nothing is, or until it gives up."""
        if self.is_settled:
            return
        waited = self._loop.now() - self._ended
        spent = waited + (LEFTOVER_GRACE_S + LEFTOVER_ASK_S if self._in_a_hurry else 0.0)
        left = self._around.leftovers(self)
        if left:
            if spent >= LEFTOVER_GRACE_S + LEFTOVER_ASK_S + LEFTOVER_KILL_S:
                self._finish(may_be_running=True)
                return
            if spent >= LEFTOVER_GRACE_S + LEFTOVER_ASK_S:
                self._signal(left, signal.SIGKILL)
            elif spent >= LEFTOVER_GRACE_S:
                self._signal([s for s in left if (s.pid, s.start_ticks) not in self._asked], signal.SIGTERM)
        elif not any(capture.is_open for capture in self._captures) or waited >= OUTPUT_WAIT_S:
            # Beyond the wait, whoever holds the pipe is not ours to end: it was handed over a socket.
            self._finish(may_be_running=False)
            return
        if self._next_look is not None:
            self._next_look.cancel()
        self._next_look = self._later(_TICK_S, self._settle)

    def _signal(self, left: list[ProcessStat], number: signal.Signals) -> None:
        if any(stat.group == self.pid for stat in left):
            processes.signal_group(self.pid, number)
        for stat in left:
            self._asked.add((stat.pid, stat.start_ticks))
            if stat.group != self.pid:
                processes.signal_process(stat.pid, number)

    def _finish(self, *, may_be_running: bool) -> None:
        self.is_settled = True
        for timer in self._timers:
            timer.cancel()
        for capture in self._captures:
            self._loop.unwatch(capture.source)
            if capture.is_open:
                # On a machine too busy for this loop its wait may be over before it looked at the pipe once.
                capture.drain()
            capture.close()
        processes.reap(self.pid)
        stdout, stderr = self._captures
        status = self.exit or ExitStatus(None, None)
        record = ExitRecord(
            run=self.name,
            started_at=self.started_at,
            ended_at=self._ended_at,
            duration_ms=round((self._ended - self._started) * 1000),
            exit_code=status.code,
            signal=status.signal,
            timed_out=self._cause == TIMED_OUT,
            canceled=self._cause == CANCELED,
            stopped=self._cause == STOPPED,
            lost=status.code is None and status.signal is None,
            stdout_bytes=stdout.total,
            stderr_bytes=stderr.total,
            stdout_dropped=stdout.dropped,
            stderr_dropped=stderr.dropped,
            log_error=stdout.error or stderr.error,
            leftovers=len(self._asked),
            may_be_running=may_be_running,
        )
        self._around.on_settled(self, record)

    def _later(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        timer = self._loop.call_later(delay_s, callback)
        self._timers = [timer, *(other for other in self._timers if other.callback is not None)]
        return timer
