"""The Command executor: an agent is a program on the engine's machine, held by the supervisor.

Beside what the supervisor writes, the folder of a run holds ``mission.json`` (what the agent is asked to do, also on
its standard input), ``home`` and ``tmp`` (its HOME and TMPDIR, gone once the outcome is recorded) and ``acknowledged``
(the outcome is recorded). ``workingDir`` is a folder of the project, and must stay inside it through symbolic links;
an absolute path is taken as it stands; ``workspace`` is ``workspaces/<run>`` in the state directory, fresh for each
run and kept as long as the run's folder.

A run that stopped to wait for leave keeps its HOME: the run that goes on with its session takes it over, and works in
the workspace in which the session began.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pydantic

from controllers.dispatch import environment, placed_hooks, usage
from controllers.dispatch.environment import PrivatePaths, SecretMissing, SecretSource
from controllers.dispatch.executor import EndedRun, Resumed, RunOrder, RunOutcome
from controllers.dispatch.outcome import conclude, read_log, time_of
from controllers.dispatch.output.formats import PARSERS
from controllers.dispatch.output.parsed import Parser
from controllers.dispatch.session_usage import SessionUsage
from controllers.dispatch.supervision import starts
from controllers.dispatch.supervision.records import (
    ExitRecord,
    RunFolder,
    RunPhase,
    check_run_id,
    phase_on_disk,
    read_record,
)
from controllers.dispatch.supervision.wire import StartRequest
from controllers.dispatch.supervisor_client import SupervisorClient
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock
from schemas.base import DEFAULT_NAMESPACE
from schemas.errors import Refused, Retry, Terminal
from schemas.executor import SESSION, Capabilities, Command, ExecutorSpec, OutputFormat
from schemas.resource import canonical_json
from schemas.run import RunReason

WORKSPACE = "workspace"
_WAITS, _RESUMED, _USED_BY = "waits", "resumes", "used-by"
"""Files of a run's folder: it stopped for leave, so its HOME is kept; which run it goes on with; which run goes on in
its workspace."""
_MADE_READY = 100
KEEP_SESSIONS = timedelta(days=30)
"""What a session had used is known for so long after its last run is gone."""
_PARSERS = {output_format.value: parse for output_format, parse in PARSERS.items()}
_PRICED = {OutputFormat.REMIT, OutputFormat.CLAUDE_JSON, OutputFormat.OPEN_CODE_JSONL}


class CannotStart(Exception):
    """A run can't be started as it is declared."""

    def __init__(self, reason: RunReason, message: str) -> None:
        self.reason = reason
        super().__init__(message)


class CommandExecutor:
    """See ``executor.Executor``. ``state_dir`` is where runs are kept, on a local disk.

    Only one engine may use a state directory at a time, which the engine's store lock sees to.
    """

    def __init__(
        self,
        state_dir: Path,
        clock: Clock,
        blocking: Blocking,
        *,
        secrets: SecretSource,
        client: SupervisorClient | None = None,
    ) -> None:
        self._state_dir = state_dir.resolve()
        self._blocking = blocking
        self._secrets = secrets
        self._used = SessionUsage(self._state_dir / "sessions")
        self._ended: asyncio.Queue[ExitRecord] = asyncio.Queue()
        self._made_ready: dict[str, tuple[RunOrder, StartRequest | None]] = {}
        self._client = client or SupervisorClient(state_dir, clock, blocking)
        self._client.on_exit = self._ended.put_nowait

    def capabilities(self, executor_spec: Mapping[str, Any]) -> Capabilities:
        """See ``Executor.capabilities``. Its output can be read while it runs; money is reported by some formats."""
        command = ExecutorSpec.model_validate(executor_spec).command
        resumes = command is not None and bool(command.resume)
        return Capabilities(
            cancel=True,
            streaming=True,
            cost_reporting=command is not None and command.output_format in _PRICED,
            resume=resumes or (command is not None and bool(command.resume_args)),
            approvals=resumes,
        )

    async def open(self) -> None:
        """See ``Executor.open``."""
        for run in await self._blocking.run(self._unacknowledged):
            self._client.watch(run)

    async def start(self, order: RunOrder) -> None:
        """See ``Executor.start``."""
        try:
            ready = self._made_ready.pop(order.run_uid, None)
            if ready is not None and ready[0] is order:
                request = ready[1]
            else:
                request = await self._blocking.run(self._prepare, order)
            if request is not None:
                await self._client.start(request)
        except CannotStart as error:
            await self._client.seal(order.run_uid, error.reason.value, str(error), note=_note(order))
        except Terminal as error:
            await self._client.seal(order.run_uid, RunReason.START_FAILED.value, str(error), note=_note(order))
        await self._watch(order.run_uid)

    def make_ready(self, order: RunOrder) -> None:
        """See ``Forehanded``. Secrets are left to the start: a service may have to be asked for them."""
        command = _command_of(order)[1]
        if any(variable.value_from is not None for variable in command.env):
            return
        if len(self._made_ready) > _MADE_READY:
            self._made_ready.clear()  # of starts that never came
        self._made_ready[order.run_uid] = (order, self._prepare(order))

    async def cancel(self, run_uid: str, grace_s: float) -> None:
        """See ``Executor.cancel``."""
        status = await self._client.cancel(run_uid, grace_s)
        if status.phase is RunPhase.UNKNOWN:
            await self._client.seal(run_uid, RunReason.CANCELED.value, "canceled before it was started", canceled=True)
        await self._watch(run_uid)

    async def stop_all(self, namespaces: frozenset[str] | None) -> int:
        """Tell every program that runs (of these namespaces; None: of all) to stop; returns how many. Asks neither the
        store nor, while nothing runs, the supervisor. The ends are reported as any other."""
        runs = await self._blocking.run(self._open_runs, namespaces)
        for run in runs:
            await self._client.cancel(run)
        return len(runs)

    async def outcomes(self) -> AsyncIterator[EndedRun]:
        """See ``Executor.outcomes``."""
        while True:
            record = await self._ended.get()
            yield await self._blocking.run(self._conclude, record)

    async def acknowledge(self, run_uid: str) -> None:
        """See ``Executor.acknowledge``. Logs and workspace stay until ``prune``."""
        folder = self._client.layout.run(run_uid)
        await self._blocking.run(_acknowledge, folder)
        self._client.unwatch(run_uid)

    def logs(self, run_uid: str) -> tuple[Path, Path]:
        """Where standard output and standard error of a run are kept; they may not be there yet."""
        folder = self._client.layout.run(run_uid)
        return folder.stdout, folder.stderr

    def started(self, run_uid: str) -> bool:
        """Whether the run's program was started, or never will be: a start would change nothing. Blocks."""
        layout = self._client.layout
        return phase_on_disk(layout.run(run_uid))[0] is not RunPhase.UNKNOWN or run_uid in starts.counted(layout)

    def recall(self, run_uid: str) -> None:
        """Report the end of a run again, although it was acknowledged: the store that knew it was replaced by an older
        one. Before ``open``; blocks."""
        _mark(self._client.layout.run(run_uid)).unlink(missing_ok=True)

    def knows(self, run_uid: str) -> bool:
        """Whether anything is kept of a run. Blocks for a look at the disk."""
        layout = self._client.layout
        return layout.run(run_uid).path.is_dir() or run_uid in starts.counted(layout)

    async def prune(self, before: datetime) -> int:
        """Delete everything of the acknowledged runs that ended before that time. Returns their number.

        A deleted run could be started again, so ``before`` lies far enough back that no start is still under way.
        """
        runs = await self._blocking.run(self._outdated, before)
        for run in runs:
            with contextlib.suppress(Refused):
                await self._client.forget(run)
                await self._blocking.run(shutil.rmtree, self._workspace(run), ignore_errors=True)
        await self._blocking.run(self._used.prune, before - KEEP_SESSIONS)
        return len(runs)

    def problem(
        self, executor_spec: Mapping[str, Any], project_root: Path, namespace: str = DEFAULT_NAMESPACE
    ) -> CannotStart | None:
        """What would keep a run with this spec, declared in ``namespace``, from starting; None when nothing is known
        to. Blocks, reads files; asks no service."""
        command = ExecutorSpec.model_validate(executor_spec).command
        try:
            if command is None:
                raise CannotStart(RunReason.EXECUTOR_UNSUPPORTED, "the executor has no block command")
            for variable in command.env:
                if variable.value_from is not None:
                    self._secrets.of(namespace).check(variable.value_from, project_root)
            directory = project_root if command.working_dir == WORKSPACE else _working_dir(command, project_root)
            path = next((v.value for v in command.env if v.name == "PATH" and v.value), environment.default_path())
            program = command.argv[0]
            if shutil.which(str(directory / program) if "/" in program else program, path=path) is None:
                raise CannotStart(RunReason.PROGRAM_NOT_FOUND, f"there is no program {program!r} in PATH ({path})")
        except SecretMissing as missing:
            return CannotStart(RunReason.SECRET_NOT_FOUND, str(missing))
        except CannotStart as problem:
            return problem
        return None

    async def retire(self) -> None:
        """End the supervisor if it holds nothing, so that nothing stays behind; with runs open it goes on."""
        with contextlib.suppress(Refused, Retry, Terminal):
            await self._client.stop()

    async def close(self) -> None:
        """See ``Executor.close``."""
        await self._client.close()

    async def _watch(self, run: str) -> None:
        if not await self._blocking.run(_mark(self._client.layout.run(run)).exists):
            self._client.watch(run)

    # -- files; all of these block ---------------------------------------------------------------------------------

    def _prepare(self, order: RunOrder) -> StartRequest | None:
        """Make the run's folder ready and put together what the supervisor needs; None when the run was started
        before. Idempotent. Raises CannotStart, and Retry when the disk does not take it."""
        if phase_on_disk(self._client.layout.run(order.run_uid))[0] is not RunPhase.UNKNOWN:
            return None
        spec, command = _command_of(order)
        folder = self._client.layout.run(order.run_uid).path
        paths = PrivatePaths(folder / "mission.json", folder / "home", folder / "tmp")
        try:
            self._client.layout.make()
            folder.mkdir(mode=0o700, exist_ok=True)
            resumed = order.resumes if self._take_over(order, paths.home) else None
            for path in (paths.home, paths.temporary):
                path.mkdir(mode=0o700, exist_ok=True)
            if not paths.mission.exists():
                _write_mission(paths.mission, canonical_json(order.mission))
            argv = [*command.argv, *_resume(command, order)]
            if resumed is not None:
                argv = [word.replace(SESSION, resumed.session) for word in command.resume]
            if command.hook is not None:
                defer = bool(command.resume)
                argv = placed_hooks.place(command.hook, argv, paths.home, order.hook_token, defer=defer)
        except OSError as error:
            raise Retry(f"run {order.run_name}: cannot write its folder {folder}: {error.strerror}") from error
        try:
            directory = self._directory(command, order, resumed)
            variables = environment.build(order, command.env, self._secrets, paths, directory)
        except SecretMissing as missing:
            raise CannotStart(RunReason.SECRET_NOT_FOUND, str(missing)) from missing
        timeout_s = spec.timeout.total_seconds()
        return StartRequest(
            run=order.run_uid,
            argv=argv,
            env=variables,
            cwd=str(directory),
            stdin_file=str(paths.mission) if resumed is None else None,  # it was told what to do
            deadline_s=timeout_s if order.deadline_s is None else min(timeout_s, order.deadline_s),
            kill_grace_s=command.stop_grace.total_seconds(),
            stdout_cap=command.max_output,
            stderr_cap=command.max_output,
            note=_note(order),
            hidden=environment.hidden(command.env),
            redaction=order.redaction,
        )

    def _take_over(self, order: RunOrder, home: Path) -> bool:
        """Make the HOME of the run that is resumed that of this one; whether the session is there. A delivery that
        was cut off anywhere goes on where it was: the mark is written before the folder moves."""
        if order.resumes is None:
            return False
        mark, earlier = home.with_name(_RESUMED), self._client.layout.run(order.resumes.run_uid).path
        first = self._client.layout.run(order.resumes.first_uid).path
        if not mark.exists():
            if home.exists() or not (earlier / "home").is_dir() or not first.is_dir():
                return False
            (first / _USED_BY).write_text(order.run_uid)
            mark.write_text(order.resumes.run_uid)
        with contextlib.suppress(FileNotFoundError):  # another delivery of this order was faster
            if not home.exists():
                (earlier / "home").rename(home)
        return home.is_dir()

    def _directory(self, command: Command, order: RunOrder, resumed: Resumed | None) -> Path:
        if command.working_dir != WORKSPACE:
            return _working_dir(command, order.project_root)
        path = self._workspace(order.run_uid if resumed is None else resumed.first_uid)
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def _workspace(self, run: str) -> Path:
        return self._state_dir / "workspaces" / check_run_id(run)

    def _unacknowledged(self) -> list[str]:
        layout = self._client.layout
        found = {folder.path.name for folder in self._folders() if folder.started.exists()} | starts.counted(layout)
        return sorted(run for run in found if not _mark(layout.run(run)).exists())

    def _open_runs(self, namespaces: frozenset[str] | None) -> list[str]:
        """Runs that were started and have no end on the disk, of these namespaces."""
        found = []
        for folder in self._folders():
            if folder.exit.exists() or not folder.started.exists():
                continue
            note = (read_record(folder.started) or {}).get("note")
            namespace = str(note.get("namespace", "")) if isinstance(note, dict) else ""
            if namespaces is None or namespace in namespaces:
                found.append(folder.path.name)
        return found

    def _outdated(self, before: datetime) -> list[str]:
        return [
            folder.path.name
            for folder in self._folders()
            if _is_outdated(folder, before) and not self._is_worked_in(folder)
        ]

    def _is_worked_in(self, folder: RunFolder) -> bool:
        """Whether a later run goes on in the workspace of this one, and is kept itself."""
        with contextlib.suppress(OSError, ValueError, Refused):
            return self._client.layout.run(check_run_id((folder.path / _USED_BY).read_text())).path.is_dir()
        return False

    def _folders(self) -> list[RunFolder]:
        runs = self._client.layout.runs
        return [RunFolder(path) for path in sorted(runs.iterdir())] if runs.is_dir() else []

    def _conclude(self, record: ExitRecord) -> EndedRun:
        folder = self._client.layout.run(record.run)
        note = (read_record(folder.started) or {}).get("note")
        note = note if isinstance(note, dict) else {}
        # A run that was closed before its start has no note; its output is empty whatever the format.
        parse = _PARSERS.get(str(note.get("output_format")), PARSERS[OutputFormat.REMIT])
        name, attempt = str(note.get("run_name", "")), str(note.get("attempt", ""))
        outcome = conclude(record, parse, read_log(folder.stdout), read_log(folder.stderr), name)
        if outcome.usage is not None:
            outcome = replace(outcome, usage=self._own_part(record.run, note, outcome, outcome.usage, folder, parse))
        if outcome.reason is RunReason.AWAITING_APPROVAL:
            (folder.path / _WAITS).touch(mode=0o600)
        return EndedRun(
            run_uid=record.run,
            run_name=name,
            namespace=str(note.get("namespace", "")),
            attempt=int(attempt) if attempt.isdecimal() else 0,
            outcome=outcome,
        )

    def _own_part(
        self, run: str, note: Mapping[str, Any], outcome: RunOutcome, report: usage.UsageReport, folder: RunFolder,
        parse: Parser,
    ) -> usage.UsageReport:  # fmt: skip
        """What this run used, of what its program reports for all of its session."""
        if report.scope is usage.UsageScope.RUN:
            return report
        # One that began anew, although it was to go on, says so by another name: nothing of it was paid before.
        name = str((outcome.result or {}).get("sessionId", "")) or str(note.get("session", ""))
        if not name:
            return usage.since(report, self._usage_before(folder, parse))
        earlier = self._used.before(name, run)
        self._used.keep(name, run, report)
        return usage.since(report, earlier or self._usage_before(folder, parse))

    def _usage_before(self, folder: RunFolder, parse: Parser) -> usage.UsageReport | None:
        """What the run that this one goes on with had reported at its end, for the same session."""
        try:
            earlier = self._client.layout.run(check_run_id((folder.path / _RESUMED).read_text()))
            return parse(read_log(earlier.stdout), read_log(earlier.stderr), None).usage
        except Exception:  # noqa: BLE001 - agents write what is read here; without it all of the session counts as new
            return None


def _command_of(order: RunOrder) -> tuple[ExecutorSpec, Command]:
    try:
        spec = ExecutorSpec.model_validate(order.executor_spec)
    except pydantic.ValidationError as error:
        text = f"this version cannot read the executor's spec: {error.error_count()} fields are wrong"
        raise CannotStart(RunReason.EXECUTOR_UNSUPPORTED, text) from error
    if spec.command is None:
        raise CannotStart(RunReason.EXECUTOR_UNSUPPORTED, f"type {spec.type} is not run as a command")
    return spec, spec.command


def _note(order: RunOrder) -> dict[str, str]:
    """What a later life of the engine must know to read the run's end."""
    command = order.executor_spec.get("command")
    output_format = command.get("outputFormat") if isinstance(command, dict) else None
    return {
        "run_name": order.run_name,
        "namespace": order.namespace,
        "attempt": str(order.attempt),
        "agent": order.agent,
        "output_format": str(output_format or OutputFormat.REMIT.value),
        "session": order.resumes.session if order.resumes is not None else environment.session_of(order),
    }


def _resume(command: Command, order: RunOrder) -> list[str]:
    """What tells the program to go on with a session, where the run does."""
    session = environment.session_of(order)
    return [argument.replace("{session}", session) for argument in command.resume_args] if session else []


def _write_mission(path: Path, text: str) -> None:
    """Rename the mission into place: a program that already runs must never see half of it, and two deliveries of
    the same order may be here at once."""
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix="mission.")
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)


def _working_dir(command: Command, project_root: Path) -> Path:
    """The declared folder, with symbolic links followed. Raises CannotStart."""
    shown = command.working_dir
    try:
        root = project_root.resolve(strict=True)
        path = (root / shown).resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise CannotStart(RunReason.START_FAILED, f"the working directory {shown!r} does not exist: {error}") from error
    if not path.is_dir():
        raise CannotStart(RunReason.START_FAILED, f"the working directory {shown!r} is not a directory")
    if not Path(shown).is_absolute() and not path.is_relative_to(root):
        raise CannotStart(RunReason.START_FAILED, f"the working directory {shown!r} leads out of the project to {path}")
    return path


def _mark(folder: RunFolder) -> Path:
    return folder.path / "acknowledged"


def _acknowledge(folder: RunFolder) -> None:
    try:
        _mark(folder).touch(mode=0o600)
    except FileNotFoundError:
        return
    for name in ("tmp",) if (folder.path / _WAITS).exists() else ("home", "tmp"):
        shutil.rmtree(folder.path / name, ignore_errors=True)


def _is_outdated(folder: RunFolder, before: datetime) -> bool:
    """Whether a run ended and was acknowledged before that time, or was made ready then and never started."""
    phase, record = phase_on_disk(folder)
    if phase is RunPhase.UNKNOWN:
        with contextlib.suppress(FileNotFoundError):
            return folder.path.is_dir() and folder.path.stat().st_mtime < before.timestamp()
        return False
    ended = time_of(record.ended_at) if record is not None else None
    return ended is not None and ended < before and _mark(folder).exists()
