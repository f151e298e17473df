"""brood.py FOLDER COUNT MODE: leave COUNT processes behind, each noting its pid in FOLDER, and exit.

MODE child: plain children. MODE group: each in a process group of its own. MODE daemon: forked twice, in a session of
its own, its standard streams closed. MODE nameless: as daemon, and started anew with an empty environment.
MODE stubborn: as child, and ignoring SIGTERM.
"""

import os
import signal
import sys
import time

folder, count, mode = sys.argv[1], int(sys.argv[2]), sys.argv[3]


def stay() -> None:
    with open(os.path.join(folder, f"{os.getpid()}.tmp"), "w") as file:
        file.write(mode)
    os.rename(os.path.join(folder, f"{os.getpid()}.tmp"), os.path.join(folder, str(os.getpid())))
    while True:
        time.sleep(60)  # noqa: TID251 - a program of its own


if mode == "stay":
    stay()
for _ in range(count):
    if os.fork():
        continue
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode == "group":
        os.setpgid(0, 0)
    if mode in ("daemon", "nameless"):
        os.setsid()
        if os.fork():
            os._exit(0)
        for fd in (0, 1, 2):
            os.close(fd)
            os.open(os.devnull, os.O_RDWR)
    if mode == "nameless":
        os.execve(sys.executable, [sys.executable, "-I", "-S", __file__, folder, "0", "stay"], {})
    stay()
while len([name for name in os.listdir(folder) if name.isdigit()]) < count:
    time.sleep(0.005)  # noqa: TID251 - a program of its own
print("gone")
