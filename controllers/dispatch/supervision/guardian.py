"""The process above the supervisor: if the supervisor dies, what it started must not go on unsupervised.

A program whose supervisor is gone would have no deadline, no cap on its output and nobody to record its exit, while a
restarted engine may start the work again. So it is ended, and its record says Lost. The guardian does this at once:
it is the supervisor's parent and a subreaper too, so every process of every run becomes its child when the supervisor
dies. When both are killed at the same moment, the next supervisor of the state directory does it before it takes
requests.

A death signal set in each child (PR_SET_PDEATHSIG) was measured and rejected: it needs code between fork and exec,
which makes a start five times slower, and it does not reach grandchildren.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from controllers.dispatch.supervision import processes, records, starts
from controllers.dispatch.supervision.processes import ProcessStat
from controllers.dispatch.supervision.records import ExitRecord, Layout

_KILL_S = 5.0
_PAUSE_S = 0.01


def guard(supervisor: int) -> bool:
    """Wait until the process ``supervisor`` ends; kill what it leaves behind. True when it ended in order."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        # An order to stop is for the supervisor, which ends its runs; the guardian outlives it.
        signal.signal(number, signal.SIG_IGN)
    _, status = os.waitpid(supervisor, 0)
    end = time.monotonic() + _KILL_S
    while time.monotonic() < end:
        living = [pid for pid in processes.children() if not processes.reap(pid)]
        if not living:
            break
        for pid in living:
            processes.signal_process(pid, signal.SIGKILL)
        _pause()
    return status == 0


def close_lost_runs(layout: Layout, now: str) -> list[str]:
    """End and record the runs that a supervisor left without an exit record. Returns their names, sorted.

    Only for the holder of the lock. Idempotent; a record that cannot be written is left for the next time. Raises
    OSError when the journal of starts cannot be made good (see ``starts.restore``).
    """
    starts.restore(layout)
    lost: dict[str, tuple[str, dict[str, object]]] = {}
    for path in layout.runs.iterdir():
        try:
            folder = layout.run(path.name)
        except ValueError:
            continue
        if folder.exit.exists():
            continue
        started = records.read_record(folder.started)
        if started is not None:
            lost[path.name] = (str(started.get("started_at", now)), records.read_record(folder.process) or {})
    survivors = _end_remains(layout.runs, {name: process for name, (_, process) in lost.items()})
    for name, (started_at, _) in lost.items():
        record = ExitRecord(run=name, started_at=started_at, ended_at=now, lost=True, may_be_running=name in survivors)
        try:
            records.replace_record(layout.run(name).exit, record.to_wire())
        except OSError:
            continue
    return sorted(lost)


def _end_remains(runs: Path, lost: dict[str, dict[str, object]]) -> set[str]:
    """Kill every process that belongs to one of the runs. Returns the runs that still have one."""
    if not lost:
        return set()
    if not processes.IS_LINUX:
        return {name for name, process in lost.items() if _is_group(process.get("pid"))}
    boot = processes.boot_id()
    leaders = {
        (process.get("pid"), process.get("start_ticks")): name
        for name, process in lost.items()
        if process.get("boot_id") == boot
    }
    end = time.monotonic() + _KILL_S
    while True:
        found = _remains(runs, lost, leaders)
        if not found or time.monotonic() >= end:
            return {name for _, name in found}
        for stat, _ in found:
            processes.signal_process(stat.pid, signal.SIGKILL)
        _pause()


def _remains(
    runs: Path, lost: Iterable[str], leaders: dict[tuple[object, object], str]
) -> list[tuple[ProcessStat, str]]:
    """Living processes of the runs: the main program by pid and start time, all others by their marker."""
    names = set(lost)
    found = []
    for stat in processes.all_processes():
        if stat.is_zombie:
            continue
        name = leaders.get((stat.pid, stat.start_ticks)) or processes.run_of(stat.pid, runs)
        if name in names:
            found.append((stat, name))
    return found


def _is_group(pid: object) -> bool:
    return isinstance(pid, int) and processes.group_exists(pid)


def _pause() -> None:
    time.sleep(_PAUSE_S)  # noqa: TID251 - a process of its own, outside the engine and its clock
