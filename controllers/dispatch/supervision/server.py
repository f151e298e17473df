"""The supervisor at work: takes requests over its socket, holds the active runs, and writes how each one ended."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from controllers.dispatch.supervision import address, processes, records, spawn, wire
from controllers.dispatch.supervision.active import CANCELED, STOPPED, ActiveRun, Surroundings
from controllers.dispatch.supervision.connection import Connection
from controllers.dispatch.supervision.family import Family
from controllers.dispatch.supervision.loop import READ, Loop, Timer
from controllers.dispatch.supervision.records import ExitError, ExitRecord, Layout, RunFolder, RunPhase
from controllers.dispatch.supervision.starts import Starts
from controllers.dispatch.supervision.wire import StartRequest

MAX_CONNECTIONS = 64
_HOUSEKEEPING_S = 1.0
_REWRITE_S = 1.0
_SETTLE_S = 1.0
"""How long the files of a start may depend on the journal."""
_ACCEPT_PAUSE_S = 0.1
_DIRECTORY_CHECK_S = 2.0


class RequestRefused(Exception):
    """The answer to a request that is not carried out. Nothing changed; asking again later is safe."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


def wall_clock() -> str:
    """Now, RFC 3339 in UTC with milliseconds. This process has no engine clock to ask."""
    now_ms = time.time_ns() // 1_000_000
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now_ms // 1000))}.{now_ms % 1000:03d}Z"


def log(text: str) -> None:
    """A line in the supervisor's log; a full disk costs the line and nothing else."""
    with contextlib.suppress(OSError):
        os.write(2, f"{wall_clock()} {text}\n".encode("utf-8", "replace"))


class Server:
    """Serves one state directory until it is told to stop or nobody needs it any more.

    ``lock`` is the descriptor of its lock file, ``listener`` a listening, non-blocking Unix socket. After
    ``idle_exit_s`` seconds without a connection and without a run, ``serve`` returns; so it does, after ending its
    runs, when the directory was deleted or replaced.
    """

    def __init__(
        self,
        layout: Layout,
        lock: int,
        listener: socket.socket,
        *,
        idle_exit_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.layout = layout
        self._lock = lock
        self._listener = listener
        self._idle_exit_s = idle_exit_s
        self._loop = Loop(monotonic, lambda error: log(f"fault, going on: {error!r}"))
        self._runs: dict[str, ActiveRun] = {}
        self._unwritten: dict[str, ExitRecord] = {}
        self._starts = Starts(layout)
        self._settling = False
        self._family = Family(self._runs, layout.runs)
        self._connections: set[Connection] = set()
        self._around = Surroundings(self._loop, wall_clock, self._family.leftovers, self._settled)
        self._stopping = False
        self._done = False
        self._idle: Timer | None = None
        self._watching_strays = False
        self._spawn_count = 0
        self._boot_id = processes.boot_id()
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "ping": self._ping,
            "start": self._start,
            "seal": self._seal,
            "cancel": self._cancel,
            "status": self._status,
            "list": self._list,
            "forget": self._forget,
            "stop": self._stop,
        }

    def serve(self) -> None:
        """Run until done. Call once, from the main thread."""
        signals, wake = socket.socketpair()
        for end in (signals, wake):
            end.setblocking(False)
        # A full wake-up pipe is fine: one byte is enough to make us look at everything.
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, _noticed)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._loop.watch(signals.fileno(), READ, lambda: self._on_signals(signals))
        self._listen()
        self._idle_changed()
        self._check_directory()
        while not self._done:
            self._loop.turn()
        for connection in tuple(self._connections):
            connection.close()
        signal.set_wakeup_fd(-1)
        self._loop.close()
        for end in (signals, wake, self._listener):
            end.close()
        with contextlib.suppress(OSError):
            self._starts.settle()
        self._starts.close()

    def dispatch(self, message: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request and return the answer; never raises."""
        number = message.get("id")
        operation = self._operations.get(str(message.get("op")))
        try:
            if operation is None:
                raise RequestRefused("UnknownOperation", "this supervisor does not know the operation")
            return {"id": number, "ok": True, **operation(message)}
        except RequestRefused as refusal:
            error = {"reason": refusal.reason, "message": str(refusal)}
        except ValueError as problem:
            error = {"reason": "InvalidRequest", "message": str(problem)}
        except Exception as fault:  # noqa: BLE001 - one request must not end the runs of all others
            log(f"fault in {message.get('op')}: {fault!r}")
            error = {"reason": "InternalError", "message": "a fault in the supervisor; its log says more"}
        return {"id": number, "ok": False, "error": error}

    # -- operations ----------------------------------------------------------------------------------------------

    def _ping(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "version": wire.VERSION,
            "pid": os.getpid(),
            "running": len(self._runs),
            "spawned": self._spawn_count,
            "stopping": self._stopping,
        }

    def _start(self, message: dict[str, Any]) -> dict[str, Any]:
        request = StartRequest.from_wire(message)
        folder = self.layout.run(request.run)
        known = self._describe(request.run, folder)
        if known["phase"] != RunPhase.UNKNOWN:
            return known
        if self._stopping:
            raise RequestRefused("Stopping", "the supervisor is stopping; a new one will take the request")
        streams, started_at = self._prepare(request, folder)
        try:
            pid = spawn.launch(request, streams)
        except spawn.SpawnError as error:
            streams.close()
            self._record(_never_ran(request.run, started_at, ExitError(error.reason, str(error))))
            return self._describe(request.run, folder)
        self._spawn_count += 1
        captures = (streams.stdout, streams.stderr)
        run = ActiveRun(request, folder, pid, captures, started_at, self._around)
        self._runs[request.run] = run
        self._idle_changed()
        # Only a successor that finds the run lost needs it, so it must not delay the answer.
        self._loop.call_later(0.0, lambda: self._note_process(run))
        return self._describe(request.run, folder)

    def _note_process(self, run: ActiveRun) -> None:
        process = {"pid": run.pid, "start_ticks": run.start_ticks, "boot_id": self._boot_id}
        try:
            records.replace_record(run.folder.process, process, durable=False)
        except OSError as error:
            log(f"run {run.name}: cannot note its process: {error}")

    def _prepare(self, request: StartRequest, folder: RunFolder) -> tuple[spawn.Streams, str]:
        """Everything that may fail without consequences, then the record that makes the start count."""
        try:
            folder.path.mkdir(mode=0o700, exist_ok=True)
            streams = spawn.open_streams(request, folder)
        except OSError as error:
            raise RequestRefused("StateNotWritable", f"cannot prepare {folder.path}: {error.strerror}") from None
        started_at = wall_clock()
        started = {
            "version": wire.VERSION,
            "run": request.run,
            "argv": request.argv,
            "cwd": request.cwd,
            "env_names": sorted(request.env),
            "stdin_file": request.stdin_file,
            "deadline_s": request.deadline_s,
            "note": request.note,
            "started_at": started_at,
            "supervisor": os.getpid(),
        }
        try:
            self._create_started(folder, started, durable=False)
            try:
                self._starts.add(request.run, started)
            except OSError:
                folder.started.unlink()
                raise
        except OSError as error:
            streams.close()
            raise RequestRefused("StateNotWritable", f"cannot write {folder.started}: {error.strerror}") from None
        if not self._settling:
            self._settling = True
            self._loop.call_later(_SETTLE_S, self._settle_starts)
        return streams, started_at

    def _create_started(self, folder: RunFolder, started: dict[str, Any], *, durable: bool) -> None:
        try:
            records.create_record(folder.started, started, durable=durable)
        except FileExistsError:
            # Incomplete, else the run would be known: a crash came before the fsync that precedes every start.
            folder.started.unlink()
            records.create_record(folder.started, started, durable=durable)
        if durable:
            records.sync_directory(self.layout.runs)

    def _settle_starts(self) -> None:
        self._settling = False
        try:
            self._starts.settle()
        except OSError as error:
            log(f"what was started is in the journal only, trying again: {error}")
            self._settling = True
            self._loop.call_later(_SETTLE_S, self._settle_starts)

    def _seal(self, message: dict[str, Any]) -> dict[str, Any]:
        """Close a run that was never started, so that no later start can begin it."""
        name = records.check_run_id(message.get("run"))
        folder = self.layout.run(name)
        known = self._describe(name, folder)
        if known["phase"] != RunPhase.UNKNOWN:
            return known
        now = wall_clock()
        note = wire.note_of(message)
        started = {"version": wire.VERSION, "run": name, "sealed": True, "started_at": now, "note": note}
        error = ExitError(str(message.get("reason", "Sealed")), str(message.get("message", "")))
        try:
            folder.path.mkdir(mode=0o700, exist_ok=True)
            self._create_started(folder, started, durable=True)
        except OSError as problem:
            raise RequestRefused("StateNotWritable", f"cannot write {folder.started}: {problem.strerror}") from None
        self._record(_never_ran(name, now, error, canceled=message.get("canceled") is True))
        return self._describe(name, folder)

    def _cancel(self, message: dict[str, Any]) -> dict[str, Any]:
        name = records.check_run_id(message.get("run"))
        run = self._runs.get(name)
        if run is not None:
            run.stop(CANCELED, wire.seconds(message.get("grace_s", run.grace_s), "grace_s"))
        return self._describe(name, self.layout.run(name))

    def _status(self, message: dict[str, Any]) -> dict[str, Any]:
        name = records.check_run_id(message.get("run"))
        return self._describe(name, self.layout.run(name))

    def _list(self, message: dict[str, Any]) -> dict[str, Any]:
        return {
            "runs": [{"run": run.name, "pid": run.pid, "started_at": run.started_at} for run in self._runs.values()]
        }

    def _forget(self, message: dict[str, Any]) -> dict[str, Any]:
        """Move the folder of an ended run out of sight. The caller deletes it: that may take long."""
        name = records.check_run_id(message.get("run"))
        folder = self.layout.run(name)
        phase = self._describe(name, folder)["phase"]
        if phase == RunPhase.RUNNING:
            raise RequestRefused("StillRunning", f"run {name} has not ended; cancel it first")
        self._unwritten.pop(name, None)
        self._starts.settle()  # else the journal would bring it back
        self.layout.trash.mkdir(mode=0o700, exist_ok=True)
        try:
            folder.path.rename(self.layout.trash / f"{name}.{time.time_ns()}")
        except FileNotFoundError:
            pass
        except OSError:
            # Another file system, or no room for an entry.
            shutil.rmtree(folder.path, ignore_errors=True)
        return {"phase": RunPhase.UNKNOWN}

    def _stop(self, message: dict[str, Any]) -> dict[str, Any]:
        if self._runs and message.get("force") is not True:
            count = len(self._runs)
            raise RequestRefused("StillRunning", f"{count} runs are active; cancel them or stop with force")
        self._begin_stop()
        return {"stopping": True, "running": len(self._runs)}

    # -- runs ----------------------------------------------------------------------------------------------------

    def _describe(self, name: str, folder: RunFolder) -> dict[str, Any]:
        run = self._runs.get(name)
        if run is not None:
            return {"run": name, "phase": RunPhase.RUNNING, "pid": run.pid, "started_at": run.started_at}
        record = self._unwritten.get(name)
        if record is not None:
            return {"run": name, "phase": RunPhase.ENDED, "exit": record.to_wire()}
        phase, record = records.phase_on_disk(folder)
        answer: dict[str, Any] = {"run": name, "phase": phase}
        if record is not None:
            answer["exit"] = record.to_wire()
        return answer

    def _settled(self, run: ActiveRun, record: ExitRecord) -> None:
        del self._runs[run.name]
        self._record(record)
        self._watch_strays()
        if self._stopping and not self._runs:
            self._finish()
        self._idle_changed()

    def _record(self, record: ExitRecord) -> None:
        """Make the end of a run durable, then tell everybody. While the disk is full the record stays in memory,
        and is told and shown from there."""
        try:
            self._starts.keep(record.run)
            records.replace_record(self.layout.run(record.run).exit, record.to_wire())
            self._starts.kept(record.run)
        except OSError as error:
            if not self.layout.run(record.run).path.is_dir():
                log(f"run {record.run}: its folder was deleted, so its end is recorded nowhere")
                if self._unwritten.pop(record.run, None) is None:
                    self._tell(record)
                self._idle_changed()
                return
            if record.run not in self._unwritten:
                log(f"run {record.run}: cannot write its exit record, trying again: {error}")
                self._unwritten[record.run] = record
                self._tell(record)
            self._loop.call_later(_REWRITE_S, lambda: self._rewrite(record))
            return
        if self._unwritten.pop(record.run, None) is None:
            self._tell(record)
        self._idle_changed()

    def _rewrite(self, record: ExitRecord) -> None:
        if self._unwritten.get(record.run) is record:
            self._record(record)

    def _tell(self, record: ExitRecord) -> None:
        event = wire.encode({"event": "exit", "run": record.run, "exit": record.to_wire()})
        for connection in tuple(self._connections):
            connection.send(event)

    def _watch_strays(self) -> None:
        if not self._watching_strays:
            self._watching_strays = True
            self._look_at_strays()

    def _look_at_strays(self) -> None:
        self._watching_strays = self._family.end_ownerless()
        if self._watching_strays:
            self._loop.call_later(_HOUSEKEEPING_S, self._look_at_strays)

    # -- life of the supervisor ----------------------------------------------------------------------------------

    def _on_signals(self, signals: socket.socket) -> None:
        received = set(signals.recv(4096))
        if received & {signal.SIGTERM, signal.SIGINT}:
            self._begin_stop()
        for run in tuple(self._runs.values()):
            run.check_exit()
        self._family.reap()

    def _check_directory(self) -> None:
        """Runs that nobody can see or stop any more must not go on."""
        if not self._stopping and not address.is_held(self.layout, self._lock):
            log("the state directory was deleted or replaced")
            self._begin_stop()
        self._loop.call_later(_DIRECTORY_CHECK_S, self._check_directory)

    def _begin_stop(self) -> None:
        """End every run as a cancel would, then leave; asked a second time, without grace."""
        grace = 0.0 if self._stopping else None
        self._stopping = True
        log(f"stopping, {len(self._runs)} runs are active")
        for run in tuple(self._runs.values()):
            run.stop(STOPPED, run.grace_s if grace is None else grace)
        if not self._runs:
            # After the answer to whoever asked went out.
            self._loop.call_later(0.0, self._finish)

    def _finish(self) -> None:
        for record in tuple(self._unwritten.values()):
            self._record(record)
        self._done = True

    def _listen(self) -> None:
        self._loop.watch(self._listener.fileno(), READ, self._accept)

    def _accept(self) -> None:
        try:
            peer, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as error:
            log(f"cannot accept a connection: {error}")
            self._loop.unwatch(self._listener.fileno())
            self._loop.call_later(
                _ACCEPT_PAUSE_S, lambda: self._loop.watch(self._listener.fileno(), READ, self._accept)
            )
            return
        uid = wire.peer_uid(peer)
        if (uid is not None and uid != os.geteuid()) or len(self._connections) >= MAX_CONNECTIONS:
            log(f"refused a connection of user {uid}")
            peer.close()
            return
        self._connections.add(Connection(peer, self._loop, self.dispatch, self._closed))
        self._idle_changed()

    def _closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._idle_changed()

    def _idle_changed(self) -> None:
        """Start or stop the count-down to leaving."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if not self._runs and not self._connections and not self._unwritten:
            self._idle = self._loop.call_later(self._idle_exit_s, self._finish)


def _noticed(number: int, frame: object) -> None:
    """The wake-up descriptor carries the signal; the handler only keeps it from its default action."""


def _never_ran(run: str, at: str, error: ExitError, *, canceled: bool = False) -> ExitRecord:
    return ExitRecord(run=run, started_at=at, ended_at=at, error=error, canceled=canceled)
