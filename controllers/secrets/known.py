"""The values that were handed out in this life of the process, so that they are taken out of whatever is written.

By namespace: a value is looked for where its users live, and nowhere else. Else a tenant could have words taken out of
what others write, by giving a secret of its own their value, or learn by what is taken out of its texts which secrets
others have.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from schemas.redaction import OFF, Redactor, forms

MOST = 1000
"""Values that are remembered for a namespace. The oldest one goes first; one that was replaced stays for a while."""


class KnownSecrets:
    """Shared by every thread of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, OrderedDict[str, None]] = {}
        self._redactors: dict[str, Redactor] = {}

    def __repr__(self) -> str:
        return f"KnownSecrets({sum(len(values) for values in self._values.values())})"

    def learn(self, value: str, namespaces: Iterable[str]) -> None:
        """Remember a value for these namespaces; from now on ``mask`` takes it out there."""
        for namespace in namespaces:
            with self._lock:
                values = self._values.setdefault(namespace, OrderedDict())
                known = value in values
                values[value] = None
                values.move_to_end(value)
                if known or not forms(value):
                    continue
                while len(values) > MOST:
                    values.popitem(last=False)
                self._redactors[namespace] = Redactor(tuple(values), OFF)

    def values(self, namespace: str) -> tuple[str, ...]:
        """The values that are known in a namespace."""
        with self._lock:
            return tuple(self._values.get(namespace, ()))

    def mask(self, value: Any, namespace: str) -> Any:
        """A JSON value without the values that are known in a namespace."""
        redactor = self._redactors.get(namespace)
        return value if redactor is None else redactor.known(value)

    def text(self, text: str, namespace: str) -> str:
        """A text without the values that are known in a namespace."""
        found: str = self.mask(text, namespace)
        return found
