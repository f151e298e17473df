"""Processes as the operating system shows them: children, groups, sessions, exits, and whose a stray one is.

On Linux the supervisor is a child subreaper: whatever a program leaves behind becomes a direct child of the
supervisor, so a daemon that forked twice into a session of its own is still found. Elsewhere only the process group
of a program can be followed; what leaves it escapes.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_MAX_ENVIRON = 4 * 1024 * 1024
MARKER = b"REMIT_MISSION_FILE="
"""Entry of the environment by which a process is known to belong to a run, wherever it went: it names a file in the
run's folder. The name of the run alone would not do: a copy of a state directory holds the same names."""

IS_LINUX = sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """A line of /proc/<pid>/stat. ``start_ticks`` since boot identifies the process together with its pid."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    start_ticks: int

    @property
    def is_zombie(self) -> bool:
        return self.state in ("Z", "X")


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a process ended: a code or a signal; neither when somebody else collected it."""

    code: int | None
    signal: int | None


def become_subreaper() -> bool:
    """Have orphaned descendants become children of this process. False where the system cannot do that."""
    if not IS_LINUX:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


def boot_id() -> str:
    """Identifies this boot of the machine; "" where the system does not tell."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def read_stat(pid: int) -> ProcessStat | None:
    """What the system says of ``pid``; None when it is gone or the system does not tell."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read(4096)
    except OSError:
        return None
    # The command name stands in brackets and may hold anything, brackets included.
    values = line[line.rfind(b")") + 2 :].split()
    if len(values) < 20:
        return None
    return ProcessStat(
        pid=pid,
        state=values[0].decode("ascii", "replace"),
        parent=int(values[1]),
        group=int(values[2]),
        session=int(values[3]),
        start_ticks=int(values[19]),
    )


def all_processes() -> list[ProcessStat]:
    """Every process that this one can see; empty where there is no /proc."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    found = (read_stat(int(name)) for name in names if name.isdigit())
    return [stat for stat in found if stat is not None]


def children() -> list[int]:
    """Direct children of this (single-threaded) process, zombies included; empty where there is no /proc."""
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(word) for word in file.read().split()]
    except FileNotFoundError:
        # Kernels without CONFIG_PROC_CHILDREN.
        return [stat.pid for stat in all_processes() if stat.parent == pid]
    except OSError:
        return []


def run_of(pid: int, runs: Path) -> str | None:
    """The run below the folder ``runs`` that the environment of ``pid`` names; None when it names none, or may not
    be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            data = file.read(_MAX_ENVIRON)
    except OSError:
        return None
    prefix = MARKER + os.fsencode(runs) + b"/"
    for entry in data.split(b"\0"):
        if entry.startswith(prefix):
            return os.fsdecode(entry[len(prefix) :].partition(b"/")[0])
    return None


def peek_exit(pid: int) -> ExitStatus | None:
    """How the child ``pid`` ended, None while it runs. The zombie stays, so its pid and group cannot be reused,
    until ``reap``; systems without ``waitid`` reap it here."""
    try:
        if sys.platform == "linux":
            info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if info is None:
                return None
            ended_by_itself = info.si_code == os.CLD_EXITED
            return ExitStatus(info.si_status, None) if ended_by_itself else ExitStatus(None, info.si_status)
        else:  # noqa: RET505 - the type checker skips this branch only as an else
            found, status = os.waitpid(pid, os.WNOHANG)
            if found == 0:
                return None
            code = os.waitstatus_to_exitcode(status)
            return ExitStatus(code, None) if code >= 0 else ExitStatus(None, -code)
    except ChildProcessError:
        return ExitStatus(None, None)


def reap(pid: int) -> bool:
    """Collect the child ``pid`` if it ended. True when it is gone."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def signal_process(pid: int, number: signal.Signals) -> None:
    """Send a signal; a process that is gone is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def signal_group(group: int, number: signal.Signals) -> bool:
    """Send a signal to a process group. False when it has no member left."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS answers so for a group of zombies; elsewhere a member changed its user and cannot be reached.
        return IS_LINUX
    return True


def group_exists(group: int) -> bool:
    """Whether a process group has members, zombies included."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return IS_LINUX
    return True
