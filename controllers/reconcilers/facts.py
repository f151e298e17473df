"""Facts for decisions, gathered inside one transaction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import pydantic

from controllers.holds import effective
from controllers.reconcilers import pools, spending, tenancy
from controllers.runs import sessions, thresholds
from decisions import loops
from decisions import pools as slots
from decisions.holds import Held, HoldFacts, strictest
from decisions.mission_facts import (
    ActionFacts,
    AgentFacts,
    DependencyFacts,
    MissionFacts,
    PoolFacts,
    ReviewFacts,
    RunFacts,
    TalkFacts,
)
from schemas import user_schema
from schemas.agent import AgentStatus
from schemas.amounts import NOTHING
from schemas.approval_decision import ApprovalDecisionSpec
from schemas.approval_request import ApprovalRequestSpec, ApprovalRequestStatus, RequestState, RequestType
from schemas.base import Key, LabelSelector
from schemas.conditions import ConditionStatus, find, is_true
from schemas.mission import MissionSpec, MissionState, MissionStatus
from schemas.parsed import parsed
from schemas.resource import Resource
from schemas.run import ACTIVE_STATES, ENDED, RunReason, RunSpec, RunStatus
from schemas.session import SessionStatus
from store.contract import Transaction

_MAX_WALK = 1000
_BUDGETED = (MissionState.ASSIGNED, MissionState.IN_PROGRESS, MissionState.BLOCKED)


def active_runs(tx: Transaction, agent: Resource) -> list[Resource]:
    """The agent's open runs, by name."""
    runs = tx.objects("Run", states=ACTIVE_STATES)
    return [r for r in runs if r.spec.get("agentUid") == agent.uid]


class Crowd(Protocol):
    """Who waits already."""

    def count(self, tenant: str) -> int:
        """Missions of a tenant that wait for a place."""

    def waits(self, mission: Key) -> bool:
        """Whether it is one of those that wait."""


def mission_facts(
    tx: Transaction, mission: Resource, all_holds: Iterable[HoldFacts], crowd: Crowd | None = None
) -> MissionFacts:
    """Everything a decision about ``mission`` may rest on. Without ``crowd`` no ceiling is looked at."""
    spec = parsed(MissionSpec, mission.spec)
    status = parsed(MissionStatus, mission.status)
    agent_key = _assignee(tx, mission, spec, status)
    agent = tx.get(agent_key) if agent_key is not None else None
    dependencies = _dependencies(tx, mission, spec)
    waiting = status.state in (MissionState.INBOX, MissionState.ASSIGNED)
    waiting_for_run = status.current_run is None and status.state in _BUDGETED
    quoted = _quote(tx, mission, agent) if waiting_for_run and agent is not None else None
    unfinished = any(d.state is not MissionState.DONE for d in dependencies)
    run = _run_facts(tx, mission, status)
    return MissionFacts(
        key=mission.key,
        uid=mission.uid,
        generation=mission.generation,
        spec=spec,
        status=status,
        annotations=mission.annotations,
        created_at=mission.created_at,
        deleting_since=mission.deletion_at,
        agent_key=agent_key,
        agent=_agent_facts(agent),
        input_error=_input_error(agent, spec.input) if waiting and agent is not None else "",
        cycle=_cycle(tx, mission) if waiting and unfinished else (),
        dependencies=dependencies,
        held=_held(tx, mission, agent, all_holds),
        run=run,
        review=_review_facts(tx, mission, status),
        place=mission.provenance.place if mission.provenance else "",
        declared=bool(mission.unit),
        breach=quoted.breach if quoted is not None else None,
        want=quoted.want if quoted is not None else NOTHING,
        # Asked for only where a run has ended: that is when the counts of a mission move.
        loop_limits=thresholds.loop_limits(tx, agent) if run is not None and not run.active else loops.DEFAULT,
        actions=_actions(tx, mission, status),
        pool=_pool(tx, agent, status) if waiting_for_run else None,
        talk=_talk(tx, mission, status, run),
        ceiling=_ceiling(tx, mission, status, crowd) if waiting and crowd is not None else None,
    )


def _talk(tx: Transaction, mission: Resource, status: MissionStatus, run: RunFacts | None) -> TalkFacts | None:
    """What its agent is to be told, and was told, where it waits for that."""
    waits = run is not None and not run.active and run.reason == RunReason.AWAITING_FOLLOW_UP
    if not waits and status.awaits_follow_up is None:
        return None
    session = sessions.known(tx, mission)
    if session is None:
        return None
    talk = SessionStatus.model_validate(session.status)
    told = tx.get_many([Key("Message", session.namespace, name) for name in talk.inbound])
    return TalkFacts(
        due_at=min((f.due_at for f in talk.follow_ups if not f.say), default=None),
        told_at=max((message.created_at for message in told.values()), default=None),
    )


def _pool(tx: Transaction, agent: Resource | None, status: MissionStatus) -> PoolFacts | None:
    """The Provider that its agent uses now."""
    if agent is None or status.state is MissionState.BLOCKED or not agent.spec.get("model"):
        return None
    generation = int(agent.status.get("effectiveGeneration") or agent.generation)
    pinned = tx.spec_at(agent.uid, generation) if generation != agent.generation else None
    key = pools.key_of(agent.namespace, pinned.spec if pinned is not None else agent.spec)
    if key is None:
        return None
    found = pools.facts(tx, key, pools.in_use(pools.active(tx))[key])
    standing = slots.standing(found, tx.now)
    return PoolFacts(key, found.spec.max_concurrency, standing.free, standing.message, standing.until)


def _ceiling(tx: Transaction, mission: Resource, status: MissionStatus, crowd: Crowd) -> int | None:
    """The limit of its tenant, when it has no room for a mission that was not taken in before."""
    if status.ready_since is not None or status.total_runs or crowd.waits(mission.key):
        return None
    most = tenancy.limits(tx, mission.namespace).max_waiting_missions
    return most if crowd.count(mission.namespace) >= most else None


def _actions(tx: Transaction, mission: Resource, status: MissionStatus) -> tuple[ActionFacts, ...]:
    """Open questions about its actions, and those it waits for; looked for only where they can matter."""
    if status.state not in (MissionState.IN_PROGRESS, MissionState.NEEDS_APPROVAL):
        return ()
    found = {
        r.key: r
        for r in unsettled_requests(tx, mission)
        if r.spec["type"] == RequestType.ACTION and r.state == RequestState.PENDING
    }
    found |= tx.get_many([Key("ApprovalRequest", mission.namespace, name) for name in status.action_requests])
    return tuple(_action(r) for r in sorted(found.values(), key=lambda r: (r.created_at, r.name)))


def unsettled_requests(tx: Transaction, mission: Resource) -> list[Resource]:
    """Questions of a mission that are open, or were answered with a leave."""
    states = (RequestState.PENDING.value, RequestState.APPROVED.value)
    return tx.objects("ApprovalRequest", namespace=mission.namespace, owner_uid=mission.uid, states=states)


def _action(request: Resource) -> ActionFacts:
    spec = parsed(ApprovalRequestSpec, request.spec)
    status = parsed(ApprovalRequestStatus, request.status)
    succeeded = find(status.conditions, "Succeeded")
    return ActionFacts(
        name=request.name,
        uid=request.uid,
        title=spec.title,
        state=status.state,
        on_timeout=spec.on_timeout,
        expires_at=spec.expires_at,
        decided_by=status.decided_by,
        transport=status.decided_via,
        reason=succeeded.message if succeeded is not None and succeeded.status is ConditionStatus.FALSE else "",
        decided_at=status.decided_at,
    )


def _quote(tx: Transaction, mission: Resource, agent: Resource) -> spending.Quote | None:
    executor = tx.get(Key("Executor", agent.spec["executorRef"].get("namespace") or agent.namespace,
                          agent.spec["executorRef"]["name"]))  # fmt: skip
    return spending.quote(tx, mission, agent, executor) if executor is not None else None


def _assignee(tx: Transaction, mission: Resource, spec: MissionSpec, status: MissionStatus) -> Key | None:
    if spec.agent_ref is not None:
        return spec.agent_ref.key("Agent", mission.namespace)
    if spec.agent_selector is None:
        return None
    return _select(tx, mission.namespace, spec.agent_selector, status)


def _select(tx: Transaction, namespace: str, selector: LabelSelector, status: MissionStatus) -> Key | None:
    """The first agent by name with a free place, else the first by name. A mission whose work has
    begun keeps its agent, also in Review and Blocked: it says who did the work."""
    agents = [
        a
        for a in tx.objects("Agent", namespace=namespace, labels=selector.match_labels)
        if a.deletion_at is None and not a.spec.get("suspend") and not a.status.get("spawned")
    ]
    names = {a.name for a in agents}
    waiting = status.state in (MissionState.INBOX, MissionState.ASSIGNED) and status.current_run is None
    if status.agent is not None and not waiting:
        return status.agent.key("Agent", namespace)
    for agent in agents:
        ready = is_true(parsed(AgentStatus, agent.status).conditions, "Ready")
        if ready and len(active_runs(tx, agent)) < int(agent.spec.get("maxConcurrentMissions", 1)):
            return agent.key
    if status.agent is not None and status.agent.name in names:
        return status.agent.key("Agent", namespace)
    return agents[0].key if agents else None


def _agent_facts(agent: Resource | None) -> AgentFacts | None:
    if agent is None:
        return None
    status = parsed(AgentStatus, agent.status)
    ready = find(status.conditions, "Ready")
    is_ready = agent.deletion_at is None and is_true(status.conditions, "Ready")
    why = "not looked at yet" if ready is None else (ready.message or ready.reason)
    return AgentFacts(
        key=agent.key,
        ready=is_ready,
        not_ready_reason="it is being deleted" if agent.deletion_at is not None else why,
        draining=is_ready and ready is not None and ready.reason == "Draining",
        deleting=agent.deletion_at is not None,
    )


def _dependencies(tx: Transaction, mission: Resource, spec: MissionSpec) -> tuple[DependencyFacts, ...]:
    keys = [ref.key("Mission", mission.namespace) for ref in spec.depends_on]
    found = tx.get_many(keys)
    return tuple(DependencyFacts(key, _state(found.get(key))) for key in keys)


def _state(mission: Resource | None) -> MissionState | None:
    return None if mission is None else MissionState(mission.state or MissionState.INBOX)


def _cycle(tx: Transaction, mission: Resource) -> tuple[Key, ...]:
    """The way from the mission around dependsOn back to it, or (). Compilation refuses cycles inside a unit; this finds
    those that reach over units or were applied by hand."""
    came_from: dict[Key, Key] = {}
    level = [mission]
    while level and len(came_from) < _MAX_WALK:
        following: list[Resource] = []
        for node in level:
            for ref in node.spec.get("dependsOn", ()):
                target = Key("Mission", ref.get("namespace") or node.namespace, ref["name"])
                if target == mission.key:
                    way = [node.key]
                    while way[-1] != mission.key:
                        way.append(came_from[way[-1]])
                    return (*reversed(way), mission.key)
                if target in came_from:
                    continue
                came_from[target] = node.key
                resource = tx.get(target)
                if resource is not None and resource.state != MissionState.DONE:
                    following.append(resource)
        level = following
    return ()


def _input_error(agent: Resource | None, value: Mapping[str, object]) -> str:
    schema = agent.spec.get("inputSchema") if agent is not None else None
    if not schema:
        return ""
    found = user_schema.violations(schema, value)
    return f"spec.input: {found[0]}" if found else ""


def _held(tx: Transaction, mission: Resource, agent: Resource | None, all_holds: Iterable[HoldFacts]) -> Held | None:
    all_holds = list(all_holds)
    if not all_holds:
        return None
    return strictest(all_holds, effective.objects(tx, agent, mission), tx.now)


def _run_facts(tx: Transaction, mission: Resource, status: MissionStatus) -> RunFacts | None:
    name = status.current_run
    if name is None:
        return None
    resource = tx.get(Key("Run", mission.namespace, name))
    if resource is None or resource.owner_uid != mission.uid:
        return None
    spec, run = parsed(RunSpec, resource.spec), parsed(RunStatus, resource.status)
    return RunFacts(
        name=resource.name,
        uid=resource.uid,
        state=run.state,
        reason=run.reason,
        message=run.message,
        attempt=spec.attempt,
        mission_generation=spec.mission_generation,
        agent=spec.agent_ref.key("Agent", mission.namespace),
        retryable=run.retryable,
        exit_code=run.exit_code,
        started_at=run.started_at,
        ended_at=run.ended_at,
        cancel_requested_at=run.cancel_requested_at,
        cancel_reason=run.cancel_reason,
        work_plan=run.work_plan,
        self_review=run.report.self_review if run.report is not None else None,
        deliverable=run.deliverable,
        artifacts=run.artifacts,
        spend=run.spend,
        active=run.state not in ENDED,
        waits_for=_waits_for(run),
        waits_until=run.post.waits_until if run.post is not None else None,
        asked=run.reason == RunReason.AWAITING_APPROVAL and _asked(tx, resource),
    )


def _waits_for(run: RunStatus) -> str:
    """The executor that an open run waits for."""
    if run.state in ENDED:
        return ""
    return (run.post.waits_for if run.post is not None else "") or (run.job.waits_for if run.job is not None else "")


def _asked(tx: Transaction, run: Resource) -> bool:
    """Whether a person was asked about one of its calls."""
    calls = tx.objects("ToolCall", namespace=run.namespace, owner_uid=run.uid)
    return any(call.status.get("approvalRequest") for call in calls)


def _last_answer(tx: Transaction, namespace: str, request: ApprovalRequestStatus) -> tuple[str, str]:
    """Reason and transport of the decision that counted last."""
    name = request.decisions[-1] if request.decisions else ""
    answer = tx.get(Key("ApprovalDecision", namespace, name)) if name else None
    if answer is None:
        return "", ""
    try:
        reason = parsed(ApprovalDecisionSpec, answer.spec).reason
    except pydantic.ValidationError:
        reason = ""
    return reason, str(answer.status.get("transport", ""))


def _review_facts(tx: Transaction, mission: Resource, status: MissionStatus) -> ReviewFacts | None:
    if not status.review_request:
        return None
    resource = tx.get(Key("ApprovalRequest", mission.namespace, status.review_request))
    if resource is None:
        return None
    spec = parsed(ApprovalRequestSpec, resource.spec)
    request = parsed(ApprovalRequestStatus, resource.status)
    decision = request.decisions[-1] if request.decisions else ""
    reason, transport = _last_answer(tx, mission.namespace, request)
    return ReviewFacts(
        name=resource.name,
        uid=resource.uid,
        type=spec.type,
        state=request.state,
        decided_by=request.decided_by,
        transport=transport,
        decision=decision,
        reason=reason,
        decided_at=request.decided_at,
        expires_at=spec.expires_at,
    )
