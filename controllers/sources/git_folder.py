"""A git tree in memory that remembers the ids of its folders, and a pack of the objects that a change of it needs.

Changing a file forgets the ids of the folders above it and of no other, so a commit stores as many trees as the changed
files have parents, however large the rest is.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from controllers.sources import git_objects

_KINDS: Final = {"commit": 1, "tree": 2, "blob": 3}


class Folder:
    """A folder: files by name as blob ids, and folders. ``digits`` is the length of ids, 40 or 64."""

    def __init__(self, digits: int) -> None:
        self._digits = digits
        self._rows: dict[str, bytes] = {}  # by name, as they stand in the tree object; a folder's may be out of date
        self._sorted = True
        self._folders: dict[str, Folder] = {}
        self._oid: str | None = None

    def __bool__(self) -> bool:
        return bool(self._rows)

    def get(self, path: str) -> str | None:
        """The blob id of a file; None when there is none."""
        name, _, rest = path.partition("/")
        folder = self._folders.get(name)
        if rest:
            return folder.get(rest) if folder is not None else None
        row = self._rows.get(name)
        return self._id_in(row) if row is not None and folder is None else None

    def put(self, path: str, blob: str) -> None:
        """Set a file; what stood in its place, file or folder, is gone."""
        self._oid = None
        name, _, rest = path.partition("/")
        if rest:
            folder = self._folders.get(name)
            if folder is None:
                folder = self._folders[name] = Folder(self._digits)
                self._rows[name] = b""
                self._sorted = False
            folder.put(rest, blob)
            return
        if name not in self._rows or self._folders.pop(name, None) is not None:
            self._sorted = False
        self._rows[name] = _row(b"100644", name, blob)

    def remove(self, path: str) -> None:
        """Take a file away, and the folders that are empty then."""
        self._oid = None
        name, _, rest = path.partition("/")
        folder = self._folders.get(name)
        if not rest:
            if folder is None:
                self._rows.pop(name, None)
        elif folder is not None:
            folder.remove(rest)
            if not folder:
                del self._folders[name], self._rows[name]

    def paths(self, prefix: str = "") -> Iterator[tuple[str, str]]:
        """Every file as (path, blob id)."""
        for name, row in self._rows.items():
            if name not in self._folders:
                yield prefix + name, self._id_in(row)
        for name, folder in self._folders.items():
            yield from folder.paths(f"{prefix}{name}/")

    def objects(self) -> Iterator[tuple[str, bytes]]:
        """(id, content) of the trees whose id was not known; the last one is the root, which is always there."""
        for name, folder in sorted(self._folders.items()):
            if folder._oid is None:
                yield from folder.objects()
                self._rows[name] = _row(b"40000", name, str(folder._oid))
        if not self._sorted:
            # Git sorts a folder as if its name ended with a slash.
            order = sorted(self._rows, key=lambda name: f"{name}/".encode() if name in self._folders else name.encode())
            self._rows = {name: self._rows[name] for name in order}
            self._sorted = True
        data = b"".join(self._rows.values())
        self._oid = git_objects.object_id("tree", data, self._digits)
        yield self._oid, data

    def _id_in(self, row: bytes) -> str:
        return row[-self._digits // 2 :].hex()


def _row(mode: bytes, name: str, oid: str) -> bytes:
    return b"%s %s\0%s" % (mode, name.encode(), bytes.fromhex(oid))


def read(objects: git_objects.ObjectReader, root: str) -> Folder:
    """The folder of a stored tree. What is neither file nor folder in it is left out, so that the next commit drops it.

    Raises SourceUnreadable when an object is missing or damaged.
    """
    top = Folder(len(root))
    level = [("", root)]
    while level:
        following: list[tuple[str, str]] = []
        for (prefix, _), rows in zip(level, objects.rows([(oid, prefix) for prefix, oid in level]), strict=True):
            for row in rows:
                path = prefix + row.name.decode("utf-8", "replace")
                if row.mode == b"40000":
                    following.append((f"{path}/", row.oid))
                elif row.mode == b"100644":
                    top.put(path, row.oid)
        level = following
    return top


def pack(objects: Iterable[tuple[str, bytes]], digits: int) -> bytes:
    """A pack file of whole objects, given as (kind, content)."""
    parts = []
    count = 0
    for kind, content in objects:
        count += 1
        size = len(content)
        byte = _KINDS[kind] << 4 | size & 0x0F
        size >>= 4
        head = bytearray()
        while size:
            head.append(byte | 0x80)
            byte = size & 0x7F
            size >>= 7
        head.append(byte)
        parts += [bytes(head), zlib.compress(content, 1)]
    body = b"".join([b"PACK", struct.pack(">II", 2, count), *parts])
    return body + hashlib.new("sha1" if digits == 40 else "sha256", body, usedforsecurity=False).digest()
