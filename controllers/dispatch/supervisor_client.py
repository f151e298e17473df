"""The engine's side of the supervisor: finds or starts it, sends requests, and never misses the end of a run.

The files are the truth: an exit record on disk, or the word of a living supervisor that has none, decides. Events
over the socket only make it fast. After every (re)connection each watched run is asked for, so an end that happened
while nobody was connected is seen too.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controllers.dispatch.supervision.records import ExitRecord, Layout, RunPhase, check_run_id
from controllers.dispatch.supervision.wire import StartRequest
from controllers.dispatch.supervisor_link import Link, LinkLost
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock
from schemas.errors import Refused, RemitError, Retry, Terminal

_PROGRAM = Path(__file__).with_name("supervisor.py")
"""It runs by path, in a process of its own; nothing of it is needed in this one."""
_LAUNCH_TIMEOUT_S = 30.0
_ATTEMPTS = 12
_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 2.0
_PASSING = {"StateNotWritable", "Stopping", "InternalError"}


@dataclass(frozen=True, slots=True)
class RunStatus:
    """What is known of a run. ``exit`` is there when ``phase`` is Ended or Lost; ``pid`` while it runs."""

    run: str
    phase: RunPhase
    exit: ExitRecord | None = None
    pid: int | None = None


class SupervisorClient:
    """Speaks to the supervisor of ``state_dir`` and starts it when it is not there.

    ``on_exit`` is called in the event loop, once for every watched run that ended, whenever that happened. All
    requests are idempotent and repeated over lost connections. They raise ``Retry`` when the supervisor cannot be
    reached or its disk is full, ``Terminal`` when a request can never be right, ``Refused`` when the state of a run
    forbids it. One instance belongs to one event loop.
    """

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        blocking: Blocking,
        *,
        on_exit: Callable[[ExitRecord], None] | None = None,
        idle_exit_s: float | None = None,
    ) -> None:
        # One spelling: programs are known by the path of their folder, in this life and in later ones.
        self.layout = Layout(state_dir.resolve())
        self.on_exit = on_exit
        self._clock = clock
        self._blocking = blocking
        self._idle_exit_s = idle_exit_s
        self._link: Link | None = None
        self._linking = asyncio.Lock()
        self._exits: dict[str, asyncio.Future[ExitRecord]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self, request: StartRequest) -> RunStatus:
        """Start a program, once for ever per run: a run that was started before answers with where it stands.

        Returns when the start is durable. A program that could not be started is an ended run with an error.
        """
        return _status(await self._ask("start", request.run, request.to_wire()))

    async def seal(
        self, run: str, reason: str, message: str, *, canceled: bool = False, note: Mapping[str, str] | None = None
    ) -> RunStatus:
        """Close a run that must not be started any more; without effect on one that was."""
        fields = {"reason": reason, "message": message, "canceled": canceled, "note": dict(note or {})}
        return _status(await self._ask("seal", run, fields))

    async def cancel(self, run: str, grace_s: float | None = None) -> RunStatus:
        """Ask a run to end, kill it after ``grace_s`` (None: what it was started with). Returns at once; the end is
        reported as any other."""
        return _status(await self._ask("cancel", run, {} if grace_s is None else {"grace_s": grace_s}))

    async def status(self, run: str) -> RunStatus:
        """Where a run stands."""
        return _status(await self._ask("status", run))

    async def running(self) -> tuple[str, ...]:
        """Names of the runs whose end is not recorded yet, in the order of their start."""
        return tuple(str(entry["run"]) for entry in (await self._ask("list"))["runs"])

    async def ping(self) -> dict[str, Any]:
        """``{version, pid, running, spawned, stopping}`` of the supervisor."""
        return await self._ask("ping")

    async def forget(self, run: str) -> None:
        """Delete everything about an ended run. It could be started again after this, so only what is recorded
        elsewhere may be forgotten. Raises Refused with reason StillRunning."""
        await self._ask("forget", run)
        self.unwatch(run)
        await self._blocking.run(shutil.rmtree, self.layout.trash, ignore_errors=True)

    async def stop(self, *, force: bool = False) -> None:
        """Tell the supervisor to leave; nothing happens when there is none. Raises Refused with reason StillRunning
        when runs are active, unless ``force``: then they are ended like canceled ones and recorded as stopped; asked
        with ``force`` again, at once."""
        try:
            link = await Link.open(self.layout, self._clock, self._event)
        except OSError:
            return
        try:
            answer = await link.call({"op": "stop", "force": force})
        except LinkLost:
            return
        finally:
            await link.close()
        error = answer.get("error")
        if error:
            raise _refusal("stop", str(error.get("reason", "")), str(error.get("message", "")))

    def watch(self, run: str) -> None:
        """Report the end of ``run`` to ``on_exit``; also when it ended long ago. Idempotent. A run that was never
        started is reported once it was and ended."""
        check_run_id(run)
        if run not in self._exits:
            self._exits[run] = asyncio.get_running_loop().create_future()
            self._spawn(self._look(run))

    def unwatch(self, run: str) -> None:
        """Forget that ``run`` is watched."""
        exit_ = self._exits.pop(run, None)
        if exit_ is not None:
            exit_.cancel()

    async def wait_exit(self, run: str) -> ExitRecord:
        """The exit record of ``run``, as soon as there is one."""
        self.watch(run)
        return await asyncio.shield(self._exits[run])

    async def close(self) -> None:
        """Let go of the supervisor; runs go on. Idempotent."""
        self._closed = True
        if self._link is not None:
            await self._link.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for run in tuple(self._exits):
            self.unwatch(run)

    # -- requests ------------------------------------------------------------------------------------------------

    async def _ask(self, op: str, run: str = "", fields: Mapping[str, Any] | None = None) -> dict[str, Any]:
        message = {**(fields or {}), "op": op}
        if run:
            message["run"] = check_run_id(run)
        what = f"{op} of run {run}" if run else op
        pause_s = _FIRST_PAUSE_S
        for _ in range(_ATTEMPTS):
            try:
                answer = await (await self._connected()).call(message)
            except LinkLost:
                pass
            else:
                if answer.get("ok") is True:
                    return answer
                error = answer.get("error") or {}
                if error.get("reason") != "Stopping":
                    raise _refusal(what, str(error.get("reason", "")), str(error.get("message", "")))
            await self._clock.sleep(pause_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
        raise Retry(f"{what}: the supervisor of {self.layout.state_dir} does not answer; see {self.layout.log}")

    async def _connected(self) -> Link:
        async with self._linking:
            if self._closed:
                raise Terminal("the supervisor client is closed")
            if self._link is None or self._link.is_lost:
                self._link = await self._connect()
                self._spawn(self._follow(self._link))
            return self._link

    async def _connect(self) -> Link:
        try:
            return await Link.open(self.layout, self._clock, self._event)
        except OSError:
            # Nobody is there, or nobody to trust. Starting one is safe in any case: it gives way to a living one.
            word = await self._blocking.run(self._launch)
        if word not in ("ready", "taken"):
            raise Retry(f"the supervisor of {self.layout.state_dir} does not start: {word}")
        try:
            return await Link.open(self.layout, self._clock, self._event)
        except OSError as error:
            # Taken: the one that holds the directory is just starting, or just leaving.
            raise LinkLost(str(error)) from error

    def _launch(self) -> str:
        """Start a supervisor and return what it said. It inherits nothing of ours: no descriptor, no variable."""
        command = [sys.executable, "-I", "-S", "-X", "utf8", str(_PROGRAM)]
        patience = () if self._idle_exit_s is None else (str(self._idle_exit_s),)
        try:
            started = subprocess.run(
                [*command, str(self.layout.state_dir), *patience],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={"PATH": "/usr/bin:/bin"},
                cwd="/",
                timeout=_LAUNCH_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"failed {error}"
        return started.stdout.decode("utf-8", "replace").strip() or f"failed with exit code {started.returncode}"

    # -- ends of runs --------------------------------------------------------------------------------------------

    def _event(self, message: dict[str, Any]) -> None:
        if message.get("event") == "exit" and isinstance(message.get("exit"), dict):
            with contextlib.suppress(ValueError):
                self._settle(ExitRecord.from_wire(message["exit"]))

    def _settle(self, record: ExitRecord) -> None:
        exit_ = self._exits.get(record.run)
        if exit_ is not None and not exit_.done():
            exit_.set_result(record)
            if self.on_exit is not None:
                self.on_exit(record)

    async def _look(self, run: str) -> None:
        """Ask once where a watched run stands; repeated after each reconnection."""
        while run in self._exits and not self._closed:
            try:
                status = await self.status(run)
            except Retry:
                await self._clock.sleep(_LONGEST_PAUSE_S)
                continue
            except Terminal:
                # Closed meanwhile.
                return
            if status.exit is not None:
                self._settle(status.exit)
            return

    async def _follow(self, link: Link) -> None:
        """Stay with a connection until it ends; then, while somebody waits for a run, get a new one."""
        await link.lost.wait()
        for run, exit_ in tuple(self._exits.items()):
            if not exit_.done():
                self._spawn(self._look(run))

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _status(answer: Mapping[str, Any]) -> RunStatus:
    run, phase = str(answer.get("run", "")), RunPhase(answer["phase"])
    record = ExitRecord.from_wire(answer["exit"]) if isinstance(answer.get("exit"), dict) else None
    if phase is RunPhase.LOST and record is None:
        record = ExitRecord(run=run, started_at="", ended_at="", lost=True)
    return RunStatus(run, phase, record, answer.get("pid"))


def _refusal(what: str, reason: str, message: str) -> RemitError:
    if reason in _PASSING:
        return Retry(f"{what}: {message}")
    if reason == "StillRunning":
        return Refused(f"{what}: {message}", reason=reason)
    return Terminal(f"{what}: the supervisor refused it ({reason}): {message}")
