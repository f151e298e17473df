"""What agents hand in, kept before the store speaks of it.

Text of up to 256 KiB stays in the run's status, readable at once; everything else lies in a file named by its content,
``<state_dir>/artifacts/<run uid>/<sha256>``. Credentials are taken out of texts before anything is kept, unless the
redaction level is Off; what is left is the content, and what the digest speaks of. Text that has to be cleaned of
control characters for its readers is in both: cleaned inline, and as it is in the file.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from controllers.runs.text import clean
from schemas.errors import NotFound, Refused, StoreUnavailable
from schemas.mission import Artifact
from schemas.redaction import OFF, Redactor
from schemas.run import RunStatus

LARGEST = 32 * 1024 * 1024
"""Bytes of one artifact."""
MOST = 100
"""Artifacts of one run."""
INLINE = 256 * 1024
"""Bytes of a text that stays in the status."""
INLINE_IN_ALL = 1024 * 1024
"""Bytes of all texts of a run that stay in its status, which is written anew with each report."""

_SHAPES = Redactor()
_AS_KEPT = Redactor((), OFF)
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


def digest_of(data: bytes) -> str:
    """``sha256:<hex>``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def room_inline(status: RunStatus) -> int:
    """Bytes that one more text may have to stay in this status."""
    used = sum(len(artifact.text.encode()) for artifact in status.artifacts if artifact.text)
    return max(0, min(INLINE, INLINE_IN_ALL - used))


def _as_it_is(text: str, _: str) -> str:
    return text


class ArtifactFiles:
    """The artifacts below one state directory. Safe to use from several threads and processes."""

    def __init__(self, state_dir: Path, *, mask: Callable[[str, str], str] = _as_it_is) -> None:
        """``mask`` takes the values of secrets of a namespace out of a text that goes into a status."""
        self._root = state_dir / "artifacts"
        self._mask = mask

    def keep(
        self, run_uid: str, run: str, name: str, media_type: str, data: bytes, *, inline: int = INLINE,
        redactor: Redactor = _SHAPES, namespace: str = "",
    ) -> Artifact:  # fmt: skip
        """Keep what ``content`` leaves of ``data`` for good and describe it; once this returns it survives a crash.
        ``run`` is the run's name, ``inline`` the bytes of text that may stay in the status, without secrets of
        ``namespace``. Keeping the same content again changes nothing.

        Raises Refused (ArtifactTooLarge), StoreUnavailable when the disk does not take it.
        """
        if len(data) > LARGEST:
            raise Refused(
                f"{name} has {len(data):,} bytes; an artifact has at most {LARGEST:,}. Hand in a part of it, or a link",
                reason="ArtifactTooLarge",
            )
        data = self.content(data, redactor, namespace)
        digest = digest_of(data)
        text = _readable(data, redactor) if len(data) <= inline else None
        text = None if text is None else self._mask(text, namespace)
        if text is None or text.encode() != data:
            self._write(run_uid, digest, data)
        return Artifact(name=name, media_type=media_type, size=len(data), digest=digest, text=text, run=run)

    def content(self, data: bytes, redactor: Redactor, namespace: str) -> bytes:
        """What is kept of ``data``: texts lose what ``redactor`` takes out, and secrets of ``namespace``. With the
        level Off, and where it is no text in UTF-8, it is kept byte for byte. Doing it again changes nothing."""
        if redactor.level == OFF or b"\0" in data:
            return data
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return data
        kept = self._mask(redactor.text(text), namespace)
        return data if kept == text else kept.encode()

    def read(self, run_uid: str, artifact: Artifact) -> bytes:
        """Its content, byte for byte. Raises NotFound when the file is gone or no longer has that content."""
        if artifact.text is not None:
            data = artifact.text.encode()
            if digest_of(data) == artifact.digest:
                return data
        path = self._path(run_uid, artifact.digest)
        try:
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(file, "rb") as stream:
                data = stream.read(LARGEST + 1)
        except FileNotFoundError as error:
            raise NotFound(f"the content of artifact {artifact.name} is gone: {path} does not exist") from error
        except OSError as error:
            raise StoreUnavailable(f"the artifact file {path} cannot be read: {error.strerror}") from error
        if digest_of(data) != artifact.digest:
            raise NotFound(f"the content of artifact {artifact.name} is damaged: {path} does not have its digest")
        return data

    def text(self, run_uid: str, artifact: Artifact) -> str:
        """Its content for reading: decoded, with U+FFFD for what is not text, and cleaned. Raises as ``read``."""
        if artifact.text is not None:
            return artifact.text
        return clean(self.read(run_uid, artifact).decode("utf-8", "replace"), redactor=_AS_KEPT)

    def drop(self, run_uid: str, artifact: Artifact, kept: Iterable[Artifact]) -> None:
        """Remove the file of an artifact that was turned down after it was kept, unless one of ``kept`` has the same
        content. The caller sees to it that nobody hands in anything for this run meanwhile."""
        if all(other.digest != artifact.digest for other in kept):
            with suppress(OSError):
                self._path(run_uid, artifact.digest).unlink()

    def remove(self, run_uid: str) -> None:
        """Remove everything of a run whose record goes. Idempotent. Raises StoreUnavailable."""
        folder = self._folder(run_uid)
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreUnavailable(f"the artifacts {folder} cannot be removed: {error.strerror}") from error

    def _folder(self, run_uid: str) -> Path:
        if str(uuid.UUID(run_uid)) != run_uid:
            raise ValueError(f"not a canonical uid: {run_uid!r}")
        return self._root / run_uid

    def _path(self, run_uid: str, digest: str) -> Path:
        match = _DIGEST.fullmatch(digest)
        if match is None:
            raise ValueError(f"not a digest of content: {digest!r}")
        return self._folder(run_uid) / match[1]

    def _write(self, run_uid: str, digest: str, data: bytes) -> None:
        path = self._path(run_uid, digest)
        try:
            with suppress(FileNotFoundError):
                # A file of that name was whole before it got the name; only another size shows later damage.
                if path.lstat().st_size == len(data):
                    _sync(path.parent)
                    return
            _make(path.parent)
            _write_aside(path, data)
        except OSError as error:
            raise StoreUnavailable(
                f"the artifact file {path} cannot be written: {error.strerror}. Free some space, or make its directory"
                " writable for this user"
            ) from error


def _readable(data: bytes, redactor: Redactor) -> str | None:
    """The text that ``data`` is, cleaned; None when it is not UTF-8 or holds a NUL."""
    if b"\0" in data:
        return None
    try:
        return clean(data.decode(), redactor=redactor)
    except UnicodeDecodeError:
        return None


def _make(folder: Path) -> None:
    """``artifacts/<run>``, each part durable before anything is put into it. The state directory itself exists."""
    for part in (folder.parent, folder):
        with suppress(FileExistsError):
            part.mkdir(mode=0o700)
            _sync(part.parent)


def _write_aside(path: Path, data: bytes) -> None:
    aside = path.with_name(f".{path.name[:16]}.{os.getpid()}.{secrets.token_hex(8)}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
    _sync(path.parent)


def _sync(folder: Path) -> None:
    directory = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
