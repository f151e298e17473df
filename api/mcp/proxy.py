"""The proxy: what an agent's client sees of a tool server, and how each of its calls gets past the gate or not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel, ValidationError

from api.mcp import tasks as task_handles
from api.mcp.engine import Caller, Engine, NoLeave
from api.mcp.gate import Call, Gatekeeper, Open, Outcome, Refusal, asking
from api.mcp.tasks import TaskParams, Tasks
from api.mcp.upstream import ServerFault, ServerSays, Upstream, Upstreams, listing_of
from controllers.runtime.clock import Clock
from decisions import tools
from schemas import tool_definition
from schemas.policy import Risk
from schemas.tool_listing import PROMPT, RESOURCE, Listing, ServerView
from schemas.tool_server import ToolServerSpec, ToolState

Context = ServerRequestContext[Any, Any]
R = TypeVar("R", bound=BaseModel)
LIST_S = 30.0
REFUSED = -32010
"""Code of the JSON-RPC error for a refusal where no result can say it."""
_MOST_CALLERS = 500
_NO = (NoLeave, ServerFault, ServerSays, Refusal)


@dataclass(frozen=True, slots=True)
class Options:
    """How a proxy behaves. ``approval_url`` is a page where people answer, with ``{request}`` in it; "" without one.
    With ``namespace`` it serves runs of that one only: a ToolServer of the same name elsewhere must not come by the
    secrets that are granted here. What the engine said of the ToolServer is used again for ``view_s``; the definitions
    of the server for ``look_s``, unless it says that they changed."""

    server: str
    version: str = ""
    approval_url: str = ""
    namespace: str | None = None
    view_s: float = 2.0
    look_s: float = 30.0


@dataclass(slots=True)
class _Known:
    """What is known for one caller."""

    view: ServerView
    spec: ToolServerSpec
    viewed_at: float
    offered: dict[str, tools.Offered] = field(default_factory=dict)
    looked_at: float = float("-inf")
    changes: int = -1
    told: dict[str, str] = field(default_factory=dict)
    """What the engine was told of, by name and digest."""


@dataclass(frozen=True, slots=True)
class _Tool:
    """A tool call that is under way."""

    context: Context
    params: types.CallToolRequestParams
    caller: Caller


class Proxy:
    """One ToolServer, for any number of callers. ``who`` tells the caller of a request, and raises MCPError. Belongs to
    one event loop."""

    def __init__(
        self,
        options: Options,
        engine: Engine,
        make_upstream: Callable[[ToolServerSpec], Upstream],
        clock: Clock,
        *,
        who: Callable[[Context], Caller],
        new_key: Callable[[], str],
        secret: bytes,
    ) -> None:
        self._options = options
        self._engine = engine
        self._make_upstream = make_upstream
        self._clock = clock
        self._who = who
        self._gate = Gatekeeper(engine, clock, new_key=new_key, secret=secret)
        self._tasks = Tasks(clock, new_key)
        self._known: dict[str, _Known] = {}
        self._upstreams: tuple[ToolServerSpec, Upstreams] | None = None
        self._retired: set[asyncio.Task[None]] = set()

    def server(self) -> Server[Any]:
        """The MCP server for one transport."""
        made: Server[Any] = Server(
            f"remit-{self._options.server}",
            version=self._options.version,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,  # type: ignore[arg-type]  # a task handle is a shape of its own
            on_list_resources=self._list_resources,
            on_list_resource_templates=self._list_templates,
            on_read_resource=self._read_resource,
            on_list_prompts=self._list_prompts,
            on_get_prompt=self._get_prompt,
        )
        made.middleware.clear()
        made.extensions[task_handles.EXTENSION] = {}
        made.add_request_handler("tasks/get", TaskParams, self._get_task)
        made.add_request_handler("tasks/update", TaskParams, self._update_task)
        made.add_request_handler("tasks/cancel", TaskParams, self._cancel_task)
        return made

    async def aclose(self) -> None:
        """Disconnect from the server. Reports that are on their way go out first."""
        await self._tasks.aclose()
        await self._gate.aclose()
        if self._upstreams is not None:
            await self._upstreams[1].aclose()
        await asyncio.gather(*self._retired, return_exceptions=True)

    # What the agent sees.

    async def _list_tools(self, context: Context, params: Any) -> types.ListToolsResult:
        caller = self._who(context)
        try:
            known = await self._view(caller, fresh=True)
            if known.spec.suspend:
                return types.ListToolsResult(tools=[], ttl_ms=0, cache_scope="private")
            await self._look(caller, known)
            judged = await self._tell(caller, known)
        except _NO as error:
            raise MCPError(code=REFUSED, message=_said(error)) from None
        shown = [
            types.Tool.model_validate(dict(each.definition), by_name=False)
            for name, each in known.offered.items()
            if judged.get(name) == each.digest and tool_definition.is_tool(name)
        ]
        return types.ListToolsResult(tools=shown, ttl_ms=0, cache_scope="private")

    async def _list_resources(self, context: Context, params: Any) -> types.ListResourcesResult:
        request = types.ListResourcesRequest(params=_page(params))
        found = await self._listed(context, request, types.ListResourcesResult, RESOURCE)
        made = tool_definition.of_resource
        kept = self._shown(context, found.resources, made) if found else []
        return types.ListResourcesResult(resources=kept, next_cursor=_next(found), ttl_ms=0, cache_scope="private")

    async def _list_templates(self, context: Context, params: Any) -> types.ListResourceTemplatesResult:
        request = types.ListResourceTemplatesRequest(params=_page(params))
        found = await self._listed(context, request, types.ListResourceTemplatesResult, RESOURCE)
        made = tool_definition.of_template
        kept = self._shown(context, found.resource_templates, made) if found else []
        return types.ListResourceTemplatesResult(
            resource_templates=kept, next_cursor=_next(found), ttl_ms=0, cache_scope="private"
        )

    async def _list_prompts(self, context: Context, params: Any) -> types.ListPromptsResult:
        request = types.ListPromptsRequest(params=_page(params))
        found = await self._listed(context, request, types.ListPromptsResult, PROMPT)
        kept = self._shown(context, found.prompts, tool_definition.of_prompt) if found else []
        return types.ListPromptsResult(prompts=kept, next_cursor=_next(found), ttl_ms=0, cache_scope="private")

    async def _listed(self, context: Context, request: Any, result: type[R], what: str) -> R | None:
        """One page of what the server lists; None where it has nothing of the sort, or the agent may see none."""
        caller = self._who(context)
        try:
            known = await self._view(caller, fresh=True)
            if what not in known.view.reach or known.spec.suspend:
                return None
            upstream = await self._upstream(caller, known.spec)
            found = await upstream.list(request, result, LIST_S)
            await self._look(caller, known)
            if known.told != {each.name: each.digest for each in known.offered.values()}:
                await self._tell(caller, known)  # people should hear of what is new
            return _bounded(found, known.spec)
        except _NO as error:
            if isinstance(error, ServerSays) and error.code == types.METHOD_NOT_FOUND:
                return None
            raise MCPError(code=REFUSED, message=_said(error)) from None

    def _shown(self, context: Context, items: Iterable[R], made: Callable[[dict[str, Any]], dict[str, Any]]) -> list[R]:
        """Those whose definition is the accepted one: what a server says of its prompts and resources is read by the
        agent as much as what it says of its tools."""
        pins = {pin.tool: pin.digest for pin in self._known[self._who(context).uid].spec.pins}
        kept = []
        for item in items:
            for each in tools.offered([made(listing_of(item))]):
                if tools.state_of(pins, each.name, each.digest) is ToolState.ACCEPTED:
                    kept.append(_plain(item))
        return kept

    # What the agent does.

    async def _call_tool(
        self, context: Context, params: types.CallToolRequestParams
    ) -> types.CallToolResult | types.InputRequiredResult | dict[str, Any]:
        tool = _Tool(context, params, self._who(context))
        try:
            known, hint = await self._accepted(tool.caller, params.name)
            name = f"mcp:{self._options.server}/{params.name}"
            call = Call(tool.caller, known.view.run, name, dict(params.arguments or {}), hinted_risk=hint)
            found = await self._gate.ask(call, params.request_state)
            if found.waits:
                return await self._wait(tool, known.spec, found)
            return await self._made(tool, found, known.spec)
        except _NO as error:
            return _error(_said(error))

    async def _wait(
        self, tool: _Tool, spec: ToolServerSpec, waiting: Open
    ) -> types.CallToolResult | types.InputRequiredResult | dict[str, Any]:
        """A person is asked. In this order: a task handle; the page where people answer; holding the call; telling the
        agent to come back."""
        context, caller = tool.context, tool.caller
        capabilities = context.session.client_capabilities
        modern = context.protocol_version in MODERN_PROTOCOL_VERSIONS
        extensions = (capabilities.extensions if capabilities is not None else None) or {}
        if modern and task_handles.EXTENSION in extensions and self._tasks.room(caller.uid):
            return self._tasks.start(caller.uid, asking(waiting.decision), lambda: self._worked(tool, waiting))
        elicits = capabilities.elicitation if capabilities is not None else None
        page = self._page_of(waiting)
        if modern and page and elicits is not None and elicits.url is not None and tool.params.request_state is None:
            params = types.ElicitRequestURLParams(message=asking(waiting.decision), url=page)
            return types.InputRequiredResult(
                input_requests={"approval": types.ElicitRequest(params=params)},
                request_state=self._gate.state(waiting),
            )
        return await self._made(tool, await self._held(context, waiting, spec), spec)

    async def _held(self, context: Context, waiting: Open, spec: ToolServerSpec) -> Open:
        begun = self._clock.monotonic()

        async def progress(message: str) -> None:
            await context.session.report_progress(self._clock.monotonic() - begun, None, message)

        return await self._gate.hold(waiting, spec.approval_wait.total_seconds(), progress)

    async def _worked(self, tool: _Tool, waiting: Open) -> dict[str, Any]:
        """The work of a task: wait for the answer as long as the question stands, then make the call."""

        async def quiet(_: str) -> None:
            """A task is polled."""

        try:
            answered = await self._gate.hold(waiting, None, quiet)
            known = await self._view(tool.caller)
            found = await asyncio.shield(self._made(tool, answered, known.spec))
        except _NO as error:
            found = _error(_said(error))
        return found.model_dump(mode="json", by_alias=True, exclude_none=True)

    async def _made(self, tool: _Tool, answered: Open, spec: ToolServerSpec) -> types.CallToolResult:
        """Make a call that was allowed. Raises Refusal for every other."""
        params = tool.params

        async def work() -> types.CallToolResult:
            # While a person was asked, the server may have changed the tool, or somebody taken its pin away.
            known, _ = await self._accepted(tool.caller, params.name)
            upstream = await self._upstream(tool.caller, known.spec)
            found = await upstream.call(params.name, params.arguments, spec.call_timeout.total_seconds())
            content = [_plain(item) for item in found.content]
            return _bounded(found.model_copy(update={"meta": None, "content": content}), spec)

        def outcome(found: types.CallToolResult) -> Outcome:
            text = next((item.text for item in found.content if isinstance(item, types.TextContent)), "no words")
            return Outcome(f"the tool reports an error: {text[:300]}" if found.is_error else "", _bytes(found))

        return await self._gate.carry_out(answered, work, outcome)

    async def _read_resource(
        self, context: Context, params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        uri = str(params.uri)
        args: dict[str, Any] = {"resource": uri}
        if uri.lower().startswith(("http://", "https://")):
            args["url"] = uri  # allowlists of networks speak of it

        async def read(upstream: Upstream, timeout_s: float) -> types.ReadResourceResult:
            found = await upstream.read(uri, timeout_s)
            kept = [_plain(item) for item in found.contents]
            return types.ReadResourceResult(contents=kept, ttl_ms=0, cache_scope="private")

        return await self._gated(context, RESOURCE, args, uri, read, name=f"{tool_definition.RESOURCES}{uri}")

    async def _get_prompt(self, context: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
        args: dict[str, Any] = {"prompt": params.name, "arguments": dict(params.arguments or {})}

        async def get(upstream: Upstream, timeout_s: float) -> types.GetPromptResult:
            return _plain(await upstream.prompt(params.name, params.arguments, timeout_s))

        return await self._gated(
            context, PROMPT, args, params.name, get, name=f"{tool_definition.PROMPTS}{params.name}"
        )

    async def _gated(
        self, context: Context, what: str, args: dict[str, Any], target: str,
        work: Callable[[Upstream, float], Awaitable[R]], *, name: str,
    ) -> R:  # fmt: skip
        """What has no result that could say no: it is refused with an error."""
        caller = self._who(context)
        try:
            spec = (known := await self._view(caller)).spec
            if spec.suspend:
                raise Refusal("spec.suspend of the ToolServer stops all of it")
            await self._require_accepted(caller, name)

            async def bounded() -> R:
                await self._require_accepted(caller, name)
                upstream = await self._upstream(caller, spec)
                return _bounded(await work(upstream, spec.call_timeout.total_seconds()), spec)

            call = Call(caller, known.view.run, f"mcp:{self._options.server}/{what}", args, target)
            found = await self._gate.ask(call)
            if found.waits:
                found = await self._held(context, found, spec)
            return await self._gate.carry_out(found, bounded, lambda result: Outcome(output=_bytes(result)))
        except _NO as error:
            raise MCPError(code=REFUSED, message=_said(error)) from None

    async def _get_task(self, context: Context, params: TaskParams) -> dict[str, Any]:
        return self._tasks.get(self._who(context).uid, params.task_id)

    async def _update_task(self, context: Context, params: TaskParams) -> dict[str, Any]:
        self._tasks.get(
            self._who(context).uid, params.task_id
        )  # nothing is asked of the client: there is nothing to take
        return {"resultType": "complete"}

    async def _cancel_task(self, context: Context, params: TaskParams) -> dict[str, Any]:
        return self._tasks.cancel(self._who(context).uid, params.task_id)

    # What is known.

    async def check(self, caller: Caller) -> None:
        """Whether the engine knows this caller, and its agent has business here. Raises NoLeave."""
        await self._view(caller)

    async def _view(self, caller: Caller, *, fresh: bool = False) -> _Known:
        now = self._clock.monotonic()
        known = self._known.get(caller.uid)
        if known is not None and not fresh and now - known.viewed_at < self._options.view_s:
            return known
        try:
            view = await self._engine.view(caller, self._options.server)
            if self._options.namespace not in (None, view.namespace):
                raise NoLeave(f"this proxy serves runs of the namespace {self._options.namespace}")
            spec = _spec(view)
        except NoLeave:
            self._known.pop(caller.uid, None)
            raise
        known = self._known.get(caller.uid)
        if known is None:
            if len(self._known) >= _MOST_CALLERS:
                oldest = min(self._known, key=lambda uid: self._known[uid].viewed_at)
                del self._known[oldest]
            known = self._known[caller.uid] = _Known(view, spec, now)
        known.view, known.spec, known.viewed_at = view, spec, now
        return known

    async def _upstream(self, caller: Caller, spec: ToolServerSpec) -> Upstream:
        """The connection of this caller, to the server as it is declared now."""
        if self._upstreams is None or not _same_server(self._upstreams[0], spec):
            if self._upstreams is not None:
                retired = asyncio.create_task(self._upstreams[1].aclose(), name="mcp-retired")
                self._retired.add(retired)
                retired.add_done_callback(self._retired.discard)
            self._upstreams = (spec, Upstreams(lambda: self._make_upstream(spec), self._clock))
        return await self._upstreams[1].of(caller.uid)

    async def _look(self, caller: Caller, known: _Known) -> None:
        """Ask the server for its tools."""
        upstream = await self._upstream(caller, known.spec)
        wires = [*await upstream.definitions(LIST_S), *await upstream.others(LIST_S)]
        known.offered = {each.name: each for each in tools.offered(wires)}
        known.looked_at, known.changes = self._clock.monotonic(), upstream.changes

    async def _tell(self, caller: Caller, known: _Known) -> dict[str, str]:
        """Tell the engine what the server offers; what this agent is shown of it, by name and digest."""
        judged = await self._engine.tools(
            caller, self._options.server, [each.definition for each in known.offered.values()]
        )
        known.told = {each.name: each.digest for each in known.offered.values()}
        return {tool.name: tool.digest for tool in judged.items if tool.listing is Listing.LISTED}

    async def _accepted(self, caller: Caller, name: str) -> tuple[_Known, Risk | None]:
        """What is known, and the risk that the server names, of a tool whose definition is the accepted one. Raises
        Refusal for every other, NoLeave, ServerFault, ServerSays."""
        known = await self._view(caller)
        spec = known.spec
        if spec.suspend:
            raise Refusal("spec.suspend of the ToolServer stops all of its tools")
        pins = {pin.tool: pin.digest for pin in spec.pins}
        upstream = await self._upstream(caller, spec)
        stale = self._clock.monotonic() - known.looked_at > self._options.look_s or known.changes != upstream.changes
        if stale or name not in known.offered:
            await self._look(caller, known)
        offered = known.offered.get(name)
        if offered is None:
            what = "tool" if tool_definition.is_tool(name) else name.partition("/")[0]
            raise Refusal(f"{self._options.server} has no such {what}")
        state = tools.state_of(pins, name, offered.digest)
        if state is ToolState.ACCEPTED:
            return known, offered.hinted_risk
        if known.told != {each.name: each.digest for each in known.offered.values()}:
            await self._tell(caller, known)  # people should hear of it, also where no agent lists tools
        changed = state is ToolState.CHANGED
        what = "its definition changed since it was accepted" if changed else "nobody has accepted it"
        server = self._options.server
        raise Refusal(f"{name} of {server} is quarantined: {what}. A person can: remit pin {server} {name}")

    async def _require_accepted(self, caller: Caller, name: str) -> None:
        """Raise Refusal unless a prompt or resource is accepted, by itself or by a template that it may come from."""
        try:
            await self._accepted(caller, name)
        except Refusal:
            if not name.startswith(tool_definition.RESOURCES):
                raise
            uri, known = name.removeprefix(tool_definition.RESOURCES), self._known[caller.uid]
            pins = {pin.tool: pin.digest for pin in known.spec.pins}
            if name in known.offered or not any(
                tools.state_of(pins, each.name, each.digest) is ToolState.ACCEPTED
                and tool_definition.fits(each.name.removeprefix(tool_definition.TEMPLATES), uri)
                for each in known.offered.values()
                if each.name.startswith(tool_definition.TEMPLATES)
            ):
                raise

    def _page_of(self, waiting: Open) -> str:
        request = waiting.decision.approval_request
        return self._options.approval_url.replace("{request}", request) if request else ""


def _spec(view: ServerView) -> ToolServerSpec:
    try:
        return ToolServerSpec.model_validate(view.spec, by_alias=True, by_name=False)
    except ValidationError:
        raise NoLeave("the engine declares the server in a way that this proxy does not know") from None


def _same_server(old: ToolServerSpec, new: ToolServerSpec) -> bool:
    return (old.type, old.stdio, old.http, old.max_result_kilobytes) == (
        new.type, new.stdio, new.http, new.max_result_kilobytes,
    )  # fmt: skip


def _said(error: Exception) -> str:
    """For the agent. What a server says in an error is its own text, shortened; everything else is ours."""
    if isinstance(error, ServerSays):
        return f"the tool server answers with error {error.code}: {str(error)[:500]}"
    if isinstance(error, NoLeave):
        return f"Remit cannot allow this, so the tool did not run: {error}"
    text = str(error)
    if isinstance(error, ServerFault) and error.made:
        text += "; it may have been carried out all the same"
    return text if text.startswith("Remit") else f"Remit: {text}"


def _error(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def _bounded(found: R, spec: ToolServerSpec) -> R:
    if len(_bytes(found)) > spec.max_result_kilobytes * 1024:
        raise ServerFault(
            f"the answer is larger than {spec.max_result_kilobytes} KiB (spec.maxResultKilobytes)", made=True
        )
    return found


def _bytes(found: BaseModel) -> bytes:
    return found.model_dump_json(by_alias=True, exclude_none=True).encode("utf-8", "surrogatepass")


def _plain(item: R) -> R:
    """Without what servers put beside the content."""
    return item.model_copy(update={name: None for name in ("meta", "icons") if name in type(item).model_fields})


def _page(params: Any) -> types.PaginatedRequestParams:
    return types.PaginatedRequestParams(cursor=getattr(params, "cursor", None))


def _next(found: Any) -> str | None:
    return found.next_cursor if found is not None else None
