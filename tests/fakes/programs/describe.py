"""describe.py: print what this process was given, as one JSON object."""

import hashlib
import json
import os
import signal
import sys

ignored = [
    s.name
    for s in signal.Signals
    if s not in (signal.SIGKILL, signal.SIGSTOP) and signal.getsignal(s) is signal.SIG_IGN
]
# Python itself ignores these two.
ignored = [name for name in ignored if name not in ("SIGPIPE", "SIGXFSZ")]
umask = os.umask(0)
json.dump(
    {
        "argv": sys.argv[1:],
        "env": dict(os.environ),
        # What is taken out of the output can still be told by its digest.
        "marks": {hashlib.sha256(value.encode()).hexdigest()[:12]: name for name, value in os.environ.items()},
        "cwd": os.getcwd(),
        "stdin": sys.stdin.read(),
        "descriptors": sorted(int(n) for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")),
        "session_leader": os.getsid(0) == os.getpid() == os.getpgrp(),
        "umask": umask,
        "ignored": ignored,
        "blocked": [s.name for s in signal.pthread_sigmask(signal.SIG_BLOCK, [])],
        "home_exists": os.path.isdir(os.environ.get("HOME", "")),
        "tmp_exists": os.path.isdir(os.environ.get("TMPDIR", "")),
    },
    sys.stdout,
)
