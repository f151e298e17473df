"""Reads git objects by id through ``git cat-file``, and believes none of it before length and hash were checked.

Why not GitPython's own objects: it returns an empty or cut blob without any error when a loose object is truncated,
and git itself serves wrong bytes that are stored under a name. An emptied Policy would read as "no rules". So each
object is hashed again here. One that is damaged or missing raises SourceUnreadable naming the path and the object.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from controllers.sources import git_address, git_process, tree
from schemas.errors import SourceUnreadable

MAX_COMMIT_BYTES: Final = 1024 * 1024
MAX_TREE_BYTES: Final = 32 * 1024 * 1024
_MAX_BATCH: Final = 1000
_MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024
_MAX_BATCH_BYTES: Final = 8 * 1024 * 1024

_QUESTION = re.compile(rb"(?:(?:[0-9a-f]{64}|[0-9a-f]{40})\n)*")

# The last alternative takes in whatever is no row, to its end: so that a broken tree is read once and not once a byte.
_ROWS = {size: re.compile(rb"(?s:([^ ]*+) ([^/\0]++)\0(.{%d})|.+)" % size) for size in (20, 32)}

T = TypeVar("T")


class Wanted(NamedTuple):
    """One object to read. ``where`` names it in errors, a path as a rule. ``limit`` bounds its size in bytes;
    ``expected`` is its size where that is known already, and only serves to form batches."""

    oid: str
    kind: str
    where: str
    limit: int
    expected: int = 0


Read = Callable[[Sequence[Wanted]], list[T]]
"""Takes the answers to a batch from its dialogue."""


class Row(NamedTuple):
    """One line of a tree object. ``mode`` is git's octal text, such as ``100644`` or ``40000``."""

    mode: bytes
    name: bytes
    oid: str


class _Fault(Exception):
    def __init__(self, wanted: Wanted, reason: str, message: str) -> None:
        self.wanted = wanted
        self.reason = reason
        self.message = message
        super().__init__(message)

    def translated(self) -> SourceUnreadable:
        where = tree.printable(self.wanted.where)
        return SourceUnreadable(
            f"{where}: object {self.wanted.oid} {self.message}; run 'git fsck' there, or fetch the object again",
            reason=self.reason,
        )


class ObjectReader:
    """Reads the objects of one repository. Keeps two git processes open; not thread-safe.

    A process that died is replaced and asked again, so a killed helper goes unnoticed. One look is never enough to
    call an object damaged: an old process may not know packs that were written since.
    """

    def __init__(self, git_dir: Path, *, deadline_s: float = git_process.DEFAULT_DEADLINE_S) -> None:
        self._contents = git_process.Dialogue(("cat-file", "--batch"), git_dir, deadline_s=deadline_s)
        self._headers = git_process.Dialogue(("cat-file", "--batch-check"), git_dir, deadline_s=deadline_s)
        self._git_dir = git_dir
        self._taken = 0

    @property
    def pids(self) -> tuple[int, ...]:
        """Ids of the open processes."""
        return tuple(pid for pid in (self._contents.pid, self._headers.pid) if pid is not None)

    def close(self) -> None:
        """End the processes; the next question starts new ones."""
        self._contents.stop()
        self._headers.stop()

    def contents(self, wanted: Iterable[Wanted]) -> Iterator[bytes]:
        """The verified bytes of each object, in order."""
        for batch in _batches(wanted):
            yield from self._insist(self._contents, batch, self._read_contents)

    def content(self, wanted: Wanted) -> bytes:
        """The verified bytes of one object."""
        return next(self.contents([wanted]))

    def sizes(self, wanted: Iterable[Wanted]) -> Iterator[int]:
        """The size of each object in bytes, in order. The type is checked, the content is not."""
        for batch in _batches(wanted):
            yield from self._insist(self._headers, batch, self._read_headers)

    def exists(self, oid: str) -> bool:
        """Whether there is such an object. One that is damaged raises."""
        try:
            self._kind(oid, f"object {oid[:12]}")
        except SourceUnreadable as error:
            if error.reason != tree.OBJECT_MISSING:
                raise
            return False
        return True

    def commit_tree(self, commit: str, where: str) -> str:
        """The id of the tree of a commit."""
        wanted = Wanted(commit, "commit", where, MAX_COMMIT_BYTES)
        first, _, _ = self.content(wanted).partition(b"\n")
        word, _, oid = first.partition(b" ")
        found = oid.decode("ascii", "replace")
        if word != b"tree" or len(found) != len(commit) or not git_address.is_commit(found):
            raise _Fault(wanted, tree.OBJECT_DAMAGED, "is not a well-formed commit").translated()
        return found

    def parents(self, commit: str, where: str) -> list[str]:
        """The ids of the commits before a commit, as it names them itself."""
        head, _, _ = self.content(Wanted(commit, "commit", where, MAX_COMMIT_BYTES)).partition(b"\n\n")
        words = (line.partition(b" ") for line in head.split(b"\n"))
        return [oid.decode("ascii", "replace") for word, _, oid in words if word == b"parent"]

    def peel(self, oid: str, where: str) -> str:
        """The commit that an object leads to: itself, or what an annotated tag is attached to."""
        for _ in range(8):
            kind = self._kind(oid, where)
            if kind == "commit":
                return oid
            if kind != "tag":
                break
            text = self.content(Wanted(oid, "tag", where, MAX_COMMIT_BYTES))
            word, _, target = text.partition(b"\n")[0].partition(b" ")
            found = target.decode("ascii", "replace")
            if word != b"object" or len(found) != len(oid) or not git_address.is_commit(found):
                break
            oid = found
        raise SourceUnreadable(f"{where} does not lead to a commit", reason=tree.REF_DAMAGED)

    def rows(self, wanted: Sequence[tuple[str, str]]) -> Iterator[tuple[Row, ...]]:
        """The lines of trees, each given as (object id, path for errors), in order."""
        asked = [Wanted(oid, "tree", where or "the root folder", MAX_TREE_BYTES) for oid, where in wanted]
        for each, data in zip(asked, self.contents(asked), strict=True):
            try:
                yield parse_tree(data, len(each.oid) // 2)
            except ValueError as error:
                raise _Fault(each, tree.OBJECT_DAMAGED, f"is not a well-formed tree ({error})").translated() from None

    def trees(self, wanted: Sequence[tuple[str, str]]) -> Iterator[bytes]:
        """As ``rows``, the bytes of each (see ``split_tree``)."""
        return self.contents(Wanted(oid, "tree", where or "the root folder", MAX_TREE_BYTES) for oid, where in wanted)

    def _kind(self, oid: str, where: str) -> str:
        found = self._insist(self._headers, [Wanted(oid, "", where, 0)], self._read_kinds)
        return found[0]

    def _insist(self, dialogue: git_process.Dialogue, batch: Sequence[Wanted], read: Read[T]) -> list[T]:
        """Ask for a batch; after a fault ask again in a new process, one object at a time, to find the culprit."""
        try:
            return self._ask(dialogue, batch, read)
        except (_Fault, git_process.GitDied):
            dialogue.stop()
        return [self._ask_alone(dialogue, wanted, read) for wanted in batch]

    def _ask_alone(self, dialogue: git_process.Dialogue, wanted: Wanted, read: Read[T]) -> T:
        try:
            try:
                return self._ask(dialogue, [wanted], read)[0]
            except git_process.GitDied:
                dialogue.stop()
                return self._ask(dialogue, [wanted], read)[0]
        except _Fault as fault:
            dialogue.stop()
            raise fault.translated() from fault
        except git_process.GitDied as died:
            dialogue.stop()
            if not self._git_dir.is_dir():
                raise SourceUnreadable(
                    f"the repository {self._git_dir} is gone", reason=tree.REPOSITORY_UNREACHABLE
                ) from died
            words = tree.printable(died.stderr.splitlines()[-1][:200]) if died.stderr else "git gave up on it"
            raise _Fault(wanted, tree.OBJECT_DAMAGED, f"cannot be read ({words})").translated() from died

    def _ask(self, dialogue: git_process.Dialogue, batch: Sequence[Wanted], read: Read[T]) -> list[T]:
        question = b"".join(b"%s\n" % wanted.oid.encode() for wanted in batch)
        if not _QUESTION.fullmatch(question):
            raise ValueError("an object is asked for by something that is no object id")
        self._taken = 0
        try:
            dialogue.ask(question)
            return read(batch)
        except git_process.GitSilent as error:
            dialogue.stop()
            raise SourceUnreadable(
                f"git did not answer in time for {self._git_dir}; is its disk reachable?",
                reason=tree.REPOSITORY_UNREACHABLE,
            ) from error
        except BaseException:
            dialogue.stop()  # answers to the rest of the batch are still under way
            raise

    def _read_kinds(self, batch: Sequence[Wanted]) -> list[str]:
        return [self._answer(self._headers, self._headers.line(), wanted)[0] for wanted in batch]

    def _read_headers(self, batch: Sequence[Wanted]) -> list[int]:
        lines = self._headers.lines(len(batch))
        return [self._size(self._headers, line, wanted) for line, wanted in zip(lines, batch, strict=True)]

    def _read_contents(self, batch: Sequence[Wanted]) -> list[bytes]:
        return [self._read_content(wanted) for wanted in batch]

    def _read_content(self, wanted: Wanted) -> bytes:
        size = self._size(self._contents, self._contents.line(), wanted)
        if size > wanted.limit:
            raise SourceUnreadable(
                f"{tree.printable(wanted.where)}: object {wanted.oid} has {size} bytes, more than {wanted.limit}",
                reason=tree.LIMIT_EXCEEDED,
            )
        self._taken += size
        if self._taken > _MAX_ANSWER_BYTES:
            raise SourceUnreadable(
                f"{tree.printable(wanted.where)}: its folders are too large to be read together;"
                " narrow the source's path",
                reason=tree.LIMIT_EXCEEDED,
            )
        framed = self._contents.take(size + 1)
        data = framed[:-1]
        if framed[-1:] != b"\n":
            raise _Fault(wanted, tree.OBJECT_DAMAGED, "is longer than its header says")
        if object_id(wanted.kind, data, len(wanted.oid)) != wanted.oid:
            raise _Fault(wanted, tree.OBJECT_DAMAGED, "holds other content than its name promises")
        return data

    def _size(self, dialogue: git_process.Dialogue, line: bytes, wanted: Wanted) -> int:
        """The size of the object that a line of the answer is about, which has to be of the wanted kind."""
        head = f"{wanted.oid} {wanted.kind} ".encode()
        if line.startswith(head) and (digits := line[len(head) :]).isdigit():
            return int(digits)
        kind, size = self._answer(dialogue, line, wanted)
        self._check_kind(wanted, kind)
        return size

    def _answer(self, dialogue: git_process.Dialogue, line: bytes, wanted: Wanted) -> tuple[str, int]:
        words = line.decode("ascii", "replace").split(" ")
        if len(words) == 3 and words[0] == wanted.oid and words[2].isdecimal():
            return words[1], int(words[2])
        if words[-1] != "missing":
            raise _Fault(wanted, tree.OBJECT_DAMAGED, "got no proper answer from git")
        # For a damaged loose object git says "missing" too, after complaining about the file.
        complaint = dialogue.complaint()
        if "corrupt" in complaint or "error:" in complaint:
            words_of_git = tree.printable(complaint.splitlines()[0].removeprefix("error:").strip()[:200])
            raise _Fault(wanted, tree.OBJECT_DAMAGED, f"is damaged ({words_of_git})")
        raise _Fault(wanted, tree.OBJECT_MISSING, "is missing")

    @staticmethod
    def _check_kind(wanted: Wanted, kind: str) -> None:
        if kind != wanted.kind:
            raise _Fault(wanted, tree.OBJECT_DAMAGED, f"is a {kind} where a {wanted.kind} belongs")


def object_id(kind: str, data: bytes, digits: int) -> str:
    """The id that git gives to ``data``: SHA-1 for 40 hex digits, SHA-256 for 64."""
    algorithm = hashlib.sha1 if digits == 40 else hashlib.sha256
    return algorithm(b"%b %d\0%b" % (kind.encode(), len(data), data), usedforsecurity=False).hexdigest()


def parse_tree(data: bytes, id_bytes: int) -> tuple[Row, ...]:
    """The rows of a tree object in stored order. Raises ValueError when it is cut or holds a name with a slash."""
    # Some old tools padded the mode of a folder to six digits.
    return tuple(Row(mode.lstrip(b"0"), name, oid.hex()) for mode, name, oid in split_tree(data, id_bytes))


def split_tree(data: bytes, id_bytes: int) -> list[tuple[bytes, bytes, bytes]]:
    """The rows of a tree object as they are stored: mode, name, binary id. Raises ValueError as ``parse_tree``."""
    rows = _ROWS[id_bytes].findall(data)
    if rows and not rows[-1][2]:
        raise ValueError("a row is cut or has no proper name")
    return rows


def _batches(wanted: Iterable[Wanted]) -> Iterator[list[Wanted]]:
    """Groups small enough to be asked again as a whole and to be held in memory."""
    batch: list[Wanted] = []
    weight = 0
    for each in wanted:
        if batch and (len(batch) >= _MAX_BATCH or weight + each.expected > _MAX_BATCH_BYTES):
            yield batch
            batch, weight = [], 0
        batch.append(each)
        weight += each.expected
    if batch:
        yield batch
