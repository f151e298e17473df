"""SIGTERM and SIGINT: the first one drains, the second one leaves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Received:
    """The signals so far, in order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []


@contextlib.contextmanager
def drain_on_signal(stop: asyncio.Event, *, leave: Callable[[int], object] = os._exit) -> Iterator[Received]:
    """Inside the block, the first SIGTERM or SIGINT sets `stop`; the second ends the process at once, without any
    cleanup, with the shell's code for it: 143 or 130. That is safe: a kill -9 has to be as well.

    The handlers are Python's own rather than the loop's, so that the second signal works while the loop hangs in a
    long call. Enter it on the main thread, inside the running loop that waits for `stop` (ValueError, RuntimeError
    otherwise). The handlers of before are put back at the end.
    """
    loop = asyncio.get_running_loop()
    received = Received()

    def handle(number: int, _: FrameType | None) -> None:
        received.numbers.append(number)
        if len(received.numbers) == 1:
            loop.call_soon_threadsafe(stop.set)
        else:
            leave(128 + number)

    before = {}
    try:
        for number in SIGNALS:
            before[number] = signal.signal(number, handle)
        yield received
    finally:
        for number, handler in before.items():
            # None is a handler that C code installed: it cannot be put back, and doing nothing is worse than default.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
