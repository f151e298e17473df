"""Spawning: an agent's request becomes an Agent, a mission for it and nothing else, and a part of the parent's money,
in one transaction. ``sub_agents`` watches over what was spawned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from controllers.holds import effective
from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import agents, dispatcher, facts, missions, spending, tenancy
from controllers.runs import inbox, sessions, thresholds
from controllers.runs.once import Once
from controllers.runs.reports import begin_report
from controllers.runs.run_record import RunRecord
from controllers.runs.text import WORD, clean, line
from decisions import meters
from decisions import mission as mission_decisions
from decisions import spawning as decisions
from decisions.holds import Held
from decisions.policy.facts import tool_patterns
from decisions.spawning import Denial, Terms, Wish
from schemas.agent import AgentSpec, AgentStatus, Ancestor, Session, SessionStrategy, Spawned, ToolGrant, UpdatePolicy
from schemas.base import Key, ObjectRef
from schemas.budget import DEFAULT_RUN_USD, OnBreach
from schemas.errors import NotFound, OverLimit, Refused
from schemas.event import EventType
from schemas.executor import ExecutorSpec
from schemas.mission import TERMINAL_STATES, Limits, MissionSpec, MissionStatus, Review
from schemas.protocol import SpawnMessage, SubAgent
from schemas.quantities import to_micros
from schemas.redaction import Redactor
from schemas.resource import Declared, Resource, digest
from schemas.run import RunStatus
from schemas.tenant import TenantSpec
from store.contract import Amounts, EntryKind, LedgerEntry, Snapshot, Transaction

SUB_AGENT, PARENT, PARENT_MISSION = "remit.dev/sub-agent", "remit.dev/parent", "remit.dev/parent-mission"
"""Labels of sub-agents: that it is one, and the uids of its parent and of its parent's mission."""
LABELS = (SUB_AGENT, PARENT, PARENT_MISSION)
KEPT = timedelta(days=1)
"""How long the mission of a sub-agent stays after its end."""
_MANAGER = "controller/spawning"


@dataclass(frozen=True, slots=True)
class Made:
    """What was spawned. ``hosted_run`` is the uid of the run that the parent's program does itself."""

    sub_agent: SubAgent
    hosted_run: str | None


def sub_agent_name(run: Resource, name: str) -> str:
    """Of the Agent and of its mission: ``<mission>-<name>-<8 digits>``, the same for the same run and name, and none
    that somebody would declare by chance."""
    mission = str(run.spec["missionRef"]["name"])
    return f"{mission[:180].rstrip('-.')}-{name}-{digest([run.uid, name])[7:15]}"


def spawn(tx: Transaction, run_uid: str, message: SpawnMessage, *, once: Once, stops: Stops = other.NONE) -> Made:
    """Spawn what the agent of a run asks for. ``stops`` is what stops work beside the Holds in the store. Repeated with
    its key it changes nothing. Raises Refused, OverLimit."""
    record, known = begin_report(tx, run_uid, once)
    message = _redacted(message, record.redactor)
    key = Key("Agent", record.run.namespace, sub_agent_name(record.run, message.name))
    if known:
        return _made(tx, key)
    if tx.get(key) is not None or tx.get(Key("Mission", key.namespace, key.name)) is not None:
        raise Refused(f"this run has spawned a sub-agent called {message.name} before", reason="NameTaken")
    record.save()
    mission, parent = _parents(tx, record, stops)
    if not message.hosted:
        tenancy.require_room(tx, key.namespace)
    parent_spec = _pinned(tx, record, parent)
    terms = _terms(tx, record, parent, parent_spec, message)
    limits = _budget(tx, mission, parent, parent_spec, terms, message)
    agent = _create_agent(tx, record, parent, parent_spec, terms, message, key)
    task = _create_mission(tx, record, mission, agent, terms, limits, message)
    _carve(tx, mission, parent, parent_spec, task, limits)
    agent = _adopt(tx, record, parent, mission, agent, task, terms, message)
    tx.event(
        EventType.SUB_AGENT_SPAWNED,
        agent,
        reason="Hosted" if message.hosted else "Spawned",
        message=f"{parent.name} spawned {message.name}: {task.spec['title']}",
        data={
            "related": [record.run.uid, mission.uid, parent.uid, task.uid],
            "mission": task.name,
            "level": terms.level.value,
            "depth": terms.depth,
        },
    )
    if message.hosted:
        _begin_hosted(tx, agent, task, terms.expires_at, stops)
    return _made(tx, key)


def terminate(tx: Transaction, run_uid: str, name: str, reason: str, *, once: Once) -> SubAgent:
    """End a sub-agent of the run. Raises NotFound, Refused."""
    record, known = begin_report(tx, run_uid, once)
    key = Key("Agent", record.run.namespace, sub_agent_name(record.run, name))
    agent = tx.get(key)
    if not known:
        record.save()
    if agent is None:
        raise NotFound(f"this run has no sub-agent called {name}")
    status = AgentStatus.model_validate(agent.status)
    if not known and status.spawned is not None and not status.spawned.ending:
        ending = line(reason, WORD) or "Terminated"
        put_spawned(tx, agent, status, status.spawned.model_copy(update={"ending": ending}))
    return _made(tx, key).sub_agent


def put_spawned(tx: Transaction, agent: Resource, status: AgentStatus, spawned: Spawned) -> Resource:
    """Write what is kept of the spawning."""
    return tx.put_status(agent, status.model_copy(update={"spawned": spawned}).to_wire())


def of_run(snapshot: Snapshot, run: Resource) -> tuple[SubAgent, ...]:
    """The sub-agents of a run that are there, by name."""
    mission_uid = str(run.spec["missionUid"])
    found = []
    for agent in snapshot.objects("Agent", labels={PARENT_MISSION: mission_uid}):
        spawned = AgentStatus.model_validate(agent.status).spawned
        if spawned is not None and spawned.run_uid == run.uid:
            found.append(shown(snapshot, agent, spawned))
    return tuple(sorted(found, key=lambda s: s.name))


def shown(snapshot: Snapshot, agent: Resource, spawned: Spawned) -> SubAgent:
    """A sub-agent as its parent sees it."""
    task = snapshot.get_by_uid(spawned.mission_uid)
    status = MissionStatus.model_validate(task.status) if task is not None else MissionStatus()
    return SubAgent(
        name=spawned.name,
        agent=agent.name,
        mission=spawned.mission.name,
        state=status.state.value,
        hosted=spawned.hosted,
        expires_at=spawned.expires_at,
        ending=spawned.ending,
        deliverable=status.deliverable.text if status.deliverable is not None else None,
    )


def _made(snapshot: Snapshot, key: Key) -> Made:
    agent = snapshot.get(key)
    spawned = AgentStatus.model_validate(agent.status).spawned if agent is not None else None
    if agent is None or spawned is None:
        raise Refused("the sub-agent has ended and was put away", reason="SubAgentEnded")
    task = snapshot.get_by_uid(spawned.mission_uid)
    name = task.status.get("currentRun") if task is not None and spawned.hosted else None
    run = snapshot.get(Key("Run", task.namespace, str(name))) if task is not None and name else None
    return Made(shown(snapshot, agent, spawned), run.uid if run is not None else None)


def _parents(tx: Transaction, record: RunRecord, stops: Stops) -> tuple[Resource, Resource]:
    """Mission and agent of the run. Raises Refused where nothing may start."""
    mission, agent = tx.get_by_uid(record.spec.mission_uid), tx.get_by_uid(record.spec.agent_uid)
    if mission is None or agent is None or mission.deletion_at is not None or agent.deletion_at is not None:
        raise Refused("its mission or agent is gone, or is being deleted", reason="ParentEnded")
    if record.status.cancel_requested_at is not None:
        raise Refused(f"the run is told to stop: {record.status.cancel_reason}", reason="ParentEnded")
    finding = sessions.mission_loop(mission).finding
    if finding is not None:
        raise Refused(f"the mission goes around in circles ({finding.signal})", reason="LoopDetected")
    held: Held | None = inbox.held(tx, record.run, tx.now, stops)
    if held is not None:
        raise Refused(f"nothing new may start: {held.hint}", reason="Held")
    return mission, agent


def _pinned(tx: Transaction, record: RunRecord, agent: Resource) -> AgentSpec:
    """The spec that the parent works with; what is Live in it (level, tools, limits) is as declared now."""
    pinned = tx.spec_at(agent.uid, record.spec.agent_generation)
    then = AgentSpec.model_validate(pinned.spec if pinned is not None else agent.spec)
    now = AgentSpec.model_validate(agent.spec)
    return then.model_copy(
        update={"autonomy_level": now.autonomy_level, "tools": now.tools, "sub_agents": now.sub_agents}
    )


def _terms(tx: Transaction, record: RunRecord, parent: Resource, spec: AgentSpec, message: SpawnMessage) -> Terms:
    spawned = AgentStatus.model_validate(parent.status).spawned
    alive = [AgentStatus.model_validate(a.status).spawned
             for a in tx.objects("Agent", namespace=record.run.namespace, labels={SUB_AGENT: "true"})]  # fmt: skip
    mine = tx.objects("Agent", namespace=record.run.namespace, labels={PARENT: parent.uid})
    tenant = tx.get(Key("Tenant", "", record.run.namespace))
    tenant_spec = TenantSpec.model_validate(tenant.spec if tenant is not None else {})
    weighed = decisions.weigh(
        decisions.Parent(
            level=spec.autonomy_level,
            tools=tool_patterns(spec.tools),
            declared=spec.sub_agents,
            depth=spawned.depth if spawned is not None else 0,
            until=spawned.expires_at if spawned is not None else None,
        ),
        Wish(
            message.autonomy_level,
            message.tools,
            timedelta(seconds=message.ttl_seconds) if message.ttl_seconds is not None else None,
        ),
        thresholds.spawn(tx, parent),
        decisions.Alive(
            active=len(alive),
            of_parent=len(mine),
            next_end=min((s.expires_at for s in alive if s is not None), default=None),
            tenant_limit=tenant_spec.limits.max_sub_agents,
        ),
        tx.now,
    )
    if isinstance(weighed, Denial):
        if weighed.after_s is not None:
            raise OverLimit(weighed.message, reason=weighed.reason, after=weighed.after_s)
        raise Refused(weighed.message, reason=weighed.reason)
    return weighed


def _budget(
    tx: Transaction, mission: Resource, parent: Resource, spec: AgentSpec, terms: Terms, message: SpawnMessage
) -> Limits:
    """What the sub-agent may use in all. Raises Refused (BudgetExceeded) when the parent has no room for it."""
    work = _work(tx, mission, parent, spec)
    usd = message.budget.usd
    if usd is None and work.priced:
        usd = DEFAULT_RUN_USD[terms.level]
    limits = Limits(usd=usd, tokens=message.budget.tokens, tool_calls=message.budget.tool_calls)
    want = _amounts(limits)
    for meter in meters.meters(work, spending.budgets_of(tx, mission.namespace), tx.now):
        breach = meters.room(meter, spending.reading(tx, meter.account), want)
        if breach is not None and meter.on_breach is not OnBreach.WARN:
            raise Refused(f"no room for a sub-agent: {breach.message}", reason="BudgetExceeded")
    return limits


def _work(tx: Transaction, mission: Resource, parent: Resource, spec: AgentSpec) -> meters.Work:
    executor = tx.get(spec.executor_ref.key("Executor", parent.namespace))
    if executor is None:
        raise Refused("the executor of the agent is gone", reason="ParentEnded")
    return spending.work_of(tx, mission, parent, spec, ExecutorSpec.model_validate(executor.spec))


def _amounts(limits: Limits) -> Amounts:
    return Amounts(
        usd_micros=0 if limits.usd is None else to_micros(limits.usd),
        tokens=limits.tokens or 0,
        tool_calls=limits.tool_calls or 0,
    )


def carve_key(mission_uid: str) -> str:
    """Ledger key of what a parent gave to the mission of its sub-agent."""
    return f"carve/{mission_uid}"


def _carve(
    tx: Transaction, mission: Resource, parent: Resource, spec: AgentSpec, task: Resource, limits: Limits
) -> None:
    """Reserve it where only the parent counts: what several share counts the sub-agent's own runs."""
    found = meters.meters(_work(tx, mission, parent, spec), spending.budgets_of(tx, mission.namespace), tx.now)
    own = (f"mission/{mission.uid}/", f"agent/{parent.uid}/")
    standing = spending.standing_accounts(mission, parent, f"{tx.now:%Y-%m-%d}")
    accounts = [a for a in (*standing, *(m.account for m in found)) if a.startswith(own)]
    tx.post(
        LedgerEntry(
            key=carve_key(task.uid),
            kind=EntryKind.RESERVE,
            accounts=tuple(dict.fromkeys(accounts)),
            amounts=_amounts(limits),
            at=tx.now,
            note={"subAgent": task.name},
        )
    )


def _redacted(message: SpawnMessage, redactor: Redactor) -> SpawnMessage:
    """Without credentials: a sub-agent gets them as its executor does, and not from its parent's words."""
    description = None if message.description is None else clean(message.description, redactor=redactor)
    return message.model_copy(
        update={
            "title": line(message.title, redactor=redactor),
            "description": description,
            "input": redactor.json(message.input),
        }
    )


def _create_agent(
    tx: Transaction,
    record: RunRecord,
    parent: Resource,
    spec: AgentSpec,
    terms: Terms,
    message: SpawnMessage,
    key: Key,
) -> Resource:
    """As its parent is, with the terms it was given. Labels are its parent's: what Policies, Budgets and Holds say of
    the parent, they say of it."""
    made = spec.model_copy(
        update={
            "description": f"spawned by {parent.name} in {record.run.name}: {message.title}",
            "executor_ref": _ref(spec.executor_ref.key("Executor", parent.namespace), key.namespace),
            "autonomy_level": terms.level,
            "tools": tuple(ToolGrant(name=tool) for tool in terms.tools),
            "max_concurrent_missions": 1,
            "session": Session(strategy=SessionStrategy.NEW),
            "sub_agents": terms.may_spawn,
            "input_schema": {},
            "output_schema": {},
            "update_policy": UpdatePolicy.ON_IDLE,
            "suspend": False,
        }
    )
    labels = {**parent.labels, SUB_AGENT: "true", PARENT: parent.uid, PARENT_MISSION: record.spec.mission_uid}
    return tx.create(
        Declared("Agent", key.namespace, key.name, AgentSpec.model_validate(made.to_wire()).to_wire(), labels=labels),
        manager=_MANAGER,
    )


def _create_mission(
    tx: Transaction,
    record: RunRecord,
    mission: Resource,
    agent: Resource,
    terms: Terms,
    limits: Limits,
    message: SpawnMessage,
) -> Resource:
    declared = MissionSpec.model_validate(mission.spec)
    spec = MissionSpec(
        title=message.title,
        description=message.description,
        type=declared.type,
        agent_ref=ObjectRef(name=agent.name),
        project_ref=declared.project_ref,
        goal_ref=declared.goal_ref,
        priority=declared.priority,
        input=message.input,
        review=Review.NONE,
        budget=limits,
        deadline=terms.expires_at - tx.now,
        ttl_seconds_after_finished=int(KEPT.total_seconds()),
    )
    labels = {**mission.labels, PARENT_MISSION: mission.uid}
    return tx.create(
        Declared("Mission", mission.namespace, agent.name, spec.to_wire(), labels=labels),
        manager=_MANAGER,
        owner_uid=mission.uid,
    )


def _adopt(
    tx: Transaction,
    record: RunRecord,
    parent: Resource,
    mission: Resource,
    agent: Resource,
    task: Resource,
    terms: Terms,
    message: SpawnMessage,
) -> Resource:
    before = AgentStatus.model_validate(parent.status).spawned
    ancestor = Ancestor(agent=_ref(parent.key, agent.namespace), mission=ObjectRef(name=mission.name))
    spawned = Spawned(
        name=message.name,
        run=record.run.name,
        run_uid=record.run.uid,
        mission=ObjectRef(name=task.name),
        mission_uid=task.uid,
        depth=terms.depth,
        lineage=(*(before.lineage if before is not None else ()), ancestor),
        expires_at=terms.expires_at,
        hosted=message.hosted,
    )
    return put_spawned(tx, agent, AgentStatus(), spawned)


def _begin_hosted(tx: Transaction, agent: Resource, task: Resource, until: datetime, stops: Stops) -> None:
    """Start the run that the parent's program does itself: ordered like every other, and handed to nobody. Raises
    Refused when it could not start now."""
    agents.reconcile(tx, agent.key)
    missions.reconcile(tx, task.key)
    agent, task = _again(tx, agent), _again(tx, task)
    found = facts.mission_facts(tx, task, effective.holds(tx, stops))
    decision = mission_decisions.decide(found, tx.now)
    if not mission_decisions.may_start(decision):
        hints = "; ".join(b.hint for b in decision.status.blocked_on) or "nobody knows why"
        raise Refused(f"a hosted sub-agent starts at once, and this one cannot: {hints}", reason="CannotStart")
    dispatcher.order_run(tx, agent, AgentStatus.model_validate(agent.status), task, found, found.spec.priority, 0)
    task = _again(tx, task)
    run = tx.get(Key("Run", task.namespace, str(task.status["currentRun"])))
    assert run is not None
    tx.drop_effect(f"start/{run.uid}")
    hosted = RunStatus.model_validate(run.status).model_copy(update={"hosted_until": until})
    tx.put_status(run, hosted.to_wire())


def _again(tx: Transaction, resource: Resource) -> Resource:
    found = tx.get_by_uid(resource.uid)
    assert found is not None
    return found


def _ref(key: Key, namespace: str) -> ObjectRef:
    return ObjectRef(name=key.name, namespace=None if key.namespace == namespace else key.namespace)


def is_over(task: Resource | None) -> bool:
    """Whether the mission of a sub-agent has ended, its run included."""
    return task is None or (task.state in TERMINAL_STATES and not task.status.get("currentRun"))


def canceled(task: Resource) -> Declared:
    """The mission of a sub-agent as it is declared to end."""
    spec = {**task.spec, "desiredState": "Canceled"}
    return replace(Declared(*task.key, spec), labels=task.labels, annotations=task.annotations)
