"""Runs git: fixed commands, a cleared environment, a deadline on every answer. The only module that imports GitPython.

GitPython alone would pass our whole environment on, so git is started through ``env -i`` with what `git_environment`
lists and nothing else. The repository is named with ``--git-dir``: git searches no parent folders. Arguments are
lists; there is no shell. What a spec says reaches a command only after `git_address` has judged it, and behind ``--``.
"""

from __future__ import annotations

import contextlib
import functools
import math
import os
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from controllers.sources import git_environment, tree
from schemas.errors import SourceUnreadable

if TYPE_CHECKING:
    import git

DEFAULT_DEADLINE_S: Final = 30.0
MAX_OUTPUT: Final = 64 * 1024 * 1024
_CHUNK: Final = 1 << 20
_MAX_STDERR: Final = 64 * 1024


class GitSilent(Exception):
    """Git gave no answer before the deadline; the process was killed or will be."""


class GitDied(Exception):
    """A git process ended while an answer was due. ``stderr`` is what it said last."""

    def __init__(self, stderr: str) -> None:
        self.stderr = stderr
        super().__init__(stderr or "git ended without a word")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that ended by itself. ``stderr`` is in English (LC_ALL=C) and may name paths and URLs."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def last_words(self) -> str:
        """The line of stderr that says most, without its ``fatal:``; "" when git said nothing."""
        lines = [line.strip() for line in self.stderr.splitlines() if line.strip()]
        chosen = next((line for line in lines if line.startswith("fatal:")), lines[-1] if lines else "")
        return tree.printable(chosen.removeprefix("fatal:").removeprefix("error:").strip()[:400])


def run(
    arguments: Sequence[str],
    *,
    git_dir: Path | None,
    environment: Mapping[str, str] | None = None,
    stdin: bytes = b"",
    deadline_s: float = DEFAULT_DEADLINE_S,
    max_output: int = MAX_OUTPUT,
    keep_open: Iterable[int] = (),
) -> Finished:
    """Run one git command to its end; an exit status other than 0 is an answer, not an error.

    ``git_dir`` None means no repository. ``environment`` replaces the local one. ``keep_open`` are file descriptors
    that git and its children inherit. Raises GitSilent at the deadline: git was first asked to stop, so that it
    removes its locks, then killed with everything it started. Raises SourceUnreadable when git is not installed.
    """
    pipes = _start(arguments, git_dir, environment, tuple(keep_open))
    try:
        pipes.send(stdin)
        pipes.finish_input()
        ends_at = time.monotonic() + deadline_s
        while not pipes.ended:
            pipes.pump(ends_at)
            if len(pipes.out) > max_output:
                raise SourceUnreadable(
                    f"git {arguments[0]} answered with more than {max_output} bytes", reason=tree.LIMIT_EXCEEDED
                )
        status = pipes.wait(max(ends_at, time.monotonic() + 1.0))
    except BaseException:
        pipes.stop(grace_s=2.0)
        raise
    finished = Finished(status, bytes(pipes.out), pipes.err.decode("utf-8", "replace"))
    pipes.stop()
    return finished


class Dialogue:
    """A git process that is kept open, asked on stdin and answering on stdout (``cat-file --batch``).

    Started by the first question. After GitDied or GitSilent, and after giving up in the middle of an answer, call
    ``stop``; the next ``ask`` starts a new process. Not thread-safe.
    """

    def __init__(self, arguments: Sequence[str], git_dir: Path, *, deadline_s: float = DEFAULT_DEADLINE_S) -> None:
        self._arguments = tuple(arguments)
        self._git_dir = git_dir
        self._deadline_s = deadline_s
        self._pipes: _Pipes | None = None
        self._ends_at = 0.0
        self._position = 0

    @property
    def pid(self) -> int | None:
        """Process id while one is open."""
        return self._pipes.pid if self._pipes is not None else None

    def ask(self, question: bytes) -> None:
        """Send a question; what follows of ``line`` and ``take`` must be done before the deadline."""
        if self._pipes is None:
            self._pipes = _start(self._arguments, self._git_dir, None, ())
            self._position = 0
        self._ends_at = time.monotonic() + self._deadline_s
        del self._pipes.out[: self._position]
        self._position = 0
        self._pipes.err.clear()
        self._pipes.send(question)

    def line(self, end: bytes = b"\n") -> bytes:
        """The answer up to ``end``, without it."""
        pipes = self._open()
        searched = self._position
        while (found := pipes.out.find(end, searched)) < 0:
            searched = len(pipes.out)
            self._more(pipes)
        line = bytes(pipes.out[self._position : found])
        self._position = found + len(end)
        return line

    def lines(self, count: int) -> list[bytes]:
        """The next ``count`` lines of the answer: ``line`` for each, in a fifth of its time."""
        pipes = self._open()
        searched, left = self._position, count
        while (left := left - pipes.out.count(b"\n", searched)) > 0:
            searched = len(pipes.out)
            self._more(pipes)
        *lines, rest = bytes(pipes.out[self._position :]).split(b"\n", count)
        self._position = len(pipes.out) - len(rest)
        return lines

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes of the answer."""
        pipes = self._open()
        while len(pipes.out) - self._position < size:
            self._more(pipes)
        taken = bytes(pipes.out[self._position : self._position + size])
        self._position += size
        if self._position > _CHUNK:
            del pipes.out[: self._position]
            self._position = 0
        return taken

    def complaint(self) -> str:
        """What git wrote to stderr since the question; it writes that before the answer it belongs to."""
        pipes = self._open()
        pipes.drain_errors()
        return pipes.err.decode("utf-8", "replace").strip()

    def stop(self) -> None:
        """End the process. Idempotent."""
        pipes, self._pipes = self._pipes, None
        if pipes is not None:
            pipes.stop()

    def _open(self) -> _Pipes:
        if self._pipes is None:
            raise GitDied("not started")
        return self._pipes

    def _more(self, pipes: _Pipes) -> None:
        if pipes.ended:
            pipes.drain_errors()
            raise GitDied(pipes.err.decode("utf-8", "replace").strip())
        pipes.pump(self._ends_at)


@functools.cache
def _gitpython() -> type[git.Git]:
    """GitPython's command runner. Imported on first use: it takes 120 ms, and raises where git is not installed,
    which must not keep a directory source or ``remit --help`` from working."""
    try:
        import git
    except ImportError as error:
        raise SourceUnreadable(
            "git cannot be run on this machine; install git and see that it is on PATH",
            reason=tree.REPOSITORY_UNREACHABLE,
        ) from error
    return git.Git


def _start(
    arguments: Sequence[str], git_dir: Path | None, environment: Mapping[str, str] | None, keep_open: tuple[int, ...]
) -> _Pipes:
    runner = _gitpython()
    settings = dict(git_environment.local() if environment is None else environment)
    if git_dir is None:
        settings["GIT_DIR"] = "/dev/null"
    command = [
        *(_env_program(), "-i"),
        *(f"{name}={value}" for name, value in settings.items()),
        runner.GIT_PYTHON_GIT_EXECUTABLE or "git",
        *((f"--git-dir={git_dir}",) if git_dir is not None else ()),
        *(word for setting in git_environment.CONFIG for word in ("-c", setting)),
        *arguments,
    ]
    import git.exc  # beside _gitpython, which made sure that it loads

    try:
        # "/" as working directory: no folder is kept from being unmounted, and none is searched for a repository.
        # An own session: Ctrl-C on our terminal does not cut git short, and a kill reaches everything it started.
        process = runner("/").execute(
            command, istream=subprocess.PIPE, as_process=True, start_new_session=True, pass_fds=keep_open
        )
    except (git.exc.GitCommandNotFound, OSError) as error:
        raise SourceUnreadable(f"git cannot be started: {error}", reason=tree.REPOSITORY_UNREACHABLE) from error
    return _Pipes(process)


@functools.cache
def _env_program() -> str:
    return shutil.which("env") or "/usr/bin/env"


class _Pipes:
    """The three pipes of one process, moved together so that neither side can block the other for ever."""

    def __init__(self, process: Any) -> None:
        self._process: subprocess.Popen[bytes] = process.proc
        self._keeper = process  # GitPython ends the process when this goes away
        stdin, stdout, stderr = self._process.stdin, self._process.stdout, self._process.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        self._stdin, self._stdout, self._stderr = stdin, stdout, stderr
        self.pid = self._process.pid
        self.out = bytearray()
        self.err = bytearray()
        self._unsent = memoryview(b"")
        self._input_done = False
        self._poll = select.poll()
        for stream in (stdin, stdout, stderr):
            os.set_blocking(stream.fileno(), False)
        self._reading = {stdout.fileno(), stderr.fileno()}
        for fd in self._reading:
            self._poll.register(fd, select.POLLIN)

    @property
    def ended(self) -> bool:
        """Whether stdout is at its end. A child that keeps stderr open does not count."""
        return self._stdout.fileno() not in self._reading

    def send(self, data: bytes) -> None:
        """Queue ``data`` for stdin and write what fits."""
        self._unsent = memoryview(bytes(self._unsent) + data)
        self._write()

    def finish_input(self) -> None:
        """Close stdin once everything queued was written."""
        self._input_done = True
        self._write()

    def pump(self, ends_at: float) -> None:
        """Wait for any pipe and serve it. Raises GitSilent at ``ends_at`` (monotonic)."""
        left = ends_at - time.monotonic()
        ready = self._poll.poll(math.ceil(left * 1000)) if left > 0 else []
        if not ready:
            raise GitSilent
        for fd, _ in ready:
            if fd == self._stdout.fileno():
                self._read(fd, self.out)
            elif fd == self._stderr.fileno():
                self._read(fd, self.err)
                del self.err[:-_MAX_STDERR]
            else:
                self._write()

    def drain_errors(self) -> None:
        """Read what is in stderr's pipe now."""
        fd = self._stderr.fileno()
        while fd in self._reading and self._read(fd, self.err):
            del self.err[:-_MAX_STDERR]

    def _read(self, fd: int, into: bytearray) -> bool:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(fd)
            self._reading.discard(fd)
        into += data
        return bool(data)

    def _write(self) -> None:
        if self._stdin.closed:
            return
        fd = self._stdin.fileno()
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(fd, self._unsent) :]
        except BlockingIOError:
            self._poll.register(fd, select.POLLOUT)
            return
        except BrokenPipeError:
            self._unsent = memoryview(b"")  # it died; the end of stdout says so to whoever waits
        with contextlib.suppress(KeyError):
            self._poll.unregister(fd)
        if self._input_done:
            self._stdin.close()

    def wait(self, ends_at: float) -> int:
        """The exit status, once all of stderr is read. Raises GitSilent when the process does not end although its
        output did. A grandchild that keeps stderr open is not waited for."""
        while self._process.poll() is None:
            now = time.monotonic()
            if now >= ends_at:
                raise GitSilent
            with contextlib.suppress(GitSilent, subprocess.TimeoutExpired):
                if self._reading:
                    self.pump(min(ends_at, now + 0.05))
                else:
                    self._process.wait(ends_at - now)
        self.drain_errors()
        return self._process.returncode

    def stop(self, *, grace_s: float = 0.0) -> None:
        """End the process and everything it started; with ``grace_s`` it may first clean up after itself.

        Until ``wait`` its id is ours, so the signals cannot reach a stranger.
        """
        self._unsent = memoryview(b"")
        self._input_done = True
        self._write()
        if self._process.returncode is None:
            if grace_s:
                self._signal(signal.SIGTERM)
                ends_at = time.monotonic() + grace_s
                with contextlib.suppress(GitSilent):
                    while self._reading:
                        self.out.clear()
                        self.pump(ends_at)
            self._signal(signal.SIGKILL)
            self._process.wait()
        self._stdout.close()
        self._stderr.close()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)
