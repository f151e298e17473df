"""Notices that a file was moved into its place, at once: the kernel's own account (inotify), for a few known names.

It is quicker than ``watch`` by what that one waits for further changes, and knows less: no folder below, no folder that
is made later. Where the system has no such account, nothing is noticed here; ``watch`` goes on beside it either way.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

_CLOSE_WRITE: Final = 0x8
_MOVED_TO: Final = 0x80
_OVERFLOW: Final = 0x4000
_ONLY_FOLDERS: Final = 0x1000000
_HEAD: Final = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_AT_ONCE: Final = 64 * 1024


@contextlib.contextmanager
def noticing(files: Iterable[Path], on_notice: Callable[[], None]) -> Iterator[bool]:
    """Call ``on_notice`` on the running event loop after each of ``files`` was written or moved into its place; whether
    that works for any. Their folders have to be there; a file need not."""
    names: dict[Path, set[bytes]] = {}
    for file in files:
        names.setdefault(file.parent, set()).add(os.fsencode(file.name))
    try:
        account, watched = _open(names)
    except OSError:
        yield False
        return
    loop = asyncio.get_running_loop()
    try:
        loop.add_reader(account, _read, account, watched, on_notice)
        yield bool(watched)
    finally:
        loop.remove_reader(account)
        os.close(account)


def _open(names: dict[Path, set[bytes]]) -> tuple[int, dict[int, set[bytes]]]:
    """The account, and what is watched for in each folder by the number of its watch."""
    if not names or not sys.platform.startswith("linux"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    system = ctypes.CDLL(None, use_errno=True)
    account = system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if account < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    watched: dict[int, set[bytes]] = {}
    for folder, wanted in names.items():
        watch = system.inotify_add_watch(account, os.fsencode(folder), _CLOSE_WRITE | _MOVED_TO | _ONLY_FOLDERS)
        if watch >= 0:
            watched.setdefault(watch, set()).update(wanted)
    return int(account), watched


def _read(account: int, watched: dict[int, set[bytes]], on_notice: Callable[[], None]) -> None:
    try:
        data = os.read(account, _AT_ONCE)
    except BlockingIOError:
        return
    if any(_concerns(watched, event) for event in _events(data)):
        on_notice()


def _concerns(watched: dict[int, set[bytes]], event: tuple[int, int, bytes]) -> bool:
    watch, mask, name = event
    return bool(mask & _OVERFLOW) or name in watched.get(watch, ())


def _events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(watch, mask, name) of each."""
    at = 0
    while at < len(data):
        watch, mask, _, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        yield watch, mask, data[at : at + length].rstrip(b"\0")
        at += length
