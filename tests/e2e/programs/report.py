"""An agent program that reports over the protocol. ``input`` as of work.py, and fails by its own word too."""

import os
import sys
import time

from remit_client import Run

with Run.from_environment() as run:
    given = run.mission["input"]
    name = f"{run.mission['uid']}.{run.mission['attempt']}"
    out = os.open(os.path.join(given["effects"], name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(out, f"{os.environ['REMIT_RUN']}\n".encode())
    os.close(out)
    run.progress("at work", percent=10, work_plan="append, wait, hand in")
    time.sleep(given.get("seconds", 0))  # noqa: TID251 - a program of its own
    run.artifact("evidence.txt", f"effect in {name}")
    succeed_at = given.get("succeedAt", 1)
    if not succeed_at or run.mission["attempt"] < succeed_at:
        run.fail("NotThisTime", "asked to fail", retryable=True)
        sys.exit(0)
    run.usage(usd="0.01", input_tokens=100, output_tokens=10, model="none")
    run.complete(f"what {run.mission['name']} came to", self_review="appended once", evidence=["evidence.txt"])
