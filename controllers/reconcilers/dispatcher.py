"""Gives an agent's free places to the missions that wait for them, best first, each in the transaction that found it
still admitted: a Hold, a budget or a cancel that commits before is seen, one that commits after stops the run."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import breaches, facts, missions, resuming, spending
from controllers.runtime.result import DONE, RequeueAfter, Result
from decisions import dispatch
from decisions import mission as decisions
from decisions.holds import HoldFacts, strictest
from decisions.mission_facts import MissionFacts
from schemas.agent import AgentSpec, AgentStatus
from schemas.base import Key, ObjectRef
from schemas.conditions import is_true, set_condition
from schemas.event import EventType
from schemas.quantities import format_duration, parse_time
from schemas.resource import Declared, Resource, digest
from schemas.run import RunReason, RunSpec, RunStatus, run_name
from store.contract import EntryKind, LedgerEntry, Transaction

KIND = "Dispatch"
"""Key kind of this reconciler in the queue: Dispatch/<namespace>/<agent>."""
BATCH = 32
"""Runs ordered in one transaction; the rest follows in the next pass, so that a large free agent starves nobody."""
SPARE = 8
"""So many more candidates are looked at first than there are places: some may have changed since they were noted."""
MOST = 500
"""So many at most in one pass; beyond them it looks again when their own passes have sorted them out."""
STALE_S = 0.5
HELD_S = 5.0
"""How soon it looks again while a stop is in force that the store does not know of."""


def key_of(agent: Key) -> Key:
    """The queue key that gives out places of ``agent``."""
    return Key(KIND, agent.namespace, agent.name)


class ReadyMissions:
    """Missions that said they wait for a place, by agent; kept from the changes, so that giving out a place costs what
    is free, not what waits. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_agent: dict[Key, dict[Key, dispatch.Candidate]] = {}
        self._agent_of: dict[Key, Key] = {}

    def learn(self, mission: Resource) -> None:
        """Take in where a mission stands now."""
        ready = mission.status.get("readySince")
        assigned = mission.status.get("agent")
        with self._lock:
            self._drop(mission.key)
            if not ready or not assigned or mission.status.get("currentRun") or mission.deletion_at is not None:
                return
            agent = Key("Agent", assigned.get("namespace") or mission.namespace, assigned["name"])
            priority = int(mission.spec.get("priority", 50))
            candidate = dispatch.Candidate(mission.key, priority, parse_time(ready))
            self._by_agent.setdefault(agent, {})[mission.key] = candidate
            self._agent_of[mission.key] = agent

    def forget(self, mission: Key) -> None:
        """It is gone."""
        with self._lock:
            self._drop(mission)

    def _drop(self, mission: Key) -> None:
        agent = self._agent_of.pop(mission, None)
        if agent is not None:
            waiting = self._by_agent[agent]
            del waiting[mission]
            if not waiting:
                del self._by_agent[agent]

    def first(self, agent: Key, now: datetime, count: int) -> list[dispatch.Candidate]:
        """The best ``count`` that wait for this agent."""
        with self._lock:
            waiting = list(self._by_agent.get(agent, {}).values())
        return dispatch.first(waiting, now, count)


class Dispatcher:
    """Reconciles the places of agents."""

    def __init__(self, ready: ReadyMissions, stops: Stops = other.NONE) -> None:
        self._ready = ready
        self._stops = stops

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """Give out the free places of one agent."""
        agent = tx.get(Key("Agent", key.namespace, key.name))
        if agent is None or agent.deletion_at is not None:
            return DONE
        if (agent.status.get("spawned") or {}).get("hosted"):
            return DONE  # its parent's program does its one run
        status = AgentStatus.model_validate(agent.status)
        if not is_true(status.conditions, "Ready") or status.observed_generation != agent.generation:
            return DONE  # a changed spec may ask for a drain: the agent is looked at first, which wakes this key
        if not _executor_seen(tx, agent, status):
            return DONE  # an edited executor is looked at first as well
        free = int(agent.spec.get("maxConcurrentMissions", 1)) - len(facts.active_runs(tx, agent))
        places = min(free, BATCH)
        if places <= 0:
            return DONE
        all_holds = effective.taken_in(tx, self._stops)
        if _all_held(tx, agent, all_holds):
            return RequeueAfter(HELD_S) if self._stops.committed else DONE  # the end of a Hold wakes this key
        started = seen = 0
        count = places + SPARE
        while True:
            candidates = self._ready.first(agent.key, tx.now, count)
            for candidate in candidates[seen:]:
                mission = tx.get(candidate.key)
                if mission is None:
                    continue
                found = facts.mission_facts(tx, mission, all_holds)
                if found.agent_key != agent.key or not decisions.may_start(decisions.decide(found, tx.now)):
                    # It changed since. Its own pass says so now, of what this transaction sees: later it may see again
                    # what it said before, write nothing, and wake nobody.
                    missions.reconcile(tx, mission.key)
                    continue
                order_run(tx, agent, status, mission, found, dispatch.effective_priority(candidate, tx.now), started)
                started += 1
                if started == places:
                    return RequeueAfter(0.0) if started < free else DONE
            if len(candidates) < count:
                return DONE
            if count >= MOST:
                return RequeueAfter(0.0 if started else STALE_S)
            seen, count = count, count * 4  # all of them were noted before they changed: behind them somebody may wait


def _all_held(tx: Transaction, agent: Resource, holds: list[HoldFacts]) -> bool:
    """Whether nothing at all may start on the agent, so that no mission needs to be looked at."""
    whole = [hold for hold in holds if hold.spec.released is None or not hold.spec.released.tenants]
    return bool(whole) and strictest(whole, effective.objects(tx, agent, None), tx.now) is not None


def _executor_seen(tx: Transaction, agent: Resource, status: AgentStatus) -> bool:
    """Whether it is known which generation of the executor serves. One that is gone is the agent's matter."""
    pinned = tx.spec_at(agent.uid, status.effective_generation or agent.generation)
    spec = AgentSpec.model_validate(pinned.spec if pinned is not None else agent.spec)
    executor = tx.get(spec.executor_ref.key("Executor", agent.namespace))
    return executor is None or executor.status.get("observedGeneration", 0) == executor.generation


def order_run(
    tx: Transaction,
    agent: Resource,
    status: AgentStatus,
    mission: Resource,
    found: MissionFacts,
    priority: int,
    position: int,
) -> None:
    """Order one run of a mission that ``may_start``: record, reservation, effect, event and the mission's move."""
    generation = status.effective_generation or agent.generation
    pinned = tx.spec_at(agent.uid, generation)
    agent_spec = AgentSpec.model_validate(pinned.spec if pinned is not None else agent.spec)
    executor_key = agent_spec.executor_ref.key("Executor", agent.namespace)
    executor = tx.get(executor_key)
    if executor is None:
        return  # the agent's own reconciler says so on its Ready condition
    executor_generation = int(executor.status.get("servingGeneration") or executor.generation)
    executor_spec = spending.serving(tx, executor)
    number = found.status.total_runs + 1
    name = run_name(mission.name, number)
    decision = decisions.begin_run(found, tx.now, name)
    quoted = spending.quote(tx, mission, agent, executor)
    timeout = min(executor_spec.timeout, spending.as_limit(quoted.want))
    if found.spec.deadline is not None:
        begun = found.status.started_at or tx.now
        timeout = max(min(timeout, begun + found.spec.deadline - tx.now), timedelta(seconds=1))
    resumes = resuming.session_of(tx, mission, found.status.last_run, executor_spec)
    spec = RunSpec(
        mission_ref=ObjectRef(name=mission.name),
        mission_uid=mission.uid,
        mission_generation=mission.generation,
        agent_ref=_ref(agent, mission.namespace),
        agent_uid=agent.uid,
        agent_generation=generation,
        executor_ref=_ref(executor, mission.namespace),
        executor_generation=executor_generation,
        attempt=decision.status.attempts,
        number=number,
        timeout=timeout,
        feedback=found.status.feedback,
        prompt_digest=digest(agent_spec.system_prompt) if agent_spec.system_prompt else "",
    )
    if resumes is not None and resuming.fits(tx, resumes, spec):
        spec = spec.model_copy(update={"resumes": resumes})
    session = spec.resumes.session if spec.resumes is not None else None
    conditions = set_condition((), "Succeeded", None, RunReason.PENDING, "ordered", now=tx.now, generation=1)
    run = tx.create(
        Declared(
            "Run", mission.namespace, name, spec.to_wire(), labels={"remit.dev/agent": agent.name[:63].rstrip("-.")}
        ),
        manager="controller/dispatcher",
        owner_uid=mission.uid,
        status=RunStatus(conditions=conditions, session_id=session).to_wire(),
    )
    tx.post(
        LedgerEntry(
            key=f"reserve/run/{run.uid}",
            kind=EntryKind.RESERVE,
            accounts=quoted.accounts,
            amounts=quoted.want,
            at=tx.now,
            note={"run": run.name, **quoted.note},
        )
    )
    for warning in quoted.warnings:
        breaches.tell(tx, warning, mission, agent)
    tx.enqueue("StartRun", f"start/{run.uid}", run.key, {"runUid": run.uid})
    waited = tx.now - (found.status.ready_since or tx.now)
    tx.event(
        EventType.DISPATCHED,
        run,
        reason="Dispatched",
        message=f"attempt {spec.attempt} of {mission.name} on {agent.name}",
        data={
            "related": [mission.uid, agent.uid],
            "mission": mission.name,
            "agent": agent.name,
            "effectivePriority": priority,
            "position": position,
            "waited": format_duration(waited),
        },
    )
    missions.carry_out(tx, mission, decision)


def _ref(resource: Resource, namespace: str) -> ObjectRef:
    return ObjectRef(name=resource.name, namespace=None if resource.namespace == namespace else resource.namespace)
