"""Bench of `remit policy replay`: recorded calls decided by the Policies in force and by proposed ones, against reading
the same rows of the same store."""

from __future__ import annotations

import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cli import policy_replay
from decisions.policy.fleet import Fleet
from schemas.agent import AgentSpec
from schemas.base import Key, ObjectRef
from schemas.policy import PolicySpec
from schemas.resource import SYSTEM, Declared, digest
from schemas.tool_call import ToolCallSpec
from store.contract import Store, Transaction
from tests.bench.measure import Measured, ms, sized
from tests.fakes.runs import RunBench

CALLS, AGENTS, RULES = 10_000, 20, 50
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_TOOLS = [{"name": "tool_*"}, {"name": "shell_exec"}, {"name": "git_push"}, {"name": "network_call"}]
_BATCH = 1_000


def replay(scale: float) -> Measured:
    """Processor time, so that neighbours do not count."""
    calls, rounds = sized(CALLS, scale), 1 if scale < 0.5 else 5
    with tempfile.TemporaryDirectory() as folder:
        bench = RunBench(Path(folder))
        try:
            record(bench.store, calls)
            ours = [_effort(lambda: once(bench.store, calls)) for _ in range(rounds)]
        finally:
            bench.close()
        floor = [_effort(lambda: _rows(bench.path, calls)) for _ in range(rounds)]
    a, b = statistics.median(ours), statistics.median(floor)
    return Measured(a / b, ms(a), ms(b), f"{calls:,} calls, {AGENTS} agents, {RULES} rules on each side")


def record(store: Store, calls: int) -> None:
    """A store with so many recorded calls of some agents, as weeks of work leave them: mostly the same, all different
    in their arguments."""
    with store.transaction(SYSTEM) as tx:
        for number in range(AGENTS):
            spec = AgentSpec.model_validate(
                {"executorRef": {"name": "local"}, "autonomyLevel": "Specialist", "tools": _TOOLS}
            )
            tx.create(Declared("Agent", "default", f"agent-{number}", spec.to_wire(), {"team": f"t{number % 4}"}))
        tx.create(Declared("Policy", "default", "house-rules", policy("Deny")))
    for first in range(0, calls, _BATCH):
        with store.transaction(SYSTEM) as tx:
            for number in range(first, min(calls, first + _BATCH)):
                _call(tx, number)


def policy(verdict: str) -> dict[str, Any]:
    """A canonical Policy of fifty rules, over tools, commands and conditions."""
    rules = [
        {"name": f"r{n}", "match": {"tools": [f"tool_{n % 10}*"], "when": f"args.n > {100_000 + n}"}, "verdict": "Deny"}
        for n in range(RULES - 2)
    ]
    rules.append(
        {"name": "no-force", "match": {"tools": ["git_push"], "when": "args.force == true"}, "verdict": "Deny"}
    )
    rules.append({"name": "shell", "match": {"tools": ["shell_exec"], "when": "args.command.startsWith('rm ')"},
                  "verdict": verdict})  # fmt: skip
    allowed = {"shell": ["git status", "ls", "cat"], "network": ["*.example.org"]}
    spec = PolicySpec.model_validate({"rules": rules, "risk": {"tool_7": "Green"}, "allowlists": allowed})
    return spec.to_wire()


def once(store: Store, calls: int) -> policy_replay.Replay:
    """One replay, as the command does it once the proposed specs are compiled."""
    with store.snapshot() as snapshot:
        members = [m for m in policy_replay.of_store(snapshot) if m[0].kind != "Policy"]
        proposed = Fleet([*members, (Key("Policy", "default", "house-rules"), policy("Allow"), {}, "")])
        found = policy_replay.replay(snapshot, proposed, LONG_AGO)
    if found.looked_at != calls or not found.changed:
        raise AssertionError(f"{found.looked_at} calls, {found.changed} changes")
    return found


def _call(tx: Transaction, number: int) -> None:
    tool, args, target = (
        ("shell_exec", {"command": f"git status --short dir-{number}"}, ""),
        ("shell_exec", {"command": f"rm -r build/{number}"}, ""),
        ("tool_7", {"n": number, "path": f"a/{number}.txt"}, ""),
        ("network_call", {"url": f"https://api.example.org/items/{number}"}, "api.example.org"),
        ("git_push", {"force": number % 3 == 0, "branch": f"b{number}"}, "origin"),
        ("tool_3", {"n": number}, ""),
    )[number % 6]
    spec = ToolCallSpec(
        tool=tool, args=args, args_digest=digest(args), target=target, run_ref=ObjectRef(name=f"run-{number // 50}"),
        agent_ref=ObjectRef(name=f"agent-{number % AGENTS}"), mission_ref=ObjectRef(name=f"m-{number // 50}"),
        idempotency_key=f"k{number}",
    )  # fmt: skip
    tx.create(Declared("ToolCall", "default", f"call-{number}", spec.to_wire()), status={"state": "Done"})


def _rows(path: Path, calls: int) -> None:
    """The floor: the specs of the calls, decoded."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT spec FROM objects WHERE kind = 'ToolCall'").fetchall()
    if sum(1 for (spec,) in rows if json.loads(spec)["tool"]) != calls:
        raise AssertionError("calls are missing")


def _effort(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began
