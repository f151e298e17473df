"""Starting a program: its pipes and logs, finding it in PATH, and the one system call that makes it run."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from controllers.dispatch.supervision.capture import Capture
from controllers.dispatch.supervision.records import RunFolder
from controllers.dispatch.supervision.wire import StartRequest
from controllers.runtime.beneath import enter, open_plain

_ALL_SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
_EXHAUSTED = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE}


class SpawnError(Exception):
    """The program could not be started. ``reason`` is ProgramNotFound, ProgramNotExecutable, WorkingDirNotFound,
    InputNotFound, ArgumentsTooLong, ResourceExhausted or SpawnFailed."""

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(slots=True)
class Streams:
    """The output of a program that is about to start: our ends and its ends of two pipes."""

    stdout: Capture
    stderr: Capture
    stdout_end: int
    stderr_end: int

    def close_ends(self) -> None:
        """Close the program's ends on our side; without that the streams never end. Idempotent."""
        for fd in (self.stdout_end, self.stderr_end):
            if fd >= 0:
                os.close(fd)
        self.stdout_end = self.stderr_end = -1

    def close(self) -> None:
        """Close everything. Idempotent."""
        self.close_ends()
        self.stdout.close()
        self.stderr.close()


def open_streams(request: StartRequest, folder: RunFolder) -> Streams:
    """Pipes and log files for a run. Raises OSError with nothing left open."""
    opened: list[int] = []
    captures: list[Capture] = []
    redactor = request.redactor()
    try:
        for path, cap in ((folder.stdout, request.stdout_cap), (folder.stderr, request.stderr_cap)):
            ours, theirs = os.pipe()
            opened += [ours, theirs]
            os.set_blocking(ours, False)
            captures.append(Capture(ours, path, cap, redactor))
    except OSError:
        for capture in captures:
            capture.close()
        owned = {capture.source for capture in captures}
        for fd in opened:
            if fd not in owned:
                os.close(fd)
        raise
    return Streams(captures[0], captures[1], opened[1], opened[3])


def launch(request: StartRequest, streams: Streams) -> int:
    """Start the program and return its pid, which is also its process group and session.

    It gets exactly the environment of the request, default signal handling, the umask of the supervisor (077) and no
    descriptor but 0, 1 and 2: every other one of this process is close-on-exec. Raises SpawnError; then nothing runs.

    ``posix_spawn`` takes a fifth of the time of ``subprocess``, but knows no working directory, so this process,
    which has a single thread, steps into it and out again.
    """
    try:
        enter(request.cwd)
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else "not a path"
        raise SpawnError(
            "WorkingDirNotFound", f"cannot enter the working directory {request.cwd!r}: {detail}"
        ) from None
    try:
        path = _find(request.argv[0], request.env.get("PATH", ""))
        stdin = _open_stdin(request.stdin_file)
        try:
            return os.posix_spawn(
                path,
                request.argv,
                request.env,
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, stdin, 0),
                    (os.POSIX_SPAWN_DUP2, streams.stdout_end, 1),
                    (os.POSIX_SPAWN_DUP2, streams.stderr_end, 2),
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_ALL_SIGNALS,
            )
        except OSError as error:
            raise _explain(error, path) from None
        except ValueError:
            raise SpawnError("SpawnFailed", "argv or env holds text that this system cannot pass on") from None
        finally:
            os.close(stdin)
    finally:
        os.chdir("/")
        streams.close_ends()


def _find(program: str, search: str) -> str:
    """The file to execute. Empty entries of PATH are skipped: they would mean the working directory."""
    candidates = [program] if "/" in program else [os.path.join(d, program) for d in search.split(":") if d]
    present = ""
    for candidate in candidates:
        with contextlib.suppress(ValueError):
            if os.path.isfile(candidate):
                if os.access(candidate, os.X_OK):
                    return os.path.abspath(candidate)
                present = present or candidate
            elif os.path.exists(candidate):
                present = present or candidate
    if present:
        raise SpawnError("ProgramNotExecutable", f"{present!r} is not an executable file")
    where = "" if "/" in program else f" in PATH ({search})"
    raise SpawnError("ProgramNotFound", f"there is no program {program!r}{where}")


def _open_stdin(path: str | None) -> int:
    try:
        if path is None:
            return os.open(os.devnull, os.O_RDONLY | os.O_NOCTTY)
        opened = open_plain(Path(path))
        os.set_blocking(opened, True)
        return opened
    except (OSError, ValueError) as error:
        detail = error.strerror if isinstance(error, OSError) else "not a path"
        raise SpawnError("InputNotFound", f"cannot open the program's input {path!r}: {detail}") from None


def _explain(error: OSError, path: str) -> SpawnError:
    if error.errno == errno.ENOENT:
        # The file was there a moment ago, so it is what the file names that is missing.
        return SpawnError("ProgramNotFound", f"the interpreter that {path!r} names does not exist")
    if error.errno == errno.ENOEXEC:
        return SpawnError("ProgramNotExecutable", f"{path!r} is neither a program nor a script with a #! line")
    if error.errno == errno.EACCES:
        return SpawnError("ProgramNotExecutable", f"{path!r} may not be executed")
    if error.errno == errno.E2BIG:
        return SpawnError("ArgumentsTooLong", f"arguments and environment of {path!r} exceed what this system allows")
    if error.errno in _EXHAUSTED:
        return SpawnError("ResourceExhausted", f"the system has no room for another process: {error.strerror}")
    return SpawnError("SpawnFailed", f"cannot start {path!r}: {error.strerror}")
