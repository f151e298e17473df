"""The endpoints of a run: what its agent reports, and the inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from api.agents.bodies import Bodies, idempotency_key, parse
from api.agents.callers import Caller, Callers, dead_token, find
from api.agents.limits import AgentLimits, Places
from api.agents.sub_agents import SubAgentWrites
from api.agents.talk import TalkWrites
from api.agents.wakes import Wakes
from api.problems import Problem, of_error
from controllers.runs import artifacts, calls, inbox, messages, output_check, reports
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.once import Once
from controllers.runs.redaction_level import redactor_of
from controllers.runs.run_record import agent_actor
from controllers.runs.verdict import Share
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock, wait_for_any
from schemas import protocol
from schemas.errors import Conflict, OverLimit, Refused, RemitError
from schemas.mission import Artifact, Spend
from schemas.redaction import Redactor
from schemas.resource import Resource, canonical_json
from schemas.run import RunSpec, RunStatus
from store.contract import Store, Transaction

MOST_WAIT_S = 50
_STATUS = {
    "KeyReused": 422,
    "ArtifactTooLarge": 413,
    "CallEnded": 409,
    "ClaimOver": 410,
    "NotClaimed": 404,
    "LogTooLarge": 413,
}
_NOW = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class Verb:
    """A write: what is sent, what comes back, and what it means."""

    name: str
    message: type[BaseModel]
    receipt: type[protocol.Receipt]
    summary: str
    large: bool = False
    place: bool = False
    """Whether a place that the engine put before the run's calls may send it."""


VERBS = (
    Verb("heartbeat", protocol.HeartbeatMessage, protocol.HeartbeatReceipt, "Give a sign of life"),
    Verb("progress", protocol.ProgressMessage, protocol.Receipt, "Say what is being done, and how far it is"),
    Verb("usage", protocol.UsageMessage, protocol.Receipt, "Report what was used since the last report"),
    Verb("artifacts", protocol.ContentMessage, protocol.ArtifactReceipt, "Hand in something to keep", large=True),
    Verb("tool-results", protocol.ToolResultMessage, protocol.Receipt, "Report a tool call that has ended", place=True),
    Verb("messages", protocol.SayMessage, protocol.SayReceipt, "Say something"),
    Verb("follow-ups", protocol.FollowUpMessage, protocol.FollowUpReceipt, "Be told, or have said, something later"),
    Verb("commands", protocol.CommandsMessage, protocol.Receipt, "Say which commands the agent takes in chat"),
    Verb("sub-agents", protocol.SpawnMessage, protocol.SpawnReceipt, "Spawn another agent for a part of the mission"),
    Verb("terminate", protocol.TerminateMessage, protocol.Receipt, "End a sub-agent of this run"),
    Verb("complete", protocol.CompleteMessage, protocol.Receipt, "Hand in the deliverable: the last word", large=True),
    Verb("fail", protocol.FailMessage, protocol.Receipt, "Give up: the last word"),
)


class RunEndpoints:
    """Answers for one store. Everything that blocks runs in threads; belongs to one event loop."""

    def __init__(
        self,
        store: Store,
        files: ArtifactFiles,
        *,
        sub_agents: SubAgentWrites,
        talk: TalkWrites,
        callers: Callers,
        bodies: Bodies,
        places: Places,
        polls: Places,
        clock: Clock,
        blocking: Blocking,
        limits: AgentLimits,
        wakes: Wakes,
    ) -> None:
        self._store = store
        self._files = files
        self._clock = clock
        self._blocking = blocking
        self._wakes = wakes
        self._callers = callers
        self._sub_agents = sub_agents
        self._bodies = bodies
        self._places = places
        self._polls = polls
        self._completions = asyncio.Semaphore(limits.completions)
        # One upload of a run at a time: what is turned down can then be removed without taking it from another.
        self._uploads: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._handlers: dict[str, Callable[[Caller, Any, Once], protocol.Receipt]] = {
            "heartbeat": self._heartbeat,
            "progress": self._progress,
            "usage": self._usage,
            "artifacts": self._artifact,
            "tool-results": self._tool_result,
            "messages": talk.say,
            "follow-ups": talk.follow_up,
            "commands": talk.commands,
            "sub-agents": self._sub_agents.spawn,
            "terminate": self._sub_agents.terminate,
            "complete": self._complete,
            "fail": self._fail,
        }

    async def write(self, verb: Verb, request: Request, run: str) -> Response:
        """One write. Raises Problem, RemitError (see ``to_problem``)."""
        caller = await self._callers.admit(request, run, place=verb.place)
        key = idempotency_key(request)
        with self._places.taken(caller.uid):
            if not verb.large:
                return await self._carry_out(verb, request, caller, key)
            async with self._uploads.setdefault(caller.uid, asyncio.Lock()):
                if verb.name != "complete":
                    return await self._carry_out(verb, request, caller, key)
                # Checking an output takes a process; a crowd of them must not fill the threads.
                return await self._carry_out(verb, request, caller, key, self._completions)

    async def _carry_out(
        self, verb: Verb, request: Request, caller: Caller, key: str, turn: asyncio.Semaphore | None = None
    ) -> Response:
        async with self._bodies.read(request, large=verb.large) as body:
            if turn is None:
                receipt = await self._blocking.run(self._apply, verb, caller, key, body)
            else:
                async with turn:
                    receipt = await self._blocking.run(self._apply, verb, caller, key, body)
        return answer_with(receipt)

    def _apply(self, verb: Verb, caller: Caller, key: str, body: bytes) -> protocol.Receipt:
        message = parse(verb.message, body)
        once = Once.of(key, verb.name.encode(), body)
        return self._handlers[verb.name](caller, message, once)

    def _write(self, caller: Caller, report: Callable[[Transaction], Resource]) -> protocol.Receipt:
        with self._store.transaction(agent_actor(caller.run)) as tx:
            report(tx)
        return protocol.Receipt(run=caller.run.name)

    def _heartbeat(self, caller: Caller, message: protocol.HeartbeatMessage, once: Once) -> protocol.Receipt:
        reports.require_open(caller.status)
        status = caller.status
        if reports.heartbeat_is_due(caller.run, self._clock.now()):
            with self._store.transaction(agent_actor(caller.run)) as tx:
                status = RunStatus.model_validate(reports.heartbeat(tx, caller.uid).status)
        return protocol.HeartbeatReceipt(run=caller.run.name, cancel=status.cancel_requested_at is not None)

    def _progress(self, caller: Caller, message: protocol.ProgressMessage, once: Once) -> protocol.Receipt:
        return self._write(
            caller,
            lambda tx: reports.progress(
                tx,
                caller.uid,
                message.message,
                percent=message.percent,
                work_plan=message.work_plan,
                session_id=message.session_id,
                once=once,
            ),
        )

    def _usage(self, caller: Caller, message: protocol.UsageMessage, once: Once) -> protocol.Receipt:
        part = _share(message)
        requests, refused = message.requests, message.provider_error
        return self._write(
            caller, lambda tx: reports.use(tx, caller.uid, part, requests=requests, refused=refused, once=once)
        )

    def _tool_result(self, caller: Caller, message: protocol.ToolResultMessage, once: Once) -> protocol.Receipt:
        def report(tx: Transaction) -> Resource:
            call = None if message.decision_id is None else calls.find(tx, caller.uid, message.decision_id)
            return reports.tool_result(tx, caller.uid, message, call=call, once=once)

        return self._write(caller, report)

    def _fail(self, caller: Caller, message: protocol.FailMessage, once: Once) -> protocol.Receipt:
        return self._write(
            caller,
            lambda tx: reports.fail(
                tx,
                caller.uid,
                message.reason,
                message.message,
                retryable=message.retryable,
                refused=message.provider_error,
                once=once,
            ),
        )

    def _artifact(self, caller: Caller, message: protocol.ContentMessage, once: Once) -> protocol.Receipt:
        data = self._content(caller, message.data)
        digest = artifacts.digest_of(data)
        receipt = protocol.ArtifactReceipt(run=caller.run.name, name=message.name, size=len(data), digest=digest)
        status = self._status(caller.uid)
        if once.seen(status):
            return receipt
        reports.require_open(status)
        reports.check_artifact(status, message.name, digest)
        artifact = self._keep(caller, status, message, data)
        self._list(caller, artifact, lambda tx: reports.add_artifact(tx, caller.uid, artifact, once=once))
        return receipt

    def _complete(self, caller: Caller, message: protocol.CompleteMessage, once: Once) -> protocol.Receipt:
        status, content = self._status(caller.uid), message.deliverable
        if once.seen(status):
            return protocol.Receipt(run=caller.run.name)
        reports.require_open(status)
        data = content.data
        digest = artifacts.digest_of(self._content(caller, data))
        reports.check_artifact(status, content.name, digest, most=artifacts.MOST + 1)
        reports.check_evidence(status, (name for name in message.evidence if name != content.name))
        deliverable = self._keep(caller, status, content, data)
        with self._store.snapshot() as snapshot:
            schema = output_check.output_schema(snapshot, RunSpec.model_validate(caller.run.spec))
        problem = output_check.check_output(schema, data)
        usage = message.usage
        self._list(
            caller,
            deliverable,
            lambda tx: reports.complete(
                tx,
                caller.uid,
                deliverable,
                message.self_review,
                evidence=message.evidence,
                part=None if usage is None else _share(usage),
                problem=problem,
                once=once,
            ),
        )
        return protocol.Receipt(run=caller.run.name)

    def _status(self, run_uid: str) -> RunStatus:
        with self._store.snapshot() as snapshot:
            return find(snapshot.get_by_uid(run_uid)).status

    def _keep(self, caller: Caller, status: RunStatus, content: protocol.ContentMessage, data: bytes) -> Artifact:
        return self._files.keep(
            caller.uid,
            caller.run.name,
            content.name,
            content.content_type,
            data,
            inline=artifacts.room_inline(status),
            redactor=self._redactor(caller),
            namespace=caller.run.namespace,
        )

    def _content(self, caller: Caller, data: bytes) -> bytes:
        """What is kept of what was handed in."""
        return self._files.content(data, self._redactor(caller), caller.run.namespace)

    def _redactor(self, caller: Caller) -> Redactor:
        with self._store.snapshot() as snapshot:
            return redactor_of(snapshot, caller.run)

    def _list(self, caller: Caller, artifact: Artifact, report: Callable[[Transaction], Resource]) -> None:
        """Carry out a report that speaks of a kept artifact. One that is turned down leaves no file; after an unknown
        outcome the file stays, as the record may speak of it."""
        try:
            self._write(caller, report)
        except (Refused, Conflict):
            with self._store.snapshot() as snapshot:
                run = snapshot.get_by_uid(caller.uid)
            listed = () if run is None else RunStatus.model_validate(run.status).artifacts
            self._files.drop(caller.uid, artifact, listed)
            raise

    async def sub_agents(self, request: Request, run: str) -> Response:
        """The sub-agents of a run. Raises Problem, RemitError (see ``to_problem``)."""
        caller = await self._callers.admit(request, run)
        with self._places.taken(caller.uid):
            return answer_with(await self._blocking.run(self._sub_agents.listed, caller))

    async def inbox(
        self, request: Request, run: str, wait_s: int, acknowledged: frozenset[str], known: frozenset[str], cursor: int
    ) -> Response:
        """What the engine asks of the agent, but for what it has ``acknowledged`` by id, or by the ``cursor`` of an
        answer that it kept, and for what is ``known`` to it and does not count as seen; at once when there is anything,
        else as soon as there is, else after ``wait_s`` seconds. Raises Problem, RemitError (see ``to_problem``)."""
        caller = await self._callers.admit(request, run)
        with self._polls.taken(caller.uid):
            await self._seen(caller, acknowledged, cursor)
            items = await self._wait(request, caller, wait_s, acknowledged | known)
        latest = max([cursor, *(item.cursor or 0 for item in items)])
        return answer_with(protocol.Inbox(items=items, cursor=latest or None))

    async def _seen(self, caller: Caller, acknowledged: frozenset[str], cursor: int) -> None:
        """Take in that the agent has messages: what it acknowledged once is not told again."""
        uids = frozenset(id_.removeprefix(inbox.MESSAGE) for id_ in acknowledged if id_.startswith(inbox.MESSAGE))

        def write() -> None:
            with self._store.transaction(agent_actor(caller.run)) as tx:
                messages.seen(tx, caller.run, uids, upto=cursor)

        if uids or (cursor and await self._blocking.run(self._unseen, caller, cursor)):
            await self._blocking.run(write)

    def _unseen(self, caller: Caller, cursor: int) -> bool:
        """Whether anything up to the cursor counts as not seen: an agent names its cursor with every question."""
        with self._store.snapshot() as snapshot:
            return messages.unseen(snapshot, caller.run, cursor)

    async def _wait(
        self, request: Request, caller: Caller, wait_s: int, acknowledged: frozenset[str]
    ) -> tuple[protocol.Notice, ...]:
        until = self._clock.monotonic() + wait_s
        gone = asyncio.Event()
        watch = asyncio.create_task(watch_client(request, gone))
        try:
            async with self._wakes.waiting(caller.uid) as news:
                while True:
                    news.clear()
                    items = await self._blocking.run(self._notices, caller.uid)
                    items = tuple(item for item in items if item.id not in acknowledged)
                    left = until - self._clock.monotonic()
                    if items or left <= 0 or gone.is_set() or self._wakes.closing.is_set():
                        return items
                    await wait_for_any(self._clock, left, news, gone, self._wakes.closing)
        finally:
            watch.cancel()

    def _notices(self, run_uid: str) -> tuple[protocol.Notice, ...]:
        with self._store.snapshot() as snapshot:
            run = find(snapshot.get_by_uid(run_uid)).run
            return inbox.notices(snapshot, run, self._clock.now())


async def watch_client(request: Request, gone: asyncio.Event) -> None:
    """Set ``gone`` when the client hangs up."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    gone.set()


def to_problem(error: RemitError) -> Problem:
    """The answer to an error of ours."""
    if isinstance(error, Refused) and error.reason == "RunEnded":
        return dead_token(str(error))
    if isinstance(error, OverLimit):
        return Problem(429, error.reason, str(error), retry_after_s=error.after)
    return of_error(error, _STATUS)


def _share(message: protocol.UsageMessage) -> Share:
    spend = Spend(
        usd=message.usd,
        input_tokens=message.input_tokens or 0,
        output_tokens=message.output_tokens or 0,
        source=message.source.value,
    )
    return Share(message.model or "", spend, message.cache_read_tokens or 0, message.cache_write_tokens or 0)


def answer_with(model: BaseModel) -> Response:
    wire = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return Response(canonical_json(wire).encode(), 200, _NOW, "application/json")
