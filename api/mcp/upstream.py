"""The other side: a tool server, connected when it is needed, and again after it broke, with growing pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2
import mcp_types as types
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel, TypeAdapter

from controllers.runtime.clock import Clock, Deadline
from controllers.secrets.source import SecretMissing, SecretUnavailable
from schemas import tool_definition
from schemas.tool_server import MAX_DEFINITIONS, MAX_TOOLS

R = TypeVar("R", bound=BaseModel)
MOST_OTHERS = 100
"""Prompts, resources and templates that are looked at, of each sort."""
START_S = 30.0
"""Longest time from starting a server to its first words."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
_SHORT_WAIT_S = 1.0
_PAGES = 50
_CALL_RESULT: TypeAdapter[Any] = TypeAdapter(types.CallToolResult | types.InputRequiredResult)
_READ_RESULT: TypeAdapter[Any] = TypeAdapter(types.ReadResourceResult | types.InputRequiredResult)
_PROMPT_RESULT: TypeAdapter[Any] = TypeAdapter(types.GetPromptResult | types.InputRequiredResult)

Opener = Callable[[], AbstractAsyncContextManager[TransportStreams]]


class ServerFault(Exception):
    """The server did not answer as it should. The message says how, and quotes nothing of it. ``made``: whether the
    request may have been carried out all the same."""

    def __init__(self, message: str, *, made: bool = False) -> None:
        super().__init__(message)
        self.made = made


class ServerSays(Exception):
    """The server answers with an error of its own."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class _Connection:
    client: Client
    changes: int
    task: asyncio.Task[None]
    leave: asyncio.Event


class Upstream:
    """One connection to a tool server, for one caller. ``opener`` makes the transport anew for each start. Belongs to
    one event loop."""

    def __init__(
        self, name: str, opener: Opener, clock: Clock, *, how_it_ended: Callable[[], str] = lambda: "",
        say: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._name = name
        self._opener = opener
        self._clock = clock
        self._how_it_ended = how_it_ended
        self._say = say
        self._starting = asyncio.Lock()
        self._connection: _Connection | None = None
        self._failures = 0
        self._not_before = float("-inf")
        self._why = ""
        self.changes = 0
        """Grows when the server says that its tools changed, and when it was started anew."""
        self.busy = 0
        self.last_used = clock.monotonic()

    async def definitions(self, timeout_s: float) -> list[dict[str, Any]]:
        """What it says of its tools, as it came, without ``_meta`` and icons. Raises ServerFault, ServerSays."""
        found: list[dict[str, Any]] = []
        size, cursor = 0, None
        for _ in range(_PAGES):
            params = types.PaginatedRequestParams(cursor=cursor)
            page = await self._ask(types.ListToolsRequest(params=params), types.ListToolsResult, timeout_s)
            for tool in page.tools:
                wire = tool.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"meta", "icons"})
                size += len(tool.model_dump_json())
                found.append(wire)
            if len(found) > MAX_TOOLS or size > MAX_DEFINITIONS:
                raise ServerFault(f"{self._name} offers more tools than can be looked through")
            cursor = page.next_cursor
            if not cursor:
                return found
        raise ServerFault(f"{self._name} lists its tools without end")

    async def others(self, timeout_s: float) -> list[dict[str, Any]]:
        """What it says of its prompts, resources and templates, as definitions; at most MOST_OTHERS of each, as nobody
        accepts more. A server that has none of a sort, or lists it badly, offers none of it. Raises ServerFault."""
        params = types.PaginatedRequestParams()
        sorts: list[tuple[Any, Any, str, Callable[[dict[str, Any]], dict[str, Any]]]] = [
            (types.ListPromptsRequest, types.ListPromptsResult, "prompts", tool_definition.of_prompt),
            (types.ListResourcesRequest, types.ListResourcesResult, "resources", tool_definition.of_resource),
            (types.ListResourceTemplatesRequest, types.ListResourceTemplatesResult, "resource_templates",
             tool_definition.of_template),
        ]  # fmt: skip
        found: list[dict[str, Any]] = []
        for request, result, field_name, made in sorts:
            try:
                page = await self._ask(request(params=params), result, timeout_s)
            except ServerSays:
                continue
            found += [made(listing_of(item)) for item in getattr(page, field_name)[:MOST_OTHERS]]
        return found

    async def call(self, name: str, arguments: dict[str, Any] | None, timeout_s: float) -> types.CallToolResult:
        """Call a tool. Raises ServerFault, ServerSays."""
        params = types.CallToolRequestParams(name=name, arguments=arguments)
        found = await self._ask(types.CallToolRequest(params=params), _CALL_RESULT, timeout_s)
        return _complete(found, types.CallToolResult, self._name)

    async def read(self, uri: str, timeout_s: float) -> types.ReadResourceResult:
        """Read a resource. Raises ServerFault, ServerSays."""
        params = types.ReadResourceRequestParams(uri=uri)
        found = await self._ask(types.ReadResourceRequest(params=params), _READ_RESULT, timeout_s)
        return _complete(found, types.ReadResourceResult, self._name)

    async def prompt(self, name: str, arguments: dict[str, str] | None, timeout_s: float) -> types.GetPromptResult:
        """Get a prompt. Raises ServerFault, ServerSays."""
        params = types.GetPromptRequestParams(name=name, arguments=arguments)
        found = await self._ask(types.GetPromptRequest(params=params), _PROMPT_RESULT, timeout_s)
        return _complete(found, types.GetPromptResult, self._name)

    async def list(self, request: Any, result: type[R], timeout_s: float) -> R:
        """One page of resources or prompts. Raises ServerFault, ServerSays."""
        found = await self._ask(request, result, timeout_s)
        assert isinstance(found, result)
        return found

    async def aclose(self) -> None:
        """Disconnect. It can be used again."""
        await self._drop(self._connection)

    # The connection.

    async def _ask(self, request: Any, result: Any, timeout_s: float) -> Any:
        connection = await self._connected()
        self.last_used = self._clock.monotonic()
        session: ClientSession = connection.client.session
        self.busy += 1
        try:
            answer = await session.send_request(request, result, request_read_timeout_seconds=timeout_s)
            self._failures, self._not_before = 0, float("-inf")
            return answer
        except MCPError as error:
            if error.code == types.CONNECTION_CLOSED:
                await self._broke(connection)
                raise ServerFault(f"{self._name} broke off", made=True) from None
            if error.code == types.REQUEST_TIMEOUT:
                raise ServerFault(f"{self._name} gave no answer in {timeout_s:g} s", made=True) from None
            raise ServerSays(error.code, error.message) from None
        except (ValueError, RuntimeError, OSError, RecursionError) as error:
            raise ServerFault(f"{self._name} gave an answer that cannot be read", made=True) from error
        finally:
            self.busy -= 1
            self.last_used = self._clock.monotonic()

    async def _connected(self) -> _Connection:
        async with self._starting:
            connection = self._connection
            if connection is not None and not connection.task.done():
                return connection
            if connection is not None:
                await self._broke(connection)
            wait = self._not_before - self._clock.monotonic()
            if 0 < wait <= _SHORT_WAIT_S:
                await self._clock.sleep(wait)
            elif wait > 0:
                raise ServerFault(f"{self._name} is down; it is tried again in {max(1, round(wait))} s")
            return await self._start()

    async def _start(self) -> _Connection:
        ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        leave, changed = asyncio.Event(), asyncio.Event()
        self.changes += 1
        task = asyncio.create_task(self._hold(ready, leave), name=f"mcp-{self._name}")
        try:
            async with Deadline(self._clock, START_S):
                ready.add_done_callback(lambda _: changed.set())
                task.add_done_callback(lambda _: changed.set())
                await changed.wait()
        except TimeoutError:
            pass
        if ready.done() and not ready.cancelled():
            self._connection = _Connection(ready.result(), self.changes, task, leave)
            return self._connection
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._back_off()
        self._say(f"{self._name} cannot be started or reached: {self._why or 'no answer'}")
        raise ServerFault(f"{self._name} cannot be started or reached")

    async def _hold(self, ready: asyncio.Future[Client], leave: asyncio.Event) -> None:
        """Keeps the connection: it has to be left by the task that entered it."""

        async def heard(message: Any) -> None:
            if isinstance(message, types.ToolListChangedNotification):
                self.changes += 1

        self._why = ""
        try:
            async with Client(self._opener(), cache=None, message_handler=heard, read_timeout_seconds=START_S) as each:
                if not ready.done():
                    ready.set_result(each)
                await leave.wait()
        except Exception as error:  # noqa: BLE001  it shows in the requests, and in ``ready`` that is never set
            self._why = _why(error) or self._how_it_ended() or "no answer"

    async def _broke(self, connection: _Connection) -> None:
        if self._connection is not connection:
            return
        self._back_off()
        await self._drop(connection)
        self._say(f"{self._name} broke off; it {self._how_it_ended() or 'is gone'}")

    def _back_off(self) -> None:
        self._failures += 1
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures - 1, 20))
        self._not_before = self._clock.monotonic() + pause

    async def _drop(self, connection: _Connection | None) -> None:
        if connection is None:
            return
        if self._connection is connection:
            self._connection = None
        connection.leave.set()
        connection.task.cancel()
        await asyncio.gather(connection.task, return_exceptions=True)


def listing_of(item: BaseModel) -> dict[str, Any]:
    """What a server lists, without what does not reach an agent."""
    return item.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"meta", "icons"})


def _why(error: BaseException) -> str:
    """For the operator: our own words, and of a fault of the network only its kind, as it may quote what was sent. "":
    the error says nothing by itself."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, SecretMissing | SecretUnavailable):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return type(error).__name__ if isinstance(error, httpx2.HTTPError) else ""


def _complete(found: Any, wanted: type[R], name: str) -> R:
    if not isinstance(found, wanted):
        raise ServerFault(f"{name} asks for input, which cannot be passed on", made=True)
    return found


@dataclass(slots=True)
class Upstreams:
    """The connections of one proxy, one for each caller, so that nothing of one run shows in another. ``most`` are
    kept; those that nobody uses for ``idle_s`` are closed."""

    make: Callable[[], Upstream]
    clock: Clock
    most: int = 64
    idle_s: float = 600.0
    _known: dict[str, Upstream] = field(default_factory=dict)

    async def of(self, caller: str) -> Upstream:
        """The connection of a caller."""
        found = self._known.get(caller)
        if found is None:
            await self._make_room()
            found = self._known.setdefault(caller, self.make())
        found.last_used = self.clock.monotonic()
        return found

    async def aclose(self) -> None:
        """Close all of them."""
        known, self._known = list(self._known.values()), {}
        await asyncio.gather(*(each.aclose() for each in known), return_exceptions=True)

    async def _make_room(self) -> None:
        now = self.clock.monotonic()
        idle = sorted((each.last_used, caller) for caller, each in self._known.items() if not each.busy)
        for last_used, caller in idle:
            if now - last_used > self.idle_s or len(self._known) >= self.most:
                await self._known.pop(caller).aclose()
        if len(self._known) >= self.most:
            raise ServerFault("too many runs use this proxy at a time")
