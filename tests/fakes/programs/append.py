"""append.py FILE TEXT [SECONDS] [CODE]: append a line to FILE in one write, wait, exit with CODE."""

import os
import sys
import time

file, text = sys.argv[1:3]
seconds = float(sys.argv[3]) if len(sys.argv) > 3 else 0.0
code = int(sys.argv[4]) if len(sys.argv) > 4 else 0
fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
os.write(fd, text.encode() + b"\n")
os.close(fd)
if seconds:
    time.sleep(seconds)  # noqa: TID251 - a program of its own
sys.exit(code)
