"""Ports for servers of tests."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
import tempfile
from functools import lru_cache
from pathlib import Path

_FIRST, _BLOCKS, _WIDTH = 20_000, 20, 500
"""Below what most systems give out by themselves, so that a process finds its port free again after each restart."""


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, and that no other process of tests is given meanwhile."""
    for port in itertools.islice(_ports(os.getpid()), 2 * _WIDTH):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")


@lru_cache(maxsize=1)
def _ports(pid: int) -> itertools.cycle[int]:
    """The ports of this process, over and over: a block that is locked for as long as it lives. Several processes run
    tests at once, and a port that one of them leaves for a moment, to start its engine anew, is not for the others."""
    folder = Path(tempfile.gettempdir()) / f"remit-test-ports-{os.geteuid()}"
    folder.mkdir(exist_ok=True)
    for number in range(_BLOCKS):
        block = (pid + number) % _BLOCKS
        held = os.open(folder / str(block), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(held)
            continue
        break  # the descriptor stays open, and with it the lock
    else:
        block = pid % _BLOCKS
    first = _FIRST + block * _WIDTH
    return itertools.cycle(range(first, first + _WIDTH))
