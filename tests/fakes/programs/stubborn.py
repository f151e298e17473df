"""stubborn.py [FILE]: ignore every request to end; write the pid to FILE once that is so."""

import os
import signal
import sys
import time

for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
if len(sys.argv) > 1:
    with open(sys.argv[1] + ".tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(sys.argv[1] + ".tmp", sys.argv[1])
while True:
    time.sleep(60)  # noqa: TID251 - a program of its own
