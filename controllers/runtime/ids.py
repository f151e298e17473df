"""Ids that the engine mints: UUIDv7 (RFC 9562, section 5.7), sorted by the moment of minting.

48 bits of Unix milliseconds, then 74 random bits. Inside one millisecond, and while the wall clock stands behind an
id already given out, the random part counts up by a random step (section 6.2, method 2), so that ids of one process
strictly grow whatever the clock does.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_RANDOM_BITS = 74
_STEP_BITS = 32
_LOW_BITS = 62


class IdMint:
    """Mints ids; safe to call from any thread.

    `now` gives aware wall time. `random` is a `random.SystemRandom` in production (a seeded generator would repeat
    itself in a forked process) and a seeded one in tests and simulations. An id is a name, never a secret.
    """

    def __init__(self, now: Callable[[], datetime], random: Random) -> None:
        self._now = now
        self._random = random
        self._lock = threading.Lock()
        self._millis = -1
        self._tail = 0

    def new(self) -> str:
        """A fresh id in canonical lower-case form, greater (as text too) than every earlier one of this mint."""
        with self._lock:
            millis = max(0, (self._now() - _EPOCH) // _MILLISECOND)
            if millis > self._millis:
                self._restart(millis)
            else:
                self._tail += 1 + self._random.getrandbits(_STEP_BITS)
                if self._tail >> _RANDOM_BITS:
                    self._restart(self._millis + 1)
            high, low = self._tail >> _LOW_BITS, self._tail & ((1 << _LOW_BITS) - 1)
            value = self._millis << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low
        return str(uuid.UUID(int=value))

    def _restart(self, millis: int) -> None:
        self._millis = millis
        # The top bit starts at zero, so that thousands of ids fit into the millisecond before the count runs over.
        self._tail = self._random.getrandbits(_RANDOM_BITS - 1)
