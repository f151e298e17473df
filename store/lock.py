"""One engine per store: an OS lock on a file beside the database.

The lock is the kernel's (``flock``): it ends with the process, however that dies, and a file left behind is no
obstacle. What the file says is only for people; nothing is decided by it, least of all by its pid, which may belong to
an innocent process by now. Child processes do not inherit the lock.
"""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import shlex
import socket
import sys
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from schemas.errors import StoreLocked, StoreUnavailable
from schemas.quantities import format_time

_MOST_BYTES = 10_000
_TRIES = 100_000


@dataclass(frozen=True, slots=True)
class Holder:
    """Who says to hold a store. ``started_at`` is RFC 3339 in UTC."""

    pid: int
    host: str
    user: str
    started_at: str
    command: str


def lock_path(database: Path) -> Path:
    """Where the lock of a database file is."""
    return database.with_name(database.name + ".lock")


class EngineLock:
    """The lock of one store, held until ``release`` or the end of the process."""

    def __init__(self, file: int) -> None:
        self._file: int | None = file

    @classmethod
    def take(cls, database: Path, *, now: datetime) -> EngineLock:
        """Take it, without waiting. Raises StoreLocked naming the holder, StoreUnavailable when the file cannot be
        made."""
        path = lock_path(database)
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StoreUnavailable(
                f"the lock file {path} cannot be opened: {error.strerror}. Make its directory writable for this user"
            ) from error
        try:
            taken = _lock(file)
        except OSError as error:
            os.close(file)
            raise StoreUnavailable(f"the lock file {path} cannot be locked: {error.strerror}") from error
        if not taken:
            holder = _read(file)
            os.close(file)
            raise StoreLocked(_refusal(database, holder))
        _write(file, _myself(now))
        return cls(file)

    def release(self) -> None:
        """Let go; idempotent. The file stays: removing it could take it away from the next holder."""
        file, self._file = self._file, None
        if file is not None:
            try:
                os.ftruncate(file, 0)
            except OSError:  # its content is a courtesy
                pass
            finally:
                os.close(file)


def holder_of(database: Path) -> Holder | None:
    """Who holds the store now; None when nobody does. The fields are empty when the holder did not say."""
    try:
        file = os.open(lock_path(database), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        return None if _try_lock(file, fcntl.LOCK_SH) else _read(file) or Holder(0, "", "", "", "")
    finally:
        os.close(file)


def _lock(file: int) -> bool:
    """Whether the lock could be taken. Who only looks who holds the store shares the lock for some microseconds; that
    alone turns no engine away."""
    for _ in range(_TRIES):
        if _try_lock(file, fcntl.LOCK_EX):
            return True
        if not _try_lock(file, fcntl.LOCK_SH):
            return False  # an engine
        fcntl.flock(file, fcntl.LOCK_UN)
    return False


def _try_lock(file: int, mode: int) -> bool:
    try:
        fcntl.flock(file, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _myself(now: datetime) -> Holder:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a uid without a name, as in containers
        user = f"uid {os.getuid()}"
    # The verb only: further arguments may hold a password.
    words = [Path(sys.argv[0]).name, *sys.argv[1:2]] if sys.argv and sys.argv[0] else ["python"]
    command = shlex.join(word for word in words if not word.startswith("-"))
    return Holder(os.getpid(), socket.gethostname(), user, format_time(now), command)


def _write(file: int, holder: Holder) -> None:
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(asdict(holder)).encode() + b"\n", 0)
    except OSError:  # a full disk must not keep an engine from draining; the lock itself is held
        return


def _read(file: int) -> Holder | None:
    try:
        wire = json.loads(os.pread(file, _MOST_BYTES, 0))
        return Holder(
            int(wire["pid"]), str(wire["host"]), str(wire["user"]), str(wire["started_at"]), str(wire["command"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refusal(database: Path, holder: Holder | None) -> str:
    if holder is None:
        return (
            f"{database} is held by another engine, which has not written down who it is. Find it with"
            f" `fuser {lock_path(database)}`, stop it, or choose another store"
        )
    here = holder.host == socket.gethostname()
    stop = f"stop it with `kill {holder.pid}`" if here else f"stop it there (pid {holder.pid})"
    return (
        f"{database} is held by another engine: pid {holder.pid} on host {holder.host}, user {holder.user},"
        f" `{holder.command}`, since {holder.started_at}. One engine works on a store at a time: {stop},"
        f" or choose another store with --store"
    )
