"""The garbage collector during bulk work: compiling and planning make many objects that live, and the collector would
look through all of them again and again (measured: half the time of a first sync of 10,000 objects)."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_pauses = 0
_resume = False


@contextmanager
def paused() -> Iterator[None]:
    """No collection of cycles in this process for the block. Blocks of several threads may overlap; the last one to
    end switches it on again, if it was on before. Not for blocks that wait for something outside."""
    global _pauses, _resume
    with _lock:
        if _pauses == 0:
            _resume = gc.isenabled()
            gc.disable()
        _pauses += 1
    try:
        yield
    finally:
        with _lock:
            _pauses -= 1
            if _pauses == 0 and _resume:
                gc.enable()
