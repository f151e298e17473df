"""The supervisor's children: which are programs of runs, which are strays, and whose strays those are."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Mapping
from pathlib import Path

from controllers.dispatch.supervision import processes
from controllers.dispatch.supervision.active import ActiveRun
from controllers.dispatch.supervision.processes import ProcessStat


class Family:
    """Finds and ends what programs leave behind. ``active`` maps run names to runs and is read live; ``runs`` is the
    folder of all runs.

    A stray is a child of the supervisor that no run was started as: a descendant of some program whose parent died.
    It belongs to the run whose session, group or marker it carries; a stray that carries none belongs to the run that
    could have made it, and to the last one of them when there are several.
    """

    def __init__(self, active: Mapping[str, ActiveRun], runs: Path) -> None:
        self._active = active
        self._runs = runs
        self._marks: dict[tuple[int, int], str | None] = {}

    def reap(self) -> None:
        """Collect strays that ended."""
        for pid in self._stray_pids():
            processes.reap(pid)

    def leftovers(self, run: ActiveRun) -> list[ProcessStat]:
        """Living processes that ``run``, whose main program has ended, left behind."""
        if not processes.IS_LINUX:
            alive = processes.group_exists(run.pid)
            return [ProcessStat(run.pid, "?", 0, run.pid, run.pid, 0)] if alive else []
        return [stat for stat in self._strays() if self._owners(stat) == [run]]

    def end_ownerless(self) -> bool:
        """Kill strays that no active run can have made. Whether there are strays at all."""
        strays = self._strays()
        for stat in strays:
            if not self._owners(stat):
                processes.signal_process(stat.pid, signal.SIGKILL)
        return bool(strays)

    def _stray_pids(self) -> list[int]:
        main = {run.pid for run in self._active.values()}
        return [pid for pid in processes.children() if pid not in main]

    def _strays(self) -> list[ProcessStat]:
        found = []
        for pid in self._stray_pids():
            if processes.reap(pid):
                continue
            stat = processes.read_stat(pid)
            if stat is not None and not stat.is_zombie:
                found.append(stat)
        known = {(stat.pid, stat.start_ticks) for stat in found}
        self._marks = {key: mark for key, mark in self._marks.items() if key in known}
        return found

    def _owners(self, stat: ProcessStat) -> list[ActiveRun]:
        runs: Iterable[ActiveRun] = self._active.values()
        for run in runs:
            if run.pid in (stat.session, stat.group):
                return [run]
        key = (stat.pid, stat.start_ticks)
        if key not in self._marks:
            self._marks[key] = processes.run_of(stat.pid, self._runs)
        mark = self._marks[key]
        if mark is not None:
            return [self._active[mark]] if mark in self._active else []
        return [run for run in runs if run.start_ticks <= stat.start_ticks]
