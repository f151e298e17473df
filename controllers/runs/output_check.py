"""Whether a deliverable meets the agent's outputSchema.

The schema is its operator's, the deliverable an agent's: a text made for it can keep a regular expression or
``uniqueItems`` busy for ever. So the check runs in a process of its own, bounded in time and memory; it costs about a
quarter of a second, and only runs of agents with an outputSchema pay for it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from schemas.agent import AgentSpec
from schemas.errors import StoreUnavailable
from schemas.parsed import parsed
from schemas.run import RunSpec
from store.contract import Snapshot

LARGEST = 4 * 1024 * 1024
"""Bytes of a deliverable that are checked; a larger one does not pass."""
SECONDS = 10.0
MEMORY = 1024 * 1024 * 1024
_MOST_TEXT = 1500


def output_schema(snapshot: Snapshot, run: RunSpec) -> dict[str, Any]:
    """The outputSchema that the run was started with; {} when its agent declares none."""
    pinned = snapshot.spec_at(run.agent_uid, run.agent_generation)
    return {} if pinned is None else dict(parsed(AgentSpec, pinned.spec).output_schema)


def check_output(schema: dict[str, Any], data: bytes, *, seconds: float = SECONDS) -> str:
    """Why ``data`` does not meet ``schema``, a sentence for people; "" when it does. Blocks for at most ``seconds`` and
    a process start. What cannot be checked does not pass. Raises StoreUnavailable when no process can be started: try
    again."""
    problem = _problem(schema, data, seconds) if schema else ""
    return f"the deliverable does not meet the agent's outputSchema: {problem}" if problem else ""


def _problem(schema: dict[str, Any], data: bytes, seconds: float) -> str:
    if len(data) > LARGEST:
        return f"it has {len(data):,} bytes, of which at most {LARGEST:,} are checked"
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "it is not JSON: not even UTF-8"
    question = json.dumps({"schema": schema, "text": text, "memory": MEMORY}).encode()
    try:
        answer = subprocess.run(
            [sys.executable, "-I", str(Path(__file__).with_name("output_check_main.py"))],
            input=question,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            env={},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"the check did not end within {seconds:g} s"
    except OSError as error:
        raise StoreUnavailable(f"the deliverable cannot be checked: no process could be started: {error}") from error
    if answer.returncode != 0:
        return "the check ran out of memory, or failed"
    return answer.stdout.decode("utf-8", "replace")[:_MOST_TEXT]
