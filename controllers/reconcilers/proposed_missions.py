"""Missions that agents propose: one rests in the Inbox until a person takes it (``decisions.mission_proposal``), or
starts by itself where it serves the Goal of the mission that proposes it, and that Goal lists its type."""

from __future__ import annotations

import fnmatch
from datetime import timedelta

from controllers.holds import stops as other
from controllers.holds.stops import Stops
from controllers.reconcilers import spawning, spending, tenancy
from controllers.runs.once import Once
from controllers.runs.reports import begin_report
from controllers.runs.run_record import RunRecord
from controllers.runs.text import clean, line
from decisions import meters
from decisions.finalizers import finalizers
from schemas.agent import AgentSpec
from schemas.base import Key, ObjectRef
from schemas.budget import DEFAULT_MISSION_USD, DEFAULT_OTHER_MISSION_USD, OnBreach
from schemas.errors import OverLimit, Refused
from schemas.event import EventType
from schemas.executor import ExecutorSpec
from schemas.goal import GoalSpec
from schemas.mission import TERMINAL_STATES, Limits, MissionSpec, MissionState, MissionStatus, ProposedBy
from schemas.proposal import MissionProposals
from schemas.protocol import ProposedMission, ProposeMissionMessage
from schemas.quantities import from_micros, to_micros
from schemas.resource import Declared, Resource, digest
from store.contract import Amounts, Snapshot, Transaction

AGENT, PARENT = "remit.dev/proposed-by", "remit.dev/proposed-in"
"""Labels of a proposed mission: the uids of the agent and of the mission that it worked on."""
REASON = 4_000
_DAY = timedelta(days=1)
_FULL_S = 60.0


def mission_name(run: Resource, name: str) -> str:
    """The same for the same run and name, and none that somebody would declare by chance."""
    parent = str(run.spec["missionRef"]["name"])
    return f"{parent[:180].rstrip('-.')}-{name}-{digest([run.uid, 'mission', name])[7:15]}"


def propose(
    tx: Transaction, run_uid: str, message: ProposeMissionMessage, *, once: Once, stops: Stops = other.NONE
) -> ProposedMission:
    """Propose what the agent of a run asks for. Repeated with its key it changes nothing. Raises Refused
    (NotAllowedToPropose, BudgetExceeded, NameTaken, NotDeclared, and as ``spawning.parents_of``), OverLimit."""
    record, known = begin_report(tx, run_uid, once)
    key = Key("Mission", record.run.namespace, mission_name(record.run, message.name))
    there = tx.get(key)
    if known and there is not None:
        return view(there)
    if there is not None:
        raise Refused(f"this run has proposed a mission called {message.name} before", reason="NameTaken")
    record.save()
    parent, agent = spawning.parents_of(tx, record, stops)
    spec = AgentSpec.model_validate(agent.spec)
    allowed = _allowed(spec, agent, message)
    _require_room(tx, agent, allowed)
    tenancy.require_room(tx, key.namespace)
    goal, alone = _goal(tx, parent, message)
    wanted = _spec(tx, record, parent, agent, spec, goal, message)
    by = ProposedBy(
        agent=ObjectRef(name=agent.name),
        run=record.run.name,
        mission=parent.name,
        mission_uid=parent.uid,
        reason=clean(message.reason, REASON, record.redactor),
        accepted=alone,
        accepted_by=goal.key.short if alone and goal is not None else "",
    )
    mission = tx.create(
        Declared(*key, wanted.to_wire(), labels={AGENT: agent.uid, PARENT: parent.uid}),
        manager="controller/proposals",
        finalizers=finalizers("Mission"),
        status=MissionStatus(proposed=by).to_wire(),
    )
    how = f"starts by itself for {by.accepted_by}" if alone else "waits for a person"
    tx.event(
        EventType.MISSION_PROPOSED,
        mission,
        reason="AllowListed" if alone else "Asked",
        message=f"{agent.name} proposed it in {record.run.name}; it {how}",
        data={"related": [record.run.uid, parent.uid, agent.uid], "type": wanted.type},
    )
    return view(mission)


def of_run(snapshot: Snapshot, run: Resource) -> tuple[ProposedMission, ...]:
    """What the run proposed, by name."""
    found = snapshot.objects("Mission", namespace=run.namespace, labels={PARENT: str(run.spec["missionUid"])})
    mine = [m for m in found if (m.status.get("proposed") or {}).get("run") == run.name]
    return tuple(view(mission) for mission in sorted(mine, key=lambda m: m.name))


def view(mission: Resource) -> ProposedMission:
    """One as its agent sees it."""
    status = MissionStatus.model_validate(mission.status)
    return ProposedMission(
        name=mission.name,
        state=status.state.value,
        accepted=status.proposed is not None and status.proposed.accepted,
        title=str(mission.spec["title"]),
        request=status.review_request,
    )


def _allowed(spec: AgentSpec, agent: Resource, message: ProposeMissionMessage) -> MissionProposals:
    allowed = spec.proposals.missions if spec.proposals is not None else None
    if allowed is None:
        raise Refused(
            "this agent may propose no missions: its spec has no proposals.missions", reason="NotAllowedToPropose"
        )
    if allowed.types and message.type not in allowed.types:
        types = ", ".join(allowed.types)
        raise Refused(f"this agent may propose missions of these types: {types}", reason="NotAllowedToPropose")
    names = (agent.name, *allowed.agents)
    if message.agent is not None and not any(fnmatch.fnmatchcase(message.agent, glob) for glob in names):
        text = f"this agent may propose missions for {', '.join(names)}, not for {message.agent}"
        raise Refused(text, reason="NotAllowedToPropose")
    return allowed


def _require_room(tx: Transaction, agent: Resource, allowed: MissionProposals) -> None:
    known = tx.objects("Mission", namespace=agent.namespace, labels={AGENT: agent.uid})
    waiting = [m for m in known if m.state == MissionState.INBOX and not m.status["proposed"].get("accepted")]
    if len(waiting) >= allowed.max_open:
        raise OverLimit(
            f"{len(waiting)} mission(s) that this agent proposed wait for an answer; at most {allowed.max_open} may",
            reason="TooManyProposals",
            after=_FULL_S,
        )
    recent = sorted(m.created_at for m in known if tx.now - m.created_at < _DAY)
    if len(recent) >= allowed.max_per_day:
        first = recent[0] if recent else tx.now
        raise OverLimit(
            f"this agent proposed {len(recent)} mission(s) within 24 hours, and at most {allowed.max_per_day} may be",
            reason="TooManyProposals",
            after=max(1.0, (first + _DAY - tx.now).total_seconds()),
        )


def _goal(tx: Transaction, parent: Resource, message: ProposeMissionMessage) -> tuple[Resource | None, bool]:
    """The Goal that it serves, and whether that lets it start by itself. Raises Refused (NotDeclared)."""
    if not message.for_goal:
        return None, False
    ref = parent.spec.get("goalRef")
    goal = tx.get(Key("Goal", ref.get("namespace") or parent.namespace, ref["name"])) if ref else None
    if goal is None or goal.deletion_at is not None:
        raise Refused("this mission serves no Goal, so that forGoal has nothing to name", reason="NotDeclared")
    spec = GoalSpec.model_validate(goal.spec)
    return goal, message.type in spec.auto_execute.classes and not spec.suspend


def _spec(
    tx: Transaction,
    record: RunRecord,
    parent: Resource,
    agent: Resource,
    agent_spec: AgentSpec,
    goal: Resource | None,
    message: ProposeMissionMessage,
) -> MissionSpec:
    """What it would be. Raises Refused where the named agent is not there, or the parent has no room for its cost."""
    redactor = record.redactor
    if message.agent is not None and tx.get(Key("Agent", parent.namespace, message.agent)) is None:
        raise Refused(f"there is no agent {message.agent} in {parent.namespace}", reason="NotDeclared")
    limits = _budget(tx, parent, agent, agent_spec, message)
    name = message.agent or (agent.name if goal is not None else None)
    return MissionSpec(
        title=line(message.title, redactor=redactor),
        description=None if message.description is None else clean(message.description, redactor=redactor),
        type=message.type,
        input=redactor.json(message.input),
        agent_ref=None if name is None else ObjectRef(name=name),
        goal_ref=None if goal is None else ObjectRef(name=goal.name),
        project_ref=MissionSpec.model_validate(parent.spec).project_ref,
        budget=limits,
        priority=min(50, int(parent.spec.get("priority", 50))),
    )


def _budget(
    tx: Transaction, parent: Resource, agent: Resource, spec: AgentSpec, message: ProposeMissionMessage
) -> Limits:
    """What it may use: what was asked for, else what missions of its type may, within what the parent's own limits
    leave beside what else it proposed that has not ended. Raises Refused (BudgetExceeded)."""
    executor = tx.get(spec.executor_ref.key("Executor", agent.namespace))
    if executor is None:
        raise Refused("the executor of the agent is gone", reason="ParentEnded")
    asked = Amounts()
    for mission in tx.objects("Mission", namespace=parent.namespace, labels={PARENT: parent.uid}):
        if mission.state not in TERMINAL_STATES:
            asked = asked + _amounts(Limits.model_validate(mission.spec.get("budget", {})))
    work = spending.work_of(tx, parent, agent, spec, ExecutorSpec.model_validate(executor.spec))
    found = [
        (meter, spending.reading(tx, meter.account))
        for meter in meters.meters(work, spending.budgets_of(tx, parent.namespace), tx.now)
        if meter.account.startswith(f"mission/{parent.uid}/") and meter.on_breach is not OnBreach.WARN
    ]
    usd = message.budget.usd
    if usd is None:
        most = to_micros(DEFAULT_MISSION_USD.get(message.type, DEFAULT_OTHER_MISSION_USD))
        for meter, reading in found:
            if meter.cap.usd_micros is not None:
                used = reading.spent + reading.reserved + asked
                most = min(most, meter.cap.usd_micros + reading.granted.usd_micros - used.usd_micros)
        usd = from_micros(max(most, 0))
    limits = Limits(usd=usd, tokens=message.budget.tokens)
    for meter, reading in found:
        breach = meters.room(meter, reading, asked + _amounts(limits))
        if breach is not None or usd <= 0:
            text = breach.message if breach is not None else f"{meter.origin} leaves nothing"
            raise Refused(f"no room for what it may cost: {text}", reason="BudgetExceeded")
    return limits


def _amounts(limits: Limits) -> Amounts:
    return Amounts(usd_micros=0 if limits.usd is None else to_micros(limits.usd), tokens=limits.tokens or 0)
