"""How much of the processor a piece of code needs, whatever else the machine and this process do."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

TRIES = 3


def effort(work: Callable[[], object]) -> float:
    """Seconds of processor time, the least of some tries. The collector is kept out: in a long test process it walks
    through everything that other tests left."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        least = float("inf")
        for _ in range(TRIES):
            began = time.process_time()
            work()
            least = min(least, time.process_time() - began)
        return least
    finally:
        if was_on:
            gc.enable()
