"""An agent program for pods. ``input`` of the mission: effects (folder), do (done, exit, memory, sleep or wait).

Each start leaves a line in the file that is called like the mission.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from remit_client import Run

with Run.from_environment() as run:
    given = run.mission["input"]
    with (Path(given["effects"]) / run.mission["name"]).open("a") as file:
        file.write(f"{os.environ['REMIT_RUN']}\n")
    print("the token is", os.environ["REMIT_TOKEN"], flush=True)
    print("working on", run.mission["title"], flush=True)
    if given["do"] == "exit":
        os._exit(3)  # without a word
    if given["do"] == "memory":
        os.kill(os.getpid(), signal.SIGKILL)
    if given["do"] == "sleep":
        time.sleep(600)  # noqa: TID251 - a program of its own
    if given["do"] == "wait":
        while not (Path(given["effects"]) / "go").exists():
            time.sleep(0.05)  # noqa: TID251 - a program of its own
        print("told to go on", flush=True)
    run.usage(usd="0.25", input_tokens=1000, output_tokens=50)
    run.complete("indexed", self_review="Every page is in the index.")
