"""Manifests of a fleet whose agents are small real programs that leave a line for each run."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

PROGRAMS = Path(__file__).parent / "programs"
API = "apiVersion: remit.dev/v1alpha1\n"


def document(kind: str, name: str, spec: dict[str, Any], **metadata: Any) -> str:
    """One manifest. JSON is YAML: one field a line, so that places in it mean something."""
    fields = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in spec.items())
    return f"{API}kind: {kind}\nmetadata: {json.dumps({'name': name, **metadata})}\nspec:\n{fields}"


def executor(name: str, argv: list[str], *, output: str = "Text", stop_grace: str = "1s", **spec: Any) -> str:
    """A Command executor."""
    command = {"argv": argv, "outputFormat": output, "stopGrace": stop_grace}
    return document("Executor", name, {"type": "Command", "command": command, **spec})


def agent(name: str, executor: str, *, places: int = 1, **spec: Any) -> str:
    """An agent of an executor."""
    return document("Agent", name, {"executorRef": {"name": executor}, "maxConcurrentMissions": places, **spec})


def mission(
    name: str,
    agent: str,
    effects: Path,
    *,
    seconds: float = 0,
    succeed_at: int = 1,
    until: Path | None = None,
    beside: int = 0,
    **spec: Any,
) -> str:
    """A mission whose runs leave a line in ``effects``, take some time, and succeed at an attempt (0: never). Those of
    `work` also wait for the file ``until``, and for ``beside`` programs to have begun."""
    given: dict[str, Any] = {"effects": str(effects), "seconds": seconds, "succeedAt": succeed_at}
    given |= {"until": str(until)} if until is not None else {}
    given |= {"beside": beside} if beside else {}
    fields = {"title": f"do {name}", "agentRef": {"name": agent}, "input": given, "review": "None"}
    return document("Mission", name, {**fields, **spec})


def together(*documents: str) -> str:
    """Several documents of one file."""
    return "---\n".join(documents)


def workers(*, places: int = 2, **agents: int) -> str:
    """Executor `work` (a program without the protocol) and the agent `worker` with so many places; executor `report`
    (a program with it) and the agent `reporter`. ``agents`` are further agents of `work` with their places."""
    quick = [sys.executable, "-I", "-S", str(PROGRAMS / "work.py")]
    return together(
        executor("work", quick),
        executor("report", [sys.executable, "-P", str(PROGRAMS / "report.py")], output="Remit"),
        agent("worker", "work", places=places),
        agent("reporter", "report", places=2),
        *(agent(name, "work", places=count) for name, count in agents.items()),
    )
