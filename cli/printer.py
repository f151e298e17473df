"""Printing that holds up nobody: `remit run` tells what it does to a reader that may stand still, or leave."""

from __future__ import annotations

import queue
import threading
from typing import TextIO

ROOM = 10_000
"""Lines that wait for a slow reader; what comes beyond is counted and not shown."""


class Printer:
    """Prints lines from a thread of its own: a terminal that is stopped (Ctrl-S) or a pager that is not read stops this
    thread and nothing else. Once the reader left (``| head``) nothing is printed any more. Safe between threads."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines: queue.Queue[str | None] = queue.Queue(ROOM)
        self._dropped = 0
        self.reader_left = False
        self._thread = threading.Thread(target=self._work, name="remit-account", daemon=True)
        self._thread.start()

    def say(self, line: str) -> None:
        """Have a line printed; returns at once."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._dropped += 1

    def close(self, seconds: float) -> bool:
        """Print what waits, and end. False when the reader did not take it in time: then the stream is stuck, and
        nobody may touch it any more; the interpreter would wait for it at its end, so the process leaves with
        ``os._exit``."""
        try:
            self._lines.put(None, timeout=seconds)
        except queue.Full:
            return False
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while (line := self._lines.get()) is not None:
            if self.reader_left:
                continue
            dropped, self._dropped = self._dropped, 0
            more = f"          ... {dropped} lines were not shown: nobody read them\n" if dropped else ""
            try:
                self._out.write(f"{more}{line}\n")
                self._out.flush()
            except (OSError, ValueError):  # closed, a full disk: the account is a courtesy
                self.reader_left = True
