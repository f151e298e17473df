"""What is said of a mission after its pass: conditions, and what it waits for."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime

from decisions import containment, mission_proposal
from decisions.meters import shown
from decisions.mission_facts import DependencyFacts
from decisions.mission_pass import Pass
from schemas.approval_request import RequestState, RequestType
from schemas.base import DEFAULT_NAMESPACE
from schemas.budget import OnBreach
from schemas.conditions import BlockedOn, ConditionStatus, find, set_condition
from schemas.event import EventType
from schemas.mission import TERMINAL_STATES, MissionReason, MissionState

FULL = "#maxWaitingMissions"
"""How ``blockedOn.ref`` of a mission above the ceiling of its tenant ends."""


def summarise(work: Pass) -> None:
    """Conditions and blockedOn, from what the steps left."""
    work.put(observed_generation=work.facts.generation)
    if work.state not in TERMINAL_STATES and work.status.work_plan is None:
        plan = work.spec.work_plan or "\n\n".join(p for p in (work.spec.title, work.spec.description) if p)
        work.put(work_plan=plan)
    if work.state in (MissionState.INBOX, MissionState.ASSIGNED, MissionState.IN_PROGRESS):
        _admit(work)
    elif work.state is MissionState.REVIEW:
        _wait_for_person(work, "Review", "remit approve")
    elif work.state is MissionState.NEEDS_APPROVAL:
        _wait_for_leave(work)
    elif work.state is MissionState.BLOCKED:
        _blocked(work)
    work.put(blocked_on=_stable(work, tuple(work.blockers)))
    _conditions(work)


def _admit(work: Pass) -> None:
    """Everything that keeps it from its next run, most telling first; none means it waits for a place."""
    problem = _problem(work)
    if work.status.current_run is not None:
        work.put(ready_since=None)
        run = work.facts.run
        if run is not None and run.waits_for:
            work.block("Executor", run.waits_for, run.message, since=work.now, until=run.waits_until)
        return
    if problem is not None:
        work.admission = problem
        work.put(ready_since=None)
        return
    if work.status.ready_since is None:
        work.put(ready_since=work.now)
    work.admission = (MissionReason.ADMITTED, "")
    agent = work.facts.agent_key
    assert agent is not None
    since = work.status.ready_since
    pool = work.facts.pool
    if pool is not None and not pool.free:
        work.block("Provider", str(pool.provider), pool.message, since=since or work.now, until=pool.until)
    work.block("Capacity", str(agent), f"waits for a free place of {agent.short}", since=since or work.now)
    if pool is not None and pool.free:
        text = f"and for one of {pool.slots} slots that {pool.provider.short} has"
        work.block("Provider", str(pool.provider), text, since=since or work.now)


def _problem(work: Pass) -> tuple[MissionReason, str] | None:
    facts, spec, now = work.facts, work.spec, work.now
    found: list[tuple[MissionReason, str]] = []

    def problem(reason: MissionReason, type_: str, ref: str, hint: str, until: datetime | None = None) -> None:
        found.append((reason, hint))
        if work.status.current_run is None:
            work.block(type_, ref, hint, since=now, until=until)

    if mission_proposal.waits(work):
        review = facts.review
        asked = review if review is not None and review.name == work.status.review_request else None
        problem(
            MissionReason.AWAITING_APPROVAL,
            "Approval",
            f"ApprovalRequest/{facts.key.namespace}/{work.status.review_request or ''}",
            f"an agent proposed it; take it: remit approve {facts.key.short}",
            asked.expires_at if asked is not None else None,
        )
    for reason, message in _acceptance(work):
        problem(reason, "Person", str(facts.agent_key or ""), message)
    if spec.suspend:
        problem(MissionReason.SUSPENDED, "Hold", "spec.suspend", "set spec.suspend to false to go on")
    if facts.held is not None and facts.held.tenant:
        tenant = f"Tenant/{facts.held.tenant}"
        problem(MissionReason.TENANT_SUSPENDED, "Tenant", tenant, facts.held.hint, facts.held.until)
    elif facts.held is not None:
        problem(MissionReason.HELD, "Hold", str(facts.held.hold), facts.held.hint, facts.held.until)
    if facts.held is not None and facts.held.until is not None:
        work.wake(facts.held.until)
    for dependency in facts.dependencies:
        if dependency.state is MissionState.DONE:
            continue
        reason, hint = _dependency_problem(dependency)
        problem(reason, "Dependency", str(dependency.key), hint)
    agent = facts.agent
    if agent is not None and not agent.ready:
        problem(MissionReason.AGENT_NOT_READY, "Agent", str(agent.key), f"{agent.key.short}: {agent.not_ready_reason}")
    elif agent is not None and agent.draining:
        problem(MissionReason.UPDATE_PENDING, "Agent", str(agent.key), f"{agent.key.short} drains for an update")
    breach = facts.breach
    if breach is not None:
        until = breach.meter.span.end
        problem(MissionReason.BUDGET_EXCEEDED, "Budget", breach.meter.origin, breach.message, until)
        if until is not None:
            work.wake(until)
    if facts.ceiling is not None and not found:
        text = (
            f"{facts.ceiling:,} missions of tenant/{facts.key.namespace} wait already, as many as may"
            " (spec.limits.maxWaitingMissions): it is taken in when there is room"
        )
        problem(MissionReason.QUEUE_FULL, "Tenant", f"Tenant/{facts.key.namespace}{FULL}", text)
    due = work.status.next_attempt_at
    if due is not None and due > now and work.status.current_run is None:
        text = f"attempt {work.status.attempts + 1} starts by itself; now: remit retry {facts.key.short}"
        if work.status.awaits_follow_up is not None:
            text = f"its agent goes on when its follow-up is due; now: remit say {facts.key.short} TEXT"
            problem(MissionReason.AWAITING_FOLLOW_UP, "FollowUp", "", text, due)
        else:
            problem(MissionReason.RETRY_BACKOFF, "Retry", "", text, due)
        work.wake(due)
    return found[0] if found else None


def _acceptance(work: Pass) -> list[tuple[MissionReason, str]]:
    """What keeps the spec from being workable at all."""
    facts = work.facts
    if facts.cycle:
        way = " -> ".join(k.name for k in facts.cycle)
        return [(MissionReason.DEPENDENCY_CYCLE, f"dependsOn goes around: {way}")]
    if facts.agent_key is None:
        if work.spec.agent_selector is not None:
            return [(MissionReason.NO_AGENT, "no agent has the labels of agentSelector")]
        return [(MissionReason.NO_AGENT, f"name one: remit assign {facts.key.short} AGENT")]
    if facts.agent is None:
        return [(MissionReason.AGENT_NOT_FOUND, f"there is no {facts.agent_key.short}")]
    if facts.input_error:
        return [(MissionReason.INPUT_INVALID, facts.input_error)]
    return []


def _wait_for_person(work: Pass, type_: str, verb: str) -> None:
    review = work.facts.review
    pending = review is not None and review.name == work.status.review_request
    until = review.expires_at if review is not None and pending else None
    name = work.status.review_request or ""
    work.block(
        type_,
        f"ApprovalRequest/{work.facts.key.namespace}/{name}" if name else "",
        f"{verb} {work.facts.key.short}",
        since=work.now,
        until=until,
    )


def _wait_for_leave(work: Pass) -> None:
    """Each action that waits, with the command that shows exactly what it is."""
    namespace = work.facts.key.namespace
    where = "" if namespace == DEFAULT_NAMESPACE else f" -n {namespace}"
    for action in work.facts.actions:
        if action.state is RequestState.PENDING:
            work.block(
                "Approval",
                f"ApprovalRequest/{namespace}/{action.name}",
                f"remit describe approval/{action.name}{where}",
                since=work.now,
                until=action.expires_at,
            )


def _blocked(work: Pass) -> None:
    held = work.facts.held
    stopped = work.block_reason() in (MissionReason.STOPPED, MissionReason.QUARANTINED)
    if stopped and held is not None:
        work.block("Hold", str(held.hold), held.hint, since=work.now, until=held.until)
        if held.until is not None:
            work.wake(held.until)
        return
    if work.block_reason() == MissionReason.BUDGET_EXCEEDED:
        _over_budget(work)
        return
    if containment.winding_down(work):
        return
    review = work.facts.review
    asked = review is not None and review.name == work.status.review_request and review.type is RequestType.UNBLOCK
    if not asked:
        action = {
            "act": "unblock",
            "mission": str(work.facts.key),
            "uid": work.facts.uid,
            "reason": work.block_reason(),
            "run": work.status.last_run or "",
            "round": len([t for t in work.status.transitions if t.to_state is MissionState.BLOCKED]),
            "since": work.status.transitions[-1].at.isoformat() if work.status.transitions else "",
        }
        title = f"{work.facts.key.short} is blocked: try again?"
        finding = work.loop.finding
        if work.block_reason() == MissionReason.LOOP_DETECTED and finding is not None:
            action["loop"] = {"signal": finding.signal.value, "what": finding.what, "count": finding.count}
            title = f"{work.facts.key.short} goes around in circles ({finding.signal}): try again?"
        work.ask(RequestType.UNBLOCK, action, title)
    _wait_for_person(work, "Person", "start a new round: remit approve")


def _over_budget(work: Pass) -> None:
    """Waits for room: the end of the window, a looser limit, or what a person grants."""
    breach, review = work.facts.breach, work.facts.review
    if breach is None:
        return
    until = breach.meter.span.end
    if until is not None:
        work.wake(until)
    work.block("Budget", breach.meter.origin, breach.message, since=work.now, until=until)
    if breach.meter.on_breach is not OnBreach.REQUIRE_APPROVAL:
        return
    if review is None or review.name != work.status.review_request or review.type is not RequestType.BUDGET:
        short = breach.short
        action = {
            "act": "extend",
            "mission": str(work.facts.key),
            "uid": work.facts.uid,
            "budget": breach.meter.origin,
            "account": breach.meter.account,
            "usdMicros": short.usd_micros,
            "tokens": short.tokens,
            "toolCalls": short.tool_calls,
            "wallMs": short.wall_ms,
            "since": work.status.transitions[-1].at.isoformat() if work.status.transitions else "",
        }
        more = ", ".join(shown(name, value) for name, value in asdict(short).items() if value)
        work.ask(RequestType.BUDGET, action, f"{work.facts.key.short} needs {more} more than {breach.meter.origin}")
        _wait_for_person(work, "Approval", "remit approve")
    elif review.state is RequestState.PENDING:
        _wait_for_person(work, "Approval", "remit approve")


def _stable(work: Pass, blockers: tuple[BlockedOn, ...]) -> tuple[BlockedOn, ...]:
    """Keep ``since`` of what was waited for before."""
    before = {(b.type, b.ref): b.since for b in work.facts.status.blocked_on}
    return tuple(
        b.model_copy(update={"since": before[(b.type, b.ref)]}) if (b.type, b.ref) in before else b for b in blockers
    )


def _conditions(work: Pass) -> None:
    _accepted_condition(work)
    _admitted_condition(work)
    _approved_condition(work)
    state, R = work.state, MissionReason
    if work.status.current_run is not None:
        _set(work, "Dispatched", True, R.DISPATCHED, f"run {work.status.current_run}")
    else:
        _set(work, "Dispatched", False, R.NOT_DISPATCHED, "")
    last = work.status.transitions[-1] if work.status.transitions else None
    if state is MissionState.DONE:
        _set(work, "Succeeded", True, R.COMPLETED, "")
    elif state in (MissionState.FAILED, MissionState.CANCELED):
        reason = MissionReason(last.reason) if last else R.CANCELED
        _set(work, "Succeeded", False, reason, last.message if last else "")
    elif work.status.current_run is not None:
        _set(work, "Succeeded", None, R.RUNNING, "")
    elif state is MissionState.BLOCKED and last is not None:
        _set(work, "Succeeded", None, MissionReason(last.reason), last.message)
    else:
        _set(work, "Succeeded", None, R.WAITING, "")
    finished = work.status.finished_generation
    if state in TERMINAL_STATES and finished is not None and work.facts.generation > finished:
        _set(
            work,
            "Outdated",
            True,
            R.OUTDATED,
            f"edited after the end; run it again: remit retry {work.facts.key.short}",
        )
    else:
        _drop(work, "Outdated")


def _accepted_condition(work: Pass) -> None:
    problems = [] if work.state in TERMINAL_STATES else _acceptance(work)
    if work.admission is not None and work.admission[0] is MissionReason.QUEUE_FULL:
        problems = [work.admission]
    if problems:
        _set(work, "Accepted", False, problems[0][0], problems[0][1])
    else:
        _set(work, "Accepted", True, MissionReason.ACCEPTED, "")


def _admitted_condition(work: Pass) -> None:
    if work.admission is not None:
        reason, message = work.admission
        _set(work, "Admitted", reason is MissionReason.ADMITTED, reason, message)
    elif work.status.current_run is not None:
        _set(work, "Admitted", True, MissionReason.ADMITTED, "")
    elif find(work.status.conditions, "Admitted") is None:
        _set(work, "Admitted", None, MissionReason.WAITING, "")


def _approved_condition(work: Pass) -> None:
    verdict, state, R = work.status.review, work.state, MissionReason
    if state is MissionState.REVIEW:
        _set(work, "Approved", None, R.AWAITING_REVIEW, "")
    elif state is MissionState.NEEDS_APPROVAL:
        _set(work, "Approved", None, R.AWAITING_APPROVAL, "")
    elif verdict is None:
        _set(work, "Approved", None, R.NOT_REQUIRED, "")
    elif verdict.verdict == "Approve":
        auto = verdict.actor.startswith("policy:")
        _set(work, "Approved", True, R.AUTO_ACCEPTED if auto else R.APPROVED, verdict.actor)
    else:
        reason = R.DENIED if verdict.verdict == "Deny" else R.CHANGES_REQUESTED
        _set(work, "Approved", False, reason, verdict.reason)


def _set(work: Pass, type_: str, status: bool | None, reason: MissionReason, message: str) -> None:
    old = find(work.status.conditions, type_)
    conditions = set_condition(
        work.status.conditions, type_, status, reason, message, now=work.now, generation=work.facts.generation
    )
    if conditions is work.status.conditions:
        return
    work.put(conditions=conditions)
    new = find(conditions, type_)
    changed = new is not None and (old is None or old.status is not new.status)
    if changed and type_ == "Accepted" and new is not None and new.status is ConditionStatus.FALSE:
        work.note(EventType.CONDITION_CHANGED, reason, message, condition=type_, status="False")


def _drop(work: Pass, type_: str) -> None:
    if find(work.status.conditions, type_) is not None:
        work.put(conditions=tuple(c for c in work.status.conditions if c.type != type_))


def _dependency_problem(dependency: DependencyFacts) -> tuple[MissionReason, str]:
    name = dependency.key.short
    if dependency.state is None:
        return MissionReason.DEPENDENCY_NOT_FOUND, f"there is no {name}"
    if dependency.state in (MissionState.FAILED, MissionState.CANCELED):
        return MissionReason.DEPENDENCY_FAILED, f"{name} is {dependency.state}; try it again: remit retry {name}"
    return MissionReason.DEPENDENCY_NOT_DONE, f"{name} is {dependency.state}"
