"""Where the supervisor of a state directory listens: a Unix socket that only its user can reach."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

from controllers.dispatch.supervision.records import Layout

_BACKLOG = 64
_MAX_SOCKET_PATH = 100
"""The address of a Unix socket holds 108 bytes on Linux and 104 on macOS, the final NUL included."""


def is_held(layout: Layout, lock: int) -> bool:
    """Whether the lock file of ``layout`` is still the one that this process holds as ``lock``. It is not when the
    directory was deleted or replaced: then no engine can reach us, and what lies at the path is not ours."""
    try:
        found = layout.lock.stat()
    except OSError:
        return False
    return os.path.samestat(found, os.fstat(lock))


def listen(layout: Layout) -> socket.socket:
    """A socket where only this user can connect. What an earlier supervisor left is removed: we hold its lock."""
    remove(layout)
    path = layout.socket
    if _is_too_long(path):
        import tempfile  # costs a quarter of the start-up time and is hardly ever needed

        path = Path(tempfile.mkdtemp(prefix="remit-")) / "socket"
        temporary = layout.pointer.with_name("socket-path.tmp")
        temporary.write_text(str(path), encoding="utf-8")
        temporary.replace(layout.pointer)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def socket_path(layout: Layout) -> Path:
    """Where the supervisor of ``layout`` listens, if it lives. Raises FileNotFoundError when there is no place.

    A temporary directory may be swept and taken by somebody else, so a place that a pointer names counts only while
    its directory belongs to this user alone.
    """
    try:
        path = Path(layout.pointer.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if _is_too_long(layout.socket):
            raise
        return layout.socket
    facts = path.parent.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid() or stat.S_IMODE(facts.st_mode) != 0o700:
        raise FileNotFoundError(f"{path.parent} is not a private directory of this user")
    return path


def remove(layout: Layout) -> None:
    """Take the socket and its pointer away. Only for the holder of the lock. Idempotent."""
    with contextlib.suppress(OSError):
        layout.socket.unlink()
    with contextlib.suppress(OSError):
        path = socket_path(layout)
        if path != layout.socket:
            path.unlink(missing_ok=True)
            path.parent.rmdir()
    with contextlib.suppress(OSError):
        layout.pointer.unlink()


def _is_too_long(path: Path) -> bool:
    return len(os.fsencode(path)) > _MAX_SOCKET_PATH
