"""An agent that asks for a call with a cost, stands still until it may go on, and then tells what the call cost.

``input`` of the mission: effects (folder), until (a file that it waits for between the leave and the result).
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from remit_client import Run

with Run.from_environment() as run:
    given = run.mission["input"]
    leave = run.authorize("read_db", {"of": run.mission["uid"]}, usd="0.05", key="the-call")
    (Path(given["effects"]) / run.mission["name"]).write_text(f"{os.getpid()}\n{leave.id}\n")
    while not Path(given["until"]).exists():
        time.sleep(0.02)  # noqa: TID251 - a program of its own
    run.tool_result("read_db", decision=leave, usd="0.02")
    run.complete("done", self_review="The call was made once.")
