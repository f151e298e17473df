"""Agent: whether it can take missions, how it fares, its update policy, and its end."""

from __future__ import annotations

from typing import Any

from controllers.holds import effective
from controllers.reconcilers import alarming, breaches, facts, spending, writing
from controllers.runs import evidence, records
from controllers.runtime.result import DONE, Result
from decisions import agent as decisions
from decisions.fields import diff
from decisions.holds import strictest
from decisions.plan import strongest_disruption
from decisions.widening import narrowings
from schemas import agent as schema
from schemas.base import Key, ObjectRef
from schemas.conditions import find, is_true
from schemas.event import EventType
from schemas.executor import ExecutorStatus, OutputFormat
from schemas.kind import Disruption
from schemas.mission import TERMINAL_STATES, MissionState
from schemas.parsed import parsed
from schemas.quantities import parse_time
from schemas.resource import Resource
from schemas.run import RunStatus
from store.contract import Transaction

_UNFINISHED = tuple(s.value for s in MissionState if s not in TERMINAL_STATES)


def reconcile(tx: Transaction, key: Key) -> Result:
    """One pass over an agent."""
    agent = tx.get(key)
    if agent is None:
        return writing.gone(tx, key)
    found = _facts(tx, agent)
    decision = decisions.decide(found, tx.now)
    old = found.status.conditions
    agent = writing.put_status(tx, agent, alarming.of_agent(tx, agent, decision.status))
    writing.append(tx, agent, decision.notes)
    writing.note_ready(tx, agent, old, decision.status.conditions)
    for run_key, reason in decision.cancel:
        run = tx.get(run_key)
        if run is not None:
            records.request_cancel(tx, run, reason)
    if decision.finalized:
        return _finalize(tx, agent)
    return writing.wake_at(tx, agent, decision.wake_at)


def _finalize(tx: Transaction, agent: Resource) -> Result:
    """No run is left: keys of its runs are dead with them (a token counts only while its run is open)."""
    alarming.agent_gone(tx, agent)
    tx.clear_timer(agent.key, writing.WAKE)
    agent = tx.put_finalizers(agent, ())
    tx.event(EventType.DELETED, agent, reason="Finalized", message="drained, keys revoked")
    tx.remove(agent)
    return DONE


def _facts(tx: Transaction, agent: Resource) -> decisions.AgentFacts:
    spec = parsed(schema.AgentSpec, agent.spec)
    status = parsed(schema.AgentStatus, agent.status)
    executor_key = spec.executor_ref.key("Executor", agent.namespace)
    executor = tx.get(executor_key)
    ready, message = _executor_ready(executor)
    found = decisions.standing(agent.generation, status, tx.now)
    runs = facts.active_runs(tx, agent)
    command = (executor.spec.get("command") or executor.spec.get("kubernetesJob")) if executor is not None else None
    reports = command is None or command.get("outputFormat") == OutputFormat.REMIT
    used_share, fullest = spending.fullest(tx, agent)
    if fullest is not None and fullest.budget is None:
        breaches.warn(tx, agent, fullest, used_share)
    breaches.clear_past(tx, agent)
    return decisions.AgentFacts(
        key=agent.key,
        generation=agent.generation,
        spec=spec,
        status=status,
        annotations=agent.annotations,
        deleting_since=agent.deletion_at,
        executor=executor_key,
        executor_ready=ready,
        executor_message=message,
        held=strictest(effective.holds(tx), effective.objects(tx, agent, None), tx.now),
        runs=tuple(_open_run(r, reports=reports and _speaks(r)) for r in runs),
        disruption=_disruption(tx, agent, status),
        trial=found,
        last_good=_last_good(tx, agent, found.last_good),
        effective_executor=_effective_executor(tx, agent, status.effective_generation),
        in_use_by=_in_use_by(tx, agent) if agent.deletion_at is not None else (),
        executor_version="" if executor is None else f"{executor.namespace}/{executor.name}@{executor.generation}",
        evidence=_evidence(tx, runs, status),
        used_share=used_share,
        fullest=fullest,
        spend=spending.spent(tx, f"agent/{agent.uid}/total"),
        spend_today=spending.spent(tx, f"agent/{agent.uid}/day/{tx.now:%Y-%m-%d}"),
    )


def _evidence(tx: Transaction, runs: list[Resource], status: schema.AgentStatus) -> tuple[schema.RunEvidence, ...]:
    """What open runs show by now, and what those showed that have ended."""
    shown = [evidence.of_run(tx, run, parsed(RunStatus, run.status).started_at or tx.now) for run in runs]
    return (*(e for e in shown if e is not None), *status.evidence)


def _last_good(tx: Transaction, agent: Resource, generation: int) -> decisions.LastGood | None:
    """The older generation, when it can serve: its executor is Ready, and the declared one is no tighter. A limit that
    was drawn in is in force, also where that means that nothing runs."""
    pinned = tx.spec_at(agent.uid, generation) if generation not in (0, agent.generation) else None
    if pinned is None or narrowings("Agent", pinned.spec, agent.spec):
        return None
    ref = parsed(schema.AgentSpec, pinned.spec).executor_ref
    executor = tx.get(ref.key("Executor", agent.namespace))  # one that is being deleted serves as long as it is there
    if executor is None or not is_true(parsed(ExecutorStatus, executor.status).conditions, "Ready"):
        return None
    return decisions.LastGood(generation, ref)


def _effective_executor(tx: Transaction, agent: Resource, generation: int) -> ObjectRef | None:
    pinned = tx.spec_at(agent.uid, generation)
    return parsed(schema.AgentSpec, pinned.spec).executor_ref if pinned is not None else None


def _executor_ready(executor: Resource | None) -> tuple[bool | None, str]:
    if executor is None or executor.deletion_at is not None:
        return None, ""
    ready = find(parsed(ExecutorStatus, executor.status).conditions, "Ready")
    if ready is None:
        return False, "not looked at yet"
    return ready.status == "True", ready.message or ready.reason


def _speaks(run: Resource) -> bool:
    """Whether signs of life are to be expected. A worker behind HTTP may give none; who gave one gives more. A Job that
    its queue took back gives none until it goes on."""
    if (run.status.get("job") or {}).get("waitsFor"):
        return False
    posted = run.status.get("post") is not None
    return not posted or run.status.get("lastHeartbeatTime") != run.status.get("startedAt")


def _open_run(run: Resource, *, reports: bool) -> decisions.OpenRun:
    status: dict[str, Any] = run.status
    started, beat = status.get("startedAt"), status.get("lastHeartbeatTime")
    return decisions.OpenRun(
        key=run.key,
        mission=run.spec["missionRef"]["name"],
        agent_generation=int(run.spec["agentGeneration"]),
        started_at=parse_time(started) if started else None,
        last_heartbeat_at=parse_time(beat) if beat else None,
        cancel_requested=bool(status.get("cancelRequestedAt")),
        reports=reports,
    )


def _disruption(tx: Transaction, agent: Resource, status: schema.AgentStatus) -> Disruption:
    if status.effective_generation in (0, agent.generation):
        return Disruption.LIVE
    before = tx.spec_at(agent.uid, status.effective_generation)
    if before is None:
        return Disruption.LIVE
    return strongest_disruption(diff(before.spec, agent.spec), schema.KIND.disruption)


def _in_use_by(tx: Transaction, agent: Resource) -> tuple[str, ...]:
    """Unfinished missions that name it and are not being deleted themselves."""
    users = []
    for mission in tx.objects("Mission", states=_UNFINISHED):
        ref = mission.spec.get("agentRef")
        if ref is None or mission.deletion_at is not None:
            continue
        if (ref.get("namespace") or mission.namespace, ref["name"]) == (agent.namespace, agent.name):
            users.append(mission.key.short)
    return tuple(sorted(users))
