"""The files of a state directory: where they lie, how they are written durably, and what an exit record holds.

Read by the engine as well. A file is either absent or whole: writers fsync a temporary file and rename it, and the
one file that is created in place, ``started.json``, counts only when it is complete.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from controllers.runtime.beneath import open_plain

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
GAP = re.compile(rb"(?m)^\[remit: \d+ bytes of output are missing here\]$")
"""The line that stands in a log in place of output that was dropped; see ``gap_line``."""


_MAX_RECORD = 16 * 1024 * 1024


class RunPhase(StrEnum):
    """What the supervisor and its files know of a run."""

    UNKNOWN = "Unknown"  # never started
    RUNNING = "Running"  # its program runs, or what it left behind is being ended
    ENDED = "Ended"  # exit.json is there
    LOST = "Lost"  # started, but the supervisor that knew it is gone and could not write exit.json


@dataclass(frozen=True, slots=True)
class ExitError:
    """Why a program could not be started, or why a run was closed without one."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ExitRecord:
    """How a run ended. Exactly one of ``exit_code``, ``signal``, ``error`` and ``lost`` is set.

    Times are RFC 3339 in UTC with milliseconds. ``stdout_bytes`` counts what the program wrote, of which
    ``stdout_dropped`` bytes are not in the log. ``canceled``, ``timed_out`` and ``stopped`` (the supervisor was told
    to end) exclude each other: the first cause counts. ``leftovers`` is the number of processes that outlived the
    program and were ended; ``may_be_running`` says that some could not be.
    """

    run: str
    started_at: str
    ended_at: str
    duration_ms: int = 0
    exit_code: int | None = None
    signal: int | None = None
    timed_out: bool = False
    canceled: bool = False
    stopped: bool = False
    lost: bool = False
    error: ExitError | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_dropped: int = 0
    stderr_dropped: int = 0
    log_error: str = ""
    leftovers: int = 0
    may_be_running: bool = False

    @property
    def truncated(self) -> bool:
        """Whether output is missing from the logs."""
        return bool(self.stdout_dropped or self.stderr_dropped)

    def to_wire(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "truncated": self.truncated}

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> ExitRecord:
        """Inverse of to_wire; fields of a newer version are ignored. Raises ValueError on anything else."""
        known = {f.name for f in fields(cls)}
        values = {k: v for k, v in wire.items() if k in known}
        error = values.get("error")
        if isinstance(error, Mapping):
            values["error"] = ExitError(str(error.get("reason", "")), str(error.get("message", "")))
        try:
            return cls(**values)
        except TypeError as problem:
            raise ValueError(f"not an exit record: {problem}") from None


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run."""

    path: Path

    @property
    def started(self) -> Path:
        return self.path / "started.json"

    @property
    def process(self) -> Path:
        return self.path / "process.json"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def stdout(self) -> Path:
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        return self.path / "stderr.log"


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below a state directory, which is absolute."""

    state_dir: Path

    @property
    def home(self) -> Path:
        return self.state_dir / "supervisor"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def socket(self) -> Path:
        return self.home / "socket"

    @property
    def pointer(self) -> Path:
        return self.home / "socket-path"

    @property
    def log(self) -> Path:
        return self.home / "log"

    @property
    def starts(self) -> Path:
        return self.home / "starts"

    @property
    def runs(self) -> Path:
        return self.state_dir / "runs"

    @property
    def trash(self) -> Path:
        return self.state_dir / "trash"

    def run(self, run: str) -> RunFolder:
        """The folder of ``run``. Raises ValueError when the text cannot be a run's name."""
        return RunFolder(self.runs / check_run_id(run))

    def make(self) -> None:
        """Create the directories, private to this user. Idempotent."""
        for path in (self.state_dir, self.home, self.runs):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in (self.home, self.runs):
            path.chmod(0o700)


def gap_line(missing: int) -> bytes:
    """What stands in a log for ``missing`` bytes of output."""
    return f"\n[remit: {missing} bytes of output are missing here]\n".encode()


def check_run_id(run: object) -> str:
    """``run`` itself, if it is a safe file name. Raises ValueError."""
    if not isinstance(run, str) or _RUN_ID.fullmatch(run) is None:
        raise ValueError("a run is named by 1 to 128 letters, digits, '.', '_' and '-', a letter or digit first")
    return run


def read_record(path: Path) -> dict[str, Any] | None:
    """The JSON object in ``path``; None when it is absent, incomplete or not an object. Raises OSError else."""
    try:
        with os.fdopen(open_plain(path), "rb") as file:
            text = file.read(_MAX_RECORD)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def read_exit(folder: RunFolder) -> ExitRecord | None:
    """The exit record of a run, None when it has none."""
    wire = read_record(folder.exit)
    if wire is None:
        return None
    try:
        return ExitRecord.from_wire(wire)
    except ValueError:
        return None


def phase_on_disk(folder: RunFolder) -> tuple[RunPhase, ExitRecord | None]:
    """What the files say of a run that no living supervisor holds."""
    record = read_exit(folder)
    if record is not None:
        return RunPhase.ENDED, record
    if read_record(folder.started) is not None:
        return RunPhase.LOST, None
    return RunPhase.UNKNOWN, None


def sync_directory(path: Path) -> None:
    """Make the entries of a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def create_record(path: Path, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Create ``path`` with ``value``. ``durable`` False leaves out the fsyncs. Raises FileExistsError, or OSError when
    it cannot be written.

    On any error nothing is left behind, so a file that is there but incomplete was cut off by a crash.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _write_all(fd, value, durable=durable)
    except BaseException:
        os.close(fd)
        path.unlink()
        raise
    os.close(fd)
    if durable:
        sync_directory(path.parent)


def replace_record(path: Path, value: Mapping[str, Any], *, durable: bool = True) -> None:
    """Write ``value`` to ``path`` in one step. ``durable`` False leaves out the fsyncs. Raises OSError."""
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _write_all(fd, value, durable=durable)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(fd)
    if durable:
        sync_directory(path.parent)


def _write_all(fd: int, value: Mapping[str, Any], *, durable: bool = True) -> None:
    data = memoryview(json.dumps(value, sort_keys=True).encode() + b"\n")
    while data:
        data = data[os.write(fd, data) :]
    if durable:
        os.fsync(fd)
