"""An agent that finds its limit too low, and proposes another; what it was told stays in a file."""

from __future__ import annotations

import json
from pathlib import Path

from remit_client import Run

with Run.from_environment() as run:
    given = run.mission["input"]
    asked = run.propose("Budget", given["budget"], {"spec.limits.usd": given["usd"]}, reason="There is more to do.")
    Path(given["effects"], f"{run.mission['name']}.asked").write_text(json.dumps(asked))
    run.complete("asked", self_review="It was asked once.")
