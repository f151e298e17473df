"""One output stream of a program: drained without pause, kept up to a cap, counted beyond it.

The head of the stream goes to the log as it comes. Once the head is full, the last part is held in memory and written
when the stream ends, after a line that says how much is missing: the result line of most agents comes last, and it
must survive a flood before it. Credentials are taken out before anything is written, so that a line is
written once it is whole. A log that cannot be written never stops the draining, so a full disk does not block
the program.
"""

from __future__ import annotations

import os
from pathlib import Path

from controllers.dispatch.supervision.records import gap_line
from schemas.redaction import OFF, Redactor
from schemas.redaction_stream import SLACK, StreamRedactor, clean_end

_CHUNK = 65536
_MAX_TAIL = 1024 * 1024
_PIPE_CHUNKS = 32
"""More than a pipe can hold; somebody else may hold its other end and never stop writing."""
_WINDOW_S = 0.01
_WINDOW_BYTES = 2 * 1024 * 1024


class Capture:
    """Reads ``source`` (a non-blocking pipe) and writes at most about ``cap`` bytes of it to ``path``, without what
    ``redactor`` (one for octets) takes out.

    Raises OSError from the constructor when the log cannot be created; never from the other methods.
    """

    def __init__(self, source: int, path: Path, cap: int, redactor: Redactor | None = None) -> None:
        self.source = source
        self.total = 0
        self.error = ""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK
        self._log = os.open(path, flags, 0o600)
        self._tail_cap = min(cap // 4, _MAX_TAIL)
        self._head_room = cap - self._tail_cap
        self._redactor = redactor or Redactor((), OFF, octets=True)
        self._stream = StreamRedactor(self._redactor)
        self._kept = 0
        self._missing = 0
        self._rest = b""  # of the head: clean, and more than there was room for
        self._tail = bytearray()
        self._trimmed = 0
        self._window_end = 0.0
        self._window_room = 0
        self.is_open = True

    @property
    def dropped(self) -> int:
        """Bytes that are in no log. Final once the stream is closed."""
        return self._missing

    def pump(self) -> bool:
        """Read one chunk. False when the stream has ended."""
        try:
            data = os.read(self.source, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        if not data:
            return False
        self.total += len(data)
        self._window_room -= len(data)
        if self._head_room > 0:
            self._write_head(self._stream.feed(data))
        else:
            self._keep_tail(data)
        return True

    def drain(self) -> None:
        """Read what is in the pipe now. What a program wrote before it ended is all in there."""
        for _ in range(_PIPE_CHUNKS):
            before = self.total
            if not self.pump() or self.total == before:
                return

    def pause_s(self, now: float) -> float:
        """How long to leave the stream alone, 0.0 for not at all: output that is only dropped is drained at a
        bounded rate, so that a program in an endless loop of printing waits instead of taking a whole core."""
        if now >= self._window_end:
            self._window_end, self._window_room = now + _WINDOW_S, _WINDOW_BYTES
        if self._head_room > 0 or self._window_room > 0:
            return 0.0
        return self._window_end - now

    def close(self) -> None:
        """Write what was held back, make the log durable and close both ends. Idempotent."""
        if not self.is_open:
            return
        self.is_open = False
        os.close(self.source)
        if self._head_room > 0:
            self._write_head(self._stream.finish())
        self._write_tail()
        if self._kept:
            try:
                os.fsync(self._log)
            except OSError as error:
                self.error = self.error or (error.strerror or str(error))
        os.close(self._log)

    def _write_head(self, ready: bytes) -> None:
        head = ready[: self._head_room]
        written = self._write(head)
        self._head_room = self._head_room - written if written == len(head) else 0
        self._rest = ready[len(head) :]

    def _keep_tail(self, data: bytes) -> None:
        self._tail += data
        most = self._tail_cap + max(SLACK, self._redactor.longest)
        if len(self._tail) > most:
            if not self._trimmed:
                self._trimmed = len(self._rest) + self._stream.held
            self._trimmed += len(self._tail) - most
            del self._tail[: len(self._tail) - most]

    def _write_tail(self) -> None:
        """The end of the stream, after a line that says how much is missing. Where the beginning of the tail was
        dropped, a secret may have been cut in half, so that a little more was held than is written."""
        data = bytes(self._tail)
        self._tail.clear()
        if self._trimmed:
            clean, skipped = clean_end(self._redactor, data, len(data) - self._tail_cap)
            missing = self._trimmed + skipped
        else:
            clean, missing = self._rest + self._stream.feed(data) + self._stream.finish(), 0
        over = max(0, len(clean) - self._tail_cap)
        missing += over
        if missing:
            self._write(gap_line(missing), counted=False)
            self._missing += missing
        self._write(clean[over:])

    def _write(self, data: bytes, *, counted: bool = True) -> int:
        written = 0
        try:
            while written < len(data):
                written += os.write(self._log, data[written:])
        except OSError as error:
            self.error = self.error or (error.strerror or str(error))
        if counted:
            self._kept += written
            self._missing += len(data) - written
        return written
