"""Where files of tests are quickest."""

from __future__ import annotations

import os
from pathlib import Path

_MEMORY = Path("/dev/shm")
_ROOM = 4 * 1024**3
"""Bytes; a whole run of the tests has less than a tenth of it at any time."""


def scratch() -> str | None:
    """A folder in memory: what waits for a disk, and what a disk costs the processor, is nothing that tests show. None
    where there is no room for it, or where programs cannot be started from it."""
    if not _MEMORY.is_dir() or not os.access(_MEMORY, os.W_OK):
        return None
    found = os.statvfs(_MEMORY)
    if found.f_flag & os.ST_NOEXEC or found.f_bavail * found.f_frsize < _ROOM:
        return None
    with open("/proc/meminfo") as file:
        free_kib = next((int(line.split()[1]) for line in file if line.startswith("MemAvailable")), 0)
    return str(_MEMORY) if free_kib * 1024 > 2 * _ROOM else None
