"""What a source looks like once it was listed, and the rules that every reader keeps.

Rules, the same for git and for a directory:

* A file is listed when its name ends in ``.yaml`` or ``.yml`` (in any case), or when the reader was asked for it.
* A name that starts with a dot is hidden. Hidden files are not listed and hidden folders (``.git``, ``.github``,
  ``.remit``) are not entered. A symlink may lead through one: mounted ConfigMaps do.
* A symlink to a file inside the source path is listed under its own name with the content of its target. One to a
  folder that is listed in its own place adds nothing and is skipped. Every other symlink is a problem: absolute,
  leaving the path, pointing at nothing, at a hidden folder, or in a circle.
* A path is relative, posix, UTF-8, without control characters, and bounded in length and depth.
* What was left out and might have held a declaration is a problem that names the file: nothing is dropped silently.
"""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol

from schemas.errors import Diagnostic

# Reasons of SourceUnreadable. None of them ever means "empty": the last good revision stays in force.
REPOSITORY_UNREACHABLE: Final = "RepositoryUnreachable"
REF_NOT_FOUND: Final = "RefNotFound"
PATH_NOT_FOUND: Final = "PathNotFound"
EMPTY_REPOSITORY: Final = "EmptyRepository"
OBJECT_DAMAGED: Final = "ObjectDamaged"
OBJECT_MISSING: Final = "ObjectMissing"
REF_DAMAGED: Final = "RefDamaged"
FETCH_TIMEOUT: Final = "FetchTimeout"
AUTHENTICATION_FAILED: Final = "AuthenticationFailed"
DISK_FULL: Final = "DiskFull"
HISTORY_REWRITTEN: Final = "HistoryRewritten"
LIMIT_EXCEEDED: Final = "LimitExceeded"
ADDRESS_REFUSED: Final = "AddressRefused"  # the URL, ref or path is not of an accepted form
FILE_UNREADABLE: Final = "FileUnreadable"  # a file of a directory source cannot be opened
SOURCE_CHANGING: Final = "SourceChanging"  # a directory did not hold still while it was read

MANIFEST_SUFFIXES: Final = (".yaml", ".yml")
MAX_LINK_HOPS: Final = 8
MAX_LINK_TARGET: Final = 4096

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a reader takes in. Beyond ``max_blob_bytes``, ``max_path_bytes`` and ``max_depth`` the one file or
    folder is a problem; beyond the others the whole source is unreadable, LimitExceeded."""

    max_files: int = 100_000
    max_blob_bytes: int = 4 * 1024 * 1024
    max_path_bytes: int = 1024
    max_depth: int = 64
    max_nodes: int = 1_000_000  # everything looked at, listed or not: bounds a tree that repeats itself
    max_links: int = 10_000


DEFAULT_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed file.

    ``path`` is relative to the source path, posix, validated. ``blob`` is the git object id (40 or 64 hex digits),
    or ``sha256-<hex>`` of the content for a directory; equal ids mean equal content. ``size`` is in bytes. ``mode``
    is git's: ``100644`` or ``100755``.
    """

    path: str
    blob: str
    size: int
    mode: str


@dataclass(frozen=True, slots=True)
class Version:
    """One consistent state of a source, by name.

    ``revision`` is ``<ref>@sha1:<hex>`` (``sha256`` in such a repository), ``dir@sha256:<hex>`` or
    ``kubernetes@rv:<resourceVersion>``. ``commit`` is the
    commit's id and ``tree_id`` that of the tree at the source path (equal tree_id, equal entries); for a directory
    both are the hex digest of the listing.
    """

    revision: str
    commit: str
    tree_id: str


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a listing without symlinks and without problems holds: listed files, and rows of folders that were
    looked at."""

    files: int
    nodes: int


@dataclass(frozen=True, slots=True)
class Tree(Version):
    """One consistent state of a source, listed.

    ``entries`` are sorted by the bytes of their path, without duplicates. ``problems`` are sorted; each names a file
    that is not in ``entries`` or that clashes with one that is. ``extent`` is None where the next listing cannot be
    told from the folders that differ alone. ``folders`` are those that are units whatever they hold. ``apart`` says
    that each entry stands for itself, as objects of a cluster do: one that is wrong keeps no other from its place.
    """

    entries: tuple[Entry, ...]
    problems: tuple[Diagnostic, ...]
    extent: Extent | None = None
    folders: frozenset[str] = frozenset()
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Changed:
    """A listed file that is new or another one. ``before`` is the blob that it was, "" for a new one."""

    entry: Entry
    before: str


@dataclass(frozen=True, slots=True)
class Delta:
    """What a version brings against an earlier one that took no listed file away: ``changed`` sorted by the bytes of
    their paths, ``touched`` the paths of the files that are not listed and differ, ``extent`` as in ``Tree``."""

    version: Version
    changed: tuple[Changed, ...]
    touched: frozenset[str]
    extent: Extent | None


@dataclass(frozen=True, slots=True)
class Change:
    """One file that differs between two commits. ``old`` and ``new`` are blob ids, "" where it does not exist."""

    path: str
    old: str
    new: str


class SourceReader(Protocol):
    """Reads one source. Safe to call from several threads; calls of one reader run one after the other.

    Every method that reads raises ``SourceUnreadable`` with one of the reasons above when the source cannot be read
    or trusted; the caller keeps the last good revision, says why, and tries again at the next poll.
    """

    def fetch(self) -> None:
        """Bring a remote source up to date, within a deadline. Does nothing for a local one. Idempotent."""
        ...

    def head(self) -> str:
        """The current revision, cheaply: meant for polling. Takes no network."""
        ...

    def read_tree(self, revision: str | None = None) -> Tree:
        """The listing of one revision, the current one when None. Cost follows the change since the last call."""
        ...

    def read_blobs(self, entries: Iterable[Entry]) -> Iterator[tuple[Entry, bytes]]:
        """The content of ``entries``, in their order. Length and hash are checked before anything is yielded."""
        ...

    def find(self, listed: Version, path: str) -> Entry | None:
        """Any file of ``listed`` by its path, listed or not (a prompt that a spec names); None when there is none.

        Raises InvalidSpec when the path or what it leads to is refused by the rules above.
        """
        ...

    def close(self) -> None:
        """Release processes and files. The reader opens them again when it is used again."""
        ...


def is_manifest(path: str) -> bool:
    """Whether a file of that name is listed without being asked for."""
    return path.lower().endswith(MANIFEST_SUFFIXES)


def problem(path: str, message: str, hint: str = "") -> Diagnostic:
    """A finding about a whole file. Bytes that are not text were escaped by ``printable``."""
    return Diagnostic(path=path, line=0, column=0, field="", message=message, hint=hint)


def printable(path: bytes | str) -> str:
    """``path`` for a message: what is not UTF-8 or would move a terminal's cursor is escaped."""
    text = path.decode("utf-8", "backslashreplace") if isinstance(path, bytes) else path
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return _CONTROL.sub(lambda m: m.group().encode("unicode_escape").decode(), text)


def check_path(path: bytes, limits: Limits = DEFAULT_LIMITS) -> str | Diagnostic:
    """The text of a listed path, or why it is refused."""
    if len(path) > limits.max_path_bytes:
        shown = printable(path[:80])
        return problem(f"{shown}...", f"the path is longer than {limits.max_path_bytes} bytes", "use shorter names")
    try:
        text = path.decode("utf-8")
    except UnicodeDecodeError:
        return problem(printable(path), "the name is not UTF-8", "rename the file")
    if _CONTROL.search(text):
        return problem(printable(path), "the name holds a control character", "rename the file")
    if text.startswith("/") or any(part in ("", ".", "..") for part in text.split("/")):
        return problem(printable(path), "not a path below the source path")
    return text


def oversized(path: str, size: int, limits: Limits) -> Diagnostic:
    """The finding about a file that is too large to be a manifest."""
    return problem(path, f"{size} bytes are more than the {limits.max_blob_bytes} that a file may have", "split it")


class Collisions:
    """Finds names of one folder that fall together on a file system that ignores case or Unicode form."""

    def __init__(self) -> None:
        self._seen: dict[str, str] = {}

    def add(self, path: str) -> Diagnostic | None:
        """Note one more path of the folder; the finding when it falls together with an earlier one."""
        folded = path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()
        other = self._seen.setdefault(folded, path)
        if other == path:
            return None
        return problem(
            printable(path),
            f"differs from {printable(other)} only in case or Unicode form",
            "a checkout on some systems keeps one of the two: rename one",
        )


class NodeKind(Enum):
    """What a name inside a source stands for, symlinks not followed."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    MISSING = "missing"
    OTHER = "other"  # submodule, device, socket


@dataclass(frozen=True, slots=True)
class Node:
    """What is at one path. ``target`` is the raw target of a link, "" otherwise."""

    kind: NodeKind
    target: str = ""


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a path leads: ``path`` holds no symlink and lies inside the source path; "" is the path itself."""

    path: str
    kind: NodeKind


def resolve(path: str, look: Callable[[str], Node]) -> Resolved | Diagnostic:
    """Follow the symlinks of ``path`` one component at a time, never leaving the source path.

    ``look`` tells what is at a path none of whose parents is a symlink. Parents are taken where a link leads, as the
    system does, so ``a/../b`` through a link ``a`` is judged by where ``a`` points.
    """
    pending = deque(path.split("/"))
    done: list[str] = []
    kind = NodeKind.FOLDER
    hops = 0
    while pending:
        part = pending.popleft()
        if part in ("", "."):
            continue
        if kind is not NodeKind.FOLDER:
            return problem(path, "the symlink leads through something that is not a folder")
        if part == "..":
            if not done:
                return problem(path, "the symlink leaves the source path", "copy the file into the source path")
            done.pop()
            continue
        done.append(part)
        node = look("/".join(done))
        kind = node.kind
        if kind is NodeKind.MISSING:
            return problem(path, "the symlink points at nothing", "commit its target or remove the link")
        if kind is NodeKind.LINK:
            hops += 1
            if hops > MAX_LINK_HOPS:
                return problem(path, f"more than {MAX_LINK_HOPS} symlinks lead one to the next")
            if not node.target or _CONTROL.search(node.target):
                return problem(path, "the symlink's target is not a path")
            if node.target.startswith("/"):
                return problem(path, "the symlink is absolute", "make it relative")
            done.pop()
            kind = NodeKind.FOLDER
            pending.extendleft(reversed(node.target.split("/")))
    return Resolved("/".join(done), kind)


def follow(path: str, wanted: bool, look: Callable[[str], Node]) -> str | Diagnostic | None:
    """What a listed symlink stands for: the path of the file to read in its place, None for nothing to read, or a
    finding. ``wanted`` says whether a file under the link's own name would be listed."""
    found = resolve(path, look)
    if isinstance(found, Diagnostic):
        return found
    if found.kind is NodeKind.FILE:
        return found.path if wanted else None
    if found.kind is NodeKind.FOLDER and not wanted:
        hidden = not found.path or any(part.startswith(".") for part in found.path.split("/"))
        if not hidden:
            return None  # its files are listed in their own place
        return problem(path, "the symlink stands for a folder that is not listed", "move the folder here")
    return problem(path, f"the symlink points at a {found.kind.value}, not at a file")
