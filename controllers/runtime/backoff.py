"""How long to wait after a failure: pure arithmetic, chance is handed in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential delays with jitter. Every delay lies in [`initial_s`, `maximum_s`], both in seconds.

    The n-th failure in a row waits `initial_s * factor ** (n - 1)`, lengthened by up to `jitter` (a share of it), so
    that keys that failed together do not come back together. The defaults are those of semantics.md, "Engine".
    """

    initial_s: float = 0.75
    maximum_s: float = 900.0
    factor: float = 2.0
    jitter: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.initial_s <= self.maximum_s < math.inf:
            raise ValueError("a backoff needs 0 < initial <= maximum, both finite")
        if not 1 <= self.factor < math.inf or not 0 <= self.jitter <= 1:
            raise ValueError("a backoff needs a finite factor of at least 1 and a jitter between 0 and 1")

    def delay(self, failures: int, random: Random) -> float:
        """Seconds to wait after `failures` (at least 1) failures in a row. Draws once from `random`."""
        if failures < 1:
            raise ValueError("a backoff counts failures from 1")
        try:
            grown = self.initial_s * self.factor ** (failures - 1)
        except OverflowError:
            grown = math.inf
        # Room for the jitter stays below the cap: a crowd that has reached it is still spread.
        base = min(grown, max(self.initial_s, self.maximum_s / (1 + self.jitter)))
        return min(base * (1 + self.jitter * random.random()), self.maximum_s)
