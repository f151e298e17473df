"""A tool server, an engine and a proxy between them, each as it really is, for tests that speak MCP."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mcp_types as types
from mcp.client._memory import InMemoryTransport

from api.mcp import web
from api.mcp.engine import Caller, Engine
from api.mcp.openers import Openers
from api.mcp.proxy import Options, Proxy
from api.mcp.upstream import Upstream
from api.server import HttpServer
from controllers.reconcilers import approvals, tool_servers
from controllers.runtime.blocking import ThreadBlocking
from controllers.runtime.clock import SystemClock
from controllers.runtime.lifecycle import Lifecycle
from controllers.secrets.keeper import local_secrets
from schemas import tool_definition
from schemas.agent import AgentSpec
from schemas.amounts import Amounts
from schemas.approval_decision import ApprovalDecisionSpec, ApprovalDecisionStatus
from schemas.base import Key
from schemas.policy import PolicySpec
from schemas.resource import Declared, Resource
from schemas.tool_server import ToolServerSpec, ToolServerStatus
from tests.fakes.agent_port import TOKENS, AgentPort
from tests.fakes.programs import mcp_server
from tests.fakes.runs import RESERVED, RunBench

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "programs" / "mcp_server.py"
NAMES = ("echo", "environment", "big", "fail", "slow", "crash")
SERVER = "tickets"
KEY = Key("ToolServer", "default", SERVER)


def definition(name: str, description: str = "does what it says", **more: Any) -> dict[str, Any]:
    """What a server says of a tool."""
    return {"name": name, "description": description, "inputSchema": {"type": "object"}, **more}


def digest_of(wire: dict[str, Any]) -> str:
    """What a pin of it names."""
    return tool_definition.digest_of(tool_definition.definition_of(wire))


@dataclass
class ToolBench:
    """A store with a run that may use the tools of one server. ``wires`` are what that offers."""

    bench: RunBench
    folder: Path
    wires: list[dict[str, Any]] = field(default_factory=lambda: [definition(name) for name in NAMES])
    said: list[str] = field(default_factory=list)
    """What the operator was told."""
    reserve: Amounts = RESERVED
    """What is set aside for the run."""

    def __post_init__(self) -> None:
        self.tools = self.folder / "tools.json"
        self.offer(*self.wires)
        self.run = self.bench.order(reserve=self.reserve)
        self.agent()
        risk = {"mcp:tickets/*": "Green"}
        spec = PolicySpec.model_validate({"risk": risk}).to_wire()
        self.bench.declare("Policy", "house", spec)
        self.numbers = itertools.count(1)

    def offer(self, *wires: dict[str, Any]) -> None:
        """From now on the server offers these."""
        self.wires = list(wires)
        self.tools.write_text(json.dumps(self.wires))

    def agent(self, run: Resource | None = None, **spec: Any) -> None:
        """The agent of the run: a specialist with every tool of the server, unless told otherwise."""
        with self.bench.tx() as tx:
            agent = tx.get_by_uid(str((run or self.run).spec["agentUid"]))
            assert agent is not None
            mine = {"autonomyLevel": "Specialist", "tools": [{"mcp": {"serverRef": {"name": SERVER}}}], **spec}
            wire = AgentSpec.model_validate({**agent.spec, **mine}).to_wire()
            tx.put_spec(agent, Declared(agent.kind, agent.namespace, agent.name, wire, agent.labels))

    def policy(self, **spec: Any) -> None:
        """What the one Policy says."""
        with self.bench.tx() as tx:
            found = tx.get(Key("Policy", "default", "house"))
            assert found is not None
            wire = PolicySpec.model_validate({**found.spec, **spec}).to_wire()
            tx.put_spec(found, Declared(found.kind, found.namespace, found.name, wire))

    def declare(self, *, pinned: bool = True, others: bool = True, **spec: Any) -> Resource:
        """The ToolServer, with everything accepted as it is unless told otherwise; again to change it."""
        wires = [*self.wires, *(mcp_server.OTHERS if others else ())]
        pins = [{"tool": wire["name"], "digest": digest_of(wire)} for wire in wires] if pinned else []
        env = [{"name": "PYTHONPATH", "value": paths()}, *spec.pop("env", ())]
        program = {"argv": spec.pop("argv", [sys.executable, str(PROGRAM), str(self.tools)]), "env": env}
        block: dict[str, Any] = {} if "http" in spec else {"type": "Stdio", "stdio": program}
        pins += spec.pop("pins", [])
        values = {"pins": pins, "approvalWait": "1s", "callTimeout": "20s", **block, **spec}
        wire = ToolServerSpec.model_validate(values).to_wire()
        with self.bench.tx() as tx:
            known = tx.get(KEY)
            declared = Declared(KEY.kind, KEY.namespace, KEY.name, wire)
            made = tx.create(declared) if known is None else tx.put_spec(known, declared)
        self.reconcile()
        return made

    def reconcile(self) -> ToolServerStatus:
        """One pass over the ToolServer."""
        with self.bench.tx() as tx:
            tool_servers.reconcile(tx, KEY)
        return self.status

    @property
    def status(self) -> ToolServerStatus:
        with self.bench.store.snapshot() as snapshot:
            found = snapshot.get(KEY)
        assert found is not None
        return ToolServerStatus.model_validate(found.status)

    @property
    def made(self) -> list[str]:
        """The calls that reached the server, by tool."""
        log = self.tools.with_suffix(".log")
        return [json.loads(line)[0] for line in log.read_text().splitlines()] if log.exists() else []

    def calls(self) -> list[Resource]:
        """What the engine recorded."""
        with self.bench.store.snapshot() as snapshot:
            return sorted(snapshot.objects("ToolCall"), key=lambda call: call.uid)

    def requests(self, *states: str) -> list[Resource]:
        """The questions."""
        with self.bench.store.snapshot() as snapshot:
            return list(snapshot.objects("ApprovalRequest", states=states or None))

    def answer(self, verdict: str = "Approve") -> None:
        """A person answers the one open question."""
        (request,) = self.requests("Pending")
        with self.bench.tx() as tx:
            spec = ApprovalDecisionSpec.model_validate(
                {"requestRef": {"name": request.name, "uid": request.uid},
                 "actionDigest": request.spec["actionDigest"], "verdict": verdict}
            )  # fmt: skip
            status = ApprovalDecisionStatus(subject="user:alice", transport="Store")
            made = tx.create(
                Declared("ApprovalDecision", "default", f"answer-{next(self.numbers)}", spec.to_wire()),
                status=status.to_wire(),
            )
            approvals.reconcile_decision(tx, made.key)

    async def asked(self) -> Resource:
        """The open question, once there is one."""
        async with asyncio.timeout(30):
            while not self.requests("Pending"):
                await SystemClock().sleep(0.02)
        return self.requests("Pending")[0]

    def token(self, run: Resource | None = None) -> str:
        """Of the run."""
        return TOKENS.mint((run or self.run).uid)

    def near(self) -> Upstream:
        """The server inside this process: quick, and it speaks the same protocol over the same streams."""
        return Upstream(SERVER, lambda: InMemoryTransport(mcp_server.make(self.tools)), SystemClock())

    @asynccontextmanager
    async def proxy(
        self, port: AgentPort | str, *, restart_s: float = 0.5, near: bool = True, **options: Any
    ) -> AsyncIterator[Proxy]:
        """The proxy, for the run unless ``who`` says otherwise; ``near``: the server is in this process."""
        clock, blocking = SystemClock(), ThreadBlocking(2)
        caller = web.caller_of(self.token())
        who = options.pop("who", lambda _: caller)
        secrets = local_secrets({"TICKETS_TOKEN": "s3cret-value-of-tickets"})
        openers = Openers(secrets, self.folder, dict(os.environ), clock, blocking, self.said.append)
        url = port if isinstance(port, str) else port.url
        try:
            async with Engine(url, clock, restart_s=restart_s) as engine:
                made = Proxy(
                    Options(SERVER, "1", **{"view_s": 0.0, "look_s": 0.0, **options}), engine,
                    lambda spec: self.near() if near else openers.upstream(SERVER, "default", spec), clock, who=who,
                    new_key=lambda: f"key-{next(self.numbers)}", secret=b"s" * 32,
                )  # fmt: skip
                try:
                    yield made
                finally:
                    await made.aclose()
        finally:
            blocking.close(wait=True)

    @asynccontextmanager
    async def on_port(self, port: AgentPort, **options: Any) -> AsyncIterator[str]:
        """The proxy as a server; its address."""
        door = {name: options.pop(name) for name in ("proxy_token", "hosts") if name in options}
        async with self.proxy(port, who=web.who, **options) as proxy, listening(web.application(proxy, **door)) as url:
            yield url + web.PATH


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """An application on a free port; its address."""
    server = HttpServer(app, "127.0.0.1", 0)
    server.bind()
    life = Lifecycle()
    task = asyncio.create_task(server.run(life))
    await asyncio.wait_for(life.is_ready.wait(), 10)
    try:
        yield server.url
    finally:
        life.stopping.set()
        await asyncio.wait_for(task, 10)


def caller(token: str) -> Caller:
    """Who comes with this token."""
    return web.caller_of(token)


def text_of(result: Any) -> str:
    """The one text of a result."""
    assert isinstance(result, types.CallToolResult), result
    (content,) = result.content
    assert isinstance(content, types.TextContent)
    return content.text


def paths() -> str:
    """Where programs find this tree."""
    return os.environ.get("PYTHONPATH") or os.pathsep.join((str(ROOT / "client"), str(ROOT)))
