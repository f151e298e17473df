"""Lets every fsync and fdatasync of this process fail with EIO from now on, as a disk that loses writes does.

By a filter of system calls, which any user of Linux may put on a process of its own; it cannot be taken off again. For
child processes of tests only. As a program it is the command `remit` whose disk fails so from SIGUSR2 on.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys

_NO_NEW_PRIVILEGES, _SET_FILTER = 38, 1
_CALLS = {"x86_64": (0xC000003E, (74, 75), 317), "aarch64": (0xC00000B7, (82, 83), 277)}
"""Architecture as the kernel names it, its numbers of fsync and fdatasync, and that of seccomp."""
_OF_ALL_THREADS = 1
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUALS, _RETURN = 0x20, 0x15, 0x06


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def break_syncs() -> None:
    """From now on. Raises OSError where the kernel does not take the filter."""
    architecture, numbers, seccomp = _CALLS[platform.machine()]
    first, second = numbers
    steps = [
        (_LOAD, 0, 0, 4),
        (_EQUALS, 0, 3, architecture),
        (_LOAD, 0, 0, 0),
        (_EQUALS, 2, 0, first),
        (_EQUALS, 1, 0, second),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _ERRNO | errno.EIO),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = _Program(len(steps), ctypes.addressof(code))
    library = ctypes.CDLL(None, use_errno=True)
    if (
        library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0
        or library.syscall(seccomp, _SET_FILTER, _OF_ALL_THREADS, ctypes.byref(program)) != 0
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    from cli.entry import main

    signal.signal(signal.SIGUSR2, lambda *_: break_syncs())
    sys.argv[0] = "remit"
    main()
