"""Bench of the MCP proxy: a call of a tool through `remit mcp-proxy`, asked, made, reported and on disk twice, against
the same call of the same server without it. Both are programs on pipes, as an agent starts them."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from mcp import Client
from mcp.client.stdio import StdioServerParameters

from api.agents.app import create_app
from api.agents.limits import AgentLimits
from controllers.gate.authorize import Gate
from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock
from tests.bench.gate import serving
from tests.bench.measure import Measured, ms, sized
from tests.fakes.agent_port import TOKENS
from tests.fakes.mcp import PROGRAM, ToolBench, definition, paths
from tests.fakes.runs import RESERVED, RunBench


def p50(scale: float) -> Measured:
    """The median of one call after the other, as a ratio."""
    each, rounds = sized(100, scale, 3), 1 if scale < 0.5 else 5
    with tempfile.TemporaryDirectory() as folder:
        bench = RunBench(Path(folder), now=SystemClock().now)
        tools = ToolBench(bench, Path(folder), [definition("echo")], reserve=replace(RESERVED, tool_calls=100_000))
        tools.declare()
        clock, blocking = SystemClock(), ThreadBlocking(4)
        free = AgentLimits(requests_per_s=1e6, burst=1_000_000)
        app = create_app(
            bench.store, TOKENS, clock=clock, blocking=blocking, state_dir=Path(folder), limits=free, gate=Gate(),
            poll_s=5.0,
        )  # fmt: skip
        with serving(app) as port:
            through = StdioServerParameters(
                command=sys.executable,
                args=["-c", "from cli.entry import main; main()", "mcp-proxy", "tickets"],
                env={"REMIT_URL": f"http://127.0.0.1:{port}", "REMIT_TOKEN": tools.token(), "PYTHONPATH": paths()},
                cwd=folder,
            )
            direct = StdioServerParameters(
                command=sys.executable, args=[str(PROGRAM), str(tools.tools)],
                env={"PYTHONPATH": paths(), "PATH": os.environ.get("PATH", "")}, cwd=folder,
            )  # fmt: skip
            ours, floor = asyncio.run(_by_turns(through, direct, each, rounds))
        blocking.close(wait=True)
        bench.close()
    return Measured(ours / floor, f"p50 {ms(ours)}", f"p50 {ms(floor)}", "one call after the other")


async def _by_turns(
    through: StdioServerParameters, direct: StdioServerParameters, each: int, rounds: int
) -> tuple[float, float]:
    spent: tuple[list[float], list[float]] = ([], [])
    async with Client(through) as ours, Client(direct) as floor:
        for number in range(rounds + 1):
            for client, found in ((ours, spent[0]), (floor, spent[1])):
                times = [await _call(client, number * each + index) for index in range(each)]
                if number:  # the first round is for warming up
                    found.append(statistics.median(times))
    return statistics.median(spent[0]), statistics.median(spent[1])


async def _call(client: Client, number: int) -> float:
    began = time.perf_counter()
    result = await client.call_tool("echo", {"number": number})
    ended = time.perf_counter() - began
    assert not result.is_error, result
    assert json.loads(result.content[0].text) == {"number": number}  # type: ignore[union-attr]
    return ended
