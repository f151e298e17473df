"""The bearer token of a run: ``rmt_run_<run>_<proof><check>``.

``run`` is the run's uid, ``proof`` the HMAC-SHA256 of it under the engine's key, ``check`` a CRC-32 by which a mistyped
token and a secret scanner are served without the key; all three in base 62 at fixed length. A token is computed, never
stored: a start that is delivered twice hands out the same one, and it dies with its run, because every use looks the
run up.

A place that the engine puts before an agent's tool calls has a token of its own, ``rmt_hook_...``, with which it may
ask the gate and report results, and nothing else. What comes with it came from there, or from somebody who read it.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
import re
import secrets
import stat
import uuid
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from schemas.errors import Refused, StoreUnavailable

KEY_BYTES = 32
RUN = "run"
HOOK = "hook"
"""A hook that an executor wrote into the settings of a run."""
_KINDS = (RUN, HOOK)
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_RUN, _PROOF, _CHECK = 22, 43, 6  # digits for 128, 256 and 32 bits
_SHAPE = re.compile(
    rf"rmt_({'|'.join(_KINDS)})_([0-9A-Za-z]{{{_RUN}}})_([0-9A-Za-z]{{{_PROOF}}})([0-9A-Za-z]{{{_CHECK}}})"
)
_MOST_GOOD = 10_000
_NOBODY = str(uuid.UUID(int=0))


class RunTokens:
    """Mints and checks the tokens of one engine. ``key`` is 32 secret bytes; whoever has it can speak for any run."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a run token key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = key
        self._good: dict[bytes, tuple[str, str]] = {}

    def mint(self, run_uid: str, kind: str = RUN) -> str:
        """The token of the run, or of a place in it; the same one each time. Raises ValueError unless ``run_uid`` is a
        UUID in canonical form and ``kind`` is RUN or HOOK."""
        if kind not in _KINDS:
            raise ValueError(f"not a kind of token: {kind!r}")
        number = uuid.UUID(run_uid).int
        if str(uuid.UUID(int=number)) != run_uid:
            raise ValueError(f"not a canonical uid: {run_uid!r}")
        body = f"rmt_{kind}_{_base62(number, _RUN)}_{self._proof(run_uid, kind)}"
        return body + _check(body)

    def verify(self, token: str) -> str | None:
        """The uid of the run that ``token`` was minted for; None when it was not minted with this key, or for a
        place."""
        known = self.identify(token)
        return known[0] if known is not None and known[1] == RUN else None

    def identify(self, token: str) -> tuple[str, str] | None:
        """The uid of the run that ``token`` was minted for, and its kind; None when it was not minted with this key.

        Takes the same time for every token of the right shape, and proves something for others too, so that an answer's
        delay tells nothing of a token or of which runs exist. Only one that was good before is told sooner, by its
        digest: who has it knows that.
        """
        mark = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        known = self._good.get(mark)
        if known is not None:
            return known
        match = _SHAPE.fullmatch(token)
        run_uid, kind, claimed, sound = _NOBODY, RUN, "0" * _PROOF, False
        if match is not None:
            number = _from_base62(match[2])
            if number < 1 << 128:
                run_uid, kind, claimed = str(uuid.UUID(int=number)), match[1], match[3]
                sound = match[4] == _check(token[:-_CHECK])
        proven = hmac.compare_digest(self._proof(run_uid, kind).encode(), claimed.encode())
        if not (proven and sound):
            return None
        if len(self._good) >= _MOST_GOOD:
            self._good.clear()
        self._good[mark] = (run_uid, kind)
        return run_uid, kind

    def _proof(self, run_uid: str, kind: str) -> str:
        mac = hmac.new(self._key, f"remit {kind} token 1\0{run_uid}".encode(), hashlib.sha256).digest()
        return _base62(int.from_bytes(mac, "big"), _PROOF)


def _check(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), _CHECK)


def _base62(number: int, length: int) -> str:
    digits = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


def _from_base62(text: str) -> int:
    number = 0
    for digit in text:
        number = number * 62 + _DIGITS.index(digit)
    return number


def load_or_create_key(path: Path, *, new_key: Callable[[int], bytes] = secrets.token_bytes) -> bytes:
    """The key at ``path``; made, readable by its owner only, when there is none. Several processes that ask at once
    get the same one, and a crash leaves either no key or a whole one.

    Raises Refused when the file is not a key that only this user can read (a link, another owner, other modes, another
    length): using it would let somebody else speak for runs. Raises StoreUnavailable when it cannot be read or made.
    """
    try:
        key = _read(path)
        if key is None:
            _create(path, new_key(KEY_BYTES))
            key = _read(path)
    except OSError as error:
        raise StoreUnavailable(
            f"the key of run tokens {path} cannot be read or made: {error.strerror}. Check that its directory exists"
            " and is writable for this user"
        ) from error
    if key is None:
        raise StoreUnavailable(f"the key of run tokens {path} was removed while it was being made; try again")
    return key


def _read(path: Path) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        if path.is_symlink():
            raise _unsafe(path, "it is a symbolic link") from error
        raise
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode):
            raise _unsafe(path, "it is not a regular file")
        if facts.st_uid != os.geteuid():
            raise _unsafe(path, f"it belongs to uid {facts.st_uid}, not to this user (uid {os.geteuid()})")
        if facts.st_mode & 0o077:
            raise _unsafe(path, f"its mode is {stat.S_IMODE(facts.st_mode):04o}, so that others can reach it")
        key = os.read(file, KEY_BYTES + 1)
    finally:
        os.close(file)
    if len(key) != KEY_BYTES:
        raise _unsafe(path, f"it has {len(key)} bytes instead of {KEY_BYTES}")
    return key


def _unsafe(path: Path, why: str) -> Refused:
    return Refused(
        f"the key of run tokens {path} is not used: {why}. Remove it, and a new one is made; runs that are open then"
        " lose their tokens",
        reason="KeyFileUnsafe",
    )


def _create(path: Path, key: bytes) -> None:
    """Write aside, then link into place: linking never replaces, so the first of several makers wins."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(8)}")
    file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            os.fchmod(file, 0o600)
            if os.write(file, key) != len(key):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file)
        finally:
            os.close(file)
        with suppress(FileExistsError):
            os.link(aside, path)
    finally:
        os.unlink(aside)
    directory = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
