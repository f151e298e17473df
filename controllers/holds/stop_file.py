"""The file ``ESTOP`` beside the store: a stop that needs nothing but a file system.

``ESTOP`` stops everything, ``ESTOP.<tenant>`` one tenant. Being there is what counts, whatever it is and whatever it
holds: a file that cannot be read, an empty one, a folder, a link to nowhere. The content, where it can be read, only
says who and why.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from schemas.base import is_namespace
from schemas.config import Config
from schemas.quantities import format_time, parse_time
from store.location import folder, from_project

NAME = "ESTOP"
_MOST = 4096
_REASON = 2000


@dataclass(frozen=True, slots=True)
class Stop:
    """One such file. ``tenant`` is "" for the one that stops everything. ``by`` is "" when it does not say who."""

    path: Path
    tenant: str
    reason: str
    by: str
    at: datetime


class StopFile:
    """The file at ``path``, and those of tenants beside it. ``host`` tells machines apart that share a store."""

    def __init__(self, path: Path, host: str) -> None:
        self.path = path
        self.host = host

    def place(self, tenant: str = "") -> str:
        """``host:path`` of one of them, for people."""
        return f"{self.host}:{self.of(tenant)}"

    def of(self, tenant: str = "") -> Path:
        """The path of one of them."""
        return self.path.with_name(f"{self.path.name}.{tenant}") if tenant else self.path

    def stands(self, tenant: str = "") -> bool:
        """Whether there is such a file: one look at a folder, some microseconds. A folder that cannot be looked into
        may hide one, so it counts."""
        try:
            os.lstat(self.of(tenant))
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return True

    def found(self) -> Iterator[Stop]:
        """All of them, the one for everything first. Whatever else lies in the folder is left alone."""
        if self.stands():
            yield self._read("")
        with suppress(OSError):
            prefix = f"{self.path.name}."
            for name in sorted(os.listdir(self.path.parent)):
                tenant = name.removeprefix(prefix)
                if name.startswith(prefix) and is_namespace(tenant) and self.stands(tenant):
                    yield self._read(tenant)

    def write(self, reason: str, *, by: str, at: datetime, tenant: str = "") -> Path:
        """Make it, durably; one that is there stays as it is. On a full disk it is made without words: being there is
        what counts. Raises OSError."""
        path = self.of(tenant)
        with suppress(FileNotFoundError):
            os.lstat(path)
            return path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=".estop.")
        try:
            words = json.dumps({"by": by, "at": format_time(at), "reason": reason[:_REASON]}) + "\n"
            with os.fdopen(fd, "wb", buffering=0) as file:
                try:
                    file.write(words.encode())
                except OSError as error:
                    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                        raise
                    file.truncate(0)
                os.fsync(file.fileno())
            Path(temporary).rename(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return path

    def remove(self, tenant: str = "") -> bool:
        """Take it away; False when there was none. Raises OSError."""
        path = self.of(tenant)
        try:
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _read(self, tenant: str) -> Stop:
        """What it says, as far as that can be read: at most some kilobytes of an ordinary file, waiting for nothing."""
        path = self.of(tenant)
        text, at = "", datetime.fromtimestamp(0, UTC)
        with suppress(OSError):
            at = datetime.fromtimestamp(os.lstat(path).st_mtime, UTC)
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(fd, "rb") as file:
                text = file.read(_MOST).decode("utf-8", "replace")
        by, reason, at = _said(text, at)
        return Stop(path, tenant, reason or "an ESTOP file", by, at)


def of_project(config: Config, project: Path, state: Path) -> StopFile:
    """That of a project: as configured, else beside an SQLite store, else in the state directory."""
    beside = folder(from_project(config.store, project)) or state
    path = project / config.estop_file if config.estop_file else beside / NAME
    return StopFile(Path(os.path.abspath(path)), socket.gethostname())


def _said(text: str, at: datetime) -> tuple[str, str, datetime]:
    """(by, reason, at) of what the file holds: our own JSON, or a person's words."""
    try:
        values = json.loads(text)
        return _line(values["by"]), _line(values["reason"]), parse_time(values["at"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return "", _line(text), at


def _line(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return " ".join("".join(c if c.isprintable() else " " for c in value).split())[:_REASON]
