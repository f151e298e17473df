"""Benches of the gate over HTTP: a call decided by 50 rules, its cost reserved and the audit on disk, against an
application on the same server that does nothing."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from api.agents.app import create_app
from api.agents.limits import AgentLimits
from api.server import HttpServer
from controllers.gate.authorize import Gate
from controllers.runs.tokens import RunTokens
from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock
from controllers.runtime.lifecycle import Lifecycle
from schemas.agent import AgentSpec
from schemas.policy import PolicySpec
from schemas.resource import Declared, Resource
from tests.bench.measure import Measured, ms, per_second, percentile, sized
from tests.fakes.runs import RunBench

RULES = 50
CONNECTIONS = 32
_TOKENS = RunTokens(b"k" * 32)
_BODY = json.dumps({"tool": "tool_7", "args": {"n": 1, "path": "a/b"}, "estimate": {"usd": "0.000001"}})
_HEAD = (
    "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nIdempotency-Key: KEY\r\n"
    "Content-Type: application/json\r\nContent-Length: LENGTH\r\n\r\n"
)


def p50(scale: float) -> Measured:
    """The median of one connection, as a ratio."""
    return _latency(scale, statistics.median, "p50")


def p99(scale: float) -> Measured:
    """The slow ones of one connection, as a ratio."""
    return _latency(scale, lambda spent: percentile(spent, 0.99), "p99")


def rate(scale: float) -> Measured:
    """Requests a second over 32 connections, as a ratio."""
    each, rounds = sized(60, scale, 2), 1 if scale < 0.5 else 5
    ours, floor = _by_turns(CONNECTIONS, each, rounds)
    total = CONNECTIONS * each
    a, b = (statistics.median(result["seconds"] for result in results) for results in (ours, floor))
    return Measured(b / a, per_second(total, a), per_second(total, b), f"{CONNECTIONS} connections")


def _latency(scale: float, of: Callable[[list[float]], float], name: str) -> Measured:
    each, rounds = sized(400, scale, 5), 1 if scale < 0.5 else 5
    ours, floor = _by_turns(1, each, rounds)
    a, b = (statistics.median(of(result["spent"]) for result in results) for results in (ours, floor))
    return Measured(a / b, f"{name} {ms(a)}", f"{name} {ms(b)}", "one connection")


def _by_turns(connections: int, each: int, rounds: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What came of each; in a process that is set up as `remit run` sets itself up."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    try:
        return _measured(connections, each, rounds)
    finally:
        gc.unfreeze()
        sys.setswitchinterval(before)


def _measured(connections: int, each: int, rounds: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    with tempfile.TemporaryDirectory() as folder:
        bench = RunBench(Path(folder), now=SystemClock().now)
        runs = _runs(bench, connections)
        clock, blocking = SystemClock(), ThreadBlocking(4)
        free = AgentLimits(requests_per_s=1e6, burst=1_000_000)
        app = create_app(
            bench.store, _TOKENS, clock=clock, blocking=blocking, state_dir=Path(folder), limits=free, gate=Gate(),
            poll_s=5.0,
        )  # fmt: skip
        heads = [_HEAD.replace("{path}", "/agent/v1/authorize").replace("{token}", _TOKENS.mint(r.uid)) for r in runs]
        plain = [_HEAD.replace("{path}", "/noop").replace("{token}", "t")] * connections
        found: tuple[list[dict[str, Any]], list[dict[str, Any]]] = ([], [])
        with serving(app) as ours, serving(_noop()) as floor:
            for number in range(rounds + 1):
                results = (
                    _load(ours, heads, each, f"r{number}", '"decision":"allow"'),
                    _load(floor, plain, each, f"r{number}", '"ok":true'),
                )
                if number or not rounds:  # the first round is for warming up
                    found[0].append(results[0])
                    found[1].append(results[1])
        blocking.close(wait=True)
        bench.close()
    return found


def _noop() -> FastAPI:
    app = FastAPI(openapi_url=None)

    @app.post("/noop")
    async def noop() -> dict[str, bool]:
        return {"ok": True}

    return app


def _runs(bench: RunBench, count: int) -> list[Resource]:
    rules = [
        {"name": f"r{n}", "match": {"tools": [f"tool_{n % 10}*"], "when": f"args.n > {1000 + n}"}, "verdict": "Deny"}
        for n in range(RULES)
    ]
    spec = PolicySpec.model_validate({"rules": rules, "risk": {"tool_7": "Green"}})
    runs = [bench.order(reserve=None) for _ in range(count)]
    with bench.tx() as tx:
        tx.create(Declared("Policy", "default", "house-rules", spec.to_wire()))
        for run in runs:
            agent = tx.get_by_uid(str(run.spec["agentUid"]))
            assert agent is not None
            wire = AgentSpec.model_validate({**agent.spec, "autonomyLevel": "Lead", "tools": [{"name": "tool_*"}]})
            tx.put_spec(agent, Declared(agent.kind, agent.namespace, agent.name, wire.to_wire(), agent.labels))
    return runs


@contextmanager
def serving(app: FastAPI) -> Iterator[int]:
    """The port of the application, on a server in a thread of its own."""
    server = HttpServer(
        app, "127.0.0.1", 0, on_stop=getattr(app.state, "close", lambda: None), lane=getattr(app.state, "lane", None)
    )
    server.bind()
    ready = threading.Event()
    stop: list[Callable[[], object]] = []

    async def serve() -> None:
        life = Lifecycle()
        loop = asyncio.get_running_loop()
        stop.append(functools.partial(loop.call_soon_threadsafe, life.stopping.set))
        work = asyncio.create_task(server.run(life))
        await life.is_ready.wait()
        ready.set()
        await work

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait(30)
    try:
        yield server.port
    finally:
        stop[0]()
        thread.join()


def _load(port: int, heads: list[str], count: int, name: str, expect: str) -> dict[str, Any]:
    plan = {"port": port, "heads": heads, "body": _BODY, "count": count, "name": name, "expect": expect}
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.http_load"],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the load ended with {done.returncode}: {done.stderr[-500:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
