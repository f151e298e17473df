"""engine.py: an engine that starts one run and waits for its end, made to be killed.

Reads orders from standard input, one JSON object per line: ``{state_dir, run, argv, seconds}``. For each it forks an
engine, which costs milliseconds, kills it after that many seconds if it still lives, and answers with how it ended.
What an engine learns of the end of its run it appends to ``<state_dir>/seen``.
"""

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from controllers.dispatch.supervision.wire import StartRequest
from controllers.dispatch.supervisor_client import SupervisorClient
from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock


async def engine(order: dict) -> None:
    client = SupervisorClient(Path(order["state_dir"]), SystemClock(), ThreadBlocking(2), idle_exit_s=5.0)
    run = order["run"]
    await client.start(StartRequest(run=run, argv=order["argv"], env={}, cwd="/"))
    record = await client.wait_exit(run)
    note_end(order["state_dir"], f"{run} {record.exit_code}\n")


def note_end(state_dir: str, line: str) -> None:
    with open(os.path.join(state_dir, "seen"), "a") as seen:
        seen.write(line)


for line in sys.stdin:
    order = json.loads(line)
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(engine(order))
        finally:
            os._exit(0)
    time.sleep(order["seconds"])  # noqa: TID251 - a program of its own
    os.kill(pid, signal.SIGKILL)
    sys.stdout.write(f"{os.waitpid(pid, 0)[1]}\n")
    sys.stdout.flush()
