"""`remit` processes that begin as a copy of one process in which everything is loaded already.

Each is a process of its own, with its own session, environment, folder and files, and may be killed as any other: only
the seconds that an interpreter takes to load the libraries are saved, which are the same each time. Tests of the start
itself run the installed command, and so does every other one where ``REMIT_TEST_PLAIN`` is set.

The process that everything is loaded in (``python -m tests.fakes.forking``) hears of what is wanted by a socket. It
forks a keeper for each, which forks the command, waits for it, and tells how it ended.
"""

from __future__ import annotations

import array
import atexit
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
REMIT = Path(sys.executable).parent / "remit"
_PACKAGES = ("cli", "api", "store", "decisions", "schemas", "controllers")
_LEFT_OUT = ("migrations", "mcp", "__main__")
_MOST_BYTES = 200_000


class Forked:
    """One process. What ``subprocess.Popen`` offers under the same names means the same."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], folder: Path,
                 stdin: int, stdout: int, stderr: int) -> None:  # fmt: skip
        self.args = [str(REMIT), *arguments]
        self.returncode: int | None = None
        self._news, theirs = os.pipe()
        wanted = {"argv": self.args, "environment": dict(environment), "folder": str(folder)}
        try:
            socket.send_fds(_loaded(), [json.dumps(wanted).encode()], [stdin, stdout, stderr, theirs])
        finally:
            os.close(theirs)
        self._heard = b""
        while b"\n" not in self._heard:
            self._hear()
        self.pid = int(self._heard.split()[0])

    def poll(self) -> int | None:
        """The exit code; None while it lives."""
        while self.returncode is None and select.select([self._news], [], [], 0)[0]:
            self._hear()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; the exit code. Raises subprocess.TimeoutExpired."""
        ends = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            left = None if ends is None else max(0.0, ends - time.monotonic())
            if not select.select([self._news], [], [], left)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
            self._hear()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it lives."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9."""
        self.send_signal(signal.SIGKILL)

    def __del__(self) -> None:
        if self.returncode is None:
            with suppress(OSError):
                os.close(self._news)

    def _hear(self) -> None:
        data = os.read(self._news, 64)
        self._heard += data
        lines = self._heard.split(b"\n")
        if len(lines) > 2 and self.returncode is None:
            self.returncode = int(lines[1])
            os.close(self._news)
        elif not data:
            raise RuntimeError(f"nobody knows how {self.args} ended")


Process = subprocess.Popen[bytes] | Forked


def start(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, stdin: int = subprocess.DEVNULL,
          stdout: int | IO[bytes], stderr: int | IO[bytes], plain: bool = False) -> Process:  # fmt: skip
    """Start `remit` with these arguments in a session of its own; ``plain``: the installed command."""
    if plain or "REMIT_TEST_PLAIN" in os.environ:
        return subprocess.Popen(
            [str(REMIT), *arguments], cwd=folder, env=environment, stdin=stdin, stdout=stdout, stderr=stderr,
            start_new_session=True,
        )  # fmt: skip
    nothing = os.open(os.devnull, os.O_RDWR)
    try:
        numbers = [nothing if file == subprocess.DEVNULL else file if isinstance(file, int) else file.fileno()
                   for file in (stdin, stdout, stderr)]  # fmt: skip
        return Forked(arguments, environment, folder, *numbers)
    finally:
        os.close(nothing)


def run(arguments: Sequence[str], environment: Mapping[str, str], folder: Path, *, stdin: str = "",
        seconds: float, plain: bool = False) -> tuple[int, str, str]:  # fmt: skip
    """Run `remit` to its end; (exit code, output, errors). Raises subprocess.TimeoutExpired."""
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        given.write(stdin.encode())
        given.seek(0)
        process = start(arguments, environment, folder, stdin=given.fileno(), stdout=out, stderr=err, plain=plain)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
        return code, texts[0], texts[1]


@lru_cache(maxsize=1)
def _loaded() -> socket.socket:
    """The socket of the process that has everything loaded; it ends with this one, however that dies."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (ours, theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _MOST_BYTES)
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    if "PYTHONPATH" in os.environ:
        environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.forking", str(theirs.fileno())], cwd=ROOT, env=environment,
        pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    theirs.close()

    def close() -> None:
        ours.close()
        process.wait()

    atexit.register(close)
    return ours


# In the other process.


def _load() -> None:
    importlib.import_module("cli.entry")
    for root in _PACKAGES:
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, f"{root}."):
            if not any(word in module.name for word in _LEFT_OUT):
                importlib.import_module(module.name)
    gc.collect()
    gc.freeze()


def _serve(line: socket.socket) -> None:
    """Fork what is wanted. Returns in each of the processes that are a command; ends the process else."""
    while True:
        data, files, _, _ = socket.recv_fds(line, _MOST_BYTES, 4)
        if not data:
            os._exit(0)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if os.fork() == 0:
            line.close()
            _keep(json.loads(data), array.array("i", files))
            return
        for file in files:
            os.close(file)


def _keep(wanted: dict[str, object], files: array.array[int]) -> None:
    """Fork the command and tell of it; returns in the command."""
    *own, news = files
    child = os.fork()
    if child == 0:
        os.close(news)
        _become(wanted, own)
        return
    for file in own:
        os.close(file)
    code = 1
    try:
        os.write(news, b"%d\n" % child)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        os.write(news, b"%d\n" % code)
    except BrokenPipeError:  # nobody asks any more
        os.waitpid(child, 0)
    finally:
        os._exit(0)


def _become(wanted: dict[str, object], files: Sequence[int]) -> None:
    os.setsid()
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, max(files) + 1)
    os.chdir(str(wanted["folder"]))
    os.environ.clear()
    os.environ.update(wanted["environment"])  # type: ignore[call-overload]
    time.tzset()
    sys.path[0] = str(REMIT.parent)
    sys.argv = list(wanted["argv"])  # type: ignore[call-overload]


def _command() -> None:
    """``remit``, to its end. What a process does last, to take every object apart, is left out: all that was loaded
    would have to be copied for it."""
    from cli.entry import main

    code: object = 0
    try:
        code = main()  # type: ignore[func-returns-value]
    except SystemExit as ends:
        code = ends.code
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for file in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            file.flush()
    os._exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    _load()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    _command()
