"""The application of the agent port."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from api.agents import openapi
from api.agents.authorize_lane import AuthorizeLane
from api.agents.bodies import Bodies
from api.agents.callers import Callers
from api.agents.claims import CLAIM, CLAIM_VERBS, ClaimEndpoints, ClaimVerb, WorkerTokens
from api.agents.decisions import DecisionEndpoints
from api.agents.direct import Direct
from api.agents.hook_routes import add_hook_routes
from api.agents.hooks import HookEndpoints
from api.agents.limits import AgentLimits, LoadLimit, Places, TokenBuckets
from api.agents.proposals import ProposalEndpoints
from api.agents.runs import MOST_WAIT_S, VERBS, RunEndpoints, Verb, to_problem
from api.agents.sub_agents import SubAgentWrites
from api.agents.talk import TalkWrites
from api.agents.tool_servers import ToolServerEndpoints
from api.agents.wakes import POLL_S, Wakes
from api.crowd import Crowd
from api.hosts import HostGuard
from api.lane import AUTHORIZE
from api.problems import ErrorBoundary, Problem, on_http_exception, on_problem
from controllers.gate import autonomy
from controllers.gate.authorize import Gate
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers.proposing import Proposer
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.tokens import RunTokens
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock
from schemas.authorize import Decision
from schemas.errors import RemitError
from schemas.proposing import ProposalList
from schemas.protocol import Inbox, ProposedMissions, SubAgents
from schemas.tool_listing import ServerView
from store.contract import Store

_ABOUT = (
    "What an agent reports about the run it works on, and what it is asked. A program that Remit starts finds the"
    " address in REMIT_URL, its run in REMIT_RUN and its token in REMIT_TOKEN."
)


def create_app(
    store: Store,
    tokens: RunTokens,
    *,
    clock: Clock,
    blocking: Blocking,
    state_dir: Path,
    hosts: Iterable[str] = (),
    limits: AgentLimits | None = None,
    worker_token: WorkerTokens = lambda _: None,
    files: ArtifactFiles | None = None,
    stops: Stops = other.NONE,
    gate: Gate | None = None,
    proposer: Proposer | None = None,
    poll_s: float = POLL_S,
    version: str = "v1",
) -> FastAPI:
    """The agent protocol over ``store``. ``state_dir`` is where artifacts are kept, by ``files`` if that is given;
    ``hosts`` are names it answers to beside loopback ones; ``worker_token`` tells the token that the workers of a Pull
    executor prove themselves with; ``stops`` is what stops work beside the Holds in the store; ``proposer`` works out
    what agents propose, and without it none may; ``blocking`` should have threads of its own, so that agents never wait
    for reconcilers, nor these for them. ``app.state.close()`` ends every long poll: call it when the server is to stop.
    ``app.state.waiting()`` counts them. ``app.state.lane`` is for ``HttpServer``.
    """
    limits = limits or AgentLimits()
    files = files or ArtifactFiles(state_dir)
    wakes = Wakes(store, blocking, clock, poll_s=poll_s)
    buckets = TokenBuckets(limits.requests_per_s, limits.burst, clock.monotonic)
    callers = Callers(store, tokens, buckets, blocking, now=clock.now)
    bodies = Bodies(limits, clock)
    places, polls = Places(limits.in_flight, "requests"), Places(limits.polls, "long polls")
    runs = RunEndpoints(
        store, files, sub_agents=SubAgentWrites(store, tokens, stops), talk=TalkWrites(store, stops), callers=callers,
        bodies=bodies, places=places, polls=polls, clock=clock, blocking=blocking, limits=limits, wakes=wakes,
        stops=stops,
    )  # fmt: skip
    gate = gate or Gate(stops=stops, limits=(autonomy.limit,))
    decisions = DecisionEndpoints(
        store, gate, callers=callers, bodies=bodies, places=places,
        polls=polls, clock=clock, blocking=blocking, wakes=wakes,
    )  # fmt: skip
    tool_servers = ToolServerEndpoints(store, gate, callers=callers, bodies=bodies, places=places, blocking=blocking)

    hooks = HookEndpoints(store, decisions, callers=callers, bodies=bodies, places=places, blocking=blocking)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        wakes.start()
        try:
            yield
        finally:
            await wakes.stop()

    app = FastAPI(
        title="Remit agent protocol",
        version=version,
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url="/agent/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        exception_handlers={
            Problem: on_problem,
            RemitError: _on_remit_error,
            HTTPException: on_http_exception,
            RequestValidationError: _on_bad_query,
        },
    )
    app.state.close = wakes.close
    app.state.waiting = lambda: wakes.count
    app.openapi = lambda: openapi.document(app)  # type: ignore[method-assign]
    claims = ClaimEndpoints(
        store, tokens, worker_token, files, state_dir,
        clock=clock, blocking=blocking, limits=limits, wakes=wakes, stops=stops,
    )  # fmt: skip

    @app.post("/agent/v1/claims", **openapi.claim_options(CLAIM))
    async def claim(
        request: Request,
        wait: Annotated[int, Query(ge=0, le=MOST_WAIT_S, description="Longest wait for a run, in seconds.")] = 0,
    ) -> Response:
        return await claims.claim(request, wait)

    for claim_verb in CLAIM_VERBS:
        app.post(f"/agent/v1/claims/{{run}}/{claim_verb.name}", **openapi.claim_options(claim_verb))(
            _claim_writer(claims, claim_verb)
        )

    @app.post(AUTHORIZE, **openapi.authorize_options())
    async def authorize(request: Request) -> Response:
        return await decisions.authorize(request)

    @app.get(
        "/agent/v1/decisions/{decision_id}",
        summary="Ask what was decided",
        operation_id="decision",
        response_model=Decision,
        response_model_exclude_none=True,
        responses=openapi.problems(401, 404, 409, 422, 429, 503),
    )
    async def decision(
        request: Request,
        decision_id: str,
        wait: Annotated[int, Query(ge=0, le=MOST_WAIT_S, description="Longest wait for an answer, in seconds.")] = 0,
    ) -> Response:
        """The decision. Answers at once unless a person is asked. A leave is used up by the answer that says allow."""
        return await decisions.decision(request, decision_id, wait)

    @app.get(
        "/agent/v1/tool-servers/{server}",
        summary="Ask how a tool server is declared",
        operation_id="tool-server",
        response_model=ServerView,
        response_model_exclude_none=True,
        responses=openapi.problems(401, 404, 409, 422, 429, 503),
    )
    async def tool_server(request: Request, server: str) -> Response:
        """What a proxy needs to reach it, and which of its tools are accepted. Secrets stand in it by reference."""
        return await tool_servers.view(request, server)

    @app.post("/agent/v1/tool-servers/{server}/tools", **openapi.tools_options())
    async def server_tools(request: Request, server: str) -> Response:
        return await tool_servers.tools(request, server)

    add_hook_routes(app, hooks)

    proposals = ProposalEndpoints(store, proposer, callers=callers, bodies=bodies, places=places, blocking=blocking)

    @app.post("/agent/v1/proposals", **openapi.propose_options())
    async def propose(request: Request) -> Response:
        return await proposals.propose(request)

    @app.get(
        "/agent/v1/proposals",
        summary="List what the agent proposed",
        operation_id="list-proposals",
        response_model=ProposalList,
        response_model_exclude_none=True,
        responses=openapi.problems(401, 404, 429, 503),
    )
    async def proposed(request: Request) -> Response:
        """Of all its runs, the newest first; how people answered stands there."""
        return await proposals.listed(request)

    for verb in VERBS:
        app.post(f"/agent/v1/runs/{{run}}/{verb.name}", **openapi.write_options(verb))(_writer(runs, verb))

    @app.get(
        "/agent/v1/runs/{run}/sub-agents",
        summary="List the sub-agents of the run",
        operation_id="list-sub-agents",
        response_model=SubAgents,
        response_model_exclude_none=True,
        responses=openapi.problems(401, 404, 422, 429, 503),
    )
    async def sub_agents(request: Request, run: str) -> Response:
        """Those that have not been put away."""
        return await runs.sub_agents(request, run)

    @app.get(
        "/agent/v1/runs/{run}/missions",
        summary="List the missions that the run proposed",
        operation_id="list-proposed-missions",
        response_model=ProposedMissions,
        response_model_exclude_none=True,
        responses=openapi.problems(401, 404, 422, 429, 503),
    )
    async def proposed_missions(request: Request, run: str) -> Response:
        """Where each stands."""
        return await runs.proposed_missions(request, run)

    @app.get(
        "/agent/v1/runs/{run}/inbox",
        summary="Ask what the engine wants",
        operation_id="inbox",
        response_model=Inbox,
        response_model_exclude_none=True,
        responses=openapi.problems(401, 404, 422, 429, 503),
    )
    async def inbox(
        request: Request,
        run: str,
        wait: Annotated[int, Query(ge=0, le=MOST_WAIT_S, description="Longest wait for news, in seconds.")] = 0,
        ack: Annotated[list[str], Query(max_length=20, description="Notices to leave out, by id.")] = [],  # noqa: B006
        known: Annotated[
            list[str],
            Query(max_length=20, description="Notices to leave out, by id, that the program has not read yet."),
        ] = [],  # noqa: B006
        cursor: Annotated[
            int, Query(ge=0, le=2**53, description="cursor of an answer that was kept: its messages do not come again.")
        ] = 0,
    ) -> Response:
        """Notices that hold now. Answers at once when there are any that neither ``ack`` nor ``cursor`` leaves out."""
        return await runs.inbox(request, run, wait, frozenset(ack), frozenset(known), cursor)

    crowd, hosts = Crowd(limits.all_in_flight), tuple(hosts)
    app.state.lane = AuthorizeLane(AUTHORIZE, decisions, callers=callers, places=places, crowd=crowd, hosts=hosts)
    # The last one added is the first one asked.
    app.add_middleware(Direct, path=AUTHORIZE, endpoint=decisions.authorize)
    app.add_middleware(LoadLimit, most=limits.all_in_flight, crowd=crowd)
    app.add_middleware(HostGuard, names=hosts)
    app.add_middleware(ErrorBoundary)
    return app


def _writer(runs: RunEndpoints, verb: Verb) -> Callable[[Request, str], Awaitable[Response]]:
    async def write(request: Request, run: str) -> Response:
        return await runs.write(verb, request, run)

    return write


def _claim_writer(claims: ClaimEndpoints, verb: ClaimVerb) -> Callable[[Request, str], Awaitable[Response]]:
    async def write(request: Request, run: str) -> Response:
        return await claims.write(verb, request, run)

    return write


async def _on_remit_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RemitError)
    return to_problem(error).response()


async def _on_bad_query(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [(".".join(str(part) for part in found["loc"][1:])[:100], str(found["msg"])) for found in error.errors()]
    return Problem(422, "Invalid", "the query is not accepted; see errors", errors=errors[:20]).response()
