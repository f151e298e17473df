"""Places that ask over HTTP in words of their own: hooks of Claude Code, the plugin of OpenClaw, the interceptor of
Docker's MCP gateway.

All of them take a refusal that is not in their own words for leave, or may: so whatever goes wrong here is answered as
a denial that they understand, with status 200.
"""

from __future__ import annotations

import json
import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from remit_client.hooks.calls import ToolCall, Workspace
from remit_client.hooks.dialects import DIALECTS, OPENCLAW, Answer, Dialect, Verdict, Word
from remit_client.hooks.endings import ToolEnd
from remit_client.hooks.interceptor import read_call, refused
from starlette.requests import Request
from starlette.responses import Response

from api.agents.bodies import Bodies, parse
from api.agents.callers import Callers
from api.agents.decisions import DecisionEndpoints
from api.agents.limits import Places
from api.problems import Problem
from controllers.gate.asking import Asked
from controllers.runs import reports
from controllers.runs.once import Once
from controllers.runs.run_record import agent_actor
from controllers.runtime.blocking import Blocking
from schemas.authorize import AuthorizeMessage, Decision
from schemas.errors import RemitError
from schemas.passage import CallChannel, Passage
from schemas.protocol import ToolResultMessage
from schemas.resource import canonical_json
from store.contract import Store

log = logging.getLogger(__name__)

MOST_HOLD_S = 3600
"""Longest that a call is held back for a person's answer."""
HOOK_WAIT_S, INTERCEPTOR_WAIT_S = 280, 50
"""The same, where the address does not say."""
_SERVER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_NOW = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Options:
    """What the address of a hook says."""

    wait_s: int
    defer: bool = False
    keep_prompts: bool = False

    @classmethod
    def of(cls, request: Request, wait_s: int, *known: str) -> Options:
        """The query of a request; ``wait_s`` without one. Raises ValueError for what is not understood."""
        query = dict(request.query_params)
        unknown = set(query) - {"wait", *known}
        if unknown:
            raise ValueError(f"the query has {sorted(unknown)[0][:40]!r}, which nobody knows")
        wait = query.get("wait", str(wait_s))
        if not wait.isascii() or not wait.isdigit() or len(wait) > 6 or int(wait) > MOST_HOLD_S:
            raise ValueError(f"wait takes 0 to {MOST_HOLD_S} seconds")
        flags = {name: query.get(name, "false") for name in ("defer", "keepPrompts")}
        if not set(flags.values()) <= {"true", "false"}:
            raise ValueError("defer and keepPrompts are true or false")
        return cls(int(wait), flags["defer"] == "true", flags["keepPrompts"] == "true")


class HookEndpoints:
    """Answers for one store. Everything that blocks runs in threads; belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        decisions: DecisionEndpoints,
        *,
        callers: Callers,
        bodies: Bodies,
        places: Places,
        blocking: Blocking,
        new_key: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self._store = store
        self._decisions = decisions
        self._callers = callers
        self._bodies = bodies
        self._places = places
        self._blocking = blocking
        self._new_key = new_key

    async def claude(self, request: Request) -> Response:
        """PreToolUse and what comes after a call; always 200 with JSON."""
        return await self._hook(request, DIALECTS["claude"], CallChannel.HTTP_HOOK, "defer", "keepPrompts")

    async def openclaw(self, request: Request) -> Response:
        """``before_tool_call`` and ``after_tool_call``; always 200 with JSON."""
        return await self._hook(request, OPENCLAW, CallChannel.PLUGIN)

    async def docker(self, request: Request) -> Response:
        """A call of a tool of an MCP server. An empty answer is leave, any other takes the place of the result."""
        try:
            options, server = Options.of(request, INTERCEPTOR_WAIT_S), request.path_params["server"]
            if _SERVER.fullmatch(server) is None:
                raise ValueError("the server in the path is not a name")
            run_uid, passage = self._callers.asker(request, CallChannel.INTERCEPTOR)
            with self._places.taken(run_uid):
                async with self._bodies.read(request, large=False, named=False) as body:
                    call = await self._blocking.run(lambda: read_call(_object(body), server))
                    answer = await self._ask(request, run_uid, passage, call, options)
            verdict = Verdict.of(answer)
        except Exception as error:  # noqa: BLE001  an empty answer would be taken for leave
            verdict = _fault(error)
        if verdict.word is Word.ALLOW:
            return Response(b"", 200, _NOW)
        return _json(refused(verdict.message))

    async def _hook(self, request: Request, dialect: Dialect, channel: CallChannel, *known: str) -> Response:
        payload: Mapping[str, Any] = {}
        try:
            options = Options.of(request, HOOK_WAIT_S, *known)
            run_uid, passage = self._callers.asker(request, channel)
            with self._places.taken(run_uid):
                async with self._bodies.read(request, large=True) as body:
                    payload = await self._blocking.run(_object, body)
                    workspace = _workspace(request, payload)
                    call, end = await self._blocking.run(_understood, dialect, payload, workspace)
                if end is not None:
                    await self._ended(run_uid, end)
                    return _json({})
                if call is None:
                    return _json({})
                answer = await self._ask(request, run_uid, passage, call, options)
            verdict = Verdict.of(answer, later=options.defer and dialect.later)
            if verdict.word is Word.ALLOW and options.keep_prompts:
                return _json({})
        except Exception as error:  # noqa: BLE001  an agent takes an error for leave
            verdict = _fault(error)
        return Response(dialect.say(verdict, payload).out.encode(), 200, _NOW, "application/json")

    async def _ask(self, request: Request, run_uid: str, passage: Passage, call: ToolCall, options: Options) -> Answer:
        message = await self._blocking.run(_message, call)
        asked = Asked(message.tool, message.args, call.key or self._new_key(), passage=passage)
        return _answer(await self._decisions.settle(request, run_uid, asked, options.wait_s))

    async def _ended(self, run_uid: str, end: ToolEnd) -> None:
        """Report a call that has ended. Nothing can be denied any more: faults are logged, and the run's end settles
        what the call reserved."""
        try:
            caller = await self._callers.open(run_uid)
            wire = canonical_json(end.to_wire()).encode()
            once = Once.of(f"end/{end.call.key}" if end.call.key else self._new_key(), b"tool-results", wire)

            def write() -> None:
                message = parse(ToolResultMessage, wire)
                with self._store.transaction(agent_actor(caller.run)) as tx:
                    reports.tool_result(tx, run_uid, message, once=once)

            await self._blocking.run(write)
        except (Problem, RemitError, ValueError) as error:
            log.warning("a result of run %s was not taken: %s", run_uid, error)


def _understood(
    dialect: Dialect, payload: Mapping[str, Any], workspace: Workspace
) -> tuple[ToolCall | None, ToolEnd | None]:
    """Reads paths of the agent's workspace. Raises ValueError."""
    try:
        end = dialect.ended(payload, workspace)
    except (LookupError, RecursionError) as error:
        raise ValueError(f"what the event says of the call is not understood: {type(error).__name__}") from error
    return (None, end) if end is not None else (dialect.read(payload, workspace), None)


def _workspace(request: Request, payload: Mapping[str, Any]) -> Workspace:
    """Where paths count from: the header Remit-Workspace, else where the agent says that it stands. Raises
    ValueError."""
    cwd = payload.get("cwd")
    base = request.headers.get("remit-workspace", "")
    here = cwd if isinstance(cwd, str) and cwd.startswith("/") else base
    if not here.startswith("/"):
        raise ValueError("cwd is missing, so that paths mean nothing")
    return Workspace(base if base.startswith("/") else here, here)


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(found, dict):
        raise ValueError("it is no JSON object")
    return found


def _message(call: ToolCall) -> AuthorizeMessage:
    """The call, checked as one that came the ordinary way. Raises Problem."""
    wire = {"tool": call.tool, "args": call.args} | ({"idempotencyKey": call.key} if call.key else {})
    return parse(AuthorizeMessage, json.dumps(wire).encode())


def _answer(decision: Decision) -> Answer:
    return Answer(decision.decision.value, decision.reason, decision.rule, decision.approval_request or "")


def _fault(error: Exception) -> Verdict:
    if isinstance(error, Problem | RemitError):
        return Verdict(Word.DENY, f"Remit blocks this call: {str(error)[:500]}")
    if isinstance(error, ValueError):
        return Verdict(Word.DENY, f"Remit blocks this call: the request is not understood: {str(error)[:200]}")
    log.error("a hook was answered with a denial", exc_info=error)
    return Verdict(Word.DENY, f"Remit blocks this call: the gate failed: {type(error).__name__}")


def _json(value: Any) -> Response:
    return Response(json.dumps(value).encode("ascii"), 200, _NOW, "application/json")
