"""What a ref points at, read from its files: a poll of a local repository starts no process.

A damaged ref must be told apart from one that is gone, and ``refs/tags/refs/heads/main`` must never answer for
``refs/heads/main``; ``rev-parse`` does neither. Repositories that keep refs in a reftable are asked through git.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from controllers.sources import git_process, tree
from schemas.errors import SourceUnreadable

_MAX_SYMBOLIC: Final = 5
_MAX_REF_BYTES: Final = 4096
_MAX_PACKED_BYTES: Final = 256 * 1024 * 1024
_VALUE = re.compile(rb"(?P<oid>[0-9a-f]{64}|[0-9a-f]{40})(?:\s.*)?", re.DOTALL)
_SYMBOLIC = re.compile(rb"ref:\s*(?P<name>refs/[^\s\x00-\x1f]+)\s*")


class RefReader:
    """Reads refs of one repository. ``git_dir`` is that of the work tree (its HEAD), ``common_dir`` holds the rest."""

    def __init__(self, git_dir: Path, common_dir: Path) -> None:
        self._git_dir = git_dir
        self._common_dir = common_dir
        self._packed_stamp: tuple[int, ...] = ()
        self._packed: dict[bytes, str] = {}

    def read(self, name: str) -> str | None:
        """The object id that a full ref name, or HEAD, stands for; None when there is no such ref.

        Raises SourceUnreadable with RefDamaged when the ref exists and holds no object id: an older value that may
        lie in packed-refs does not count then.
        """
        if (self._common_dir / "reftable").is_dir():
            return self._ask_git(name)
        for _ in range(_MAX_SYMBOLIC):
            content = self._loose(name)
            if content is None:
                return self._read_packed(name)
            value = _VALUE.fullmatch(content)
            if value is not None:
                return value["oid"].decode()
            symbolic = _SYMBOLIC.fullmatch(content)
            if symbolic is None or b".." in symbolic["name"]:
                raise _damaged(name, "holds no object id")
            name = symbolic["name"].decode("utf-8", "surrogateescape")
        raise _damaged(name, "is one of a chain of symbolic refs that does not end")

    def _loose(self, name: str) -> bytes | None:
        folder = self._common_dir if name.startswith("refs/") else self._git_dir
        try:
            with (folder / name).open("rb") as file:
                return file.read(_MAX_REF_BYTES)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            raise _damaged(name, f"cannot be read ({error.strerror})") from error

    def _read_packed(self, name: str) -> str | None:
        # Git writes packed-refs before it removes the loose file, so a ref that moved in between is found here.
        path = self._common_dir / "packed-refs"
        try:
            with path.open("rb") as file:
                info = os.fstat(file.fileno())
                stamp = (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
                if stamp != self._packed_stamp:
                    self._packed = _parse_packed(file.read(_MAX_PACKED_BYTES))
                    self._packed_stamp = stamp
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _damaged("packed-refs", f"cannot be read ({error.strerror})") from error
        return self._packed.get(name.encode("utf-8", "surrogateescape"))

    def _ask_git(self, name: str) -> str | None:
        # for-each-ref matches whole names; HEAD is no part of it.
        if name == "HEAD":
            found = git_process.run(("symbolic-ref", "-q", "HEAD"), git_dir=self._git_dir)
            name = found.stdout.decode("utf-8", "surrogateescape").strip()
            if not name:
                found = git_process.run(("rev-parse", "-q", "--verify", "HEAD"), git_dir=self._git_dir)
                return found.stdout.decode("ascii", "replace").strip() or None
        command = ("for-each-ref", "--format=%(refname) %(objectname)", "--", name)
        found = git_process.run(command, git_dir=self._git_dir)
        if found.status or "broken ref" in found.stderr:
            raise _damaged(name, found.last_words)
        for line in found.stdout.splitlines():
            full, _, oid = line.partition(b" ")
            if full == name.encode("utf-8", "surrogateescape"):
                return oid.decode("ascii", "replace")
        return None


def _parse_packed(content: bytes) -> dict[bytes, str]:
    """Names and ids of a packed-refs file. A line that is neither a ref, a peeled id nor a comment is damage."""
    refs: dict[bytes, str] = {}
    for line in content.splitlines():
        if line.startswith((b"#", b"^")) or not line:
            continue
        oid, _, name = line.partition(b" ")
        if not name or not _VALUE.fullmatch(oid):
            raise _damaged("packed-refs", "holds a line that is no ref")
        refs[name] = oid.decode()
    return refs


def _damaged(name: str, what: str) -> SourceUnreadable:
    shown = tree.printable(name.encode("utf-8", "surrogateescape"))
    return SourceUnreadable(
        f"the ref {shown} {what}; restore it with 'git update-ref', its last values are in the reflog",
        reason=tree.REF_DAMAGED,
    )
