"""An agent that asks before each of its acts, and leaves a line for each that it was allowed to do."""

from __future__ import annotations

import os
from pathlib import Path

from remit_client import Run

with Run.from_environment() as run:
    given = run.mission["input"]
    effects = Path(given["effects"])
    for number in range(given["acts"]):
        args = {"number": number, "of": run.mission["uid"]}
        leave = run.authorize("push_tag", args, target=f"tag {number}", usd="0.01", key=f"act-{number}")
        # One file per act: a second line in it is an act that was done twice.
        descriptor = os.open(effects / f"{run.mission['uid']}.{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(descriptor, f"{leave.id}\n".encode())
        os.close(descriptor)
        run.tool_result("push_tag", decision=leave)
    run.complete("done", self_review="Each act was allowed before it was done.")
