"""Ports for servers of tests."""

from __future__ import annotations

import itertools
import os
import socket

_PORTS = itertools.count(os.getpid() * 61)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, below those that the system gives out by itself, so that a process
    finds it free again after each restart."""
    for number in itertools.islice(_PORTS, 1000):
        port = 20_000 + number % 10_000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no port is free")
