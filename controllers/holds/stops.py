"""What stops work beside the Holds in the store: ESTOP files, and Holds of a commit that the store could not take yet.

Whoever gives out work or grants a call looks here inside its transaction, after it got the write lock: a stop that was
complete before is seen, whoever held the lock meanwhile.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable

from controllers.holds.stop_file import Stop, StopFile
from decisions.holds import HoldFacts
from schemas.base import DEFAULT_NAMESPACE, Key
from schemas.hold import HoldMode, HoldScope, HoldSpec


class Stops:
    """Of one engine. ``file`` None: no file is looked for. Thread-safe."""

    def __init__(self, file: StopFile | None = None) -> None:
        self.file = file
        self._lock = threading.Lock()
        self._committed: tuple[HoldFacts, ...] = ()

    def everywhere(self) -> list[HoldFacts]:
        """All of it."""
        return [*self.of_files(), *self._committed]

    def of_files(self) -> list[HoldFacts]:
        """What ESTOP files say."""
        return [facts_of(self.file, stop) for stop in self.file.found()] if self.file is not None else []

    @property
    def committed(self) -> tuple[HoldFacts, ...]:
        """Holds that a source declares and the store may not know yet."""
        return self._committed

    def commit(self, holds: Iterable[HoldFacts]) -> None:
        """Replace those."""
        with self._lock:
            self._committed = tuple(holds)


def facts_of(file: StopFile, stop: Stop) -> HoldFacts:
    """A file as the Hold that it stands for."""
    scope = HoldScope.TENANT if stop.tenant else HoldScope.GLOBAL
    spec = HoldSpec(scope=scope, mode=HoldMode.STOP, reason=stop.reason)
    by = stop.by or f"file {stop.path.name}"
    return HoldFacts(key_of(file, stop.tenant), spec, by, stop.at, file=file.place(stop.tenant))


def key_of(file: StopFile, tenant: str) -> Key:
    """The Hold that is made from a file: one for each machine and path."""
    mark = hashlib.sha256(file.place(tenant).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return Key("Hold", tenant or DEFAULT_NAMESPACE, f"estop-file-{mark}")


NONE = Stops()
"""For whoever has no file: nothing stops there but Holds in the store."""
