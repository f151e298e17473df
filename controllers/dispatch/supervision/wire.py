"""What the engine and the supervisor say to each other: one JSON object per line over a Unix socket.

Requests carry ``id`` and ``op``; answers carry the same ``id`` and ``ok``, with ``error {reason, message}`` when not
ok; ``{"event": "exit", "run": ..., "exit": {...}}`` comes without a request. Every request may be repeated: a lost
connection is answered by asking again. Operations: ping, start, seal, cancel, status, list, forget, stop.
"""

from __future__ import annotations

import json
import math
import socket
import struct
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from controllers.dispatch.supervision.records import check_run_id
from schemas.redaction import STANDARD, Redactor

VERSION = 1
MAX_LINE = 8 * 1024 * 1024
MAX_CAP = 1 << 30
DEFAULT_CAP = 10 * 1024 * 1024
DEFAULT_GRACE_S = 10.0


class ProtocolError(Exception):
    """The other side sent something that is not this protocol; the connection is closed."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Everything that is needed to start a program. Paths are absolute; ``argv[0]`` is looked up in env's PATH.

    ``env`` is the whole environment. ``stdin_file`` None means /dev/null. ``deadline_s`` counts from the start; None
    means no deadline. ``kill_grace_s`` lies between SIGTERM and SIGKILL. A cap bounds what is kept of a stream.
    ``note`` is kept in started.json for the caller, so it must hold no secret. ``hidden`` names variables whose values
    are secrets: they are taken out of the logs, with the shapes of the level ``redaction``.
    """

    run: str
    argv: list[str]
    env: dict[str, str] = field(repr=False)
    cwd: str
    stdin_file: str | None = None
    deadline_s: float | None = None
    kill_grace_s: float = DEFAULT_GRACE_S
    stdout_cap: int = DEFAULT_CAP
    stderr_cap: int = DEFAULT_CAP
    note: dict[str, str] = field(default_factory=dict)
    hidden: list[str] = field(default_factory=list)
    redaction: str = STANDARD

    def to_wire(self) -> dict[str, Any]:
        """JSON form; holds secrets, so it goes over the socket and nowhere else."""
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> StartRequest:
        """The request in ``wire``. Raises ValueError that names the field, never its value."""
        return cls(
            run=check_run_id(wire.get("run")),
            argv=_arguments(wire.get("argv")),
            env=_environment(wire.get("env")),
            cwd=_absolute(wire.get("cwd"), "cwd"),
            stdin_file=None if wire.get("stdin_file") is None else _absolute(wire["stdin_file"], "stdin_file"),
            deadline_s=None if wire.get("deadline_s") is None else seconds(wire["deadline_s"], "deadline_s"),
            kill_grace_s=seconds(wire.get("kill_grace_s", DEFAULT_GRACE_S), "kill_grace_s"),
            stdout_cap=_cap(wire.get("stdout_cap", DEFAULT_CAP), "stdout_cap"),
            stderr_cap=_cap(wire.get("stderr_cap", DEFAULT_CAP), "stderr_cap"),
            note=note_of(wire),
            hidden=_names(wire.get("hidden", [])),
            redaction=str(wire.get("redaction", STANDARD)),
        )

    def redactor(self) -> Redactor:
        """What is to be taken out of the program's output."""
        secrets = (self.env[name] for name in self.hidden if name in self.env)
        return Redactor(secrets, self.redaction, octets=True)


class LineBuffer:
    """Cuts a stream of bytes into lines and refuses to grow without bound."""

    def __init__(self, limit: int = MAX_LINE) -> None:
        self._limit = limit
        self._data = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that ``data`` completes, without their ends. Raises ProtocolError beyond the limit."""
        searched = len(self._data)
        self._data += data
        if self._data.find(b"\n", searched) < 0:
            if len(self._data) > self._limit:
                raise ProtocolError(f"a line is longer than {self._limit} bytes")
            return []
        *lines, rest = bytes(self._data).split(b"\n")
        self._data = bytearray(rest)
        if any(len(line) > self._limit for line in lines):
            raise ProtocolError(f"a line is longer than {self._limit} bytes")
        return lines


def encode(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"


def decode(line: bytes) -> dict[str, Any]:
    """The object in a line. Raises ProtocolError."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        raise ProtocolError("a line is not JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError("a line is not a JSON object")
    return message


def peer_uid(connection: socket.socket) -> int | None:
    """User id at the other end of a Unix socket; None where the system does not tell."""
    if sys.platform == "linux":
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[1])
    elif sys.platform == "darwin":  # noqa: RET505 - the type checker skips this branch only as an elif
        # struct xucred of <sys/ucred.h>: version, uid, then the groups.
        xucred = connection.getsockopt(0, 1, 76)
        return int(struct.unpack_from("2I", xucred)[1])
    else:
        return None


def seconds(value: object, name: str) -> float:
    """``value`` as a span of seconds. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ValueError(f"{name} is a number of seconds, 0 or more")
    return float(value)


def _cap(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_CAP:
        raise ValueError(f"{name} is a number of bytes between 0 and {MAX_CAP}")
    return value


def note_of(wire: Mapping[str, Any]) -> dict[str, str]:
    """The note of a request. Raises ValueError."""
    note = wire.get("note", {})
    if not isinstance(note, dict) or not all(isinstance(v, str) for v in note.values()):
        raise ValueError("note maps texts to texts")
    return note


def _arguments(value: object) -> list[str]:
    if not isinstance(value, list) or not value or not all(_is_text(a) for a in value) or not value[0]:
        raise ValueError("argv is a list of texts without NUL, the first not empty")
    return value


def _names(value: object) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ValueError("hidden is a list of names")
    return value


def _environment(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(
        k and "=" not in k and _is_text(k) and _is_text(v) for k, v in value.items()
    ):
        raise ValueError("env maps names without '=' to texts without NUL")
    return value


def _absolute(value: object, name: str) -> str:
    if not isinstance(value, str) or "\0" in value or not value.startswith("/"):
        raise ValueError(f"{name} is an absolute path")
    return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value
