"""What the tests of the supervisor share: a client on a real supervisor, requests, waiting for facts."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from controllers.dispatch.supervision import processes
from controllers.dispatch.supervision.records import Layout
from controllers.dispatch.supervision.wire import StartRequest
from controllers.dispatch.supervisor_client import SupervisorClient
from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock
from schemas.errors import RemitError

PROGRAMS = Path(__file__).parent
DEAF = ["sh", "-c", "trap '' TERM; exec sleep 600"]
"""A program that does not end when it is told to, from its first moment on."""
GRACE_S = 60.0
"""Time to end for a program that does so at once: a busy machine is not to be taken for a deaf program."""
CLOCK = SystemClock()


def python(program: str, *arguments: object) -> list[str]:
    """Command line of one of the programs in this folder."""
    return [sys.executable, "-I", "-S", str(PROGRAMS / program), *(str(a) for a in arguments)]


def request(run: str, argv: list[str], **fields: Any) -> StartRequest:
    """A start request with an environment of one variable."""
    values: dict[str, Any] = {"env": {"PATH": "/usr/bin:/bin"}, "cwd": "/", **fields}
    return StartRequest(run=run, argv=argv, **values)


def marked(client: SupervisorClient, run: str) -> dict[str, str]:
    """An environment by which every descendant of a run is known."""
    return {"PATH": "/usr/bin:/bin", "REMIT_MISSION_FILE": str(client.layout.run(run).path / "mission.json")}


def new_client(state_dir: Path, *, idle_exit_s: float = 20.0, **options: Any) -> SupervisorClient:
    """A client on the real clock."""
    return SupervisorClient(state_dir, CLOCK, ThreadBlocking(2), idle_exit_s=idle_exit_s, **options)


@contextlib.asynccontextmanager
async def supervised(state_dir: Path, **options: Any) -> AsyncIterator[SupervisorClient]:
    """A client; at the end the supervisor that it had started is stopped, with every run it holds."""
    client = new_client(state_dir, **options)
    try:
        yield client
    finally:
        with contextlib.suppress(RemitError):
            await client.stop(force=True)
            if is_held(state_dir):
                await client.stop(force=True)
        await client.close()
        await gone(state_dir)


async def until(fact: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait until ``fact()`` is true; fails naming ``what`` when it does not become so."""
    end = CLOCK.monotonic() + seconds
    while not fact():
        assert CLOCK.monotonic() < end, f"waited {seconds} s in vain for: {what}"
        await CLOCK.sleep(0.005)


async def gone(state_dir: Path) -> None:
    """Wait until no supervisor holds the directory."""
    await until(lambda: not is_held(state_dir), "the supervisor to leave")


def is_held(state_dir: Path) -> bool:
    """Whether a supervisor, or its guardian, holds the directory."""
    try:
        fd = os.open(Layout(state_dir).lock, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    stat = processes.read_stat(pid)
    return stat is not None and not stat.is_zombie


def parent_of(pid: int) -> int:
    """The parent of a living process."""
    stat = processes.read_stat(pid)
    assert stat is not None
    return stat.parent


def numbers_in(folder: Path) -> list[int]:
    """The pids that programs noted in ``folder``."""
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


def environment_of(pid: int) -> bytes:
    """The environment that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()
