"""StartRun and CancelRun: from the outbox to an executor, and from an executor's outcome back to the run."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from controllers.dispatch.executor import EndedRun, Executor, Forehanded, Resumed, RunOrder
from controllers.effects.runner import Commit
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.runs import evidence, health, inbox, pressure, records
from controllers.runs.artifacts import ArtifactFiles
from controllers.runs.pinned import spec_of
from controllers.runs.redaction_level import level_of
from controllers.runs.tokens import HOOK, RunTokens
from controllers.runtime.blocking import Blocking
from controllers.runtime.clock import Clock
from controllers.runtime.lifecycle import Lifecycle
from controllers.runtime.together import Together
from decisions import enforcement
from decisions.holds import Held
from decisions.sessions import remembered
from schemas.agent import AgentSession, AgentSpec, AgentStatus
from schemas.base import API_VERSION, Key, ObjectRef
from schemas.errors import NotFound, StoreError, Terminal
from schemas.executor import ExecutorSpec, ExecutorType
from schemas.hold import HoldMode
from schemas.mission import MissionSpec, MissionStatus
from schemas.parsed import parsed
from schemas.quantities import format_duration
from schemas.resource import Resource
from schemas.run import ENDED, RunReason, RunSpec, RunState, RunStatus
from store.contract import Effect, Snapshot, Store, Transaction

log = logging.getLogger(__name__)

START, CANCEL = "StartRun", "CancelRun"
ELSEWHERE = (ExecutorType.PULL, ExecutorType.HTTP, ExecutorType.A2A, ExecutorType.KUBERNETES_JOB)
"""Types whose runs live on no engine's machine."""
_RECORD_RETRY_S = 1.0
_ORDERS = 1_000
_FRESH_S = 0.1
"""An order of so long ago is carried out without another look at the store."""
_ORDER_LIFE_S = 1.0
_OUTCOMES = 64
"""Outcomes that are booked at a time."""
_GOES_ON = (RunReason.AWAITING_APPROVAL, RunReason.AWAITING_FOLLOW_UP, RunReason.PROVIDER_OVERLOADED)
"""Failures that say nothing against the session that the run went on with."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every run of this engine is started with. ``agent_url`` is asked when a run starts; ``stops`` may keep it
    from starting."""

    tokens: RunTokens
    agent_url: Callable[[], str]
    project_root: Path
    stops: Stops = other.NONE


class RunEffects:
    """Handlers of the outbox for runs, over the executors by type."""

    def __init__(
        self,
        store: Store,
        executors: Mapping[str, Executor],
        context: RunContext,
        *,
        files: ArtifactFiles,
        blocking: Blocking,
        clock: Clock,
        together: Together | None = None,
    ) -> None:
        self._store = store
        self._together = together or Together(store, blocking)
        self._files = files
        self._executors = dict(executors)
        self._context = context
        self._blocking = blocking
        self._clock = clock
        self._orders: dict[str, tuple[float, RunOrder]] = {}  # by run, with when they were put together

    async def start(self, effect: Effect) -> Commit | None:
        """Start the run of a StartRun effect; nothing when it ended or was canceled meanwhile."""
        uid = str(effect.payload["runUid"])
        order, fresh = self._ready_order(uid)
        prepared: RunOrder | records.Ending | Held | None = order
        if not fresh:
            prepared = await self._blocking.run(self._prepare, uid, order)
        if prepared is None:
            return None
        if isinstance(prepared, records.Ending):
            ending = prepared
            return lambda tx: end_run(tx, uid, ending)
        if isinstance(prepared, Held):  # an earlier delivery may have started it, so it is stopped rather than ended
            log.info("%s: not started: %s", effect.key, prepared.hint)
            return await self.cancel(effect)
        executor = self._executors.get(str(prepared.executor_spec["type"]))
        if executor is None:
            ending = records.Ending(
                state=RunState.FAILED,
                reason=RunReason.EXECUTOR_UNSUPPORTED,
                message=f"this version cannot run type {prepared.executor_spec['type']}",
                retryable=False,
            )
            return lambda tx: end_run(tx, uid, ending)
        await executor.start(prepared)
        if prepared.executor_spec["type"] in ELSEWHERE:
            return None  # it is offered, posted or made a Job: it starts when that says so
        return lambda tx: _begun(tx, uid)

    def prepare_in(self, tx: Transaction, effect: Effect) -> None:
        """Put the order of a run together in the transaction that orders it, which knows all that it takes."""
        uid = str(effect.payload["runUid"])
        run = tx.get_by_uid(uid)
        if run is None or run.state != RunState.PENDING or run.status.get("cancelRequestedAt"):
            return
        with contextlib.suppress(Terminal):  # start finds the same, and says so
            self._orders[uid] = (self._clock.monotonic(), order_of(tx, run, self._context))

    def make_ready(self, effect: Effect) -> None:
        """After that transaction, in its thread: have the executor do what takes no time, unless a stop came meanwhile:
        the order is dropped then, and ``start`` looks at everything anew."""
        uid = str(effect.payload["runUid"])
        found = self._orders.get(uid)
        if found is None:
            return
        executor: object = self._executors.get(str(found[1].executor_spec["type"]))
        if not isinstance(executor, Forehanded):
            return
        with self._store.snapshot() as snapshot:
            run = snapshot.get_by_uid(uid)
            stopped = run is None or run.state != RunState.PENDING or bool(run.status.get("cancelRequestedAt"))
            if run is not None and not stopped:
                held = inbox.held(snapshot, run, self._clock.now(), self._context.stops)
                stopped = held is not None and held.mode is HoldMode.STOP
        if stopped:
            self._orders.pop(uid, None)
        else:
            executor.make_ready(found[1])

    def _ready_order(self, uid: str) -> tuple[RunOrder | None, bool]:
        """The order that was put together when the run was ordered, and whether that was just now. Then what stops work
        beside the store is looked at anew; what the store says meanwhile reaches the executor as a cancel."""
        found = self._orders.pop(uid, None)
        if len(self._orders) > _ORDERS:
            self._orders.clear()  # of transactions that were lost
        if found is None:
            return None, False
        age_s = self._clock.monotonic() - found[0]
        fresh = age_s <= _FRESH_S and not self._context.stops.everywhere()
        return (found[1] if age_s <= _ORDER_LIFE_S else None), fresh

    def _prepare(self, uid: str, order: RunOrder | None) -> RunOrder | records.Ending | Held | None:
        """Whether it may start as things stand, and its order: ``order``, where that is known already."""
        with self._store.snapshot() as snapshot:
            run = snapshot.get_by_uid(uid)
            if run is None:
                return None
            status = parsed(RunStatus, run.status)
            if status.state in ENDED:
                return None
            if status.cancel_requested_at is not None and status.state is RunState.PENDING:
                return records.Ending(
                    state=RunState.CANCELED, reason=RunReason.CANCELED, message=f"not started: {status.cancel_reason}"
                )
            held = inbox.held(snapshot, run, self._clock.now(), self._context.stops)
            if held is not None and held.mode is HoldMode.STOP:
                return held
            return order or order_of(snapshot, run, self._context)

    async def cancel(self, effect: Effect) -> Commit | None:
        """Tell the worker of a CancelRun effect to stop."""
        uid = str(effect.payload["runUid"])
        found = await self._blocking.run(self._executor_of, uid)
        if found is not None:
            executor, grace_s = found
            await executor.cancel(uid, grace_s)
        return None

    def _executor_of(self, uid: str) -> tuple[Executor, float] | None:
        with self._store.snapshot() as snapshot:
            run = snapshot.get_by_uid(uid)
            if run is None or parsed(RunStatus, run.status).state in ENDED:
                return None
            pinned = parsed(RunSpec, run.spec)
            resource = snapshot.get(pinned.executor_ref.key("Executor", run.namespace))
            version = snapshot.spec_at(resource.uid, pinned.executor_generation) if resource is not None else None
        if version is None:
            return None
        spec = parsed(ExecutorSpec, version.spec)  # the one that started it, whatever is declared by now
        executor = self._executors.get(spec.type)
        grace = spec.program.stop_grace.total_seconds() if spec.program is not None else 10.0
        return (executor, grace) if executor is not None else None

    def give_up(self, tx: Transaction, effect: Effect, message: str) -> None:
        """A start that was given up ends its run; a cancel that was given up leaves it to the mission's deadline."""
        if effect.type.partition("@")[0] != START:
            return
        ending = records.Ending(state=RunState.FAILED, reason=RunReason.START_FAILED, message=message, retryable=True)
        end_run(tx, str(effect.payload["runUid"]), ending)

    async def collect(self, life: Lifecycle, executor: Executor) -> None:
        """A component: records every outcome of one executor, then acknowledges it."""
        stopping = asyncio.create_task(life.stopping.wait())
        outcomes = executor.outcomes()
        following: asyncio.Future[EndedRun] = asyncio.ensure_future(anext(outcomes))
        booking: set[asyncio.Task[None]] = set()
        life.ready()
        try:
            while not stopping.done() or (following.done() and len(booking) < _OUTCOMES):
                if following.done() and len(booking) < _OUTCOMES:
                    booking.add(asyncio.create_task(self._record(executor, following.result())))
                    following = asyncio.ensure_future(anext(outcomes))
                heard: set[asyncio.Future[Any]] = {stopping, *booking}
                if len(booking) < _OUTCOMES:
                    heard.add(following)
                await asyncio.wait(heard, return_when=asyncio.FIRST_COMPLETED)
                for task in [task for task in booking if task.done()]:
                    booking.discard(task)
                    task.result()
            while booking:
                await booking.pop()
        finally:
            stopping.cancel()
            following.cancel()
            for task in booking:
                task.cancel()

    async def _record(self, executor: Executor, ended: EndedRun) -> None:
        """Book one outcome; a store that does not answer is waited for, as the outcome exists nowhere else."""
        ending = records.Ending.of(ended.outcome)
        at_once = records.is_short(ending)
        while True:
            try:
                if at_once:
                    await self._together.write(functools.partial(self._end_short, uid=ended.run_uid, ending=ending))
                else:
                    prepared = await self._blocking.run(self._concluded, ended)
                    if prepared is not None:
                        await self._together.write(functools.partial(end_run, uid=ended.run_uid, ending=prepared))
                break
            except StoreError as error:
                log.warning("the end of run %s cannot be recorded yet: %s", ended.run_name, error)
                at_once = False  # its artifact may be what the disk does not take: others are not to wait with it
                await self._clock.sleep(_RECORD_RETRY_S)
        await executor.acknowledge(ended.run_uid)

    def _end_short(self, tx: Transaction, uid: str, ending: records.Ending) -> None:
        if tx.get_by_uid(uid) is not None:  # else it was removed with its mission
            end_run(tx, uid, records.prepare_in(tx, self._files, uid, ending))

    def _concluded(self, ended: EndedRun) -> records.Ending | None:
        """What is to be booked; None when the run was removed with its mission."""
        try:
            return records.prepare(self._store, self._files, ended.run_uid, records.Ending.of(ended.outcome))
        except NotFound:
            return None


def order_of(snapshot: Snapshot, run: Resource, context: RunContext) -> RunOrder:
    """What starting the run needs, from what it was pinned to. Raises Terminal when that is gone."""
    spec = parsed(RunSpec, run.spec)
    mission = snapshot.get_by_uid(spec.mission_uid)
    pinned = spec_of(snapshot, spec.mission_uid, spec.mission_generation)
    agent = snapshot.spec_at(spec.agent_uid, spec.agent_generation)
    executor_key = spec.executor_ref.key("Executor", run.namespace)
    executor = snapshot.get(executor_key)
    version = snapshot.spec_at(executor.uid, spec.executor_generation) if executor is not None else None
    if mission is None or pinned is None or agent is None or version is None:
        raise Terminal(f"{run.key.short}: what it was pinned to is gone")
    return RunOrder(
        run_uid=run.uid,
        run_name=run.name,
        namespace=run.namespace,
        attempt=spec.attempt,
        executor_spec=version.spec,
        mission=mission_document(snapshot, run, spec, mission, pinned, agent.spec),
        agent=spec.agent_ref.name,
        token=context.tokens.mint(run.uid),
        agent_url=context.agent_url(),
        project_root=context.project_root,
        deadline_s=spec.timeout.total_seconds(),
        executor_namespace=executor_key.namespace,
        redaction=level_of(snapshot, snapshot.get_by_uid(spec.agent_uid)).value,
        resumes=None
        if spec.resumes is None
        else Resumed(spec.resumes.session, spec.resumes.uid, spec.resumes.first_uid),
        hook_token=context.tokens.mint(run.uid, HOOK) if (version.spec.get("command") or {}).get("hook") else "",
    )


def _begun(tx: Transaction, uid: str) -> None:
    """Note that the run started, unless it went away with its mission meanwhile."""
    if tx.get_by_uid(uid) is not None:
        records.mark_started(tx, uid)


def end_run(tx: Transaction, uid: str, ending: records.Ending) -> None:
    """End the run, once, and count it on its agent; a run that is gone, or ended before, changes nothing."""
    run = tx.get_by_uid(uid)
    if run is None or parsed(RunStatus, run.status).state in ENDED:
        return
    ended = records.finish(tx, uid, health.forgiving(tx, run, ending))
    pressure.of_ended(tx, ended)
    count_on_agent(tx, ended)
    health.learn(tx, ended)


def count_on_agent(tx: Transaction, run: Resource) -> None:
    """The agent's streak of failures, when it last came to an end, and what the run showed of how it is held. A run
    that was stopped says nothing of the streak."""
    agent = tx.get(parsed(RunSpec, run.spec).agent_ref.key("Agent", run.namespace))
    if agent is None or agent.uid != run.spec.get("agentUid"):
        return
    status, state = parsed(AgentStatus, agent.status), parsed(RunStatus, run.status).state
    streak = {RunState.SUCCEEDED: 0, RunState.CANCELED: status.error_streak}.get(state, status.error_streak + 1)
    if run.status.get("reason") in _GOES_ON:
        streak = status.error_streak  # it stopped for a person, or for its provider
    update: dict[str, object] = {"error_streak": streak, "last_run_time": tx.now}
    shown = evidence.of_run(tx, run, tx.now)
    if shown is not None:
        update["evidence"] = enforcement.remembered(status.evidence, shown)
    update["sessions"] = _sessions(tx, run, status)
    tx.put_status(agent, status.model_copy(update=update).to_wire())


def _sessions(tx: Transaction, run: Resource, agent: AgentStatus) -> tuple[AgentSession, ...]:
    """What the agent's program can go on with after the run. A session with which a run failed is not tried again."""
    spec, status = parsed(RunSpec, run.spec), parsed(RunStatus, run.status)
    if status.reason == RunReason.AWAITING_APPROVAL:  # it stopped inside of a call: only its own next run goes on
        return remembered(agent.sessions, None, status.session_id or spec.session or "")
    good = status.state is RunState.SUCCEEDED or status.reason in _GOES_ON
    drop = spec.session or "" if not good and status.state in (RunState.FAILED, RunState.UNKNOWN) else ""
    mission = tx.get_by_uid(spec.mission_uid)
    if status.session_id is None or mission is None or (not good and status.session_id == spec.session):
        return remembered(agent.sessions, None, drop)
    declared = parsed(MissionSpec, mission.spec)
    left = AgentSession(
        id=status.session_id,
        run=run.name,
        mission=spec.mission_ref if run.namespace == spec.agent_ref.key("Agent", run.namespace).namespace
        else ObjectRef(name=spec.mission_ref.name, namespace=run.namespace),
        mission_uid=spec.mission_uid,
        project=declared.project_ref,
        goal=declared.goal_ref,
        prompt_digest=spec.prompt_digest,
        executor=str(spec.executor_ref.key("Executor", run.namespace)),
        at=tx.now,
    )  # fmt: skip
    return remembered(agent.sessions, left, drop)


def mission_document(
    snapshot: Snapshot,
    run: Resource,
    spec: RunSpec,
    mission: Resource,
    mission_spec: dict[str, Any],
    agent_spec: dict[str, Any],
) -> dict[str, Any]:
    """What an agent is told, as JSON: the pinned mission, its agent's prompt and model, and what the missions it
    depends on handed in."""
    typed, agent = parsed(MissionSpec, mission_spec), parsed(AgentSpec, agent_spec)
    status = parsed(MissionStatus, mission.status)
    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": "MissionOrder",
        "name": mission.name,
        "namespace": mission.namespace,
        "uid": mission.uid,
        "run": run.name,
        "attempt": spec.attempt,
        "title": typed.title,
        "description": typed.description,
        "type": typed.type,
        "input": typed.input,
        "workPlan": typed.work_plan,
        "feedback": spec.feedback,
        "evidence": typed.evidence.to_wire(),
        "timeout": format_duration(spec.timeout),
        "agent": {
            "name": spec.agent_ref.name,
            "systemPrompt": agent.system_prompt,
            "model": agent.model.to_wire() if agent.model is not None else None,
            "heartbeatInterval": format_duration(agent.heartbeat.interval),
            "outputSchema": agent.output_schema or None,
        },
        "dependencies": [_dependency(snapshot, ref.key("Mission", mission.namespace)) for ref in typed.depends_on],
        "priorAttempts": status.attempts - 1 if status.attempts else 0,
        "idempotencyKey": f"{mission.uid}/{spec.number}",
        "session": _session(agent, spec),
    }
    return {key: value for key, value in document.items() if value is not None}


def _session(agent: AgentSpec, spec: RunSpec) -> dict[str, Any]:
    """Which session of its own the program goes on with; without ``id`` it begins a clean one."""
    found = {
        "strategy": agent.session.strategy.value,
        "id": spec.session,
        "of": spec.session_of,
        "why": spec.session_why,
    }
    return {name: value for name, value in found.items() if value}


def _dependency(snapshot: Snapshot, key: Key) -> dict[str, Any]:
    resource = snapshot.get(key)
    if resource is None:
        return {"name": key.name, "namespace": key.namespace, "state": None}
    status = parsed(MissionStatus, resource.status)
    deliverable = status.deliverable.to_wire() if status.deliverable is not None else None
    return {"name": key.name, "namespace": key.namespace, "state": status.state.value, "deliverable": deliverable}
