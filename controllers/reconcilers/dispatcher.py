"""Gives free places to the missions that wait for them, best first, each in the transaction that found it still
admitted: a Hold, a budget or a cancel that commits before is seen, one that commits after stops the run.

A place takes what the agent has free, a slot of its Provider, and room in its tenant. Agents that share a Provider are
looked at together, so that its slots go to whom they are due, whichever of them had a run that ended.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import breaches, facts, missions, pools, resuming, spending, tenancy
from controllers.reconcilers.ready import ReadyMissions as ReadyMissions
from controllers.runtime.result import DONE, RequeueAfter, Result
from decisions import dispatch, sessions
from decisions import mission as decisions
from decisions import pools as slots
from decisions.dispatch import Candidate, Lead
from decisions.holds import HoldFacts, strictest
from decisions.mission_facts import Decision, MissionFacts
from schemas.agent import AgentSpec, AgentStatus, Spawned
from schemas.base import Key, ObjectRef
from schemas.conditions import is_true, set_condition
from schemas.event import EventType
from schemas.parsed import parsed
from schemas.quantities import format_duration
from schemas.resource import Declared, Resource, digest
from schemas.run import RunReason, RunSpec, RunStatus, run_name
from store.contract import EntryKind, LedgerEntry, Transaction

KIND = "Dispatch"
"""Key kind of this reconciler in the queue: Dispatch/<namespace>/<agent>."""
BATCH = 32
"""Runs ordered in one transaction; the rest follows in the next pass, so that a large free agent starves nobody."""
MOST = 500
"""Candidates that are looked at in one pass; beyond them it looks again when their own passes have sorted them out."""
STALE_S = 0.5
HELD_S = 5.0
"""How soon it looks again while a stop is in force that the store does not know of."""


def key_of(agent: Key) -> Key:
    """The queue key that gives out places of ``agent``, and of those that share its Provider."""
    return Key(KIND, agent.namespace, agent.name)


@dataclass(slots=True)
class _Agent:
    """An agent that may take a run, in one pass. ``free`` are its places, ``pool`` the Provider it uses, ``parent`` the
    run that spawned it."""

    resource: Resource
    status: AgentStatus
    free: int
    pool: Key | None
    parent: str = ""


@dataclass
class _Pass:
    """What one transaction knows while it gives out places."""

    tx: Transaction
    holds: list[HoldFacts]
    runs: list[Resource]
    agents: dict[Key, _Agent | None] = field(default_factory=dict)
    free: dict[Key, int] = field(default_factory=dict)
    tried: list[Candidate] = field(default_factory=list)
    full: set[Key] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.used = pools.in_use(self.runs)
        self.open = Counter(str(run.spec.get("agentUid")) for run in self.runs)
        self.busy: dict[str, set[str]] = {}
        for run in self.runs:
            ref = run.spec["agentRef"]
            self.busy.setdefault(ref.get("namespace") or run.namespace, set()).add(str(run.spec["agentUid"]))

    def slots(self, pool: Key) -> int:
        """Slots of the pool that are free."""
        if pool not in self.free:
            found = pools.facts(self.tx, pool, self.used[pool])
            self.free[pool] = slots.standing(found, self.tx.now).free
        return self.free[pool]

    def inherits(self, agent: _Agent) -> bool:
        """Whether a run of this sub-agent takes over the slot of the run that spawned it, which waits for it."""
        waiting = any(run.uid == agent.parent and pools.of_run(run) == agent.pool for run in self.runs)
        return waiting and all(run.spec.get("spawnedBy") != agent.parent for run in self.runs)

    def take(self, agent: _Agent, run: Resource) -> None:
        """A run was ordered."""
        if agent.pool is not None and not self.inherits(agent):
            self.free[agent.pool] = max(0, self.slots(agent.pool) - 1)
        self.runs.append(run)
        agent.free -= 1
        self.busy.setdefault(agent.resource.namespace, set()).add(agent.resource.uid)


class Dispatcher:
    """Reconciles the places of agents."""

    def __init__(self, ready: ReadyMissions, stops: Stops = other.NONE) -> None:
        self._ready = ready
        self._stops = stops

    def __call__(self, tx: Transaction, key: Key) -> Result:
        """Give out the free places of one agent, and of those that share its Provider."""
        domain = self._ready.domain(Key("Agent", key.namespace, key.name))
        for candidate in self._ready.doubtful(domain):
            self._ready.settle(candidate, waits=_waits(tx, candidate))
        found = self._ready.take(domain, set(), tx.now)
        if found is None:
            return DONE
        work = _Pass(tx, effective.taken_in(tx, self._stops), list(pools.active(tx)))
        work.tried.append(found[0])
        ordered: set[Key] = set()
        try:
            return self._give_out(work, domain, found, ordered)
        finally:
            self._ready.give_back(c for c in work.tried if c.key not in ordered)

    def _give_out(self, work: _Pass, domain: Key, found: tuple[Candidate, Lead] | None, ordered: set[Key]) -> Result:
        tx = work.tx
        held = False
        while found is not None:
            candidate, lead = found
            full = domain.kind == "Provider" and not work.slots(domain)
            if full and not self._ready.heirs(domain, candidate.lane.agent):
                return DONE  # the end of a run or of a pause wakes this key
            agent = self._agent(work, candidate.lane.agent)
            if agent is None or not self._room(work, agent):
                held = held or (agent is None and bool(self._stops.committed))
                work.full.add(candidate.lane.agent)
            else:
                mission = tx.get(candidate.key)
                run = self._start(work, agent, mission, candidate, lead, len(ordered)) if mission is not None else None
                if run is not None:
                    ordered.add(candidate.key)
                    work.take(agent, run)
                    self._ready.charge(domain, candidate.lane)
                    if len(ordered) == BATCH:
                        return RequeueAfter(0.0)
            if len(work.tried) >= MOST:
                return RequeueAfter(0.0 if ordered else STALE_S)
            found = self._ready.take(domain, work.full, tx.now)
            if found is not None:
                work.tried.append(found[0])
        return RequeueAfter(HELD_S) if held else DONE  # the end of a Hold, or whatever is full, wakes this key

    def _agent(self, work: _Pass, key: Key) -> _Agent | None:
        """The agent, when it may take a run at all."""
        if key not in work.agents:
            work.agents[key] = self._look(work, key)
        return work.agents[key]

    def _look(self, work: _Pass, key: Key) -> _Agent | None:
        tx = work.tx
        agent = tx.get(key)
        if agent is None or agent.deletion_at is not None:
            return None
        spawned = agent.status.get("spawned") or {}
        if spawned.get("hosted"):
            return None  # its parent's program does its one run
        status = parsed(AgentStatus, agent.status)
        if not is_true(status.conditions, "Ready") or status.observed_generation != agent.generation:
            return None  # a changed spec may ask for a drain: the agent is looked at first, which wakes this key
        if not _executor_seen(tx, agent, status):
            return None  # an edited executor is looked at first as well
        if _all_held(tx, agent, work.holds):
            return None
        free = int(agent.spec.get("maxConcurrentMissions", 1)) - work.open[agent.uid]
        pinned = tx.spec_at(agent.uid, status.effective_generation or agent.generation)
        pool = pools.key_of(agent.namespace, pinned.spec if pinned is not None else agent.spec)
        return _Agent(agent, status, free, pool, str(spawned.get("runUid", "")))

    def _room(self, work: _Pass, agent: _Agent) -> bool:
        """Whether there is a place: of the agent, of its Provider, and of its tenant."""
        if agent.free <= 0:
            return False
        if agent.pool is not None and not work.slots(agent.pool) and not (agent.parent and work.inherits(agent)):
            return False
        tenant = agent.resource.namespace
        busy = work.busy.get(tenant, set())
        if agent.resource.uid not in busy and len(busy) >= tenancy.most_agents(work.tx, tenant):
            self._ready.cap(tenant, agent.resource.key)
            return False
        return True

    def _start(
        self, work: _Pass, agent: _Agent, mission: Resource, candidate: Candidate, lead: Lead, position: int
    ) -> Resource | None:
        """Order its run; None when it changed since it was noted."""
        tx = work.tx
        found = facts.mission_facts(tx, mission, work.holds)
        decided = decisions.decide(found, tx.now)
        if found.agent_key != agent.resource.key or not decisions.may_start(decided):
            # Its own pass says so now, of what this transaction sees: later it may see again what it said before,
            # write nothing, and wake nobody.
            missions.reconcile(tx, mission.key)
            return None
        priority = dispatch.effective_priority(candidate, tx.now, lead)
        why = {
            "age": dispatch.age_bonus(candidate, tx.now),
            "ahead": [lead.tenant, lead.project, lead.agent],
            "waiting": self._ready.count(mission.namespace),
        }
        if agent.pool is not None:
            why["slotsFree"] = work.slots(agent.pool)
        return order_run(tx, agent.resource, agent.status, mission, found, priority, position, why, decided)


def _waits(tx: Transaction, candidate: Candidate) -> bool:
    """Whether a mission that was taken waits still: the transaction that gave it a place was lost."""
    mission = tx.get(candidate.key)
    return mission is not None and bool(mission.status.get("readySince")) and not mission.status.get("currentRun")


def _all_held(tx: Transaction, agent: Resource, holds: list[HoldFacts]) -> bool:
    """Whether nothing at all may start on the agent, so that no mission needs to be looked at."""
    whole = [hold for hold in holds if hold.spec.released is None or not hold.spec.released.tenants]
    return bool(whole) and strictest(whole, effective.objects(tx, agent, None), tx.now) is not None


def _executor_seen(tx: Transaction, agent: Resource, status: AgentStatus) -> bool:
    """Whether it is known which generation of the executor serves. One that is gone is the agent's matter."""
    pinned = tx.spec_at(agent.uid, status.effective_generation or agent.generation)
    spec = parsed(AgentSpec, pinned.spec if pinned is not None else agent.spec)
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
    why: dict[str, object] | None = None,
    decided: Decision | None = None,
) -> Resource | None:
    """Order one run of a mission that ``may_start``: record, reservation, effect, event and the mission's move. ``why``
    are the facts that decided, ``decided`` what was decided of ``found``. None when the executor is gone."""
    generation = status.effective_generation or agent.generation
    pinned = tx.spec_at(agent.uid, generation)
    agent_spec = parsed(AgentSpec, pinned.spec if pinned is not None else agent.spec)
    executor_key = agent_spec.executor_ref.key("Executor", agent.namespace)
    executor = tx.get(executor_key)
    if executor is None:
        return None  # the agent's own reconciler says so on its Ready condition
    executor_generation = int(executor.status.get("servingGeneration") or executor.generation)
    executor_spec = spending.serving(tx, executor)
    number = found.status.total_runs + 1
    name = run_name(mission.name, number)
    decision = decisions.begin_run(found, tx.now, name, decided)
    quoted = spending.quote(tx, mission, agent, executor)
    timeout = min(executor_spec.timeout, spending.as_limit(quoted.want))
    if found.spec.deadline is not None:
        begun = found.status.started_at or tx.now
        timeout = max(min(timeout, begun + found.spec.deadline - tx.now), timedelta(seconds=1))
    resumes = resuming.session_of(tx, mission, found.status.last_run, executor_spec)
    prompt = digest(agent_spec.system_prompt) if agent_spec.system_prompt else ""
    chosen = (
        sessions.CLEAN
        if resumes is not None
        else _session(tx, agent, status, agent_spec, mission, found, prompt, executor_spec.resumes)
    )
    spawned: Spawned | None = status.spawned
    pool = pools.key_of(agent.namespace, agent_spec.to_wire()) if spawned is None or not spawned.hosted else None
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
        prompt_digest=prompt,
        provider_ref=None if pool is None else _named(pool, mission.namespace),
        spawned_by="" if spawned is None or spawned.hosted else spawned.run_uid,
        session=chosen.id,
        session_of=chosen.run,
        session_why=chosen.why,
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
        ),
        fresh=True,
    )
    for warning in quoted.warnings:
        breaches.tell(tx, warning, mission, agent)
    tx.enqueue("StartRun", f"start/{run.uid}", run.key, {"runUid": run.uid}, fresh=True)
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
            **(why or {}),
        },
    )
    missions.carry_out(tx, mission, decision)
    return run


def _session(
    tx: Transaction, agent: Resource, status: AgentStatus, spec: AgentSpec, mission: Resource, found: MissionFacts,
    prompt: str, can_resume: bool,
) -> sessions.Choice:  # fmt: skip
    """Which session of the agent's program the run goes on with."""
    if not status.sessions:
        return sessions.CLEAN
    taken = frozenset(str(run.spec.get("session")) for run in facts.active_runs(tx, agent))
    work = sessions.Work(
        mission.uid, mission.key, found.spec, prompt, f"{spec.executor_ref.key('Executor', agent.namespace)}"
    )
    return sessions.choose(spec.session.strategy, status.sessions, work, taken=taken, can_resume=can_resume)


def _ref(resource: Resource, namespace: str) -> ObjectRef:
    return _named(resource.key, namespace)


def _named(key: Key, namespace: str) -> ObjectRef:
    return ObjectRef(name=key.name, namespace=None if key.namespace == namespace else key.namespace)
