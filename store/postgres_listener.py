"""Hearing of other processes' commits on PostgreSQL, and being seen by migrations.

A hint only: what is lost while the connection is down is made up by one call after it is back, and by whoever polls
``Store.cursor``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import psycopg

from schemas.errors import StoreError

log = logging.getLogger(__name__)

CHANNEL = "remit_changes"
PRESENCE = 0x52454D4954
"""Advisory lock: engines share it, a migration takes it alone."""
_LOOK_S = 0.5
_RETRY_S = 1.0

Connection = psycopg.Connection[tuple[Any, ...]]


class Listener:
    """A thread with a connection of its own. ``name`` marks what this process itself told; ``present`` holds the lock
    that keeps migrations away. Callbacks run in the thread."""

    def __init__(
        self, connect: Callable[[], Connection], version: Callable[[], int], *, name: str, present: bool, place: str
    ) -> None:
        self._connect = connect
        self._version = version
        self._name = name
        self._present = present
        self._place = place
        self._callbacks: tuple[Callable[[int], None], ...] = ()
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="remit-listener", daemon=True)

    def add(self, callback: Callable[[int], None]) -> None:
        """Call it from now on."""
        self._callbacks = (*self._callbacks, callback)

    def start(self) -> None:
        """Connect and begin. Raises psycopg.Error."""
        self._open()
        self._thread.start()

    def close(self) -> None:
        """End the thread and its connection; idempotent."""
        self._stop.set()
        if self._thread.is_alive() and self._thread is not threading.current_thread():
            self._thread.join()
        self._drop()

    def _open(self) -> None:
        connection = self._connect()
        try:
            if self._present:
                connection.execute(cast(Any, f"SELECT pg_advisory_lock_shared({PRESENCE})"))
            connection.execute(cast(Any, f"LISTEN {CHANNEL}"))
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                if self._connection is None:
                    self._open()
                    self._tell()  # whatever was said meanwhile
                self._hear()
            except (psycopg.Error, StoreError) as error:
                self._drop()
                if not self._stop.is_set():
                    log.debug("%s: not listening, polling goes on: %s", self._place, type(error).__name__)
                    self._stop.wait(_RETRY_S)
        self._drop()

    def _hear(self) -> None:
        assert self._connection is not None
        for notice in self._connection.notifies(timeout=_LOOK_S, stop_after=1):
            name, _, version = notice.payload.partition(" ")
            if name != self._name:
                self._tell(int(version) if version.isdecimal() else None)

    def _tell(self, version: int | None = None) -> None:
        """``version`` is what the commit reached, where it said so: then nobody has to be asked."""
        if not self._callbacks:
            return
        version = self._version() if version is None else version
        for callback in self._callbacks:
            callback(version)
