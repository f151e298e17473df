"""What ssh-keygen says of an SSH signature, by its exit codes, and what can be read from the signature itself.

Reading the allowed signers file here never makes anybody trusted: that is ssh-keygen's part. It finds the line that a
refusal has to name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from controllers.sources import git_environment, tree
from schemas.errors import SourceUnreadable
from schemas.source import SourceReason

NAMESPACE: Final = "git"
_DEADLINE_S: Final = 30.0
_ARMOUR = re.compile(rb"-----BEGIN SSH SIGNATURE-----\n(?P<text>[A-Za-z0-9+/=\n]+)-----END SSH SIGNATURE-----\n*")
_MAGIC: Final = b"SSHSIG"
_LIMIT = re.compile(r"(?:^|,)valid-(?:after|before)=", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Key:
    """The public key that a signature names. ``text`` is as in a ``.pub`` file, ``fingerprint`` as ssh prints it."""

    text: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the allowed signers file. ``limited`` tells whether it bounds the time of the key."""

    number: int
    principals: str
    limited: bool


def key_of(signature: bytes) -> Key | None:
    """The key that an armoured signature was made with; None when it is not well-formed."""
    armour = _ARMOUR.fullmatch(signature)
    if armour is None:
        return None
    try:
        data = base64.b64decode(armour["text"].replace(b"\n", b""), validate=True)
    except binascii.Error:
        return None
    # SSHSIG, a version as 4 bytes, then the key as a text with its length in 4 bytes before it.
    if data[:6] != _MAGIC or len(data) < 14:
        return None
    size = int.from_bytes(data[10:14], "big")
    key = data[14 : 14 + size]
    if not key or len(key) != size:
        return None
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")
    return Key(base64.b64encode(key).decode(), f"SHA256:{digest}")


def line_of(key: Key, signers: bytes) -> Line | None:
    """The first line that holds the key; one that bounds its time goes before one that does not."""
    found: list[Line] = []
    for number, raw in enumerate(signers.decode("utf-8", "replace").splitlines(), 1):
        words = raw.split()
        if raw.lstrip().startswith("#") or key.text not in words[1:]:
            continue
        principals = tree.printable(words[0].strip('"'))[:200]
        options = words[1] if len(words) > 3 or "=" in words[1] else ""
        found.append(Line(number, principals, _LIMIT.search(options) is not None))
    return min(found, key=lambda line: (not line.limited, line.number), default=None)


class Keygen:
    """Asks ssh-keygen about one signature. ``time`` is the moment whose validity counts, None for now."""

    def __init__(
        self, program: str, signers: Path, signature: bytes, payload: bytes, time: int | None, folder: Path
    ) -> None:
        self._program = program
        self._signers = signers
        self._payload = payload
        self._signature = folder / "signature"
        self._signature.write_bytes(signature)
        self._time = () if time is None else ("-O", f"verify-time={_stamp(time)}")

    def is_sound(self) -> bool:
        """Whether the signature fits the payload, whoever made it."""
        command = ("-Y", "check-novalidate", "-n", NAMESPACE, "-s", str(self._signature))
        return self._run(command, self._payload).returncode == 0

    def principal(self) -> str:
        """Whose signature it is: the first principal that ssh-keygen finds and confirms, "" for nobody's."""
        which = ("-f", str(self._signers), "-s", str(self._signature), *self._time)
        found = self._run(("-Y", "find-principals", *which))
        if found.returncode:
            return ""
        for principal in found.stdout.decode("utf-8", "replace").splitlines():
            if not principal or principal.startswith("-"):
                continue
            named = ("-Y", "verify", "-n", NAMESPACE, "-I", principal, *which)
            if self._run(named, self._payload).returncode == 0:
                return principal
        return ""

    def _run(self, command: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        environment = {"PATH": git_environment.local()["PATH"], "HOME": "/dev/null", "LC_ALL": "C", "TZ": "UTC"}
        try:
            return subprocess.run(
                [self._program, *command],
                cwd="/",
                env=environment,
                input=stdin,
                capture_output=True,
                check=False,
                timeout=_DEADLINE_S,
                start_new_session=True,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceUnreadable(
                f"ssh-keygen does not work here ({error}); is the package openssh-client installed whole?",
                reason=SourceReason.SIGNATURE_UNCHECKED,
            ) from error


def _stamp(seconds: int) -> str:
    """A moment as ssh-keygen takes it, which runs under UTC."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%d%H%M%S")
    except (ValueError, OverflowError, OSError):
        return "19700101000000"
