"""The values that were handed out in this life of the process, so that they are taken out of whatever is written."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

from schemas.redaction import OFF, SHORTEST, Redactor

MOST = 1000
"""Values that are remembered. The oldest one goes first; a value that was replaced in its place stays for a while."""


class KnownSecrets:
    """Shared by every thread of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: OrderedDict[str, None] = OrderedDict()
        self._redactor = Redactor((), OFF)

    def __repr__(self) -> str:
        return f"KnownSecrets({len(self._values)})"

    def learn(self, value: str) -> None:
        """Remember a value; from now on ``mask`` takes it out."""
        if len(value) < SHORTEST:
            return
        with self._lock:
            known = value in self._values
            self._values[value] = None
            self._values.move_to_end(value)
            if known:
                return
            while len(self._values) > MOST:
                self._values.popitem(last=False)
            self._redactor = Redactor(tuple(self._values), OFF)

    def mask(self, value: Any) -> Any:
        """A JSON value without known values; the value itself when there is none in it."""
        return self._redactor.known(value)

    def text(self, text: str) -> str:
        """A text without known values."""
        found: str = self._redactor.known(text)
        return found
