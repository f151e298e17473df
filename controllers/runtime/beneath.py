"""Opening files below a folder, and nowhere else.

The way is walked name by name with ``openat``, each step relative to the folder that is open already and never through
a symbolic link that the system follows by itself. So nobody who changes the tree meanwhile can lead the walk out of
the folder. Symbolic links are read and walked too, as long as they stay below; absolute ones, and ``..`` above the
folder, are refused.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path

_MOST_LINKS = 40
_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
"""To go through a folder takes less than to read it, where the system knows the difference."""


class LeadsOut(Exception):
    """A path leaves the folder that it must stay in. The message says how."""


def open_beneath(root: Path, path: str, flags: int, mode: int = 0o600, *, links: bool = True) -> int:
    """A descriptor of ``path`` below ``root``, close-on-exec. ``root`` itself is trusted. Without ``links`` every
    symbolic link is refused. With O_CREAT only the last name is made.

    Raises LeadsOut, OSError. Opens a FIFO without waiting if ``flags`` has O_NONBLOCK; the caller looks at what it got.
    """
    if "\0" in path:
        raise LeadsOut(f"{path!r} is not a path")
    if path.startswith("/"):
        raise LeadsOut(f"{path!r} is absolute")
    folders = [os.open(root, _FOLDER & ~os.O_NOFOLLOW)]
    try:
        return _walk(folders, path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, links=links)
    finally:
        for folder in folders:
            os.close(folder)


def _walk(folders: list[int], path: str, flags: int, mode: int, *, links: bool) -> int:
    names, followed = _names(path), 0
    while True:
        if not names:
            return os.open(".", flags & ~(os.O_CREAT | os.O_EXCL), dir_fd=folders[-1])
        name = names.pop(0)
        if name == "..":
            if len(folders) == 1:
                raise LeadsOut(f"{path!r} leads out of the folder")
            os.close(folders.pop())
            continue
        target = _link(name, folders[-1])
        if target is None:
            try:
                found = os.open(name, flags if not names else _FOLDER, mode, dir_fd=folders[-1])
            except OSError as error:
                if error.errno in (errno.ELOOP, errno.EMLINK):
                    raise LeadsOut(f"{path!r} became a symbolic link while it was opened") from error
                raise
            if not names:
                return found
            folders.append(found)
            continue
        followed += 1
        if not links or followed > _MOST_LINKS:
            raise LeadsOut(f"{path!r} goes through {'a symbolic link' if not links else 'too many symbolic links'}")
        if target.startswith("/"):
            raise LeadsOut(f"{path!r} goes through a symbolic link to an absolute path")
        names = _names(target) + names


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _link(name: str, folder: int) -> str | None:
    """Where the symbolic link ``name`` points to; None when it is none."""
    with suppress(OSError):
        return os.readlink(name, dir_fd=folder)
    return None


def enter(folder: str) -> None:
    """Make ``folder``, an absolute path without symbolic links, the working directory. One that became a link after it
    was looked at is refused. Raises OSError."""
    try:
        opened = open_beneath(Path("/"), folder.lstrip("/") or ".", _FOLDER, links=False)
    except LeadsOut as error:
        raise OSError(errno.ELOOP, str(error)) from error
    try:
        os.fchdir(opened)
    finally:
        os.close(opened)


def open_plain(path: Path) -> int:
    """A file for reading, that a program may have put something else in the place of: neither a link is followed nor a
    FIFO waited for. Raises OSError, also for what is no regular file."""
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return opened


def require_regular(descriptor: int, shown: str) -> os.stat_result:
    """What the system says of an open file. Raises LeadsOut unless it is a regular file with one name: a device or a
    FIFO is no file, and a second name may be that of somebody else's."""
    facts = os.fstat(descriptor)
    if not stat.S_ISREG(facts.st_mode):
        raise LeadsOut(f"{shown} is not a regular file")
    if facts.st_nlink > 1:
        raise LeadsOut(f"{shown} has a second name (a hard link)")
    return facts
