"""What the proxy of a run asks about a ToolServer, and what it tells of its tools."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from api.agents.bodies import Bodies, parse
from api.agents.callers import Callers
from api.agents.limits import Places
from api.agents.runs import answer_with
from controllers.gate.asking import Asker
from controllers.gate.authorize import Gate
from controllers.reconcilers import tool_servers
from controllers.runs.reports import require_open
from controllers.runs.run_record import RunRecord, agent_actor
from controllers.runtime.blocking import Blocking
from decisions import tools
from decisions.policy.reach import knows_server, may_ever
from schemas import tool_definition
from schemas.base import Key, is_name
from schemas.errors import NotFound
from schemas.resource import SYSTEM, Resource
from schemas.tool_listing import PROMPT, RESOURCE, JudgedTool, JudgedTools, Listing, ServerView, ToolsMessage
from schemas.tool_server import ToolServerSpec, ToolState
from store.contract import Store, Transaction


class ToolServerEndpoints:
    """Answers for one store. A run sees the ToolServers of its namespace of which its agent's tools list anything."""

    def __init__(
        self, store: Store, gate: Gate, *, callers: Callers, bodies: Bodies, places: Places, blocking: Blocking
    ) -> None:
        self._store = store
        self._gate = gate
        self._callers = callers
        self._bodies = bodies
        self._places = places
        self._blocking = blocking

    async def view(self, request: Request, server: str) -> Response:
        """What is declared. Raises Problem, RemitError (see ``runs.to_problem``)."""
        caller = await self._callers.identify(request)
        with self._places.taken(caller.uid):
            return answer_with(await self._blocking.run(self._view, caller.uid, server))

    async def tools(self, request: Request, server: str) -> Response:
        """Take in what the server offers; which of it the agent is shown. Raises as ``view``."""
        caller = await self._callers.identify(request)
        with self._places.taken(caller.uid):
            async with self._bodies.read(request, large=False) as body:
                return answer_with(await self._blocking.run(self._tools, caller.uid, server, body))

    def _view(self, run_uid: str, name: str) -> ServerView:
        with self._store.transaction(SYSTEM) as tx:
            asker, server = _asked_for(tx, run_uid, name)
            policies, facts = self._gate.rulebook.of(tx, asker.agent), asker.agent_facts()
            return ServerView(
                name=server.name,
                namespace=server.namespace,
                uid=server.uid,
                generation=server.generation,
                spec=server.spec,
                run=asker.run.name,
                reach=tuple(what for what in (RESOURCE, PROMPT) if may_ever(f"mcp:{name}/{what}", facts, policies)),
                agent=f"{asker.agent.namespace}/{asker.agent.name}",
            )

    def _tools(self, run_uid: str, name: str, body: bytes) -> JudgedTools:
        message = parse(ToolsMessage, body)
        with self._store.transaction(SYSTEM) as tx:
            asker, server = _asked_for(tx, run_uid, name)
            with tx.acting(agent_actor(asker.run)):
                found = tool_servers.take_in(tx, server, message.definitions, asker.run.name)
            spec = ToolServerSpec.model_validate(server.spec)
            policies, facts = self._gate.rulebook.of(tx, asker.agent), asker.agent_facts()
        pins = {pin.tool: pin.digest for pin in spec.pins}
        items = []
        for each in found:
            if not may_ever(f"mcp:{name}/{_at_gate(each.name)}", facts, policies):
                listing = Listing.NOT_ALLOWED
            elif spec.suspend or tools.state_of(pins, each.name, each.digest) is not ToolState.ACCEPTED:
                listing = Listing.QUARANTINED
            else:
                listing = Listing.LISTED
            items.append(JudgedTool(name=each.name, digest=each.digest, listing=listing, hinted_risk=each.hinted_risk))
        return JudgedTools(items=tuple(items))


def _at_gate(name: str) -> str:
    """What the gate calls it."""
    if tool_definition.is_tool(name):
        return name
    return PROMPT if name.startswith(tool_definition.PROMPTS) else RESOURCE


def _asked_for(tx: Transaction, run_uid: str, name: str) -> tuple[Asker, Resource]:
    """Who asks, and the server. Raises NotFound for one that is none of the agent's business, Refused."""
    record = RunRecord.load(tx, run_uid)
    require_open(record.status)
    asker = Asker.load(tx, record)
    server = tx.get(Key("ToolServer", asker.run.namespace, name)) if is_name(name) else None
    if server is None or server.deletion_at is not None or not knows_server(name, asker.agent_facts()):
        raise NotFound(
            f"there is no ToolServer {name[:80]} in the namespace of this run, or the agent's tools list nothing of it"
        )
    return asker, server
