"""The index that the ``inventory`` agent keeps between its attempts: one JSON file for each mission.

Reading trusts nothing: a file that is cut, altered, of another mission or another version counts as absent. Writing is
atomic: a program that is killed leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remit_client.agents.tree import read_bytes
from remit_client.errors import Failure

VERSION = 1
MAX_INDEX_BYTES = 128 * 1024 * 1024
KEPT_INDEXES = 20


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file as it was at ``mtime_ns`` with ``size`` bytes. ``lines`` is None for what is no text."""

    size: int
    mtime_ns: int
    lines: int | None


class FileIndex:
    """The index of one mission over one root, in ``folder``."""

    def __init__(self, folder: Path, mission_uid: str, root: str) -> None:
        self._path = folder / f"{hashlib.sha256(mission_uid.encode('utf-8', 'replace')).hexdigest()[:32]}.json"
        self._folder = folder
        self._uid = mission_uid
        self._root = root

    def load(self) -> dict[str, Known] | None:
        """What is known, by path; None when the index is cold."""
        try:
            data = read_bytes(self._path, MAX_INDEX_BYTES + 1)
            document = json.loads(data) if len(data) <= MAX_INDEX_BYTES else None
        except (OSError, ValueError, RecursionError):
            return None
        if not isinstance(document, dict) or document.get("head") != self._head():
            return None
        files = document.get("files")
        if not isinstance(files, dict) or document.get("digest") != _digest(files):
            return None
        known: dict[str, Known] = {}
        for path, entry in files.items():
            match entry:
                case [int(size), int(mtime_ns), int() | None as lines]:
                    known[path] = Known(size, mtime_ns, lines)
                case _:
                    return None
        return known

    def store(self, known: Mapping[str, Known]) -> None:
        """Replace the index, and forget the oldest ones of other missions. Raises Failure when it cannot be written."""
        files = {path: [k.size, k.mtime_ns, k.lines] for path, k in known.items()}
        text = json.dumps({"head": self._head(), "digest": _digest(files), "files": files})
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd, temporary = tempfile.mkstemp(prefix=".index-", dir=self._folder)
            try:
                with os.fdopen(fd, "w", encoding="ascii") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(fd)
                os.replace(temporary, self._path)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary)
                raise
        except OSError as error:
            raise Failure(
                "StateUnwritable", f"the index cannot be kept in {self._folder.name}: {error.strerror}"
            ) from error
        self._forget_old()

    def _head(self) -> dict[str, Any]:
        return {"version": VERSION, "missionUid": self._uid, "root": self._root}

    def _forget_old(self) -> None:
        with contextlib.suppress(OSError):
            found = [path for path in self._folder.iterdir() if path.suffix == ".json" and len(path.stem) == 32]
            found.sort(key=lambda path: path.lstat().st_mtime_ns, reverse=True)
            for path in found[KEPT_INDEXES:]:
                path.unlink()


def _digest(files: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode("ascii")).hexdigest()
