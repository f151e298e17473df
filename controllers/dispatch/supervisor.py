"""Starts the supervisor of a state directory: ``python -I -S supervisor.py STATE_DIR [IDLE_EXIT_S]``.

Prints one word and returns as soon as requests can be sent: ``ready``, or ``taken`` when another supervisor holds the
directory; ``failed`` and the reason otherwise, with exit code 1. Three processes in a row, so that neither the engine
nor the supervisor has the other on its conscience::

    this one      takes the lock, closes lost runs, opens the socket, returns to the engine
    guardian      waits for the supervisor and cleans up if it dies
    supervisor    serves

It imports the standard library and modules of ours that do the same (``-I -S`` leave nothing else), takes nothing from
the engine's environment, and is the parent of every agent program: nothing the engine does, kill -9 included, ends a
run. What ends them all is a signal to the whole process tree: under systemd set ``KillMode=process`` to keep runs over
a restart of the engine.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

if not __package__:
    # Run by path, isolated: make the own package importable, after the standard library.
    sys.path.append(str(Path(__file__).resolve().parents[2]))

from controllers.dispatch.supervision import address, guardian, processes
from controllers.dispatch.supervision.records import Layout
from controllers.dispatch.supervision.server import Server, log, wall_clock

IDLE_EXIT_S = 60.0
_MAX_LOG = 1024 * 1024


def main(arguments: list[str]) -> int:
    """See the module docstring. Returns the exit code of the starting process; the other two leave on their own."""
    os.umask(0o077)
    os.closerange(3, 65_536)
    try:
        layout = Layout(Path(arguments[0]).resolve())
        idle_exit_s = float(arguments[1]) if len(arguments) > 1 else IDLE_EXIT_S
        layout.make()
        lock = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
    except (IndexError, ValueError, OSError) as error:
        return _answer(f"failed {error}", 1)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return _answer("taken", 0)
    if not address.is_held(layout, lock):
        # Deleted between our open and our lock; who asked for a supervisor asks again.
        return _answer("taken", 0)
    try:
        _to_log(layout, 2)
        lost = guardian.close_lost_runs(layout, wall_clock())
        if lost:
            log(f"closed {len(lost)} lost runs: {' '.join(lost[:20])}")
        listener = address.listen(layout)
        child = os.fork()
    except OSError as error:
        return _answer(f"failed {error}", 1)
    if child == 0:
        _live(layout, lock, listener, idle_exit_s)
    listener.close()
    return _answer("ready", 0)


def _live(layout: Layout, lock: int, listener: socket.socket, idle_exit_s: float) -> NoReturn:
    """Body of the guardian, and of the supervisor below it. Never returns."""
    code = 1
    try:
        _to_log(layout, 1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.chdir("/")
        processes.become_subreaper()
        supervisor = os.fork()
        if supervisor:
            # Else clients could still connect, and wait for ever, once the supervisor is dead.
            listener.close()
            if not guardian.guard(supervisor):
                log("the supervisor died; what it had started was killed")
                if address.is_held(layout, lock):
                    guardian.close_lost_runs(layout, wall_clock())
        else:
            processes.become_subreaper()
            Server(layout, lock, listener, idle_exit_s=idle_exit_s).serve()
            if address.is_held(layout, lock):
                address.remove(layout)
        code = 0
    except BaseException as error:  # noqa: BLE001 - the last frame of a process; its exit code is its message
        log(f"fault, ending: {error!r}")
    finally:
        os._exit(code)


def _to_log(layout: Layout, descriptor: int) -> None:
    """Point a descriptor of this process at the supervisor's log, which is begun anew when it has grown large."""
    with contextlib.suppress(OSError):
        if layout.log.stat().st_size > _MAX_LOG:
            layout.log.replace(layout.log.with_name("log.1"))
    fd = os.open(layout.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(fd, descriptor)
    os.close(fd)


def _answer(text: str, code: int) -> int:
    with contextlib.suppress(OSError):
        os.write(1, text.encode("utf-8", "replace") + b"\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
