"""Reads the history of a git repository that nobody vouches for.

Every call has a fixed argument list; the only words from outside are object ids, which git itself gave for a name that
was checked first. Settings of the repository that would start programs or reach out to a network are switched off, the
environment is cleared, and output and time are bounded.
"""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from remit_client.errors import Failure

COMMAND_TIMEOUT_S = 20.0
MAX_OUTPUT_BYTES = 32 * 1024 * 1024
_POLL_S = 0.1
_ID = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REF = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}")
_FORBIDDEN = ("..", "//", "@{", "/.")

_SETTINGS = (
    "core.fsmonitor=false", "core.hooksPath=/dev/null", "core.attributesFile=/dev/null", "core.pager=cat",
    "core.quotePath=false", "gpg.program=false", "log.showSignature=false", "log.showRoot=true",
    "log.mailmap=true", "log.follow=false", "protocol.allow=never", "credential.helper=",
)  # fmt: skip
# An empty field starts each commit and ends each message: no path is empty, so that nothing in a path, a name or a
# subject can be taken for the next commit.
_FORMAT = "%x00%H%x00%P%x00%aN%x00%s%x00"


class GitError(Exception):
    """git said no, in its own words."""


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit. ``paths`` are the files it touched, empty for merges."""

    id: str
    parents: int
    author: str
    subject: str
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository seen from ``root``, which may be a directory inside of it. ``head`` is None while it has no commit.
    ``shallow`` says that older history is not there."""

    root: Path
    head: str | None
    shallow: bool


class Git:
    """Runs git in ``root``. ``check`` may raise to stop; then git is killed."""

    def __init__(self, root: Path, check: Callable[[], None], *, program: str = "git") -> None:
        self._root = root
        self._check = check
        self._program = program
        self._below: tuple[str, ...] = ()

    def open(self) -> Repository | None:
        """The repository that ``root`` lies in; None when it lies in none. Raises Failure when git is missing or
        refuses the repository."""
        try:
            shallow = self._run("rev-parse", "--is-shallow-repository").strip() == b"true"
        except GitError as error:
            words = str(error)
            if "not a git repository" in words:
                return None
            hint = ""
            if "dubious ownership" in words:
                hint = "; it belongs to another user: run Remit as its owner, or list it in safe.directory"
            raise Failure("RepositoryRefused", f"git does not read the repository: {words}{hint}") from error
        if self._run("rev-parse", "--show-prefix").strip():
            # A directory inside of the work tree: only what concerns it. At the top the same words would make git
            # leave out commits without files, and merges.
            self._below = ("--relative", "--", ".")
        return Repository(self._root, self.resolve("HEAD"), shallow)

    def resolve(self, ref: str) -> str | None:
        """The commit that ``ref`` names, or None. Raises Failure for a text that is no proper name."""
        if not is_ref(ref):
            raise Failure("InvalidInput", f"{ref!r:.100} is not a name of a tag, a branch or a commit")
        try:
            text = self._run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        except GitError:
            return None
        id_ = text.decode("ascii", "replace").strip()
        return id_ if _ID.fullmatch(id_) else None

    def latest_tag(self, commit: str) -> str | None:
        """The nearest tag on the way back from ``commit``, the commit itself included; None when there is none."""
        try:
            text = self._run("describe", "--tags", "--abbrev=0", _checked(commit))
        except GitError:
            return None
        name = text.decode("utf-8", "surrogateescape").strip()
        return name if is_ref(name) else None

    def first_parent(self, commit: str) -> str | None:
        """The first parent; None for a first commit, also one that a shallow clone cut off."""
        text = self._run("rev-list", "--parents", "--max-count=1", _checked(commit)).decode("ascii", "replace").split()
        return text[1] if len(text) > 1 else None

    def count(self, start: str | None, end: str) -> int:
        """How many commits are reachable from ``end`` and not from ``start``, in a subdirectory those that touch it."""
        text = self._run("rev-list", "--count", *_range(start, end), *self._below[1:])
        return int(text.strip() or b"0")

    def log(self, start: str | None, end: str, most: int) -> list[Commit]:
        """The latest ``most`` of these commits, newest first."""
        options = (
            "--name-only", "--no-renames", "--no-ext-diff", "--no-textconv", "--no-show-signature", "--no-decorate",
            "--no-color",
        )  # fmt: skip
        relative, below = self._below[:1], self._below[1:]
        limit, form = f"--max-count={most}", f"--format={_FORMAT}"
        return _parse(self._run("log", "-z", limit, form, *options, *relative, *_range(start, end), *below))

    def _run(self, *arguments: str) -> bytes:
        settings = [word for setting in _SETTINGS for word in ("-c", setting)]
        environ = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": os.devnull,
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_FLUSH": "0",
        }
        # Its errors go to a file: nobody has to read two pipes at once, and their number is bounded by reading less.
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    [self._program, "--no-pager", "--literal-pathspecs", *settings, *arguments],
                    cwd=self._root,
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            except FileNotFoundError as error:
                raise Failure("GitMissing", "there is no program git in PATH: install git") from error
            except OSError as error:
                raise Failure("GitMissing", f"git cannot be started: {error.strerror}") from error
            try:
                assert process.stdout is not None
                data = self._read(cast("BinaryIO", process.stdout), arguments[0])
                # The end of its output is the end of git but for a moment.
                code = process.wait(timeout=COMMAND_TIMEOUT_S)
            except subprocess.TimeoutExpired as error:
                raise _too_slow(arguments[0]) from error
            finally:
                if process.poll() is None:
                    process.kill()
                if process.stdout is not None:
                    process.stdout.close()
                process.wait()
            if code != 0:
                errors.seek(0)
                words = errors.read(2000).decode("utf-8", "replace").strip().replace("\n", " ")
                raise GitError(words or f"git {arguments[0]} ended with {code}")
        return data

    def _read(self, stream: BinaryIO, verb: str) -> bytes:
        end = time.monotonic() + COMMAND_TIMEOUT_S
        parts: list[bytes] = []
        size = 0
        with selectors.DefaultSelector() as selector:
            selector.register(stream, selectors.EVENT_READ)
            while True:
                self._check()
                if time.monotonic() > end:
                    raise _too_slow(verb)
                if not selector.select(_POLL_S):
                    continue
                part = os.read(stream.fileno(), 1 << 16)
                if not part:
                    return b"".join(parts)
                size += len(part)
                if size > MAX_OUTPUT_BYTES:
                    limit = MAX_OUTPUT_BYTES // 1024 // 1024
                    raise Failure("TooMuchHistory", f"git {verb} gave more than {limit} MB: choose a shorter range")
                parts.append(part)


def is_ref(text: str) -> bool:
    """Whether ``text`` may be handed to git as the name of a commit: a plain name, never an option or an expression."""
    return (
        _REF.fullmatch(text) is not None
        and not any(part in text for part in _FORBIDDEN)
        and not text.endswith((".lock", ".", "/"))
    )


def _too_slow(verb: str) -> Failure:
    return Failure("GitTimeout", f"git {verb} took longer than {COMMAND_TIMEOUT_S:.0f} s", retryable=True)


def _checked(commit: str) -> str:
    if not _ID.fullmatch(commit):
        raise ValueError(f"not an object id: {commit!r:.100}")
    return commit


def _range(start: str | None, end: str) -> list[str]:
    return [_checked(end)] if start is None else [f"{_checked(start)}..{_checked(end)}"]


def _parse(data: bytes) -> list[Commit]:
    fields = data.decode("utf-8", "surrogateescape").split("\x00")
    commits: list[Commit] = []
    at = 0
    while at + 5 < len(fields):
        # "", id, parents, author, subject, "", path, path ... and the "" of the next one
        id_, parents, author, subject = fields[at + 1 : at + 5]
        at += 6
        paths: list[str] = []
        while at < len(fields) and fields[at]:
            paths.append(fields[at].removeprefix("\n") if not paths else fields[at])
            at += 1
        commits.append(Commit(id_, len(parents.split()), author, subject, tuple(paths)))
    return commits
