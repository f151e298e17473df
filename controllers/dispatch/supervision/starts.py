"""The journal of starts: one line, one fsync, and a start counts, whatever becomes of the machine.

``started.json`` and the folder that it lies in are written before, and need three fsyncs to outlive a loss of power.
They get them later, off the way of a start: a second after it, or when the run ends. Until then the line says what they
say, and who takes the state directory over makes them from it. A line that was cut off never counted: nothing is
started before it is whole.

A process that is killed loses nothing that it wrote, so that the journal matters to a machine that stops, and to the
next supervisor, which makes sure of the files before it empties the journal.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controllers.dispatch.supervision import records
from controllers.dispatch.supervision.records import Layout


class Starts:
    """The journal of a living supervisor, which holds the lock and has restored what it found. Raises OSError."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._fd = os.open(layout.starts, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._size = 0
        self._unsettled: set[str] = set()
        os.fsync(self._fd)
        records.sync_directory(layout.home)

    def __contains__(self, run: object) -> bool:
        """Whether the files of ``run`` still depend on the journal."""
        return run in self._unsettled

    def add(self, run: str, started: Mapping[str, Any]) -> None:
        """Make the start count. Raises OSError: then it does not."""
        line = json.dumps(started, sort_keys=True).encode() + b"\n"
        try:
            done = 0
            while done < len(line):
                done += os.write(self._fd, line[done:])
            _sync_data(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(line)
        self._unsettled.add(run)

    def keep(self, run: str) -> None:
        """Make what ``started.json`` says durable; its folder is the caller's to sync, before ``kept``."""
        if run in self._unsettled:
            _sync_file(self._layout.run(run).started)

    def kept(self, run: str) -> None:
        """After ``keep`` and a sync of the run's folder: its files no longer depend on the journal."""
        if run in self._unsettled:
            records.sync_directory(self._layout.runs)
            self._unsettled.discard(run)

    def settle(self) -> None:
        """Make the files of all starts durable and empty the journal. Idempotent."""
        for run in sorted(self._unsettled):
            _sync_run(self._layout, run)
        if self._unsettled:
            records.sync_directory(self._layout.runs)
        self._unsettled.clear()
        if self._size:
            os.ftruncate(self._fd, 0)
            self._size = 0

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._fd)


def restore(layout: Layout) -> None:
    """Make sure of the files of every start in the journal, and empty it. Only for the holder of the lock. Idempotent.
    Raises OSError: then nobody may start anything here, as it might have been started before."""
    found = dict(_read(layout.starts))
    for run, started in found.items():
        folder = layout.run(run)
        folder.path.mkdir(mode=0o700, exist_ok=True)
        if records.read_record(folder.started) is None and records.read_exit(folder) is None:
            records.replace_record(folder.started, started)
        else:
            _sync_run(layout, run)
    if found:
        records.sync_directory(layout.runs)
    layout.starts.unlink(missing_ok=True)


def counted(layout: Layout) -> set[str]:
    """The runs whose start stands in the journal: after a loss of power there may be no more of them than that, until
    a supervisor has restored them. For readers."""
    return {name for name, _ in _read(layout.starts)}


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return
    for line in data.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):  # cut off by the loss of power: it never counted
            started = json.loads(line)
            if isinstance(started, dict):
                yield records.check_run_id(started.get("run")), started


def _sync_run(layout: Layout, run: str) -> None:
    folder = layout.run(run)
    _sync_file(folder.started)
    with contextlib.suppress(FileNotFoundError):  # somebody deleted it
        records.sync_directory(folder.path)


def _sync_file(path: Path) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:  # somebody deleted it
        return
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _sync_data(fd: int) -> None:
    """fdatasync, where there is one: the size of the file is durable with it."""
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(fd)
