"""Whom a source trusts: the declared files of keys, read anew at each look, never from the governed repository.

Who may commit to a repository must not be able to say whose commits count, so a file that lies in the repository, in
one of its work trees, or is reached through a symlink there is refused.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from controllers.sources import tree
from schemas.errors import SourceUnreadable
from schemas.source import SourceReason, Verify

_MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class Trust:
    """What is trusted at one moment.

    ``allowed_signers`` and ``keyring`` are the contents of the declared files, None where none is declared.
    ``principals`` empty means everybody in them. ``digest`` changes with any part of it.
    """

    allowed_signers: bytes | None
    keyring: bytes | None
    principals: frozenset[str]
    forges: frozenset[str]
    digest: str

    def admits(self, *names: str) -> bool:
        """Whether somebody of these names (principal, fingerprints) is among the allowed."""
        return not self.principals or any(name in self.principals or name in self.forges for name in names)


@dataclass(frozen=True, slots=True)
class TrustFiles:
    """Where the trusted keys are declared: absolute paths that nobody has looked at yet."""

    allowed_signers: Path | None
    keyring: Path | None
    principals: frozenset[str] = frozenset()
    forges: frozenset[str] = frozenset()

    def load(self, governed: Sequence[Path]) -> Trust:
        """Read the files. ``governed`` are folders that the source's repository fills.

        Raises SourceUnreadable with AllowedSignersRefused.
        """
        signers = _read(self.allowed_signers, governed, "allowedSigners") if self.allowed_signers is not None else None
        keyring = _read(self.keyring, governed, "gpgKeyring") if self.keyring is not None else None
        hasher = hashlib.sha256()
        for part in (signers, keyring, *(sorted(names) for names in (self.principals, self.forges))):
            data = part if isinstance(part, bytes) else repr(part).encode()
            hasher.update(b"%d %d " % (part is None, len(data)) + data)
        return Trust(signers, keyring, self.principals, self.forges, hasher.hexdigest())

    def __str__(self) -> str:
        return " and ".join(str(path) for path in (self.allowed_signers, self.keyring) if path is not None)


def files(verify: Verify, project: Path) -> TrustFiles:
    """The declared files; relative paths start at ``project``."""

    def path(text: str | None) -> Path | None:
        return None if text is None else Path(os.path.abspath(project / text))

    forges = frozenset(verify.forges)
    return TrustFiles(path(verify.allowed_signers), path(verify.gpg_keyring), frozenset(verify.principals), forges)


def _read(path: Path, governed: Sequence[Path], field: str) -> bytes:
    shown = tree.printable(str(path))
    try:
        roots = {identity for folder in governed if (identity := _identity(folder)) is not None}
        for step in _steps(path):
            if _identity(step) in roots:
                raise _refused(
                    f"spec.verify.{field} {shown} lies in the repository that it is to govern ({step})",
                    "move it to a place that no commit reaches",
                )
        if not stat.S_ISREG(path.stat().st_mode):
            raise _refused(f"spec.verify.{field} {shown} is not a regular file", "name a file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise _refused(
            f"spec.verify.{field} {shown} cannot be read: {error.strerror}", "restore it, or correct the path"
        ) from error
    if len(data) > _MAX_BYTES:
        raise _refused(f"spec.verify.{field} {shown} has more than {_MAX_BYTES} bytes", "is it the right file?")
    if not data.strip():
        raise _refused(f"spec.verify.{field} {shown} is empty, so nobody is trusted", "put the keys into it")
    return data


def _steps(path: Path) -> Iterator[Path]:
    """Every folder, link and file that the system passes on the way to ``path``, each without a link in its name."""
    pending = deque(path.parts[1:])
    current = Path("/")
    links = 0
    yield current
    while pending:
        part = pending.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            current = current.parent
            continue
        found = current / part
        yield found
        if not found.is_symlink():
            current = found
            continue
        links += 1
        if links > _MAX_LINKS:
            raise _refused(f"{tree.printable(str(path))} leads through too many symlinks", "name the file itself")
        target = os.readlink(found)
        if target.startswith("/"):
            current = Path("/")
        pending.extendleft(reversed(target.split("/")))


def _identity(path: Path) -> tuple[int, int] | None:
    """Which file or folder it is, whatever it is called; None for a link and for nothing."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return None
    return None if stat.S_ISLNK(info.st_mode) else (info.st_dev, info.st_ino)


def _refused(message: str, hint: str) -> SourceUnreadable:
    return SourceUnreadable(f"{message}; {hint}", reason=SourceReason.ALLOWED_SIGNERS_REFUSED)
