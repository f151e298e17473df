"""polite.py FILE: on SIGTERM say goodbye and exit with 7; write the pid to FILE once that is so."""

import os
import signal
import sys
import time


def leave(number: int, frame: object) -> None:
    os.write(1, b"goodbye\n")
    os._exit(7)


signal.signal(signal.SIGTERM, leave)
with open(sys.argv[1] + ".tmp", "w") as file:
    file.write(str(os.getpid()))
os.rename(sys.argv[1] + ".tmp", sys.argv[1])
while True:
    time.sleep(60)  # noqa: TID251 - a program of its own
